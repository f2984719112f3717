package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
	"holdfast/internal/store"
)

// A restore raises the revision by minBump at least, so that no revision that the old
// cluster has given out after the snapshot ever comes again, and by a random number below
// bumpSpread more. The same data may be restored twice: from one snapshot, or by two nodes
// that both go on alone. A transaction compares revisions only, so an agent that has read
// the one store and writes to the other must find none of its revisions there. With 10^4
// writes in each, they meet in one of 10^8 cases.
const (
	minBump    = 1e9
	bumpSpread = 1 << 40
)

// buildingFile marks a directory in which a restore is under way: what it holds
// is nobody's data yet.
const buildingFile = "building"

// ErrForeignSnapshot: the snapshot holds no keys of this cluster.
var ErrForeignSnapshot = errors.New("the snapshot belongs to another cluster")

// RestoreOptions say what to restore, and where.
type RestoreOptions struct {
	File   string       // snapshot
	Config MemberConfig // of the one member that the new cluster has at first
	// OldEndpoints are the client and peer URLs of the old cluster's members. None
	// may answer. One that can not be reached may be alive all the same: that they
	// are all stopped, and stay so, is for a person to know.
	OldEndpoints []string
	// MoveAside renames data that are in the data directory to DIR.old-TIME. Without
	// it they are an error.
	MoveAside bool
	// Edit changes the restored store before anybody else sees it. Its keys are
	// those below the prefix of the cluster, /holdfast/CLUSTER/. May be nil.
	Edit func(context.Context, store.Store) error

	formation *Formation // of the new store, put beside its data; nil: none
}

// Restore makes a new cluster of one member from a snapshot, in the data
// directory of that member, which must be stopped. The other members join it
// later: Replace, then a start on an empty directory. The store's revision is
// higher by 10^9 at least than the snapshot's and everything before is compacted, so that
// every watch from before begins anew.
//
// All is made in DIR.new, edited there, and takes the directory's place at the
// end in one step: after any error, or a crash, the directory is as it was, or
// the new one is complete. The old one is DIR.new for a moment.
func Restore(ctx context.Context, o RestoreOptions) error {
	c, err := o.Config.withDefaults()
	if err != nil {
		return fmt.Errorf("restore the store: %w", err)
	}
	o.Config = c
	if err := o.check(ctx); err != nil {
		return fmt.Errorf("restore the store: %w", err)
	}
	if err := o.replaceDir(ctx); err != nil {
		return fmt.Errorf("restore the store into %s: %w", c.DataDir, err)
	}
	return nil
}

// check looks at all that needs no change.
func (o RestoreOptions) check(ctx context.Context) error {
	info, err := Verify(o.File)
	if err != nil {
		return err
	}
	if !slices.Contains(info.Clusters, o.Config.Cluster) {
		whose := "no cluster of ours"
		if len(info.Clusters) > 0 {
			whose = "cluster " + strings.Join(info.Clusters, ", ")
		}
		return fmt.Errorf("%w: %s is of %s, not of %s", ErrForeignSnapshot, o.File, whose, o.Config.Cluster)
	}
	for _, e := range slices.Concat(o.OldEndpoints, []string{o.Config.ListenClient, o.Config.ListenPeer}) {
		if err := silent(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// silent fails when something listens at a URL.
func silent(ctx context.Context, at string) error {
	u, err := url.Parse(at)
	if err != nil || u.Port() == "" {
		return fmt.Errorf("old endpoint %q is no URL with a port: %w", at, store.ErrDefinite)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil // as far as one can see from here
	}
	return errors.Join(fmt.Errorf("%s: %w", at, ErrStillAlive), conn.Close())
}

// replaceDir builds the new directory and puts it in place of the old one, which
// is locked meanwhile.
func (o RestoreOptions) replaceDir(ctx context.Context) (err error) {
	dir := o.Config.DataDir
	_, err = os.Stat(dir)
	made := errors.Is(err, fs.ErrNotExist)
	release, err := claim(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	done := false
	defer func() {
		if made && !done {
			err = errors.Join(err, os.Remove(filepath.Join(dir, lockFile)), os.Remove(dir))
		}
	}()
	old, err := occupied(dir)
	if err != nil {
		return err
	}
	if old && !o.MoveAside {
		return ErrNotEmpty
	}
	if err := o.exchange(ctx); err != nil {
		return err
	}
	done = true
	return dispose(dir+".new", old)
}

// exchange builds the new directory and puts it in place of the old one, which is
// DIR.new then. The caller has claimed the directory.
func (o RestoreOptions) exchange(ctx context.Context) error {
	dir := o.Config.DataDir
	fresh := dir + ".new"
	if err := clear(fresh); err != nil {
		return err
	}
	if err := o.build(ctx, fresh); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	if err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE); err != nil {
		return errors.Join(fmt.Errorf("put the new directory in place: %w", err), os.RemoveAll(fresh))
	}
	return nil
}

// occupied tells whether a data directory holds anything but our lock.
func occupied(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() != lockFile }), nil
}

// clear makes room for the new directory. One that an earlier restore left half
// done goes; anything else there was a data directory, so it is kept.
func clear(fresh string) error {
	_, err := os.Stat(fresh)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	release, err := claim(fresh) // of another restore that runs
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(fresh, buildingFile))
	half := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, release())
	}
	err = dispose(fresh, !half)
	return errors.Join(err, release())
}

