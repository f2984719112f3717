package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

func TestConnectionsEnd(t *testing.T) {
	need.Real(t, need.Root)
	for _, c := range []struct{ network, listen, dial string }{
		{"tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"tcp", "[::]:0", "127.0.0.1"}, // a socket of IPv6 with an address of IPv4
		{"tcp6", "[::1]:0", "::1"},
	} {
		l, err := net.Listen(c.network, c.listen)
		try.Must(t, err)
		defer l.Close()
		to := netip.AddrPortFrom(netip.MustParseAddr(c.dial), uint16(l.Addr().(*net.TCPAddr).Port))
		pair := func() (near, far net.Conn) {
			far, err := net.DialTimeout("tcp", to.String(), time.Minute)
			try.Must(t, err)
			t.Cleanup(func() { far.Close() })
			near, err = l.Accept()
			try.Must(t, err)
			t.Cleanup(func() { near.Close() })
			return near, far
		}
		near, far := pair()
		peer := far.LocalAddr().(*net.TCPAddr).AddrPort()
		all, err := TCP()
		try.Must(t, err)
		i := slices.IndexFunc(all, func(c Connection) bool { return c.From == to && c.To == peer })
		if i < 0 || slices.ContainsFunc(all, func(c Connection) bool { return !c.To.IsValid() || c.To.Port() == 0 }) {
			t.Fatalf("%s: the connection from %s is missing, or one that listens is not: %+v", c.listen, peer, all)
		}
		if now, there, err := all[i].Now(); err != nil || !there || now.From != to || now.To != peer ||
			now.Inode != all[i].Inode || now.Repeats != 0 {
			t.Errorf("%s: asked for once more: %+v, %v, %v, want %+v", c.listen, now, there, err, all[i])
		}
		try.Must(t, all[i].End())
		for end, want := range map[net.Conn]error{near: unix.ECONNABORTED, far: unix.ECONNRESET} {
			try.Must(t, end.SetReadDeadline(time.Now().Add(time.Minute)))
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, want) {
				t.Errorf("%s: read: %v: want %v", c.listen, err, want)
			}
		}
		try.Must(t, near.Close())
		try.Must(t, far.Close())
		if now, there, err := all[i].Now(); err != nil || there {
			t.Errorf("%s: one that has ended: %+v, %v, %v", c.listen, now, there, err)
		}
		try.Must(t, all[i].End()) // it has ended: nobody else is, not even who listens
		pair()
	}
}

func TestReadConnection(t *testing.T) {
	b := make([]byte, answerSize)
	b[0], b[1], b[68] = unix.AF_INET, finWait2, 7
	copy(b[4:], []byte{0x01, 0xbb, 0x30, 0x39, 10, 0, 0, 1})
	copy(b[24:], []byte{10, 0, 0, 2})
	c, ok, err := readConnection(b)
	if err != nil || !ok || c.From.String() != "10.0.0.1:443" || c.To.String() != "10.0.0.2:12345" || c.Inode != 7 {
		t.Errorf("got %+v, %v, %v", c, ok, err)
	}
	b[68] = 0
	if c, ok, err := readConnection(b); ok || err != nil {
		t.Errorf("what waits for the last word, of no program: %+v, %v", c, err)
	}
	for what, b := range map[string][]byte{"cut": b[:answerSize-1], "of another family": append([]byte{unix.AF_UNIX}, b[1:]...)} {
		if c, ok, err := readConnection(b); err == nil {
			t.Errorf("an answer %s: %+v, %v", what, c, ok)
		}
	}
}

func FuzzReadConnection(f *testing.F) {
	f.Add(make([]byte, answerSize))
	f.Add(append([]byte{unix.AF_INET6, 1}, make([]byte, answerSize)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, _, err := readConnection(b); err == nil && (!c.From.IsValid() || !c.To.IsValid() || len(c.id) != idSize) {
			t.Errorf("%x is read as %+v", b, c)
		}
	})
}

func TestRequestThatIsRefused(t *testing.T) {
	if err := Request(unix.NETLINK_ROUTE, unix.RTM_NEWADDR, 0, []byte{unix.AF_INET}); err == nil {
		t.Error("an address without an interface is a success")
	}
	if all, err := List(unix.NETLINK_SOCK_DIAG, sockList, nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a list of nothing: %v, %v: want EINVAL", all, err)
	}
}

