package proc

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestListening: what this process listens on is in the lists, and in them no longer once it is closed.
func TestListening(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a socket")
	x, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	look := func() (tcp, udp, unix bool) {
		all, err := Here.Listening("tcp")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := Here.Listening("udp")
		if err != nil {
			t.Fatal(err)
		}
		paths, err := Here.UnixListeners()
		if err != nil {
			t.Fatal(err)
		}
		ours := func(all []Listener, at netip.AddrPort, path string) bool {
			i := slices.IndexFunc(all, func(l Listener) bool { return l.At == at && l.Path == path })
			if i < 0 {
				return false
			}
			has, err := Here.HasOpen(os.Getpid(), all[i].Name())
			if err != nil || !has {
				t.Errorf("%+v is not this process's: %v", all[i], err)
			}
			return true
		}
		return ours(all, netip.MustParseAddrPort(l.Addr().String()), ""),
			ours(packets, netip.MustParseAddrPort(u.LocalAddr().String()), ""), ours(paths, netip.AddrPort{}, path)
	}
	if tcp, udp, unix := look(); !tcp || !udp || !unix {
		t.Errorf("TCP %v, UDP %v, Unix %v: want all", tcp, udp, unix)
	}
	for _, c := range []interface{ Close() error }{l, u, x} {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if tcp, udp, unix := look(); tcp || udp || unix {
		t.Errorf("closed: TCP %v, UDP %v, Unix %v: want none", tcp, udp, unix)
	}
}
