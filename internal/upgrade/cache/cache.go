// Package cache keeps the bundles of upgrades on a host, as files and unpacked.
//
// A bundle is known by the SHA-256 of its file. Who puts one in has its signature
// checked; from then on the hash stands for it, so that other hosts need no keys:
// they fetch the file from a host that has it, compare the hash, and unpack.
//
// In the directory of a bundle cache, SHA.hfb is a bundle, SHA.json says what it is,
// SHA is the bundle unpacked, and SHA.part is as much as was fetched of it. A
// file is there when SHA.hfb is: it appears by one rename after everything else.
// What begins with a dot is being made or removed, and goes when a process uses
// the bundle cache for the first time. One process may use a bundle cache at a time.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/durable"
	"holdfast/internal/upgrade/bundle"
)

// Suffixes of names in a bundle cache.
const (
	fileSuffix = ".hfb"
	noteSuffix = ".json"
	partSuffix = ".part"
)

// maxFile bounds the size of a bundle's file in bytes: all files that a bundle
// may have, with their headers.
const maxFile = bundle.DefaultMaxBytes + 256<<20

// Errors that callers tell apart. What a bundle cache does not have is an error that
// wraps fs.ErrNotExist; too little space wraps bundle.ErrNoSpace.
var (
	ErrHash    = errors.New("want a SHA-256 as 64 lower-case hex digits")
	ErrOffset  = errors.New("the offset is not in the file")
	ErrBusy    = errors.New("the bundle is being fetched or unpacked")
	ErrDamaged = errors.New("the file has changed on this host's disk")
)

// Cache has the bundles of this host. All methods may be called from any goroutine.
type Cache struct {
	Dir string // absolute; made with mode 0700 when something is put in

	log      *slog.Logger
	free     func(dir string) (int64, error) // free bytes of a file system
	limit    int64                           // bytes of a bundle's file
	stall    time.Duration                   // a source that sends nothing for so long is given up
	pause    time.Duration                   // before a source is asked again; it doubles
	slowRate int64                           // bytes a second, and for how long: see pace
	slowFor  time.Duration
	hook     func(stage string) // of tests

	disk      sync.Mutex    // names in Dir change under it
	swept     bool          // under disk
	unpacking chan struct{} // holds a value while something is unpacked

	mu        sync.Mutex // of what follows
	busy      map[string]chan struct{}
	manifests map[string]*manifest.Manifest
	staged    map[string]Staged
}

// New gives the bundle cache in a directory, DATADIR/upgrade/bundles. Nothing is done
// on disk before its first use.
func New(dir string, log *slog.Logger) *Cache {
	if abs, err := filepath.Abs(dir); err == nil { // else its first use says so
		dir = abs
	}
	return &Cache{
		Dir: dir, log: log, free: freeSpace, limit: maxFile, stall: time.Minute, pause: time.Second, slowRate: slowRate,
		slowFor: slowFor, hook: func(string) {},
		unpacking: make(chan struct{}, 1), busy: map[string]chan struct{}{}, manifests: map[string]*manifest.Manifest{},
		staged: map[string]Staged{},
	}
}

// Bundle says what a file of the bundle cache is.
type Bundle struct {
	SHA256  string        `json:"sha256"` // of the file, 64 lower-case hex digits
	Size    int64         `json:"size"`   // of the file, bytes
	Name    string        `json:"name"`
	Version string        `json:"version"`
	Layout  bundle.Layout `json:"layout"`
	Signed  bool          `json:"signed,omitempty"`  // checked when it was put in here; false when it was fetched by its hash
	KeyID   string        `json:"keyId,omitempty"`   // of the key, 16 hex digits
	Comment string        `json:"comment,omitempty"` // the trusted one of the signature
	Files   int           `json:"files"`
	Bytes   int64         `json:"bytes"` // of the files, unpacked
}

// record is what SHA.json holds.
type record struct {
	Bundle
	Signature []byte `json:"signature,omitempty"` // over the whole file, of layouts that hold none
}

func describe(sha string, size int64, rep *bundle.Report) Bundle {
	return Bundle{
		SHA256: sha, Size: size, Name: rep.Manifest.Name, Version: rep.Manifest.Version, Layout: rep.Layout,
		Signed: rep.Signed, KeyID: rep.KeyID, Comment: rep.Comment, Files: rep.Files, Bytes: rep.Bytes,
	}
}

// Have returns the hashes of all bundles of which the file is here, in order.
// With an error, it returns those that are well.
func (d *Cache) Have() ([]string, error) {
	list, err := d.List()
	var out []string
	for _, b := range list {
		out = append(out, b.SHA256)
	}
	return out, err
}

