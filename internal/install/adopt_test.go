package install

import (
	"context"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
)

const disk = "/images/mnvm.img"

// one is the guest as a host has it by hand.
func one(state string) Guest {
	g := Guest{Name: "mn", UUID: "u", State: state, Persistent: true, Autostart: true, Named: true,
		Disks: []string{disk}, XML: "<domain>" + state + "</domain>"}
	if state == guestRunning {
		g.PIDs = []int{7}
	}
	return g
}

// three are hosts of which the second runs the guest.
func three() []domainFound {
	return []domainFound{{host: Host{Name: "a"}}, {host: Host{Name: "b"},
		Guests: Guests{All: []Guest{one(guestRunning)}, Locked: []string{disk}}}, {host: Host{Name: "c"}}}
}

// failed are the findings that end it, as NODE CHECK.
func failed(fs []Finding) (out []string) {
	for _, f := range fs {
		if f.Result == Fail {
			out = append(out, f.Node+" "+f.Check)
		}
	}
	slices.Sort(out)
	return out
}

func TestWhatIsAdopted(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func([]domainFound)
		want []string
		say  string
	}{
		{"runs on one host", func([]domainFound) {}, nil, "it shuts down, and the cluster starts it anew"},
		{"by hand, as far as is known", func([]domainFound) {}, nil,
			"units (z.service, zs-ha.service, zsha.service) or processes (z, zs-ha, zsha)"},
		{"off, defined on two", func(f []domainFound) {
			f[1].All, f[1].Locked = []Guest{one(guestOff)}, nil
			f[2].All = []Guest{one(guestOff)}
		}, nil, "autostart true"},
		{"runs on one, defined on another", func(f []domainFound) { f[2].All = []Guest{one(guestOff)} }, nil, ""},
		{"nowhere", func(f []domainFound) { f[1].Guests = Guests{} }, []string{" domain"}, "no host has a domain mn"},
		{"only saved, by a takeover before", func(f []domainFound) { f[1].Guests = Guests{Saved: "<domain/>"} }, nil, ""},
		{"saved, and somebody has the disk", func(f []domainFound) {
			f[1].Guests = Guests{Saved: "<domain/>",
				Locked: []string{disk}}
		}, []string{" image"}, "somebody uses " + disk},
		{"taken over, and runs as ours", func(f []domainFound) {
			f[1].Guests = Guests{Saved: "<domain/>", Locked: []string{disk}}
			f[0].All = []Guest{{Name: cluster.GuestName, State: guestRunning, Disks: []string{disk}}}
		}, nil, ""},
		{"ours runs, and a definition was left", func(f []domainFound) {
			f[1].Guests = Guests{All: []Guest{one(guestOff)}, Locked: []string{disk}}
			f[0].All = []Guest{{Name: cluster.GuestName, State: guestRunning, Disks: []string{disk}}}
		}, nil, ""},
		{"both run", func(f []domainFound) {
			f[0].All = []Guest{{Name: cluster.GuestName, State: guestRunning, Disks: []string{disk}}}
		}, []string{" domain"}, "Holdfast's own on a"},
		{"a second copy runs", func(f []domainFound) { f[2].All = []Guest{one(guestRunning)} }, []string{" domain"}, "runs on b and on c"},
		{"libvirt says off, and a process is there", func(f []domainFound) {
			g := one(guestOff)
			g.PIDs = []int{9}
			f[2].All = []Guest{g}
		}, []string{" domain"}, "runs on b and on c"},
		{"another name runs on the disk", func(f []domainFound) {
			f[2].All = []Guest{{Name: "x", State: guestRunning, PIDs: []int{8}, Disks: []string{disk}}}
		}, []string{"c guest"}, "x is running here and has a disk"},
		{"another name is defined on the disk", func(f []domainFound) {
			f[2].All = []Guest{{Name: "x", State: guestOff, Persistent: true, Disks: []string{disk}}}
		}, []string{"c guest"}, "x is defined here"},
		{"another disk under the name", func(f []domainFound) {
			g := one(guestOff)
			g.Disks = []string{"/images/other.img"}
			f[2].All = []Guest{g}
		}, []string{"c domain"}, "writes to /images/other.img"},
		{"one disk more", func(f []domainFound) { f[1].All[0].Disks = []string{disk, "/images/data.img"} },
			[]string{"b domain"}, "/images/data.img"},
		{"paused", func(f []domainFound) { f[1].All[0].State = "paused" }, []string{"b domain"}, "can not shut itself down"},
		{"saved memory", func(f []domainFound) {
			f[1].All = []Guest{one(guestOff)}
			f[1].All[0].Saved,
				f[1].Locked = true, nil
		}, []string{"b domain"}, "managed save"},
		{"snapshots", func(f []domainFound) { f[1].All[0].Snapshots = true }, []string{"b domain"}, "snapshots"},
		{"the source tool", func(f []domainFound) {
			f[0].Services = []Service{{Name: "zsha.service", Active: true,
				Enabled: true}}
		}, nil, "zsha.service would start it"},
		{"the source tool, disabled before", func(f []domainFound) { f[0].Services = []Service{{Name: "zsha.service"}} }, nil, ""},
		{"the source tool without a unit", func(f []domainFound) { f[0].Strays = []string{"zsha"} },
			[]string{"a other tools"}, "runs without a unit"},
	} {
		all := three()
		c.edit(all)
		got := Adoption{Name: "mn"}.judge([]string{disk}, all)
		if bad := failed(got); !slices.Equal(bad, c.want) {
			t.Errorf("%s: failed %q, want %q", c.name, bad, c.want)
		}
		if c.say != "" && !slices.ContainsFunc(got, func(f Finding) bool { return strings.Contains(f.Finding, c.say) }) {
			t.Errorf("%s: nothing says %q: %+v", c.name, c.say, got)
		}
		_, _, there := Adoption{Name: "mn"}.definition(all)
		if known := !there || len(all[0].Services)+len(all[0].Strays) > 0; known == slices.ContainsFunc(got,
			func(f Finding) bool { return strings.HasPrefix(f.Finding, "no host has the source tool's units") }) {
			t.Errorf("%s: what was looked for is told if nothing was found, and only then: %+v", c.name, got)
		}
		for _, f := range got {
			if f.Result == Fail && f.Remedy == "" {
				t.Errorf("%s: no remedy: %+v", c.name, f)
			}
		}
	}
}

