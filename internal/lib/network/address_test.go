package network

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct{ text, want, fault string }{
		{"172.16.60.55/16", "172.16.60.55/16", ""},
		{"fd00::5/64", "fd00::5/64", ""},
		{"  10.0.0.5/24   dev  br-mgmt ", "10.0.0.5/24 dev br-mgmt", ""},
		{"172.16.0.0/12", "", "that is the address of the subnet itself"},
		{"172.16.255.255/16", "", "broadcast"},
		{"172.16.255.255/12", "172.16.255.255/12", ""},
		{"10.0.0.7/29", "", "broadcast"},
		{"fd00::/64", "", "the subnet itself"},
		{"224.0.0.5/24", "", "multicast"},
		{"255.255.255.255/24", "", "broadcast"},
		{"ff02::1/64", "", "multicast"},
		{"127.0.0.5/8", "", "loopback"},
		{"::1/64", "", "loopback"},
		{"0.0.0.0/8", "", "no machine's"},
		{"0.1.2.3/8", "", "no machine's"},
		{"::/64", "", "no machine's"},
		{"fe80::5/64", "", "one link"},
		{"::ffff:10.0.0.5/120", "", "its own form"},
		{"10.0.0.5/31", "", "8 to 30"},
		{"10.0.0.5/7", "", "8 to 30"},
		{"fd00::5/127", "", "16 to 126"},
		{"10.0.0.5/33", "", "prefix length out of range"},
		{"10.0.0.5", "", "no '/'"},
		{"10.0.0.05/24", "", "leading zero"},
		{"fd00::5%eth0/64", "", "zones"},
		{"", "", "other words"},
		{"10.0.0.5/24 eth0", "", "other words"},
		{"10.0.0.5/24 dev", "", "other words"},
		{"10.0.0.5/24 dev eth0 up", "", "other words"},
		{"10.0.0.5/24 dev a-name-of-16-byt", "", "can not be the name of an interface"},
		{"10.0.0.5/24 dev a/b", "", "can not be the name of an interface"},
		{"10.0.0.5/24 dev eth0:1", "", "can not be the name of an interface"},
	} {
		a, err := ParseVIP(c.text)
		switch {
		case c.fault == "" && (err != nil || a.String() != c.want):
			t.Errorf("%q: got %s, %v: want %s", c.text, a, err, c.want)
		case c.fault != "" && (err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), "allowed:")):
			t.Errorf("%q: got %s, %v: want an error with %q and what is allowed", c.text, a, err, c.fault)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"172.16.60.55/16", "fd00::5/64 dev eth0", "::ffff:1.2.3.4/100", "10.0.0.5/24 dev", "10.255.255.255/8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseVIP(s)
		if err != nil {
			return
		}
		if again, err := ParseVIP(a.String()); err != nil || again != a {
			t.Errorf("%q is %s, which is read as %s, %v", s, a, again, err)
		}
		if addr := a.Prefix.Addr(); addr.IsMulticast() || addr.IsLoopback() || addr.IsUnspecified() || addr == a.Prefix.Masked().Addr() {
			t.Errorf("%q: %s is no machine's address", s, addr)
		}
	})
}