// List returns all bundles of which the file is here, in the order of their
// hashes. With an error, it returns those that are well.
func (d *Cache) List() ([]Bundle, error) {
	if err := d.ready(false); err != nil {
		return nil, absentIsNil(err)
	}
	entries, err := os.ReadDir(d.Dir)
	if err != nil {
		return nil, fmt.Errorf("list the bundles: %w", err)
	}
	var out []Bundle
	var errs []error
	for _, e := range entries {
		sha, ok := strings.CutSuffix(e.Name(), fileSuffix)
		if !ok || checkHash(sha) != nil {
			continue
		}
		rec, err := d.complete(sha)
		switch {
		case err == nil:
			out = append(out, rec.Bundle)
		case !errors.Is(err, fs.ErrNotExist): // it went meanwhile, or was never put in
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// Get tells of a bundle whose file is here, else the error wraps fs.ErrNotExist.
func (d *Cache) Get(sha string) (Bundle, error) {
	if err := checkHash(sha); err != nil {
		return Bundle{}, err
	}
	rec, err := d.complete(sha)
	return rec.Bundle, err
}

// complete reads what is known of a bundle whose file is here.
func (d *Cache) complete(sha string) (record, error) {
	info, err := os.Lstat(d.path(sha, fileSuffix))
	if err != nil {
		return record{}, fmt.Errorf("look for bundle %s: %w", short(sha), err)
	}
	text, err := os.ReadFile(d.path(sha, noteSuffix))
	if err != nil {
		return record{}, fmt.Errorf("read what bundle %s is: %w", short(sha), err)
	}
	var rec record
	if err := json.Unmarshal(text, &rec); err != nil {
		return record{}, fmt.Errorf("read what bundle %s is: %w", short(sha), err)
	}
	if rec.SHA256 != sha || !info.Mode().IsRegular() || rec.Size != info.Size() {
		return record{}, fmt.Errorf("bundle %s: %w: it is not a file of %d bytes", short(sha), ErrDamaged, rec.Size)
	}
	return rec, nil
}

// commit gives a file that is on disk its name, with what it is beside it.
func (d *Cache) commit(tmp string, rec record) (Bundle, error) {
	d.disk.Lock()
	defer d.disk.Unlock()
	if old, err := d.complete(rec.SHA256); err == nil && old.Signed && !rec.Signed {
		rec = old // it is the same file, and somebody has checked it
	}
	text, err := json.Marshal(rec)
	if err != nil {
		return Bundle{}, fmt.Errorf("write what bundle %s is: %w", short(rec.SHA256), err)
	}
	if err := durable.WriteFile(d.path(rec.SHA256, noteSuffix), text, 0o600); err != nil {
		return Bundle{}, fmt.Errorf("write what bundle %s is: %w", short(rec.SHA256), full(err))
	}
	d.hook("noted")
	if err := os.Rename(tmp, d.path(rec.SHA256, fileSuffix)); err != nil {
		if !there(d.path(rec.SHA256, fileSuffix)) {
			err = errors.Join(err, os.Remove(d.path(rec.SHA256, noteSuffix)))
		}
		return Bundle{}, fmt.Errorf("keep bundle %s: %w", short(rec.SHA256), err)
	}
	d.hook("named")
	if err := durable.SyncDir(d.Dir); err != nil {
		return Bundle{}, fmt.Errorf("keep bundle %s: %w", short(rec.SHA256), err)
	}
	return rec.Bundle, nil
}

func (d *Cache) path(sha, suffix string) string { return filepath.Join(d.Dir, sha+suffix) }

// checkHash guards every name: hashes come from the network.
func checkHash(sha string) error {
	if len(sha) != 64 || strings.Trim(sha, "0123456789abcdef") != "" {
		return fmt.Errorf("bundle %.80q: %w", sha, ErrHash)
	}
	return nil
}

// short is a hash in a message.
func short(sha string) string { return sha[:12] }

func absentIsNil(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// full makes errors of a full disk known as such.
func full(err error) error {
	if (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) && !errors.Is(err, bundle.ErrNoSpace) {
		return fmt.Errorf("%w: %w", bundle.ErrNoSpace, err)
	}
	return err
}

// hold keeps others from fetching, unpacking and removing a bundle. It waits
// until nobody does.
func (d *Cache) hold(ctx context.Context, sha string) (release func(), err error) {
	for {
		release, wait := d.tryHold(sha)
		if wait == nil {
			return release, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for bundle %s: %w", short(sha), context.Cause(ctx))
		}
	}
}

// tryHold is hold that does not wait: it returns what is closed when another
// attempt is worth it.
func (d *Cache) tryHold(sha string) (release func(), wait <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at, taken := d.busy[sha]; taken {
		return nil, at
	}
	done := make(chan struct{})
	d.busy[sha] = done
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.busy, sha)
		close(done)
	}, nil
}

// remember keeps a manifest.
func (d *Cache) remember(sha string, m *manifest.Manifest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.manifests[sha] = m
}

// forget drops what memory holds of a bundle.
func (d *Cache) forget(sha string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.manifests, sha)
	delete(d.staged, sha)
}

// there reports whether any of the names exists.
func there(paths ...string) bool {
	return slices.ContainsFunc(paths, func(p string) bool {
		_, err := os.Lstat(p)
		return err == nil
	})
}