// TestWhichDefinitionCounts: that by which it runs, else one that is left, else what was saved.
func TestWhichDefinitionCounts(t *testing.T) {
	all := three()
	all[0].All, all[2].Saved = []Guest{one(guestOff)}, "<saved/>"
	for _, want := range []string{"b <domain>running</domain>", "a <domain>off</domain>", "c <saved/>", " "} {
		text, host, ok := Adoption{Name: "mn"}.definition(all)
		if got := host + " " + text; got != want || ok != (want != " ") {
			t.Errorf("%q, %t, want %q", got, ok, want)
		}
		switch host {
		case "b":
			all[1].Guests = Guests{}
		case "a":
			all[0].Guests = Guests{}
		case "c":
			all[2].Guests = Guests{}
		}
	}
}

// TestWarningsComeBeforeTheQuestion: who is asked has read what was found. Nobody is asked about an
// installation that takes nothing from anybody.
func TestWarningsComeBeforeTheQuestion(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*run)
		want []string
	}{
		{"takes over", func(r *run) { r.Adopt = &Adoption{Name: "mn"} },
			[]string{"a warning: w: mend", " warning: bare", "ask Take mn over, with one restart of it"}},
		{"replaces", func(r *run) { r.swap = &swap{left: Host{Name: "a"}, joined: Host{Name: "b"}} },
			[]string{"a warning: w: mend", " warning: bare", "ask Replace member a by b"}},
		{"installs", func(*run) {}, nil},
	} {
		var said []string
		r := &run{found: []Finding{{"a", "x", Warn, "w", "mend"}, {"", "y", Warn, "bare", ""}, {"b", "z", Pass, "p", ""}}}
		r.Tell = func(host, what string) { said = append(said, host+" "+what) }
		r.Confirm = func(_ context.Context, what string) error { said = append(said, "ask "+what); return nil }
		c.edit(r)
		if err := r.confirm(t.Context()); err != nil || !slices.Equal(said, c.want) {
			t.Errorf("%s: %v, %q, want %q", c.name, err, said, c.want)
		}
	}
}

// TestNoStoreThatMayAsk: a store that is there may ask for the VM as soon as agents run.
func TestNoStoreThatMayAsk(t *testing.T) {
	for _, c := range []struct {
		in   *Installed
		want int
	}{{nil, 0}, {&Installed{Active: true, Store: true}, 0}, {&Installed{}, 0}, {&Installed{Store: true}, 1}} {
		if got := unasked([]sight{{facts: Facts{Installed: c.in}}}); len(got) != c.want || c.want > 0 &&
			(got[0].Result != Fail || got[0].Remedy == "") {
			t.Errorf("%+v: %+v", c.in, got)
		}
	}
}

func TestTheWayBack(t *testing.T) {
	if s := (Adoption{}).wayBack(nil); s != "" {
		t.Errorf("nothing was saved: %q", s)
	}
	if s := (Adoption{}).wayBack(map[string]string{"b": "/y", "a": "/x"}); !strings.Contains(s, "virsh define FILE with /x on a, /y on b") {
		t.Errorf("%q", s)
	}
}
