package network

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
)

const (
	// headStart is what the first path has before the second one is tried, too.
	headStart = 150 * time.Millisecond
	// dialWithin bounds a connection to a service of this host.
	dialWithin = 2 * time.Second
	// listenAgain is between two tries to take a port that is in use.
	listenAgain = 5 * time.Second
)

// Dial connects by TCP to first, or to second when first has failed or has not
// answered within 150 ms: the first that answers. Both are IP:PORT. Without a bound in
// ctx it takes as long as the kernel tries.
func Dial(ctx context.Context, first, second string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type answer struct {
		conn net.Conn
		err  error
	}
	answers := make(chan answer, 2)
	dial := func(addr string) {
		go func() { // ends with its answer, or with ctx
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
			answers <- answer{conn, err}
		}()
	}
	dial(first)
	tried, late := 1, time.NewTimer(headStart)
	defer late.Stop()
	for failed := []error(nil); ; {
		select {
		case <-late.C:
		case a := <-answers:
			if a.err == nil {
				go func() { // the other one ends by cancel, unless it was just there
					for range tried - len(failed) - 1 {
						if other := <-answers; other.err == nil {
							other.conn.Close()
						}
					}
				}()
				return a.conn, nil
			}
			if failed = append(failed, a.err); len(failed) == 2 {
				return nil, fmt.Errorf("connect over either path: %w", errors.Join(failed...))
			}
		}
		if tried == 1 {
			tried++
			dial(second)
		}
	}
}

// Forward takes connections at an address of this host and joins each with one to to,
// IP:PORT, until ctx ends. The address need not be there yet, nor stay: a card that is
// missing keeps nobody from starting. A port that is in use is logged, and tried again.
func Forward(ctx context.Context, at netip.AddrPort, to string, log *slog.Logger) {
	lc := net.ListenConfig{Control: FreeBind}
	for told := false; ; {
		l, err := lc.Listen(ctx, "tcp", at.String())
		if err == nil {
			err = forward(ctx, l, to)
		}
		if ctx.Err() != nil {
			return
		}
		if !told {
			told = true
			log.Error("nothing is taken from the second path", "address", at, "error", err)
		}
		if !clock.Sleep(ctx, listenAgain) {
			return
		}
	}
}

func forward(ctx context.Context, l net.Listener, to string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	context.AfterFunc(ctx, func() { l.Close() }) // which ends Accept
	var joined sync.WaitGroup
	defer joined.Wait()
	defer cancel()
	for {
		from, err := l.Accept()
		if err != nil {
			return fmt.Errorf("take connections at %s: %w", l.Addr(), err)
		}
		joined.Go(func() {
			conn, err := (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "tcp", to)
			if err != nil { // who has called finds its connection closed
				from.Close()
				return
			}
			Join(ctx, from, conn)
		})
	}
}

// Join copies what comes from each connection to the other one, until one of them or
// ctx ends. Then both are closed.
func Join(ctx context.Context, a, b net.Conn) {
	both := func() { a.Close(); b.Close() } // what was copied is with the kernel
	defer context.AfterFunc(ctx, both)()
	var w sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		w.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // its ends notice an error by the end of their connection
			both()
		})
	}
	w.Wait()
}

// FreeBind lets a socket take an address that the host does not have, or not yet. It is
// for net.ListenConfig.Control.
func FreeBind(network, _ string, raw syscall.RawConn) error {
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if network[len(network)-1] == '6' {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	var refused error
	if err := raw.Control(func(fd uintptr) { refused = unix.SetsockoptInt(int(fd), level, option, 1) }); err != nil {
		return err
	}
	if refused != nil {
		return fmt.Errorf("take an address that may not be there: %w", refused)
	}
	return nil
}
