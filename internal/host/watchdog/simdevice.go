package watchdog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// simTimeout bounds one exchange with a simulated device.
const simTimeout = 500 * time.Millisecond

// simDevice is the near side of a simulated device; see Simulate for the protocol.
type simDevice struct {
	dial func(context.Context) (net.Conn, error)
}

func newSimDevice(path string) simDevice {
	return simDevice{dial: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			err = fmt.Errorf("%w: nothing simulates it: %w", ErrNoDevice, err)
		}
		return conn, err
	}}
}

func (d simDevice) Inspect(ctx context.Context, timeout time.Duration) (Info, error) {
	info, err := d.inspect(ctx, timeout)
	if err != nil {
		return Info{}, fmt.Errorf("inspect the simulated watchdog: %w", err)
	}
	least, err := d.inspect(ctx, time.Millisecond)
	if err != nil {
		return Info{}, fmt.Errorf("inspect the simulated watchdog: %w", err)
	}
	info.Least = least.Timeout
	return info, nil
}

func (d simDevice) inspect(ctx context.Context, timeout time.Duration) (Info, error) {
	reply, err := d.ask(ctx, fmt.Sprintf("info %d", timeout.Milliseconds()))
	if err != nil {
		return Info{}, err
	}
	return parseSimInfo(reply, "info")
}

// ask sends one line that does not arm, and returns the reply.
func (d simDevice) ask(ctx context.Context, line string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, simTimeout)
	defer cancel()
	conn, err := d.dial(ctx)
	if err != nil {
		return "", err
	}
	reply, err := newSimTimer(conn).exchange(line)
	return reply, errors.Join(err, conn.Close())
}

func (d simDevice) Arm(ctx context.Context, timeout time.Duration) (Timer, error) {
	ctx, cancel := context.WithTimeout(ctx, simTimeout)
	defer cancel()
	conn, err := d.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("open the simulated watchdog: %w", err)
	}
	t := newSimTimer(conn)
	if err := t.begin(timeout); err != nil {
		// No magic: the timer may be one that runs since before, for a reason.
		return nil, errors.Join(fmt.Errorf("arm the simulated watchdog: %w", err), conn.Close())
	}
	return t, nil
}

// simTimer is an armed simulated device.
type simTimer struct {
	conn net.Conn
	r    *bufio.Reader
	info Info
}

func newSimTimer(conn net.Conn) *simTimer {
	return &simTimer{conn: conn, r: bufio.NewReaderSize(conn, maxLine)}
}

func (t *simTimer) Info() Info { return t.info }

// begin asks for the least timeout first, so that nothing runs if that fails.
func (t *simTimer) begin(timeout time.Duration) error {
	reply, err := t.exchange("info 1")
	if err != nil {
		return err
	}
	least, err := parseSimInfo(reply, "info")
	if err != nil {
		return err
	}
	t.info.Least = least.Timeout
	return t.Set(timeout)
}

func (t *simTimer) Pet() error {
	if err := t.conn.SetDeadline(time.Now().Add(simTimeout)); err != nil {
		return fmt.Errorf("pet the simulated watchdog: %w", err)
	}
	if _, err := t.conn.Write([]byte{'k'}); err != nil {
		return fmt.Errorf("pet the simulated watchdog: %w", err)
	}
	return nil
}

func (t *simTimer) Set(timeout time.Duration) error {
	reply, err := t.exchange(fmt.Sprintf("timeout %d", max(timeout.Milliseconds(), 1)))
	if err != nil {
		return err
	}
	info, err := parseSimInfo(reply, "ok")
	t.info.Identity, t.info.Timeout = info.Identity, info.Timeout
	return err
}

func (t *simTimer) Disarm() error {
	err := t.magic()
	if err := errors.Join(err, t.conn.Close()); err != nil {
		return fmt.Errorf("disarm the simulated watchdog: %w", err)
	}
	return nil
}

// magic sends the magic byte as the last one, and waits until the device has
// closed its side: then it took effect.
func (t *simTimer) magic() error {
	if err := t.conn.SetDeadline(time.Now().Add(simTimeout)); err != nil {
		return err
	}
	if _, err := t.conn.Write([]byte{'V'}); err != nil {
		return err
	}
	half, ok := t.conn.(interface{ CloseWrite() error })
	if !ok {
		return nil // a pipe within one process; its close is seen at once
	}
	if err := half.CloseWrite(); err != nil {
		return err
	}
	if b, err := t.r.ReadByte(); err == nil {
		return fmt.Errorf("got %q, want the end of the connection", b)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func (t *simTimer) Close() error { return t.conn.Close() }

// exchange sends one line and returns the reply.
func (t *simTimer) exchange(line string) (string, error) {
	if err := t.conn.SetDeadline(time.Now().Add(simTimeout)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(t.conn, line); err != nil {
		return "", err
	}
	b, err := t.r.ReadSlice('\n')
	if err != nil {
		return "", fmt.Errorf("read the reply to %q: %w", line, err)
	}
	reply := strings.TrimSuffix(string(b), "\n")
	if reason, ok := strings.CutPrefix(reply, "err "); ok {
		if reason == "busy" {
			return "", ErrBusy
		}
		return "", fmt.Errorf("%q was refused: %s", line, reason)
	}
	return reply, nil
}

// parseSimInfo reads "WORD MS IDENTITY".
func parseSimInfo(reply, word string) (Info, error) {
	f := strings.SplitN(reply, " ", 3)
	if len(f) != 3 || f[0] != word {
		return Info{}, fmt.Errorf("simulated watchdog answered %q, want %q MS IDENTITY", reply, word)
	}
	ms, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || ms <= 0 || ms > maxSimTimeout.Milliseconds() {
		return Info{}, fmt.Errorf("simulated watchdog answered %q: timeout is not 1..%d ms", reply, maxSimTimeout.Milliseconds())
	}
	return Info{Identity: f[2], Timeout: time.Duration(ms) * time.Millisecond}, nil
}
