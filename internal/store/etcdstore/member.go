package etcdstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/durable"
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
	// ErrNotEmpty: the data directory holds data of a member.
	ErrNotEmpty = errors.New("data directory is not empty")
	// ErrRemoved: the cluster has removed this member, its data are of no use.
	ErrRemoved = errors.New("it was removed from the cluster: replace this member")
	// ErrNotStopped: the member did not stop in time; the end of the process, which
	// should follow, stops it as well and harms nothing.
	ErrNotStopped = errors.New("store member did not stop in time")
)

// stopTime bounds the clean stop of a member.
const stopTime = 10 * time.Second

// Times to ask another member what cluster it runs.
const (
	peerDial   = time.Second
	peerAnswer = 2 * time.Second
)

// RunMember runs an etcd member in this process until ctx ends or the process
// gets SIGTERM or SIGINT; then it stops the member within 10 s and returns nil.
// Until a majority of members runs it waits, without a limit. One process can
// run one member, and etcd may end the process when its disk fails. All TCP
// connections of the process get limits of silence; see tend.
func RunMember(ctx context.Context, c MemberConfig) (err error) {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	c, err = c.withDefaults()
	if err != nil {
		return fmt.Errorf("run store member: %w", err)
	}
	release, err := claim(c.DataDir)
	if err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	defer func() { err = errors.Join(err, release()) }()
	if c.Second != nil {
		shut, err := c.Second.open(c)
		if err != nil {
			return fmt.Errorf("run store member %s: %w", c.Name, err)
		}
		defer shut()
	}
	g := newGuard(c)
	if c, err = prepare(ctx, c); err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	cfg, err := c.etcd()
	if err == nil {
		err = g.install(c, cfg)
	}
	var sweeping *sweep
	var clients *gate
	if err == nil && g != nil {
		if clients, err = newGate(c, cfg, g.front); err == nil {
			defer func() { err = errors.Join(err, clients.stop()) }()
			sweeping, err = newSweep(c, g.front.list, clients.Listener)
		}
	}
	if err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	h := newHalt()
	e, err := begin(ctx, c, cfg, h)
	if err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	g.serves(e)
	if clients != nil {
		clients.serve(e)
	}
	halted, err := attend(ctx, c, e, h, sweeping)
	if clients != nil {
		err = errors.Join(err, clients.end())
	}
	if !halted {
		err = errors.Join(err, closeEtcd(e, h))
	}
	if err != nil {
		return fmt.Errorf("run store member %s: %w", c.Name, err)
	}
	return nil
}

// prepare makes sure that the data directory is this member's, undamaged, and
// what the cluster knows of it.
func prepare(ctx context.Context, c MemberConfig) (MemberConfig, error) {
	if err := own(c); err != nil {
		return c, err
	}
	c, err := c.joining()
	if err != nil {
		return c, err
	}
	if err := checkData(c.DataDir); err != nil {
		return c, err
	}
	return c, c.foreign(ctx)
}

// attend is serve with limits on the member's connections.
func attend(ctx context.Context, c MemberConfig, e *embed.Etcd, h *halt, sweeping *sweep) (halted bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var tending sync.WaitGroup
	tending.Go(func() { tend(ctx, c.Second, sweeping, e.GetLogger()) })
	defer tending.Wait()
	defer cancel()
	return serve(ctx, c, e, h)
}

// serve returns when ctx ends (nil) or the member ends by itself. Whether it has
// joined makes no difference here: without a majority it may take days. A halted
// member can not be stopped any more, but by the end of the process.
func serve(ctx context.Context, c MemberConfig, e *embed.Etcd, h *halt) (halted bool, err error) {
	ready := e.Server.ReadyNotify()
	for {
		select {
		case <-ready:
			ready = nil
			if err := markFormed(c.DataDir); err != nil {
				return false, err
			}
		case <-ctx.Done():
			return false, nil
		case err := <-h.c:
			return true, fmt.Errorf("%w: %w", ErrMemberEnded, diagnose(c.DataDir, err))
		case err := <-e.Err():
			select {
			case <-e.Server.StoppingNotify():
				return false, removed(c)
			default:
				return false, fmt.Errorf("%w: %w", ErrMemberEnded, diagnose(c.DataDir, err))
			}
		case <-e.Server.StopNotify():
			return false, removed(c)
		}
	}
}

// removed is why etcd's server stops by itself; there is no other reason.
func removed(c MemberConfig) error {
	return fmt.Errorf("%w: %s: %w", ErrMemberEnded, c.DataDir, ErrRemoved)
}

// markFormed notes that the member has served on this data directory.
func markFormed(dir string) error {
	file := filepath.Join(dir, formedFile)
	_, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		err = writeJSON(file, true)
	}
	if err != nil {
		return fmt.Errorf("mark data directory as used: %w", err)
	}
	return nil
}

// closeEtcd stops the member, within limits. After a fatal entry in its log it
// does not stop any more, and need not.
func closeEtcd(e *embed.Etcd, h *halt) error {
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
	case err := <-h.c:
		return fmt.Errorf("stop: %w", err)
	case <-t.C:
		return fmt.Errorf("%w (%s)", ErrNotStopped, stopTime)
	}
}

// Files of ours beside etcd's own directory.
const (
	lockFile  = "lock"
	ownerFile = "owner.json"
)

// owner is the content of owner.json.
type owner struct {
	Cluster string `json:"cluster"`
	Member  string `json:"member"`
}

// claim takes the data directory for this process alone.
func claim(dir string) (release func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of the data directory: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%s: %w", dir, ErrDataInUse)
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock.Close, nil
}

// own makes sure that the data directory is this member's. It is marked before
// etcd writes to it, so unmarked data is never ours.
func own(c MemberConfig) error {
	file := filepath.Join(c.DataDir, ownerFile)
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
	if err := writeJSON(file, want); err != nil {
		return fmt.Errorf("mark data directory: %w", err)
	}
	return nil
}

// writeJSON writes a file whole or not at all, and returns when it is on disk:
// our marks must be there before the data that they are about.
func writeJSON(file string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", file, err)
	}
	return durable.WriteFile(file, append(data, '\n'), 0o600)
}
