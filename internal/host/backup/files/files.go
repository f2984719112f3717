// Package files backs up files and directories into one archive, a tar compressed
// with zstd that `tar --zstd -x --xattrs` can read too. Owners, modes, times,
// extended attributes, links and holes are kept, and every file has its hash in a
// list beside the archive. A restore unpacks beside each path, looks at every hash
// on the way, and then replaces the path as a whole.
package files

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/durable"
)

// name is what plans call this provider.
const name = "files"

const (
	archive  = ".tar.zst"      // the backup
	list     = ".list"         // one Entry per line, in the archive's order
	work     = ".tar.zst.part" // an archive that is being made
	maxBytes = 1 << 40         // default of Options.MaxBytes
	maxFiles = 1 << 20         // default of Options.MaxFiles
)

// Options say what is backed up.
type Options struct {
	Paths      []string `json:"paths"`                // absolute; none may be in another or hold a mount point
	Missing    bool     `json:"missing,omitempty"`    // a path may not be there; a restore then removes it
	Changing   bool     `json:"changing,omitempty"`   // a file may change while it is read; then it is noted
	MaxBytes   int64    `json:"maxBytes,omitempty"`   // most data of all files; default 1 TiB
	MaxEntries int      `json:"maxEntries,omitempty"` // most files and directories; default 1 Mi
}

// check completes the options and refuses what can not be backed up.
func (o *Options) check(dir string) error {
	if len(o.Paths) == 0 {
		return errors.New("paths: want at least one")
	}
	for i, p := range o.Paths {
		switch {
		case !filepath.IsAbs(p) || filepath.Clean(p) != p || p == "/":
			return fmt.Errorf("path %q: want an absolute path, without . and .., and not /", p)
		case within(dir, p):
			return fmt.Errorf("path %s: the backup would be in it, in %s", p, dir)
		}
		for _, q := range o.Paths[:i] {
			if within(p, q) || within(q, p) {
				return fmt.Errorf("paths %s and %s: one is in the other", q, p)
			}
		}
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = maxBytes
	}
	if o.MaxEntries == 0 {
		o.MaxEntries = maxFiles
	}
	if o.MaxBytes < 0 {
		return fmt.Errorf("maxBytes: value %d: want 0 or more", o.MaxBytes)
	}
	if o.MaxEntries < 0 {
		return fmt.Errorf("maxEntries: value %d: want 0 or more", o.MaxEntries)
	}
	return nil
}

// within reports whether path is dir or below it.
func within(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

// data is what a receipt keeps for Restore.
type data struct {
	Paths  []string `json:"paths"`            // that were there
	Bytes  []int64  `json:"bytes"`            // that each of them needs on disk
	Absent []string `json:"absent,omitempty"` // that were not there
	List   string   `json:"list"`             // SHA-256 of the list
}

// Provider is the provider. Its zero value is ready.
type Provider struct{}

var _ backup.Provider = Provider{}

// Name is "files".
func (Provider) Name() string { return name }

// Backup writes the archive, its list and the receipt.
func (p Provider) Backup(ctx context.Context, q backup.Request) (backup.Receipt, error) {
	var o Options
	if err := q.Prepare(&o, func() error { return o.check(q.Dir) }); err != nil {
		return backup.Receipt{}, err
	}
	return backup.Make(ctx, q, func(*backup.Lock) (backup.State, error) { return p.Probe(ctx, q) },
		func(*backup.Lock) (backup.Receipt, error) {
			if err := discard(q); err != nil {
				return backup.Receipt{}, fmt.Errorf("backup %s: remove what an earlier attempt has left: %w", q.ID, err)
			}
			rec, err := p.make(ctx, q, o)
			if err != nil {
				return rec, errors.Join(fmt.Errorf("backup %s of files: %w", q.ID, err), discard(q))
			}
			return rec, nil
		})
}

func discard(q backup.Request) error {
	return backup.Discard(q.File(), q.Path(work), q.Path(archive), q.Path(list))
}

func (p Provider) make(ctx context.Context, q backup.Request, o Options) (backup.Receipt, error) {
	tree, err := survey(ctx, o)
	if err != nil {
		return backup.Receipt{}, err
	}
	// Data that can not be compressed needs all of its size, and each entry some.
	if err := backup.NeedSpace(q.Dir, tree.bytes+int64(tree.entries)*1024); err != nil {
		return backup.Receipt{}, err
	}
	w, err := pack(ctx, q.Path(work), o, tree)
	if err != nil {
		return backup.Receipt{}, err
	}
	if err := writeList(q.Path(list), w.entries); err != nil {
		return backup.Receipt{}, err
	}
	sum, _, err := backup.HashFile(ctx, q.Path(list))
	if err != nil {
		return backup.Receipt{}, err
	}
	if err := durable.Rename(q.Path(work), q.Path(archive)); err != nil {
		return backup.Receipt{}, err
	}
	d := data{Paths: tree.roots, Absent: tree.absent, List: sum, Bytes: tree.each}
	more, err := json.Marshal(d)
	if err != nil {
		return backup.Receipt{}, err
	}
	rec := backup.Receipt{
		Provider: name, ID: q.ID, Host: q.Host, Dir: q.Dir, What: o.Paths, Where: q.Path(archive),
		When: time.Now().UTC().Truncate(time.Second), Size: w.size, SHA256: w.sum, Tool: tool(),
		Notes: w.notes(tree), Data: more,
	}
	return rec, backup.Save(rec)
}

// tool is this program and its version.
func tool() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return "holdfast " + b.Main.Version
	}
	return "holdfast"
}

// writeList puts the list on disk.
func writeList(path string, entries []Entry) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	enc := json.NewEncoder(w)
	for i := range entries {
		if err = enc.Encode(&entries[i]); err != nil {
			break
		}
	}
	if err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the list of files: %w", err)
	}
	return nil
}

// Probe looks for the receipt and the files that it names.
func (Provider) Probe(_ context.Context, q backup.Request) (backup.State, error) {
	return backup.Look(q, name, []string{q.Path(archive), q.Path(list)}, []string{q.Path(work)})
}

// Delete removes the archive, its list, what was put aside by a restore, and the
// receipt.
func (Provider) Delete(ctx context.Context, rec backup.Receipt) error {
	var d data
	return backup.Delete(ctx, rec, name, &d, func(*backup.Lock) error {
		for _, path := range slices.Concat(d.Paths, d.Absent) {
			if err := (backup.Place{Path: path, ID: rec.ID}).Forget(); err != nil {
				return err
			}
		}
		if err := backup.Discard(rec.Path(work), rec.Path(archive), rec.Path(list)); err != nil {
			return err
		}
		return backup.Discard(rec.Request().File())
	})
}
