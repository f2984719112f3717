package install

import (
	"net/netip"
	"slices"
	"testing"

	"holdfast/internal/config"
)

func TestOpenings(t *testing.T) {
	a, b, g, k := Host{Name: "a", Addr: "192.0.2.1"}, Host{Name: "b", Addr: "192.0.2.2"},
		Host{Name: "g", Addr: "192.0.2.3", Guests: true}, Host{Name: "k", Addr: "2001:db8::4", Guests: true}
	all := []Host{a, b, g, k}
	const guests = "TCP 7443, TCP 16514, TCP 49152-49215 from "
	for _, c := range []struct {
		at   Host
		of   []Host
		tls  bool
		want string
	}{
		{a, all, true, "TCP 7443, TCP 2379, TCP 16514, TCP 49152-49215 from 192.0.2.3, 2001:db8::4; TCP 7443, TCP " +
			"2379, TCP 2380, UDP 7443, TCP 16514, TCP 49152-49215 from 192.0.2.2"},
		{g, all, true, guests + "192.0.2.1, 192.0.2.2, 2001:db8::4"},
		{a, []Host{a, b}, false, "TCP 7443, TCP 2379, TCP 2380, UDP 7443, TCP 49152-49215 from 192.0.2.2"},
		{a, []Host{a}, true, ""},
	} {
		o, err := openings(c.at, c.of, c.tls, nil)
		if err != nil || o.String() != c.want || o.Addr != c.at.Addr {
			t.Errorf("%s: %q, %v: want %q", c.at.Name, o, err, c.want)
		}
	}
	if _, err := openings(a, []Host{{Name: "x", Addr: "x.example"}}, true, nil); err == nil {
		t.Error("a name in place of an address was taken")
	}
	o, err := openings(a, all, true, nil)
	if want := []netip.Addr{netip.MustParseAddr(g.Addr), netip.MustParseAddr(k.Addr)}; err != nil ||
		!slices.Equal(guestsLetIn(o.Rules), want) {
		t.Errorf("hosts that run guests only, by the rules: %v, want %v", guestsLetIn(o.Rules), want)
	}
	pair := &config.Pair{Nodes: []string{"a", "b"}, Database: &config.PairDatabase{}}
	voter := Host{Name: "v", Addr: "192.0.2.9"}
	for at, want := range map[Host]string{
		a:     "TCP 7443, TCP 2379, TCP 2380, UDP 7443 from 192.0.2.9; TCP 7443, TCP 2379, TCP 2380, UDP 7443, TCP 3306, TCP 7790 from 192.0.2.2",
		voter: "TCP 7443, TCP 2379, TCP 2380, UDP 7443 from 192.0.2.1, 192.0.2.2",
	} {
		if o, err := openings(at, []Host{a, b, voter}, false, pair); err != nil || o.String() != want {
			t.Errorf("%s of a pair: %q, %v: want %q", at.Name, o, err, want)
		}
	}
	pair.Device = &config.PairDevice{Disk: "/dev/vdb", Mount: "/srv/pair", Addresses: []string{"10.9.0.1", "10.9.0.2"}}
	if o, err := openings(a, []Host{a, b}, false, pair); err != nil ||
		o.String() != "TCP 7443, TCP 2379, TCP 2380, UDP 7443 from 192.0.2.2; TCP 7789, TCP 7790 from 10.9.0.2" {
		t.Errorf("a pair with a device: %q, %v", o, err)
	}
	pair.SecondPath = []string{"10.8.0.1", "10.8.0.2"}
	if o, err := openings(a, []Host{a, b, voter}, false, pair); err != nil ||
		o.String() != "TCP 7443, TCP 2379, TCP 2380, UDP 7443 from 192.0.2.2, 192.0.2.9; TCP 7443, TCP 2380, UDP "+
			"7443 from 10.8.0.2; TCP 7789, TCP 7790 from 10.9.0.2" {
		t.Errorf("a pair with a second path: %q, %v", o, err)
	}
}
