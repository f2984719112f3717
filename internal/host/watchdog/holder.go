package watchdog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	decide "holdfast/internal/host/watchdog/keeper"
	"holdfast/internal/lib/clock"
)

const (
	defaultBootIDFile = "/proc/sys/kernel/random/boot_id"
	// minTimeout leaves room for three pets.
	minTimeout = 3 * decide.MinInterval
	// idleTimeout ends a connection whose client stopped talking.
	idleTimeout = 10 * time.Second
)

// HolderConfig is what the holder is told at its start.
type HolderConfig struct {
	Device  string        // see Open
	Timeout time.Duration // W that the device shall have, at least 300 ms
	Socket  string        // path of the unix socket to serve; beside it are files with the suffixes .lock and .armed
	Log     *slog.Logger
	// BootIDFile holds an id that changes with each boot of the host; "" stands
	// for /proc/sys/kernel/random/boot_id.
	BootIDFile string
}

// Run is the holder. It serves requests at the socket until ctx ends, and pets
// the device as they say. It belongs into a process of its own: it locks the
// process into memory and raises its priority, as far as the system lets it.
//
// It never disarms on its own. When it ends while the device is armed it
// leaves it so and returns ErrLeftArmed; else nil. A holder that was killed is
// continued by the next one on the same socket: that one pets until the limit
// that the dead one obeyed, if it comes within the device's timeout.
//
// Protocol: one JSON object per line and request, one Status per line in reply:
// {"format":1,"op":"arm","limit_ns":N} with N an instant of host/clock,
// {"format":1,"op":"disarm"}, {"format":1,"op":"status"}.
func Run(ctx context.Context, cfg HolderConfig) error {
	for _, err := range prepareProcess() {
		cfg.Log.Warn("watchdog holder runs without a protection", "err", err)
	}
	return hold(ctx, cfg)
}

// hold is Run for any process.
func hold(ctx context.Context, cfg HolderConfig) error {
	if cfg.Timeout < minTimeout {
		return fmt.Errorf("watchdog holder: timeout %v: want at least %v", cfg.Timeout, minTimeout)
	}
	if cfg.BootIDFile == "" {
		cfg.BootIDFile = defaultBootIDFile
	}
	dev, err := Open(cfg.Device)
	if err != nil {
		return fmt.Errorf("watchdog holder: %w", err)
	}
	lock, err := lockFile(cfg.Socket + ".lock")
	if err != nil {
		return fmt.Errorf("watchdog holder: %w", err)
	}
	defer lock.Close()
	m, err := newMark(cfg.Socket+".armed", cfg.BootIDFile)
	if err != nil {
		return fmt.Errorf("watchdog holder: %w", err)
	}
	c := clock.New()
	k := newKeeper(ctx, keeper{dev: dev, want: cfg.Timeout, now: c.Now, mark: m, log: cfg.Log})
	return serveKeeper(ctx, cfg.Socket, k)
}

// serveKeeper runs the keeper and lets it answer at the socket.
func serveKeeper(ctx context.Context, socket string, k *keeper) error {
	l, err := listenUnix(ctx, socket)
	if err != nil {
		return errors.Join(fmt.Errorf("watchdog holder: %w", err), k.leave())
	}
	ctx, cancel := context.WithCancel(ctx)
	calls := make(chan call)
	var broken error
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel() // a holder that can not be talked to shall be restarted
		broken = accept(ctx, l, calls)
	})
	err = k.run(ctx, calls)
	cancel()
	wg.Wait()
	return errors.Join(broken, err)
}

// accept serves connections until ctx ends.
func accept(ctx context.Context, l net.Listener, calls chan<- call) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return errors.Join(fmt.Errorf("watchdog holder: accept: %w", err), l.Close())
		}
		wg.Go(func() { converse(ctx, conn, calls) })
	}
}

// converse answers the requests of one connection. What goes wrong with it is
// the client's to notice; the device is not concerned.
func converse(ctx context.Context, conn net.Conn, calls chan<- call) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	r := bufio.NewReaderSize(conn, maxLine)
	for {
		if err := conn.SetDeadline(time.Now().Add(idleTimeout)); err != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		st, ok := answer(ctx, line, calls)
		if !ok {
			return
		}
		b, err := json.Marshal(st)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(b, '\n')); err != nil {
			return
		}
	}
}

// answer lets the keeper handle one line. ok is false when ctx ended.
func answer(ctx context.Context, line []byte, calls chan<- call) (st Status, ok bool) {
	var req request
	bad := json.Unmarshal(line, &req)
	reply := make(chan Status, 1)
	select {
	case calls <- call{req, bad, reply}:
	case <-ctx.Done():
		return Status{}, false
	}
	select {
	case st := <-reply:
		return st, true
	case <-ctx.Done():
		return Status{}, false
	}
}

// lockFile keeps a second holder away, also while this one is frozen. The lock
// ends with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: does another holder run: %w", path, err), f.Close())
	}
	return f, nil
}
