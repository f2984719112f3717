package agent

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// echo stands for libvirtd.
func echo(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l
}

func TestTheGateLetsNobodyInUnlessItIsOpen(t *testing.T) {
	g, err := newGate("127.0.0.1", "qemu+tcp://%s/system", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	g.target = echo(t).Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.serve(ctx) }()
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(g.port()))
	say := func() string {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("hello")); err != nil {
			return err.Error()
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(c, b); err != nil {
			return err.Error()
		}
		return string(b)
	}
	if got := say(); got == "hello" {
		t.Error("a closed gate let a connection through")
	}
	g.open.Store(true)
	if got := say(); got != "hello" {
		t.Errorf("an open gate: %s", got)
	}
	g.open.Store(false)
	if got := say(); got == "hello" {
		t.Error("a gate that was closed again let a connection through")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", at); err == nil {
		t.Error("the gate outlives its agent")
	}
}

func TestTheGateKnowsTheTransportsOfLibvirt(t *testing.T) {
	_, err := newGate("127.0.0.1", "qemu+ssh://%s/system", slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "qemu+tls") {
		t.Errorf("%v: want the transports that are possible", err)
	}
}
