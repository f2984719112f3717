package proc

import (
	"errors"
	"net"
	"os"
	"slices"
	"testing"
)

func TestParseTCP(t *testing.T) {
	const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
	line := func(st, from, to string) string {
		return "   1: " + from + " " + to + " " + st + " 0000A000:00000000 01:00000012 00000002     0        0 " +
			"3160199 1 0000000011e890d5 20 4 31 24 -1"
	}
	const own, console, stream, disk = "0107620A:B8DE", "0107620A:170C", "0207620A:C000", "0207620A:2A39"
	for _, c := range []struct {
		what, line string
		connected  bool
	}{
		{"heading", heading, false},
		{"listening", line("0A", own, "00000000:0000"), false},
		{"over", line("06", own, stream), false},
		{"a migration", line("01", own, stream), true},
		{"a migration that the peer has closed", line("08", own, stream), true},
		{"storage", line("01", own, disk), true},
		{"somebody looks at the console", line("01", console, stream), true},
	} {
		s, connected, err := parseTCP(c.line)
		if err != nil || connected != c.connected {
			t.Errorf("%s: %+v, connected %v, %v", c.what, s, connected, err)
		}
	}
	s, _, _ := parseTCP(line("01", own, stream))
	if s.From.String() != "10.98.7.1:47326" || s.To.String() != "10.98.7.2:49152" || s.Inode != 3160199 {
		t.Errorf("%+v", s)
	}
	if end, err := parseEnd("B80D01200000000067452301EFCDAB89:0050"); err != nil || end.String() != "[2001:db8::123:4567:89ab:cdef]:80" {
		t.Errorf("%v, %v", end, err)
	}
	for _, bad := range []string{"x", "1: a b 01 c d e f g h", line("01", own, "x")} {
		if _, _, err := parseTCP(bad); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// TestConnectionsOfThisProcess: both ends of one are in the list, and this process has them.
func TestConnectionsOfThisProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := Here.TCP(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(x TCP) bool {
		return x.From.String() == c.LocalAddr().String() && x.To.String() == c.RemoteAddr().String()
	})
	if i < 0 {
		t.Fatalf("%s is not among %v", c.LocalAddr(), all)
	}
	if own, err := Here.HasOpen(os.Getpid(), all[i].Name()); err != nil || !own {
		t.Errorf("it is open here: %v, %v", own, err)
	}
	if _, err := Here.TCP(1 << 30); !errors.Is(err, ErrGone) {
		t.Errorf("of no process: %v", err)
	}
}
