package upgrade

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
)

// twins is a cluster of three hosts, two of which have a guest of one name.
func twins() inventory.Inventory {
	inv := hosts(3)
	for i := range 2 {
		inv.VMs[i].Name, inv.VMs[i].UUID = "db", fmt.Sprint("u", i)
	}
	return inv
}

func movesOf(t *testing.T, p *Plan) map[string]cluster.HostID {
	t.Helper()
	w, out := newWorld(t, p, inventory.Inventory{}), map[string]cluster.HostID{}
	for _, s := range w.steps {
		if s.Kind == evacuate.KindDrain {
			for _, m := range args[evacuate.DrainArgs](t, s).Moves {
				out[string(s.Host)+"/"+m.VM+"/"+m.UUID] = m.To
			}
		}
	}
	return out
}

// Guests of one name are told apart, and none goes where its name is taken, even by
// one that is off.
func TestGuestsOfOneName(t *testing.T) {
	inv := twins()
	p := mustBuild(t, webBundle(), inv, Options{Mode: manifest.Rolling})
	if got := movesOf(t, p); p.Blocked() || len(got) != 4 || got["h0/db/u0"] != "h2" || got["h1/db/u1"] != "h0" || got["h2/db/u0"] != "h1" {
		t.Errorf("%v, moves %v", p.Findings, got)
	}
	w := newWorld(t, p, inv)
	w.wantEnd(resultDone, "")
	inv.VMs[2] = inventory.VM{Name: "db", UUID: "u2", Host: "h2"}
	p = mustBuild(t, webBundle(), inv, Options{Mode: manifest.Rolling})
	if got := blocks(p); len(got) == 0 || !strings.Contains(fmt.Sprint(p.Findings),
		"no host has room and the CPUs for VM db and no other VM of that name") {
		t.Errorf("blocked by %v", got)
	}
}

// A policy that means one of them says which.
func TestPoliciesOfOneName(t *testing.T) {
	for names, want := range map[string]string{
		"":         "block h0 db, block h1 db",
		"db":       "block  db",
		"h0/db":    "block h1 db",
		"u1":       "block h0 db",
		"h0/db u1": "",
	} {
		inv, o := twins(), Options{Mode: manifest.Rolling, Policies: map[string]inventory.Policy{}}
		for i := range 2 {
			inv.VMs[i].Fixed = []string{"a device"}
		}
		for _, n := range strings.Fields(names) {
			o.Policies[n] = inventory.PolicyStop
		}
		var got []string
		for _, f := range mustBuild(t, webBundle(), inv, o).Findings {
			if f.Rule == "policy" {
				got = append(got, fmt.Sprintf("%s %s %s", f.Level, f.Host, f.VM))
			}
			if f.VM == "db" && f.Host == "" && (!strings.Contains(f.Text, "hosts h0 and h1 have one") ||
				!strings.Contains(f.Remedy, "--policy h0/db=stop")) ||
				f.Host == "h1" && f.Level == Block && !strings.Contains(f.Remedy, "--policy h1/db=stop") {
				t.Errorf("%q: %+v", names, f)
			}
		}
		if slices.Sort(got); strings.Join(got, ", ") != want {
			t.Errorf("%q: %v, want %s", names, got, want)
		}
	}
}

// So does what a platform file tells of one.
func TestOverlayOfOneName(t *testing.T) {
	for _, c := range []struct {
		file []inventory.VM
		want string // policies of the three guests, or the error
	}{
		{[]inventory.VM{{Name: "db", Policy: inventory.PolicyStop}},
			`inventory: VM "db": hosts h0 and h1 have one of that name each: give its uuid, or the host where it is now`},
		{[]inventory.VM{{Name: "db", Host: "h2", Policy: inventory.PolicyStop}}, `inventory: VM "db": hosts h0 and h1 have one`},
		{[]inventory.VM{{Name: "db", Host: "h1", Policy: inventory.PolicyStop}}, "[ stop ]"},
		{[]inventory.VM{{Name: "db", UUID: "U0", Host: "h9", Policy: inventory.PolicyStop},
			{Name: "db", UUID: "u1", Policy: inventory.PolicyCold}}, "[stop cold ]"},
		{[]inventory.VM{{Name: "db", UUID: "u7", Policy: inventory.PolicyStop}}, "[  ]"},
		{[]inventory.VM{{Name: "v2", UUID: "u2", Host: "h0", Policy: inventory.PolicySkip}}, "[  skip]"}, // no agent has told its UUID
	} {
		inv, err := Overlay(twins(), inventory.Inventory{VMs: c.file})
		got := fmt.Sprint(err)
		if err == nil {
			got = fmt.Sprint([]inventory.Policy{inv.VMs[0].Policy, inv.VMs[1].Policy, inv.VMs[2].Policy})
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%+v: %s, want %s", c.file, got, c.want)
		}
	}
}

func TestLeaveGone(t *testing.T) {
	file := inventory.Inventory{Cluster: "c", Hosts: []inventory.Host{{Name: "h7"}, {Name: "h1", Group: "g"},
		{Name: "h9"}}, Pair: &inventory.Pair{Nodes: []cluster.HostID{"h0", "h7"}}}
	got, findings := LeaveGone(live(), file)
	want := inventory.Inventory{Cluster: "c", Hosts: []inventory.Host{{Name: "h1", Group: "g"}}, Pair: file.Pair}
	if !reflect.DeepEqual(got, want) || len(file.Hosts) != 3 || file.Hosts[0].Name != "h7" {
		t.Errorf("%+v, and the file %+v", got, file)
	}
	if len(findings) != 1 || findings[0].Level != Warn || !strings.Contains(findings[0].Text, " h7, h9,") ||
		!strings.Contains(findings[0].Remedy, "--platform FILE") {
		t.Errorf("findings %+v", findings)
	}
	if _, err := Overlay(live(), got); err == nil {
		t.Error("a pair without one of its nodes is no pair")
	}
	if _, findings := LeaveGone(live(), want); len(findings) > 0 {
		t.Errorf("findings %+v", findings)
	}
}