// dispose removes a directory DIR.new, or renames it to DIR.old-TIME.
func dispose(fresh string, keep bool) error {
	var err error
	if keep {
		aside := strings.TrimSuffix(fresh, ".new") + ".old-" + time.Now().UTC().Format(snapshotTime)
		err = os.Rename(fresh, aside)
	} else {
		err = os.RemoveAll(fresh)
	}
	return errors.Join(err, durable.SyncDir(filepath.Dir(fresh)))
}

// build makes a complete data directory.
func (o RestoreOptions) build(ctx context.Context, dir string) (err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	// First the mark: without it the directory would be kept for ever.
	if err := writeJSON(filepath.Join(dir, buildingFile), true); err != nil {
		return err
	}
	release, err := claim(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	c := o.Config
	c.DataDir = dir
	if err := own(c); err != nil {
		return err
	}
	if err := unpack(o.File, c); err != nil {
		return err
	}
	if err := o.edit(ctx, c); err != nil {
		return err
	}
	if err := checkData(dir); err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, formedFile), true); err != nil {
		return err
	}
	if o.formation != nil {
		if err := SaveFormation(dir, *o.formation); err != nil {
			return err
		}
	}
	if err := os.Remove(filepath.Join(dir, buildingFile)); err != nil {
		return err
	}
	for _, d := range []string{walDir(dir), filepath.Dir(dbFile(dir)), filepath.Join(dir, "member"), dir, filepath.Dir(dir)} {
		if err := durable.SyncDir(d); err != nil {
			return err
		}
	}
	return nil
}

// unpack makes etcd's directory from the snapshot: a cluster of one member with an
// identity of its own, which no member of the old one can enter.
func unpack(file string, c MemberConfig) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("unpack the snapshot: %v", r)
		}
	}()
	out := filepath.Join(c.DataDir, "unpacked") // etcd wants an empty directory
	err = snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath:        file,
		Name:                c.Name,
		OutputDataDir:       out,
		PeerURLs:            []string{c.PeerURL},
		InitialCluster:      c.Name + "=" + c.PeerURL,
		InitialClusterToken: c.Cluster + " restored " + time.Now().UTC().Format(snapshotTime),
		RevisionBump:        minBump + rand.Uint64N(bumpSpread),
		MarkCompacted:       true,
	})
	if err == nil {
		err = os.Rename(filepath.Join(out, "member"), filepath.Join(c.DataDir, "member"))
	}
	if err == nil {
		err = os.Remove(out)
	}
	if err != nil {
		return fmt.Errorf("unpack the snapshot: %w", err)
	}
	return nil
}

// edit runs the member, where nobody but this user can reach it, for Edit. Even
// without one it is run: what starts here starts later.
func (o RestoreOptions) edit(ctx context.Context, c MemberConfig) (err error) {
	sockets, err := os.MkdirTemp("", "holdfast-") // names of sockets must be short
	if err != nil {
		return fmt.Errorf("make directory for sockets: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(sockets)) }()
	cfg, err := c.alone(sockets)
	if err != nil {
		return err
	}
	h := newHalt()
	e, err := begin(ctx, c, cfg, h)
	if err != nil {
		return fmt.Errorf("start the restored member: %w", err)
	}
	err = o.editAt(ctx, e, h, "unix://"+filepath.Join(sockets, "client"))
	return errors.Join(err, closeEtcd(e, h))
}

// alone is the configuration of a member that listens to sockets only, without
// TLS; what it tells others of itself is as usual.
func (c MemberConfig) alone(sockets string) (*embed.Config, error) {
	quiet := c
	quiet.TLS = nil
	cfg, err := quiet.etcd()
	if err != nil {
		return nil, err
	}
	cfg.ListenPeerUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(sockets, "peer")}}
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: filepath.Join(sockets, "client")}}
	cfg.InitialCluster = c.Name + "=" + c.PeerURL
	return cfg, nil
}

// editAt waits until the member serves, and calls Edit.
func (o RestoreOptions) editAt(ctx context.Context, e *embed.Etcd, h *halt, at string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, editTime)
	defer cancel()
	if err := serving(ctx, e, h); err != nil {
		return fmt.Errorf("run the restored member: %w", err)
	}
	st, err := Open(Options{Endpoints: []string{at}, Prefix: root + o.Config.Cluster + "/", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	// A transaction tells that the member takes writes, whether Edit makes any.
	if _, _, err := st.Txn(ctx, nil, []store.Op{{Key: probeKey}}); err != nil {
		return fmt.Errorf("write into the restored store: %w", err)
	}
	if o.Edit == nil {
		return nil
	}
	if err := o.Edit(ctx, st); err != nil {
		return fmt.Errorf("edit the restored store: %w", err)
	}
	return nil
}

// serving waits until a member that was begun serves.
func serving(ctx context.Context, e *embed.Etcd, h *halt) error {
	select {
	case <-e.Server.ReadyNotify():
		return nil
	case err := <-h.c:
		return err
	case err := <-e.Err():
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// editTime bounds the start of the restored member and Edit together.
const editTime = time.Minute
