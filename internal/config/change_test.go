package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestEveryFieldHasAnEffect: who adds a field says when a change of it takes effect.
func TestEveryFieldHasAnEffect(t *testing.T) {
	known := map[string]bool{}
	for _, f := range Fields() {
		known[f] = true
		if _, ok := effects[f]; !ok {
			t.Errorf("%s: effects does not say when a change takes effect", f)
		}
	}
	for p := range effects {
		if top, _, _ := strings.Cut(strings.ReplaceAll(p, "*", "."), "."); !known[top] {
			t.Errorf("effects[%s]: there is no such field", p)
		}
	}
}

// TestWrittenConfigurationsLoadEqual: what JSON and YAML write is what was read.
func TestWrittenConfigurationsLoadEqual(t *testing.T) {
	for _, f := range []string{"base.json", "source-form.json", "pair.json"} {
		cl, faults, _ := Parse(f, []byte(fixture(t, f)), Options{})
		wantFaults(t, faults)
		cl.Labels = map[string]string{"a": "yes", "b": "0x10", "c": "12:30", "d": "~", "e": "# no comment", "f": "é <&> \u2028"}
		cl.TimingConf.Drift = 0.01
		for name, text := range map[string][]byte{"written.json": cl.JSON(), "written.yaml": cl.YAML()} {
			again, faults, _ := Parse(name, text, Options{})
			wantFaults(t, faults)
			if !reflect.DeepEqual(cl, again) {
				t.Errorf("%s as %s: read back as\n%s", f, name, again.JSON())
			}
			if d := Diff(cl, again); len(d) > 0 {
				t.Errorf("%s as %s: read back with differences %v", f, name, d)
			}
		}
	}
}

func TestDiff(t *testing.T) {
	base, faults, _ := Parse("base.json", []byte(fixture(t, "base.json")), Options{})
	wantFaults(t, faults)
	for name, tc := range map[string]struct {
		edit func(*Cluster)
		want []string
	}{
		"nothing":       {func(*Cluster) {}, nil},
		"an empty list": {func(c *Cluster) { c.MonAddrs = []string{} }, nil},
		"size": {func(c *Cluster) { c.CPU, c.MemorySizeInGB = 6, 9 },
			[]string{"MemorySizeInGB: 8 -> 9 start", "CPU: 4 -> 6 start"}},
		"a list of texts": {func(c *Cluster) { c.DNS = []string{"192.0.2.9"} }, []string{`DNS: ["192.0.2.1"] -> ["192.0.2.9"] start`}},
		"a member of a list": {func(c *Cluster) { c.Network = slices.Clone(c.Network); c.Network[0].Bridge = "br9" },
			[]string{`Network[0].Bridge: "br0" -> "br9" start`}},
		"the nodes": {func(c *Cluster) { c.Node = c.Node[:1] },
			[]string{`Node: ["192.0.2.11 h1","192.0.2.12 h2","192.0.2.13 h3"] -> ["192.0.2.11 h1"] install`}},
		"a member replaced": {func(c *Cluster) {
			c.Node = []string{c.Node[0], "192.0.2.19 h9", c.Node[2]}
			c.Fencing.Hosts = map[string]HostFencing{"h9": {Watchdog: "none"}, "h1": {Watchdog: "none"}}
		}, []string{`Node: ["192.0.2.11 h1","192.0.2.12 h2","192.0.2.13 h3"] -> ["192.0.2.11 h1","192.0.2.19 h9","192.0.2.13 h3"] member`,
			`Fencing.h1.Watchdog: (none) -> "none" install`, `Fencing.h9.Watchdog: (none) -> "none" member`}},
		"a member at another address": {func(c *Cluster) { c.Node = []string{"192.0.2.19 h1", c.Node[1], c.Node[2]} },
			[]string{`Node: ["192.0.2.11 h1","192.0.2.12 h2","192.0.2.13 h3"] -> ["192.0.2.19 h1","192.0.2.12 h2","192.0.2.13 h3"] member`}},
		"two members": {func(c *Cluster) { c.Node = []string{"192.0.2.19 h8", "192.0.2.20 h9", c.Node[2]} },
			[]string{`Node: ["192.0.2.11 h1","192.0.2.12 h2","192.0.2.13 h3"] -> ["192.0.2.19 h8","192.0.2.20 h9","192.0.2.13 h3"] install`}},
		"what is proved by": {func(c *Cluster) { c.TimingConf.Lease = 9e9 }, []string{`Timings.Lease: (none) -> "9s" install`}},
		"the same, written": {func(c *Cluster) { c.TimingConf.Lease = 6e9 }, []string{`Timings.Lease: (none) -> "6s" now`}},
		"a profile":         {func(c *Cluster) { c.TimingConf.Profile = "fast" }, []string{`Timings.Profile: (none) -> "fast" install`}},
		"detection":         {func(c *Cluster) { c.TimingConf.Detection = 3e9 }, []string{`Timings.Detection: (none) -> "3s" now`}},
		"a new object": {func(c *Cluster) { c.HealthCheck = &HealthCheck{Type: "tcp", Port: 80} },
			[]string{"HealthCheck.Port: (none) -> 80 now", `HealthCheck.Type: (none) -> "tcp" now`}},
		"a host's watchdog": {func(c *Cluster) { c.Fencing.Hosts = map[string]HostFencing{"a.b": {Watchdog: "none"}} },
			[]string{`Fencing["a.b"].Watchdog: (none) -> "none" install`}},
		"a host's device": {func(c *Cluster) {
			c.Fencing.Hosts = map[string]HostFencing{"a": {Devices: []FenceDevice{{Type: "ipmi"}}}}
		}, []string{`Fencing.a.Devices: (none) -> [{"Address":"","Credential":"","Type":"ipmi","User":""}] now`}},
		"labels":              {func(c *Cluster) { c.Labels = map[string]string{"site": "n"} }, []string{`Labels.site: (none) -> "n" now`}},
		"the disk":            {func(c *Cluster) { c.ImageFolder = "/other" }, []string{`ImageFolder: "/srv/shared" -> "/other" install`}},
		"leave to a password": {func(c *Cluster) { c.AllowResetRootPassword = true }, []string{"AllowResetRootPassword: false -> true now"}},
	} {
		t.Run(name, func(t *testing.T) {
			next := base
			tc.edit(&next)
			var got []string
			for _, c := range Diff(base, next) {
				got = append(got, c.String()+" "+string(c.Effect))
				if (c.Effect == Install) != (c.Why != "") {
					t.Errorf("%s: why %q", c, c.Why)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

// TestALongValueIsToldByItsLength: the XML of a domain in one line of several thousand characters can not be read.
func TestALongValueIsToldByItsLength(t *testing.T) {
	c := Change{Path: "DomainXML", New: `"` + strings.Repeat("x", 298) + `"`}
	if got := c.String(); got != "DomainXML: (none) -> "+c.New {
		t.Errorf("%s", got)
	}
	c.Old, c.New = c.New, `"`+strings.Repeat("y", 299)+`"`
	if got := c.String(); got != "DomainXML: "+c.Old+" -> (301 characters, all of them with -o json)" {
		t.Errorf("%s", got)
	}
}
