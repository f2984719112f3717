package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeTime is how long a socket that exists may take to show that somebody
// listens.
const probeTime = time.Second

// listenUnix listens on a unix socket that only its owner may use. A socket that
// a dead agent left is replaced. One that is served is an error that names the
// process. A lock beside the socket keeps two starting agents from taking the
// other's fresh socket for a left one.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	lock, err := lockFile(path + ".lock")
	if err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("listen on %s: another agent serves it%s", path, listener(ctx, path))
		}
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	ln, err := bindUnix(ctx, path)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &lockedListener{Listener: ln, lock: lock}, nil
}

func bindUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	// Between bind and chmod another user may connect if the umask lets him; the
	// check of each peer refuses him then.
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), ln.Close())
	}
	return ln, nil
}

// removeStale removes a socket that nobody serves.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an old socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("there is a %s that is not a socket; it is left alone", describe(info.Mode()))
	}
	d := net.Dialer{Timeout: probeTime}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		defer conn.Close()
		return fmt.Errorf("another agent serves it%s", peerOf(conn))
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("probe the socket that is there: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove the socket of a dead agent: %w", err)
	}
	return nil
}

func describe(m fs.FileMode) string {
	if m.IsDir() {
		return "directory"
	}
	return "file"
}

// listener names the process behind a socket, for a message.
func listener(ctx context.Context, path string) string {
	d := net.Dialer{Timeout: probeTime}
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return " (it gives no answer: " + err.Error() + ")"
	}
	defer conn.Close()
	return peerOf(conn)
}

// peerOf gives " (pid N)" for the other end of a unix connection.
func peerOf(conn net.Conn) string {
	cred, err := credentials(conn)
	if err != nil {
		return " (its process can not be named: " + err.Error() + ")"
	}
	return fmt.Sprintf(" (pid %d)", cred.Pid)
}

// lockFile takes the lock of a file, without waiting. The file stays when the
// lock goes: removing it would let two processes lock two files of one name.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// lockedListener gives its lock back when it closes.
type lockedListener struct {
	net.Listener
	lock *os.File
}

// Close closes the listener, removes the socket, and gives the lock back. Closing
// again does nothing.
func (l *lockedListener) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if lerr := l.lock.Close(); lerr != nil && !errors.Is(lerr, fs.ErrClosed) {
		err = errors.Join(err, fmt.Errorf("give back the lock of the socket: %w", lerr))
	}
	return err
}

// awaitTLS listens for TLS as soon as that is possible. It returns nil when ctx
// has ended.
func (s *Server) awaitTLS(ctx context.Context) (net.Listener, error) {
	return s.again.Listen(ctx, s.listenTLS, "the api is not served for other hosts: %v; it is tried again", func(err error) {
		s.opts.Log.Warn("api not served over TLS, trying again", "err", err, "every", ListenAgain.String())
	}), nil
}

// listenTLS listens for clients that prove themselves by a certificate.
func (s *Server) listenTLS(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", s.opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.opts.Listen, err)
	}
	conf := s.opts.TLS.Clone()
	conf.MinVersion = tls.VersionTLS13
	conf.NextProtos = []string{"h2", "http/1.1"}
	return newSlots(ln, conf, s.opts), nil
}
