package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// etcd's connections between members have no limits of their own. Those that it
// has (5 s for a read, rafthttp.ConnReadTimeout) are given to http.Transport.Dial,
// which is not called, as DialContext is set as well (etcd 3.6 to 3.8,
// client/pkg/transport: timeout_transport.go and transport.go). A member that was
// cut off for a while gets and sends its votes over the old connections, which the
// kernel tries again after twice the time each, up to two minutes; meanwhile
// nothing else is tried, and no leader can be elected with its vote.
const (
	// silentTime is how long a connection of the member may lack an answer of the
	// other host's kernel, to data or to a probe. A new connection costs
	// milliseconds, so it need not be longer than an election or two.
	silentTime = 2 * time.Second
	// probeTime is the time of an idle connection to its first probe, and between
	// two. The kernel counts in whole seconds.
	probeTime = time.Second
	// tendEvery is the time between two looks for new connections.
	tendEvery = 500 * time.Millisecond
)

// tend keeps limits on all TCP sockets of this process until ctx ends, where
// there is a second path ends those over a path that is cut, and with a guard
// ends those that must not stay. etcd lets
// nobody else at its sockets, so they are found by their descriptors. An option
// that reaches a socket which has just taken the place of another does no harm.
// A failure is no reason to end the member: it is logged, once, and tried again.
func tend(ctx context.Context, second *SecondPath, sweep *sweep, log *zap.Logger) {
	every := tendEvery
	if second != nil {
		every = stallEvery
	}
	look := func() error {
		fds, err := descriptors()
		if err != nil {
			return err
		}
		err = limitSockets(fds)
		all := sockets(fds)
		if second != nil {
			err = errors.Join(err, second.endStalled(all))
		}
		if sweep != nil {
			err = errors.Join(err, sweep.look(all, time.Now()))
		}
		return err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	told := false
	for {
		if err := look(); err != nil && !told {
			log.Warn("connections to members that are lost may be noticed late", zap.Error(err))
			told = true
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// descriptors are the open ones of this process. Each may be another one already.
func descriptors() ([]int, error) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // one that was closed meanwhile
		return nil, fmt.Errorf("list own connections: %w", err)
	}
	out := make([]int, 0, len(entries))
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("list own connections: %w", err)
		}
		out = append(out, fd)
	}
	return out, nil
}

// limitSockets sets the limits on those of the descriptors that are TCP sockets and lack one.
func limitSockets(fds []int) error {
	var failed error
	for _, fd := range fds {
		if err := limitSocket(fd); err != nil {
			failed = fmt.Errorf("set limits of connection %d: %w", fd, err) // one of them tells enough
		}
	}
	return failed
}

// limitSocket does nothing to what is no TCP socket, or was closed meanwhile. A
// socket is looked at again and again, as who has dialled sets his own options
// when the connection is there, which may be after us.
func limitSocket(fd int) error {
	for _, o := range []struct{ name, value int }{
		{unix.TCP_KEEPIDLE, int(probeTime / time.Second)}, // probing is on in etcd's connections
		{unix.TCP_KEEPINTVL, int(probeTime / time.Second)},
		{unix.TCP_USER_TIMEOUT, int(silentTime / time.Millisecond)},
	} {
		have, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, o.name)
		if err != nil {
			return nil // it says that this is no such socket, or is closed
		}
		if have == o.value {
			continue
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, o.name, o.value)
		switch {
		case errors.Is(err, unix.EBADF), errors.Is(err, unix.ENOTSOCK), errors.Is(err, unix.EOPNOTSUPP):
			return nil // closed meanwhile, and another file in its place
		case err != nil:
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}
