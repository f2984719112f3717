package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/testbed/try"
)

// speaker says its name to each who connects, and then what it hears.
func speaker(t *testing.T, at, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); l.Close(); all.Wait() })
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer context.AfterFunc(ctx, func() { c.Close() })()
				defer c.Close()
				fmt.Fprintln(c, name)
				for in := bufio.NewScanner(c); in.Scan(); {
					fmt.Fprintln(c, in.Text())
				}
			})
		}
	})
	return l.Addr().String()
}

// unheard is an address from which nothing comes back, as after a cut: its only place for who connects is taken.
func unheard(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	try.Must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	try.Must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	try.Must(t, unix.Listen(fd, 0))
	at, err := unix.Getsockname(fd)
	try.Must(t, err)
	addr := fmt.Sprintf("127.0.0.1:%d", at.(*unix.SockaddrInet4).Port)
	c, err := net.Dial("tcp", addr)
	try.Must(t, err)
	t.Cleanup(func() { c.Close() })
	return addr
}

func said(t *testing.T, first, second string) (string, error) {
	t.Helper()
	c, err := Dial(t.Context(), first, second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	text, err := bufio.NewReader(c).ReadString('\n')
	return text, err
}

func TestDialTakesThePathThatAnswers(t *testing.T) {
	closed := "127.0.0.9:1"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, b := speaker(t, "127.0.0.1:0", "a"), speaker(t, "127.0.0.1:0", "b")
	silent := unheard(t)
	for _, c := range []struct{ first, second, want string }{
		{a, b, "a\n"}, {closed, b, "b\n"}, {a, closed, "a\n"}, {silent, b, "b\n"}, {a, silent, "a\n"},
	} {
		if got, err := said(t, c.first, c.second); err != nil || got != c.want {
			t.Errorf("%s, %s: got %q, %v, want %q", c.first, c.second, got, err, c.want)
		}
	}
	if _, err := said(t, closed, closed); err == nil {
		t.Error("connected to nobody")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, a, b); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestForward(t *testing.T) {
	to := speaker(t, "127.0.0.1:0", "served")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort() // in use
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	ctx, cancel := context.WithCancel(t.Context())
	var w sync.WaitGroup
	defer w.Wait()
	defer cancel()
	w.Go(func() { Forward(ctx, at, to, log) })
	w.Go(func() { Forward(ctx, netip.MustParseAddrPort("192.0.2.78:7"), to, log) }) // not of this host
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "a server behind it", func() bool { got, err := said(t, at.String(), at.String()); return err == nil && got == "served\n" })
	c, err := Dial(t.Context(), at.String(), at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	if _, err = in.ReadString('\n'); err == nil {
		_, err = fmt.Fprintln(c, "echo")
	}
	text := ""
	if err == nil {
		text, err = in.ReadString('\n')
	}
	if err != nil || text != "echo\n" {
		t.Errorf("heard %q, %v", text, err)
	}
	cancel()
	if text, err := in.ReadString('\n'); err == nil {
		t.Errorf("still joined: %q", text)
	}
}
