package vip

import (
	"math"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
)

func TestWhoseAddressItIs(t *testing.T) {
	v6, v4 := netip.MustParseAddr("fd00::5"), netip.MustParseAddr("10.0.0.5")
	shape := entry{addr: v6, bits: 128, flags: unix.IFA_F_NODAD | unix.IFA_F_PERMANENT, valid: math.MaxUint32}
	with := func(e entry, change func(*entry)) entry { change(&e); return e }
	for _, c := range []struct {
		what       string
		e          entry
		marks, old bool // whether it is ours on a kernel that keeps marks, and on one that does not
	}{
		{"marked", entry{addr: v4, bits: 32, proto: mark}, true, true},
		{"marked, IPv6", entry{addr: v6, bits: 128, proto: mark}, true, true},
		{"with our label", entry{addr: v4, bits: 32, label: "eth0:hf"}, true, true},
		{"by hand", entry{addr: v4, bits: 32, label: "eth0"}, false, false},
		{"marked, but of a subnet", entry{addr: v4, bits: 24, proto: mark, label: "eth0:hf"}, false, false},
		{"of our shape", shape, false, true},
		{"of our shape by another program", with(shape, func(e *entry) { e.proto = 5 }), false, false},
		{"preferred", with(shape, func(e *entry) { e.prefer = math.MaxUint32 }), false, false},
		{"with an end", with(shape, func(e *entry) { e.valid = 60 }), false, false},
		{"with duplicate detection", with(shape, func(e *entry) { e.flags = unix.IFA_F_PERMANENT }), false, false},
	} {
		if c.e.isOurs(true) != c.marks || c.e.isOurs(false) != c.old {
			t.Errorf("%s: got %v, on an old kernel %v", c.what, c.e.isOurs(true), c.e.isOurs(false))
		}
	}
	for version, want := range map[string]bool{"6.1.0-18-amd64": true, "5.18.0": true, "5.17.15": false,
		"5.10.0-60.18.0.50.oe2203": false, "4.19.90": false, "next": true} {
		if keepsMarks(version) != want {
			t.Errorf("kernel %s keeps marks: %v", version, !want)
		}
	}
}

func TestLabelsFit(t *testing.T) {
	for dev, want := range map[string]string{"eth0": "eth0:hf", "enp129s0f0np12": "enp129s0f0np:hf", "fifteen-letters": "fifteen-lett:hf"} {
		if got := label(dev); got != want || len(got) > unix.IFNAMSIZ-1 {
			t.Errorf("%s: got %s", dev, got)
		}
	}
}

// message makes a message of the kernel's: an address of interface 7.
func message(bits byte, attributes ...any) syscall.NetlinkMessage {
	b := []byte{unix.AF_INET, bits, 0, 0, 7, 0, 0, 0}
	for i := 0; i < len(attributes); i += 2 {
		b = network.Attribute(b, uint16(attributes[i].(int)), attributes[i+1].([]byte))
	}
	return syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWADDR}, Data: b}
}

func TestReadEntry(t *testing.T) {
	e, err := readEntry(message(30, unix.IFA_ADDRESS, []byte{10, 0, 0, 2}, unix.IFA_LOCAL, []byte{10, 0, 0, 1}))
	if err != nil || e.addr != netip.MustParseAddr("10.0.0.1") || e.bits != 30 || e.index != 7 {
		t.Errorf("a point-to-point link: %+v, %v", e, err)
	}
	other, cut := message(24, unix.IFA_LOCAL, []byte{10, 0, 0, 1}), message(24)
	other.Header.Type = unix.RTM_NEWLINK
	cut.Data = cut.Data[:7]
	for what, m := range map[string]syscall.NetlinkMessage{
		"without an address":      message(24),
		"with a cut address":      message(24, unix.IFA_LOCAL, []byte{10, 0, 0}),
		"with a length too large": message(33, unix.IFA_LOCAL, []byte{10, 0, 0, 1}),
		"cut":                     cut,
		"about something else":    other,
	} {
		if e, err := readEntry(m); err == nil {
			t.Errorf("an answer %s: %+v", what, e)
		}
	}
}

func FuzzReadEntry(f *testing.F) {
	f.Add(message(32, unix.IFA_LOCAL, []byte{10, 0, 0, 5}, unix.IFA_LABEL, []byte("eth0:hf\x00"), ifaProto, []byte{mark}).Data)
	f.Add(message(24, unix.IFA_ADDRESS, []byte{10, 0, 0, 5}, unix.IFA_CACHEINFO, make([]byte, 16), unix.IFA_FLAGS, make([]byte, 4)).Data)
	f.Add([]byte("00000000\x05\x00000")) // an attribute whose end is not padded
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := readEntry(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWADDR}, Data: b})
		if err == nil && (!e.addr.IsValid() || e.bits > e.addr.BitLen() || e.isOurs(true) &&
			!strings.HasSuffix(e.label, tail) && e.proto != mark) {
			t.Errorf("%x is read as %+v", b, e)
		}
	})
}
