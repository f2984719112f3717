package watchdog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// listenUnix listens on a unix socket that only this user can connect to. The
// socket file of a process that died is replaced; one that is in use is not.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	// bind(2) gives the socket file the mode of the unbound socket, so that it is
	// never open to others, not even for the moment before a chmod.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
	}}
	l, err := lc.Listen(ctx, "unix", path)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := removeDead(ctx, path); err != nil {
			return nil, err
		}
		l, err = lc.Listen(ctx, "unix", path)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on unix socket: %w", err)
	}
	return l, nil
}

// removeDead removes the socket file that nobody listens on.
func removeDead(ctx context.Context, path string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("listen on unix socket %s: %w", path, unix.EADDRINUSE), conn.Close())
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("look who listens on %s: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the socket of a dead process: %w", err)
	}
	return nil
}
