package ceph

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// world is a cluster with two hosts, 1 and 2, that can have its image open.
type world interface {
	// client is this package's on a host.
	client(t *testing.T, host int, edit func(*cluster.RBD)) *Client
	// write begins to write to the image from a host, over and over again, until it can
	// not.
	write(t *testing.T, host int) writer
	// written counts what all writers have written.
	written(t *testing.T) int
	// admin does something to the image.
	admin(t *testing.T, what string)
}

type writer interface {
	freeze(bool)
	failed() <-chan struct{} // closed when it has found out that it can not write
}

// What an admin does.
const (
	unlocked = "an image without the feature exclusive-lock"
	reader   = "a user that may only read"
)

// contract is what the package relies on, and promises.
func contract(t *testing.T, w world) {
	ctx := try.Context(t)
	h1, h2 := w.client(t, 1, nil), w.client(t, 2, nil)
	t.Run("nobody has it open", func(t *testing.T) {
		try.Must(t, h1.Check(ctx))
		try.Must(t, h1.Check(ctx)) // does not try again to lock somebody out
		a, err := h1.Cluster(ctx)
		b, again := h2.Cluster(ctx)
		if err != nil || again != nil || a != b {
			t.Errorf("the cluster is %q and %q, %v, %v", a, b, err, again)
		}
		if gone, err := h1.Evict(ctx); err != nil || gone != nil {
			t.Errorf("evicted %v, %v", gone, err)
		}
		isOpen(t, h1, 0, 0)
	})
	t.Run("another host has it open", func(t *testing.T) {
		a := w.write(t, 1)
		grows(t, w)
		isOpen(t, h1, 1, 0)
		isOpen(t, h2, 0, 1)
		_, open, err := h2.Open(ctx)
		try.Must(t, err)
		if gone, err := h2.Evict(ctx); err != nil || !slices.Equal(gone, open) {
			t.Errorf("evicted %v, %v, want %v", gone, err, open)
		}
		stays(t, w)
		fails(t, a)
		isOpen(t, h1, 0, 0)
		if gone, err := h2.Evict(ctx); err != nil || gone != nil {
			t.Errorf("once more: evicted %v, %v", gone, err)
		}
	})
	t.Run("a later process of the same host may open it", func(t *testing.T) {
		a := w.write(t, 1)
		grows(t, w)
		if gone, err := h1.Evict(ctx); err != nil || len(gone) != 1 {
			t.Errorf("evicted %v, %v", gone, err)
		}
		fails(t, a)
	})
	t.Run("who stands still can not write when it goes on", func(t *testing.T) {
		a := w.write(t, 1)
		a.freeze(true)
		if gone, err := h2.Evict(ctx); err != nil || len(gone) != 1 {
			t.Errorf("evicted %v, %v", gone, err)
		}
		b := w.write(t, 2) // at once, not when the lock of the frozen one has run out
		grows(t, w)
		if gone, err := h2.Evict(ctx); err != nil || len(gone) != 1 {
			t.Errorf("evicted %v, %v", gone, err)
		}
		fails(t, b)
		before := w.written(t)
		a.freeze(false)
		fails(t, a)
		if after := w.written(t); after != before {
			t.Errorf("it wrote %d times after it went on", after-before)
		}
		isOpen(t, h1, 0, 0)
	})
	t.Run("the pool is probed", func(t *testing.T) {
		try.Must(t, h1.Probe(ctx, "h1"))
		try.Must(t, h1.Probe(ctx, "h1"))
		silent := w.client(t, 1, func(r *cluster.RBD) { r.Mons = []string{"10.77.0.99"} })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := silent.Probe(short, "h1"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a monitor: %v", err)
		}
		if _, err := silent.Evict(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a monitor: %v", err)
		}
	})
	t.Run("what is not right is told", func(t *testing.T) {
		ring := func(name, text string, mode os.FileMode) string { return keyring(t, name, text, mode) }
		for _, c := range []struct {
			edit func(*cluster.RBD)
			want string
		}{
			{func(r *cluster.RBD) { r.Image = "other" }, "other"},
			{func(r *cluster.RBD) { r.Pool = "other" }, "other"},
			{func(r *cluster.RBD) { r.Keyring = filepath.Join(t.TempDir(), "none") }, "no such file"},
			{func(r *cluster.RBD) { r.Keyring = ring("open", "[client.holdfast]\nkey = AAAA\n", 0o644) }, "chmod 600"},
			{func(r *cluster.RBD) { r.Keyring = ring("else", "[client.x]\nkey = AAAA\n", 0o600) }, "has no key of client.holdfast"},
			{func(r *cluster.RBD) {
				r.Keyring = ring("wrong", "[client.holdfast]\nkey = AQDHVrVorrqOLBAA6a3rKFdcZIgQQlXEiiM46g==\n", 0o600)
			}, "exit status 13"},
		} {
			if err := w.client(t, 1, c.edit).Check(ctx); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		}
		w.admin(t, reader)
		if err := w.client(t, 1, nil).Check(ctx); err == nil ||
			!strings.Contains(err.Error(), "ceph auth caps client.holdfast mon 'profile rbd'") {
			t.Errorf("a user that may only read: %v", err)
		}
		w.admin(t, unlocked)
		if err := w.client(t, 1, nil).Check(ctx); err == nil || !strings.Contains(err.Error(), "rbd feature enable") {
			t.Errorf("without the feature: %v", err)
		}
	})
}

func isOpen(t *testing.T, c *Client, here, elsewhere int) {
	t.Helper()
	h, e, err := c.Open(t.Context())
	if err != nil || len(h) != here || len(e) != elsewhere {
		t.Errorf("open here: %v, elsewhere %v, %v, want %d and %d", h, e, err, here, elsewhere)
	}
}

func grows(t *testing.T, w world) {
	t.Helper()
	before := w.written(t)
	try.Until(t, "a write", func() bool { return w.written(t) > before })
}

// stays: nothing is written for a while, in which a writer that can does so often.
func stays(t *testing.T, w world) {
	t.Helper()
	before := w.written(t)
	time.Sleep(time.Second)
	if after := w.written(t); after != before {
		t.Errorf("written %d times more", after-before)
	}
}

func fails(t *testing.T, w writer) {
	t.Helper()
	<-w.failed() // it finds out that it can not write
}

func TestParseClient(t *testing.T) {
	for s, want := range map[string]client{
		"10.0.0.1:0/123":       {"10.0.0.1:0/123", netip.MustParseAddr("10.0.0.1")},
		"v1:10.0.0.1:6800/4":   {"10.0.0.1:6800/4", netip.MustParseAddr("10.0.0.1")},
		"[fd00::1]:0/99":       {"[fd00::1]:0/99", netip.MustParseAddr("fd00::1")},
		"any:[fd00::1]:0/7":    {"[fd00::1]:0/7", netip.MustParseAddr("fd00::1")},
		"10.0.0.1:0/423456789": {"10.0.0.1:0/423456789", netip.MustParseAddr("10.0.0.1")},
	} {
		if got, err := parseClient(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "-", "10.0.0.1", "10.0.0.1:0", "10.0.0.1/24", "10.0.0.1:0/", "10.0.0.1:0/x",
		"10.0.0.1:0/1 2", "host:0/1", "10.0.0.1:0/-1"} {
		if got, err := parseClient(s); err == nil {
			t.Errorf("%q: accepted as %+v", s, got)
		}
	}
}
