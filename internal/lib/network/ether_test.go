package network

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
)

var (
	mac    = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	asking = ARP{Op: ARPRequest, SenderMAC: mac, Sender: netip.MustParseAddr("10.0.0.1"),
		TargetMAC: make(net.HardwareAddr, MACSize), Target: netip.MustParseAddr("10.0.0.5")}
	told = ARP{Op: ARPReply, SenderMAC: net.HardwareAddr{2, 0, 0, 0, 0, 5}, Sender: asking.Target, TargetMAC: mac, Target: asking.Sender}
)

// TestARPOfTheStandard compares with frames that were composed by hand from RFC 826.
func TestARPOfTheStandard(t *testing.T) {
	for _, c := range []struct {
		a    ARP
		to   net.HardwareAddr
		want string
	}{
		{asking, Broadcast(), "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01" +
			"\x02\x00\x00\x00\x00\x01\x0a\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0a\x00\x00\x05"},
		{told, mac, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x05\x08\x06\x00\x01\x08\x00\x06\x04\x00\x02" +
			"\x02\x00\x00\x00\x00\x05\x0a\x00\x00\x05\x02\x00\x00\x00\x00\x01\x0a\x00\x00\x01"},
	} {
		got := c.a.Append(nil, c.to)
		if string(got) != c.want || len(got) != ARPSize {
			t.Errorf("got %x: want %x", got, c.want)
		}
		padded := append(got, make([]byte, 18)...)
		back, ok := ReadARP(padded)
		if !ok || !bytes.Equal(back.Append(nil, c.to), got) {
			t.Errorf("%x is read as %+v, %v", padded, back, ok)
		}
	}
}

func TestFramesThatAreNoARP(t *testing.T) {
	good := told.Append(nil, mac)
	change := func(at int, with ...byte) []byte {
		f := bytes.Clone(good)
		copy(f[at:], with)
		return f
	}
	for what, f := range map[string][]byte{
		"nothing":             nil,
		"a cut header":        good[:HeaderSize-1],
		"a cut packet":        good[:ARPSize-1],
		"another kind":        change(12, 0x08, 0),
		"another hardware":    change(14, 0, 6),
		"another protocol":    change(16, 0x86, 0xdd),
		"other lengths":       change(18, 8),
		"no known operation":  change(20, 0, 3),
		"from everybody":      change(22, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"from the MAC of all": change(22, 0, 0, 0, 0, 0, 0),
	} {
		if a, ok := ReadARP(f); ok {
			t.Errorf("%s is read as %+v", what, a)
		}
	}
}

func FuzzReadARP(f *testing.F) {
	f.Add(asking.Append(nil, Broadcast()))
	f.Add(told.Append(nil, mac))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		was := bytes.Clone(b)
		a, ok := ReadARP(b)
		if !bytes.Equal(was, b) {
			t.Error("it changes what it reads")
		}
		if !ok {
			return
		}
		if !a.Sender.Is4() || !a.Target.Is4() || !IsMachine(a.SenderMAC) || a.Op != ARPRequest && a.Op != ARPReply {
			t.Errorf("%x is read as %+v", b, a)
		}
		// What was read makes the same packet, and appending to a MAC of it does not reach into the frame.
		if again := a.Append(nil, b[:MACSize]); !bytes.Equal(again[HeaderSize:], b[HeaderSize:ARPSize]) {
			t.Errorf("%x is made of what was read of %x", again, b)
		}
		_ = append(a.SenderMAC, 0xee)
		if !bytes.Equal(was, b) {
			t.Error("what is appended to a MAC is written into the frame")
		}
	})
}
