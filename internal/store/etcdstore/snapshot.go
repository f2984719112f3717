package etcdstore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/lib/durable"
	"holdfast/internal/store"
)

// ErrBadSnapshot: the file is no snapshot, or not the whole of one.
var ErrBadSnapshot = errors.New("no complete snapshot of a store")

// snapshotExt ends the names of snapshots. They are
// holdfast-CLUSTER-20060102T150405.000000000Z-rREVISION.snapshot, so that of one
// cluster the newest comes last.
const (
	snapshotExt  = ".snapshot"
	snapshotTime = "20060102T150405.000000000Z"
)

// SnapInfo is what a snapshot holds.
type SnapInfo struct {
	Revision int64    `json:"revision"` // the newest
	Keys     int      `json:"keys"`     // that existed, of everybody
	Clusters []string `json:"clusters"` // ids of the Holdfast clusters that have keys in it, sorted; usually one
	Hash     string   `json:"hash"`     // SHA-256 of the data, as etcd computed it, hexadecimal
	Size     int64    `json:"size"`     // bytes of the file
}

// Snapshot saves the store into a new file in dir, which it makes when absent,
// and then removes all but the newest keep snapshots of this cluster there. The
// file is complete, checked and on disk when it has its name; when anything
// fails, older ones stay as they were. keep is 1 or more.
func (a *Admin) Snapshot(ctx context.Context, dir string, keep int) (file string, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if keep < 1 {
		return "", fmt.Errorf("save the store: keep %d snapshots: %w", keep, store.ErrDefinite)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("save the store: make directory: %w", err)
	}
	if file, err = a.save(ctx, dir); err != nil {
		return "", fmt.Errorf("save the store into %s: %w", dir, err)
	}
	if err := prune(dir, a.snapshotPrefix(), keep); err != nil {
		return file, fmt.Errorf("remove old snapshots: %w", err)
	}
	return file, nil
}

// cluster is the id of the Holdfast cluster, or what the prefix says else.
func (a *Admin) cluster() string {
	id := strings.Trim(strings.TrimPrefix(a.opt.Prefix, root), "/")
	return strings.ReplaceAll(id, "/", "_")
}

func (a *Admin) snapshotPrefix() string { return "holdfast-" + a.cluster() + "-" }

// save makes one snapshot.
func (a *Admin) save(ctx context.Context, dir string) (string, error) {
	from, err := a.source(ctx)
	if err != nil {
		return "", err
	}
	if err := a.sweep(dir); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, a.partPrefix()+"*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // fails when it has its name
	err = a.fetch(ctx, from, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	info, err := Verify(f.Name())
	if err != nil {
		return "", err
	}
	if len(info.Clusters) == 0 { // nobody could restore it
		return "", fmt.Errorf("the store has no records yet: %w", store.ErrRetry)
	}
	name := fmt.Sprintf("%s%s-r%d%s", a.snapshotPrefix(), a.now().UTC().Format(snapshotTime), info.Revision, snapshotExt)
	file := filepath.Join(dir, name)
	if err := durable.Rename(f.Name(), file); err != nil {
		return "", err
	}
	return file, nil
}

// partPrefix begins the names of snapshots that are not complete.
func (a *Admin) partPrefix() string { return ".part-" + a.snapshotPrefix() }

// sweep removes what a crash has left long ago. A younger one may be under way.
func (a *Admin) sweep(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !strings.HasPrefix(e.Name(), a.partPrefix()) || a.now().Sub(info.ModTime()) < time.Hour {
			continue // one that is gone meanwhile is swept by somebody else
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// source is the member to take a snapshot from: it has all that is committed now,
// and is not the leader if that can be.
func (a *Admin) source(ctx context.Context) (MemberStatus, error) {
	all, err := a.Status(ctx)
	if err != nil {
		return MemberStatus{}, err
	}
	lead, ok := leaderOf(all)
	if !ok {
		return MemberStatus{}, fmt.Errorf("%w: there is no leader", ErrUnhealthy)
	}
	for _, m := range all {
		if !m.Learner && !m.Leader && m.healthy() && m.Applied >= lead.Index {
			return m, nil
		}
	}
	return lead, nil
}

// fetch copies the data of a member, with its hash, into f.
func (a *Admin) fetch(ctx context.Context, from MemberStatus, f *os.File) (err error) {
	c, err := a.only(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	resp, err := c.SnapshotWithVersion(leading(ctx))
	if err != nil {
		return fmt.Errorf("ask member %s: %w", from.title(), classify(err, reading))
	}
	_, err = io.Copy(f, resp.Snapshot)
	if err := errors.Join(err, resp.Snapshot.Close()); err != nil {
		return fmt.Errorf("copy from member %s: %w", from.title(), err)
	}
	return nil
}

// prune removes all but the newest keep snapshots of one cluster.
func prune(dir, prefix string, keep int) error {
	entries, err := os.ReadDir(dir) // in the order of the names
	if err != nil {
		return err
	}
	var mine []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix)
		stamp, _, _ := strings.Cut(rest, "-r")
		if _, err := time.Parse(snapshotTime, stamp); ok && err == nil && strings.HasSuffix(rest, snapshotExt) {
			mine = append(mine, e.Name())
		}
	}
	slices.Sort(mine)
	for _, name := range mine[:max(0, len(mine)-keep)] {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// Verify reads a snapshot from its beginning to its end and tells what is in it.
// It fails with ErrBadSnapshot when a bit is wrong or missing.
func Verify(file string) (SnapInfo, error) {
	info, err := verify(file)
	if err != nil {
		return SnapInfo{}, fmt.Errorf("check snapshot %s: %w", file, err)
	}
	return info, nil
}

func verify(file string) (info SnapInfo, err error) {
	if info.Size, info.Hash, err = checkHash(file); err != nil {
		return info, err
	}
	c, err := readDatabase(file)
	if err != nil {
		return info, fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	info.Revision, info.Keys = c.revision, c.keys
	for name := range c.clusters {
		info.Clusters = append(info.Clusters, name)
	}
	slices.Sort(info.Clusters)
	return info, nil
}

// checkHash compares the hash that etcd puts behind the data with the data's.
func checkHash(file string) (size int64, hash string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	size = st.Size()
	// Pages have a multiple of 512 bytes.
	if size <= sha256.Size || size%512 != sha256.Size {
		return 0, "", fmt.Errorf("%w: %d bytes do not end with a hash", ErrBadSnapshot, size)
	}
	h := sha256.New()
	if _, err := io.CopyN(h, f, size-sha256.Size); err != nil {
		return 0, "", err
	}
	want, err := io.ReadAll(io.LimitReader(f, sha256.Size))
	if err != nil {
		return 0, "", err
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return 0, "", fmt.Errorf("%w: its hash is wrong", ErrBadSnapshot)
	}
	return size, hex.EncodeToString(want), nil
}
