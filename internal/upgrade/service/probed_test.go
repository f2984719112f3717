package service

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/upgrade"
)

// TestGuestsThatCanNotBeWatched are named before a run that counts lost packets, which begins
// when their addresses are given, or when somebody confirms that they are not watched.
func TestGuestsThatCanNotBeWatched(t *testing.T) {
	r, q := three(t)
	h2 := bare("h2")
	h2.VMs = []inventory.VM{{Name: "vm1", UUID: "u1", Host: "h2", MemoryMiB: 512, Running: true},
		{Name: "vm2", UUID: "u2", Host: "h2", MemoryMiB: 512}}
	r.report(h2)
	q.Options.Probe = true
	named := func(fs []upgrade.Finding) (out []string) {
		for _, f := range fs {
			if f.Rule == "unwatched" {
				out = append(out, string(f.Level)+" "+string(f.Host)+" "+f.Text[strings.LastIndex(f.Text, ":"):])
			}
		}
		return out
	}
	p, err := r.PlanUpgrade(limited(t), q)
	if got := named(p.Findings); err != nil || !slices.Equal(got, []string{"block h2 : vm1."}) || !p.Blocked() {
		t.Errorf("%v, the plan says %q", err, got)
	}
	begun, err := r.RunUpgrade(limited(t), "ann", r.confirmed(q))
	if got := named(begun.Plan.Findings); err != nil || begun.Job != nil || !slices.Equal(got, []string{"block h2 : vm1."}) {
		t.Errorf("%v, job %v, the plan says %q", err, begun.Job, got)
	}
	r.untouched("with guests that can not be watched")

	all := q
	all.Options.Confirmed = []string{"unwatched"}
	if p, err := r.PlanUpgrade(limited(t), all); err != nil || !slices.Equal(named(p.Findings), []string{"warn h2 : vm1."}) || p.Blocked() {
		t.Errorf("confirmed: %v, %+v", err, p.Findings)
	}
	q.Inventory = &inventory.Inventory{VMs: []inventory.VM{{Name: "vm1", Addresses: []string{"192.0.2.5"}}}}
	if got := named(r.begin(q).Plan.Findings); got != nil {
		t.Errorf("with its address: %q", got)
	}
	if said, err := r.SaidAddresses(limited(t)); err != nil || !reflect.DeepEqual(said, map[string][]string{"u1": {"192.0.2.5"}}) {
		t.Errorf("said %v, %v", said, err)
	}
}

// TestAddressesThatHostsTell are known to the plan, behind those that people have said.
func TestAddressesThatHostsTell(t *testing.T) {
	p := planned{inv: inventory.Inventory{VMs: []inventory.VM{{Name: "a", UUID: "u1"},
		{Name: "b", UUID: "u2", Addresses: []string{"192.0.2.2"}}, {Name: "c", UUID: "u3"}}}}
	p.reach(map[cluster.HostID]*fact.Facts{
		"h1": {Guests: []fact.Guest{{UUID: "u1", Addresses: []string{"192.0.2.1"}}, {UUID: "u3"}}},
		"h2": {Guests: []fact.Guest{{UUID: "u2", Addresses: []string{"192.0.2.22"}}}},
	})
	var got [][]string
	for _, v := range p.inv.VMs {
		got = append(got, v.Addresses)
	}
	if want := [][]string{{"192.0.2.1"}, {"192.0.2.2", "192.0.2.22"}, nil}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
