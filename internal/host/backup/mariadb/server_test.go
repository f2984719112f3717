package mariadb

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/try"
)

func TestListening(t *testing.T) {
	dir := try.ShortDir(t)
	want := filepath.Join(dir, "mysqld of ours.sock")
	l, err := net.Listen("unix", want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	if got := listening(b); !slices.Contains(got, want) {
		t.Errorf("%q is not among %q", want, got)
	}
	if got, err := sockets(); err != nil || !slices.Contains(got, want) {
		t.Errorf("%q is not among %q, %v", want, got, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := sockets(); err != nil || slices.Contains(got, want) {
		t.Errorf("%q is still there: %q, %v", want, got, err)
	}
}

func FuzzListening(f *testing.F) {
	f.Add([]byte("Num       RefCount Protocol Flags    Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 " +
		"1 /run/mysqld/mysqld.sock\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range listening(b) {
			if !filepath.IsAbs(p) {
				t.Errorf("%q", p)
			}
		}
	})
}

// TestFind uses a client that answers as its arguments say, so that several
// servers can be there.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	client := filepath.Join(dir, "client")
	script := "#!/bin/sh\nfor a; do case $a in --socket=*none) echo refused >&2; exit 1;; --socket=*) printf " +
		"'/data/%s/\\t10.11\\n' \"${a##*/}\"; exit;; esac; done\nexit 1\n"
	if err := os.WriteFile(client, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ sockets, want, fault string }{
		{" /none /a", "/data/a", ""},
		{" /a /x/a", "/data/a", ""},
		{"/a /b", "/data/a", ""},
		{" /a /b", "", "2 servers answer, at /a and /b"},
		{" /none", "", "refused"},
		{"/none /a", "/data/a", ""},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		s := &server{client: client}
		var c []Connection
		for _, p := range strings.Split(tc.sockets, " ") {
			c = append(c, Connection{Socket: p})
		}
		err := s.find(ctx, c)
		cancel()
		switch {
		case tc.fault == "" && (err != nil || s.datadir != tc.want):
			t.Errorf("%q: got %q, %v, want %q", tc.sockets, s.datadir, err, tc.want)
		case tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)):
			t.Errorf("%q: got %v, want %q", tc.sockets, err, tc.fault)
		}
	}
}
