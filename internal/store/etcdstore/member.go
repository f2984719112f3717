package etcdstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"
)

// Errors of RunMember that callers tell apart.
var (
	// ErrForeignData: the data directory belongs to another cluster or member, or
	// to nobody that we know.
	ErrForeignData = errors.New("data directory is not this member's")
	// ErrDataInUse: another process runs on the data directory.
	ErrDataInUse = errors.New("data directory is in use")
	// ErrAddressInUse: another process listens on a port of the member.
	ErrAddressInUse = errors.New("address is in use")
	// ErrMemberEnded: the member stopped by itself.
	ErrMemberEnded = errors.New("store member ended by itself")
	// ErrNotStopped: the member did not stop in time; the end of the process, which
	// should follow, stops it as well and harms nothing.
	ErrNotStopped = errors.New("store member did not stop in time")
)

// stopTime bounds the clean stop of a member.
const stopTime = 10 * time.Second

// RunMember runs an etcd member in this process until ctx ends or the process
// gets SIGTERM or SIGINT; then it stops the member within 10 s and returns nil.
// Until a majority of members runs it waits, without a limit. One process can
// run one member, and etcd may end the process when its disk fails.
func RunMember(ctx context.Context, c MemberConfig) (err error) {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	c, err = c.withDefaults()
	if err != nil {
		return fmt.Errorf("run store member: %w", err)
	}
	cfg, err := c.etcd()
	if err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	release, err := claim(c)
	if err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return fmt.Errorf("start store member %s: %w", c.Name, named(err))
	}
	if err := errors.Join(serve(ctx, e), closeEtcd(e)); err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	return nil
}

// serve returns when ctx ends (nil) or the member ends by itself. Whether it has
// joined makes no difference here: without a majority it may take days.
func serve(ctx context.Context, e *embed.Etcd) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-e.Err():
		return fmt.Errorf("%w: %w", ErrMemberEnded, err)
	case <-e.Server.StopNotify():
		return fmt.Errorf("%w: it was removed from the cluster or its data failed, its log tells more", ErrMemberEnded)
	}
}

// closeEtcd stops the member, within limits.
func closeEtcd(e *embed.Etcd) error {
	closed := make(chan struct{})
	go func() { // ends with the member, or with the process
		defer close(closed)
		e.Close()
	}()
	t := time.NewTimer(stopTime)
	defer t.Stop()
	select {
	case <-closed:
		return nil
	case <-t.C:
		return fmt.Errorf("%w (%s)", ErrNotStopped, stopTime)
	}
}

// named adds our name to an error of the start that has one.
func named(err error) error {
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Addr != nil {
		return fmt.Errorf("%w: %s: %w", ErrAddressInUse, op.Addr, err)
	}
	return fmt.Errorf("%w: %w", ErrAddressInUse, err)
}

// owner is the content of owner.json beside etcd's own directory.
type owner struct {
	Cluster string `json:"cluster"`
	Member  string `json:"member"`
}

// claim makes sure that the data directory is this member's alone. It is marked
// before etcd writes to it, so unmarked data is never ours.
func claim(c MemberConfig) (release func() error, err error) {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(c.DataDir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the data directory: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", c.DataDir, ErrDataInUse)
	}
	if err == nil {
		err = own(c)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock.Close, nil
}

func own(c MemberConfig) error {
	file := filepath.Join(c.DataDir, "owner.json")
	want := owner{Cluster: c.Cluster, Member: c.Name}
	data, err := os.ReadFile(file)
	if err == nil {
		var have owner
		if err := json.Unmarshal(data, &have); err != nil {
			return fmt.Errorf("%w: parse %s: %w", ErrForeignData, file, err)
		}
		if have != want {
			return fmt.Errorf("%w: %s belongs to member %s of cluster %s, not to member %s of cluster %s",
				ErrForeignData, c.DataDir, have.Member, have.Cluster, want.Member, want.Cluster)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read owner of the data directory: %w", err)
	}
	_, err = os.Stat(filepath.Join(c.DataDir, "member"))
	if err == nil {
		return fmt.Errorf("%w: %s holds data, but no %s that tells whose", ErrForeignData, c.DataDir, filepath.Base(file))
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into data directory: %w", err)
	}
	return writeOwner(file, want)
}

func writeOwner(file string, o owner) error {
	data, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode owner of the data directory: %w", err)
	}
	f, err := os.OpenFile(file+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("mark data directory: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("mark data directory: %w", err)
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return fmt.Errorf("mark data directory: %w", err)
	}
	// The mark must be on disk before the data, or a power cut leaves data of nobody.
	dir, err := os.Open(filepath.Dir(file))
	if err == nil {
		err = errors.Join(dir.Sync(), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("mark data directory: %w", err)
	}
	return nil
}
