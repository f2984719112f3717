package etcdstore

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"holdfast/internal/store"
)

// AloneOptions say which member goes on alone.
type AloneOptions struct {
	Config MemberConfig // of the member, which is stopped
	// Edit changes the new store before anybody else sees it, as in RestoreOptions:
	// it begins the new generation. May be nil.
	Edit func(context.Context, store.Store) error
	// Formation is put beside the new data, and takes its place with them. May be nil.
	Formation *Formation
}

// GoAlone makes of this host's member, one of two voters, the only voter of a new
// cluster, with everything that its log holds. Nothing here looks whether the other
// one goes on as well: an arbiter must have been won before (package arbiter).
//
// The data become a restored store, see Restore: another identity, which the other
// voter's old member can not speak to, and revisions beyond. After any error, or a
// crash, the directory is as it was, or the new one is complete; then GoAlone may
// be called again. It needs room for two more copies of the data.
func GoAlone(ctx context.Context, o AloneOptions) error {
	c, err := o.Config.withDefaults()
	if err != nil {
		return fmt.Errorf("go on alone: %w", err)
	}
	o.Config = c
	if err := o.replaceDir(ctx); err != nil {
		return fmt.Errorf("go on alone with %s: %w", c.DataDir, err)
	}
	return nil
}

// replaceDir does it under the lock of the directory.
func (o AloneOptions) replaceDir(ctx context.Context) (err error) {
	c := o.Config
	dir := c.DataDir
	if !hasData(dir) {
		return fmt.Errorf("there are no data of a member: %w", store.ErrDefinite)
	}
	release, err := claim(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := own(c); err != nil {
		return err
	}
	if err := checkData(dir); err != nil {
		return err
	}
	c.DataDir = dir + ".alone" // only ever a copy
	if err := os.RemoveAll(c.DataDir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.DataDir)) }()
	if err := os.Mkdir(c.DataDir, 0o700); err != nil { // nobody else reads what is below
		return err
	}
	if err := os.CopyFS(filepath.Join(c.DataDir, "member"), os.DirFS(filepath.Join(dir, "member"))); err != nil {
		return fmt.Errorf("copy the data: %w", err)
	}
	if err := commitAll(walDir(c.DataDir)); err != nil {
		return fmt.Errorf("commit the log: %w", err)
	}
	file, err := applyAll(ctx, c)
	if err != nil {
		return fmt.Errorf("apply the log: %w", err)
	}
	r := RestoreOptions{File: file, Config: o.Config, Edit: o.Edit, formation: o.Formation}
	if err := r.check(ctx); err != nil {
		return err
	}
	if err := r.exchange(ctx); err != nil {
		return err
	}
	return dispose(dir+".new", false) // the new store has all of it
}

// commitAll notes that every entry of a log is committed. Of two voters, the leader
// acknowledges a write when the other one has it in its log, and tells that it is
// committed later, and etcd cuts what it was not told of when it forces a new
// cluster (bootstrapWALFromSnapshot). An entry that was not committed may be: nobody
// was told what became of it.
func commitAll(dir string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.Join(err, fmt.Errorf("%v", r))
		}
	}()
	w, st, entries, err := openLog(dir)
	if errors.Is(err, io.ErrUnexpectedEOF) && wal.Repair(zap.NewNop(), dir) { // a record that was torn by a crash: never acknowledged
		w, st, entries, err = openLog(dir)
	}
	if err != nil {
		return err
	}
	if n := len(entries); n > 0 && entries[n-1].GetIndex() > st.GetCommit() {
		last := entries[n-1].GetIndex()
		err = w.Save(&raftpb.HardState{Term: st.Term, Vote: st.Vote, Commit: &last}, nil)
	}
	return errors.Join(err, w.Close())
}

// openLog opens a log to write at its end, and reads it from its newest snapshot.
func openLog(dir string) (*wal.WAL, *raftpb.HardState, []*raftpb.Entry, error) {
	nop := zap.NewNop()
	from := &walpb.Snapshot{}
	snaps, err := wal.ValidSnapshotEntries(nop, dir)
	if err != nil {
		return nil, nil, nil, err
	}
	if len(snaps) > 0 {
		from = snaps[len(snaps)-1]
	}
	w, err := wal.Open(nop, dir, from)
	if err != nil {
		return nil, nil, nil, err
	}
	_, st, entries, err := w.ReadAll()
	if err != nil {
		return nil, nil, nil, errors.Join(err, w.Close())
	}
	return w, st, entries, nil
}

// applyAll runs a copy of a member as the only voter, where nobody can reach it, until
// it has applied its log, and makes a snapshot of what it has then.
func applyAll(ctx context.Context, c MemberConfig) (file string, err error) {
	sockets, err := os.MkdirTemp("", "holdfast-") // names of sockets must be short
	if err != nil {
		return "", fmt.Errorf("make directory for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(sockets)) }()
	cfg, err := c.alone(sockets)
	if err != nil {
		return "", err
	}
	cfg.ForceNewCluster = true
	// It is the only one, and elects itself when an election's time is over: there is nobody to wait for.
	cfg.TickMs, cfg.ElectionMs = 10, 100
	h := newHalt()
	e, err := begin(ctx, c, cfg, h)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, closeEtcd(e, h)) }()
	ctx, cancel := context.WithTimeout(ctx, editTime)
	defer cancel()
	// It serves when an entry of its own is applied, so all before is.
	if err := serving(ctx, e, h); err != nil {
		return "", err
	}
	file = filepath.Join(c.DataDir, "snapshot")
	return file, saveBackend(e, file)
}

// saveBackend writes a snapshot in the form of etcd: the data, and their hash.
func saveBackend(e *embed.Etcd, file string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	snap := e.Server.Backend().Snapshot()
	defer func() { err = errors.Join(err, snap.Close()) }()
	h := sha256.New()
	if _, err := snap.WriteTo(io.MultiWriter(f, h)); err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	_, err = f.Write(h.Sum(nil))
	return err
}
