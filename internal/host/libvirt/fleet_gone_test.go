package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/digitalocean/go-libvirt/libvirttest"
)

// TestEndedByMigration: what a domain's log says of its last process.
func TestEndedByMigration(t *testing.T) {
	const (
		start    = "2026-01-02 03:04:05.678+0000: starting up libvirt version: 11.3.0, package: 1\nLC_ALL=C \\\n"
		migrated = "2026-01-02 03:05:05.678+0000: shutting down, reason=migrated\n"
		crashed  = "2026-01-02 03:06:05.678+0000: shutting down, reason=crashed\n"
		daemon   = "2026-01-02 03:06:05.678+0000: shutting down, reason=daemon\n"
	)
	for name, c := range map[string]struct {
		log          string
		moved, again bool
	}{
		"nothing":                         {},
		"it runs":                         {log: start},
		"it has left":                     {log: start + migrated, moved: true},
		"libvirtd died before it ended":   {log: start + migrated + daemon, moved: true, again: true},
		"and says so by another name":     {log: start + migrated + crashed + crashed, moved: true, again: true},
		"it crashed":                      {log: start + crashed},
		"it has left after a crash":       {log: start + crashed + migrated, moved: true},
		"it has come back":                {log: start + migrated + start},
		"come back, and crashed":          {log: start + migrated + daemon + start + crashed},
		"come back, and has left":         {log: start + migrated + crashed + start + migrated, moved: true},
		"told twice":                      {log: start + migrated + migrated, moved: true},
		"a line of the guest's own words": {log: start + "x shutting down, reason=migrated\n"},
	} {
		path := filepath.Join(t.TempDir(), "a.log")
		if err := os.WriteFile(path, []byte(c.log), 0o600); err != nil {
			t.Fatal(err)
		}
		moved, again, err := endedByMigration(path)
		if moved != c.moved || again != c.again || err != nil {
			t.Errorf("%s: %t, %t, %v", name, moved, again, err)
		}
		// The management VM's driver takes what is plain only.
		d := &Driver{opt: Options{LogDir: filepath.Dir(path), Name: "a"}, log: slog.New(slog.DiscardHandler)}
		if got := d.hasMoved(); got != (c.moved && !c.again) {
			t.Errorf("%s: the driver says %t", name, got)
		}
	}
	if moved, again, err := endedByMigration(filepath.Join(t.TempDir(), "none")); moved || again || err != nil {
		t.Errorf("no log: %t, %t, %v", moved, again, err)
	}
}

// TestGoOnTriesANewConnection: the one to the target may have broken in a long migration without anybody
// seeing it. The guest stands still meanwhile.
func TestGoOnTriesANewConnection(t *testing.T) {
	f, err := NewFleet(FleetOptions{MigrateURI: "qemu+tcp://%s/system"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	old, err := libvirttest.New().Dial() // it knows no resume, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	again := make(chan time.Time, 1)
	go func() {
		defer close(again)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		again <- time.Now()
		_ = nc.Close() // what matters is that it was called
	}()
	defer func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}()
	m := move{Fleet: f, target: fmt.Sprint(ln.Addr()), halted: true}
	if m.there, err = greet(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	if err := f.link.add(m.there); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it works all the same
	if err := m.goOn(ctx); !errors.Is(err, ErrStill) {
		t.Errorf("got %v", err)
	}
	m.part()
	if at, called := <-again; !called || at.Sub(began) > goOnLimit/2 {
		t.Errorf("called anew: %t, after %s", called, at.Sub(began))
	}
}