func TestVerdict(t *testing.T) {
	ok := message(unix.NLMSG_ERROR, 0, make([]byte, 4))
	if err := verdict(ok); err != nil {
		t.Error(err)
	}
	for what, b := range map[string][]byte{"nothing": nil, "a cut answer": ok[:19],
		"another message": message(unix.NLMSG_DONE, 0, make([]byte, 4))} {
		if err := verdict(b); err == nil {
			t.Errorf("%s is a success", what)
		}
	}
}

// message makes a message of the kernel's.
func message(kind, flags uint16, body []byte) []byte {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, kind)
	m = binary.NativeEndian.AppendUint16(m, flags)
	return append(append(m, make([]byte, 8)...), body...)
}

func TestRead(t *testing.T) {
	one, changed, done := message(unix.RTM_NEWADDR, 0, []byte{1, 2, 3, 4}),
		message(unix.RTM_NEWADDR, unix.NLM_F_DUMP_INTR, nil), message(unix.NLMSG_DONE, 0, make([]byte, 4))
	for _, c := range []struct {
		what        string
		b           []byte
		n           int
		end, intact bool
	}{
		{"a part", slices.Concat(one, one), 2, false, true},
		{"the last part", slices.Concat(one, done), 1, true, true},
		{"a part of a list that changed", slices.Concat(one, changed), 2, false, false},
		{"an end that says that the list changed", message(unix.NLMSG_DONE, unix.NLM_F_DUMP_INTR, make([]byte, 4)), 0, true, false},
	} {
		part, end, intact, err := read(c.b)
		if err != nil || len(part) != c.n || end != c.end || intact != c.intact {
			t.Errorf("%s: %d messages, end %v, intact %v, %v", c.what, len(part), end, intact, err)
		}
	}
	refused := message(unix.NLMSG_ERROR, 0, binary.NativeEndian.AppendUint32(nil, ^uint32(unix.EPERM)+1))
	if _, _, _, err := read(refused); !errors.Is(err, unix.EPERM) {
		t.Errorf("a refusal: %v", err)
	}
	for what, b := range map[string][]byte{"a cut refusal": message(unix.NLMSG_ERROR, 0, nil),
		"a cut message": one[:18], "a message without its end": one[:16], "an end that is not padded": message(unix.RTM_NEWADDR, 0, []byte{1})} {
		if part, end, _, err := read(b); err == nil {
			t.Errorf("%s: %v, %v", what, part, end)
		}
	}
}

func TestAttribute(t *testing.T) {
	b := Attribute(Attribute([]byte{1, 2, 3, 4}, 11, []byte{72}), 1, []byte{10, 0, 0, 1})
	if len(b) != 4+8+8 || b[4] != 5 || !bytes.Equal(b[9:12], make([]byte, 3)) || b[12] != 8 {
		t.Errorf("got %x", b)
	}
}

// TestLinks: a pair of veth interfaces, one of them on a bridge, is told with all that joins them.
func TestLinks(t *testing.T) {
	need.Real(t, need.Root, need.Programs("iproute2", "ip"))
	h := nettest.Alone(t)
	h.IP(t, "link", "add", "br0", "type", "bridge")
	h.IP(t, "link", "add", "va", "type", "veth", "peer", "name", "vb")
	h.IP(t, "link", "set", "va", "master", "br0", "up")
	var all []Link
	try.Must(t, h.Do(func() (err error) { all, err = Links(); return err }))
	of, names := map[string]Link{}, map[int]string{}
	for _, l := range all {
		of[l.Name], names[l.Index] = l, l.Name
	}
	a, b, br, lo := of["va"], of["vb"], of["br0"], of["lo"]
	if a.Kind != "veth" || !a.Up || names[a.Master] != "br0" || names[a.Peer] != "vb" || b.Up || b.Master != 0 ||
		names[b.Peer] != "va" || br.Kind != "bridge" || !lo.Up || lo.Kind != "" || len(all) != 4 {
		t.Errorf("%+v", all)
	}
}

// TestReadLinkErrors: what is cut short is no interface.
func TestReadLinkErrors(t *testing.T) {
	whole := append(make([]byte, unix.SizeofIfInfomsg), Attribute(nil, unix.IFLA_IFNAME, []byte("a\x00"))...)
	m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWLINK}, Data: whole}
	if l, err := readLink(m); err != nil || l.Name != "a" {
		t.Fatalf("%+v, %v", l, err)
	}
	m.Data = whole[:len(whole)-4]
	if _, err := readLink(m); err == nil {
		t.Error("an attribute that is cut short: want an error")
	}
	m.Data = whole[:4]
	if _, err := readLink(m); err == nil {
		t.Error("a short message: want an error")
	}
}
