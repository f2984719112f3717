package config

import (
	"fmt"
	"strings"
	"testing"
)

// TestAPlainDiskIsWarnedOf: an NBD server of another host without TLS is allowed, and told.
func TestAPlainDiskIsWarnedOf(t *testing.T) {
	base, _, _ := Parse("base.json", []byte(fixture(t, "base.json")), Options{})
	image := func(url string) string {
		return change(t, fixture(t, "base.json"), `"CPU": 4`, fmt.Sprintf(`"CPU": 4, "ImageURL": %q`, url))
	}
	domain := func(source string) string {
		disk := fmt.Sprintf("<disk type='network'><driver cache='none'/><source protocol='nbd' name='m' "+
			"%s</source><target dev='vdz'/></disk></devices>", source)
		text := withDomain(t, strings.Replace(domainFor(base), "</devices>", disk, 1))
		return change(t, text, `"CPU": 4`, `"CPU": 4, "LockManager": {"Type": "virtlockd", "Lockspace": "/srv/locks"}`)
	}
	for _, c := range []struct{ name, text, want string }{
		{"an address", image("nbd://192.0.2.9:10809/m"),
			"ImageURL: the disk's data go over the network unencrypted, unless nbd_tls is 1 in each host's " +
				"qemu.conf, and whoever reaches 192.0.2.9:10809 may"},
		{"a name", image("nbd://stor:10809/m"), "whoever reaches stor:10809 may"},
		{"IPv6", image("nbd://[2001:db8::1]:10809/m"), "whoever reaches [2001:db8::1]:10809 may"},
		{"by TLS", image("nbds://192.0.2.9:10809/m"), ""},
		{"this host", image("nbd://127.0.0.1:10809/m"), ""},
		{"this host by name", image("nbd://localhost:10809/m"), ""},
		{"this host by IPv6", image("nbd://[::1]:10809/m"), ""},
		{"a domain", domain("><host name='192.0.2.9'/>"),
			"/domain/devices/disk[2]/source: the disk's data go over the network unencrypted, unless nbd_tls is 1 in " +
				"each host's qemu.conf, and whoever reaches 192.0.2.9 may"},
		{"a domain that wants none", domain("tls='no'><host name='192.0.2.9' port='7'/>"), "whoever reaches 192.0.2.9:7 may"},
		{"a domain by TLS", domain("tls='yes'><host name='192.0.2.9' port='7'/>"), ""},
		{"a domain with a socket", domain("><host transport='unix' socket='/s'/>"), ""},
		{"a domain with this host", domain("><host name='127.0.0.1' port='7'/>"), ""},
	} {
		cl, faults, warnings := Parse("c.json", []byte(c.text), Options{})
		wantFaults(t, faults)
		var told []string
		for _, w := range warnings {
			if strings.Contains(w.Text, "unencrypted") {
				told = append(told, w.String())
			}
		}
		all := cl.PlainDisks()
		if n := min(1, len(c.want)); len(told) != n || len(all) != n || n > 0 &&
			(!strings.Contains(told[0], c.want) || !strings.HasSuffix(told[0], all[0])) {
			t.Errorf("%s: warnings %q, of disks %q, want %q", c.name, told, all, c.want)
		}
	}
}

// TestAnImageMayBecomeEncrypted: the way to the same image may change while the cluster runs, the image may not.
func TestAnImageMayBecomeEncrypted(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     Effect
	}{
		{"nbd://h:1/m", "nbds://h:1/m", AtStart},
		{"nbds://h:1/m", "nbd://h:1/m", AtStart},
		{"nbd://h:1/m", "nbds://h:1/n", Install},
		{"nbd://h:1/m", "nbds://i:1/m", Install},
		{"", "nbds://h:1/m", Install},
	} {
		got := Diff(Cluster{ImageURL: c.from}, Cluster{ImageURL: c.to})
		if len(got) != 1 || got[0].Effect != c.want {
			t.Errorf("%s to %s: %+v, want %s", c.from, c.to, got, c.want)
		}
	}
}
