package service

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

// oneMember is a cluster whose configuration names h1; it notes what is asked for.
type oneMember struct {
	fakeCluster
	rested []string
}

func (m *oneMember) Status() cluster.Status { return cluster.Status{Members: []cluster.HostID{"h1"}} }
func (m *oneMember) SetMaintenance(_ context.Context, user string, h cluster.HostID, on bool) error {
	if !on {
		m.rested = append(m.rested, user+" "+string(h))
	}
	return nil
}

func refused(err error) bool {
	var e *fail.Error
	return errors.As(err, &e) && e.Kind == fail.Refused
}

// TestWhoIsAHost: what the API gives a name the right to goes by it.
func TestWhoIsAHost(t *testing.T) {
	r := newRig(t, storetest.NewMem(), "h1", func(p *Parts) { p.Cluster = &oneMember{} })
	r.report(bare("h2"))
	for name, want := range map[string][2]bool{"h1": {true, false}, "h2": {true, true}, "admin": {}} {
		host, guestsOnly, err := r.IsHost(name)
		if err != nil || [2]bool{host, guestsOnly} != want {
			t.Errorf("%s: a host %t, of guests only %t, %v", name, host, guestsOnly, err)
		}
	}
	// A store from a backup knows nothing of a host that has joined since; its certificate is no operator's all the same.
	dir := t.TempDir()
	file := filepath.Join(dir, "reported.json")
	for i, want := range []bool{false, true} { // the second agent reads what the first one has learned
		r = newRig(t, storetest.NewMem(), "h1", func(p *Parts) { p.Cluster, p.Dir = &oneMember{}, dir })
		try.Until(t, "the reports to be read", func() bool { _, ok := r.Seen(); return ok })
		for name, is := range map[string]bool{"h3": want, "admin": false} {
			if host, guestsOnly, err := r.IsHost(name); err != nil || host != is || guestsOnly != is {
				t.Errorf("agent %d, %s: a host %t, of guests only %t, %v", i, name, host, guestsOnly, err)
			}
		}
		if i == 0 {
			r.report(bare("h3"))
			try.Until(t, "its name to be remembered", func() bool { _, err := os.Stat(file); return err == nil })
		}
	}
	if err := os.WriteFile(file, []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if names, err := report.OpenNames(file); err == nil || names == nil {
		t.Errorf("a damaged file: %v, %v", names, err)
	}
	r = newRig(t, storetest.NewMem(), "h1", nil) // its configuration is not known
	if _, _, err := r.IsHost("h1"); !errors.Is(err, store.ErrRetry) {
		t.Errorf("who is a host is said before it is known: %v", err)
	}
}

func TestAHostIsForgottenWhenItIsGone(t *testing.T) {
	mem, m := storetest.NewMem(), &oneMember{}
	r := newRig(t, mem, "h1", func(p *Parts) { p.Cluster = m })
	full := bare("h2")
	full.VMs = []inventory.VM{{Name: "vm1", Host: "h2", Running: true}, {Name: "vm2", Host: "h2"}}
	r.report(bare("h1"), full)
	if _, _, err := r.client.Txn(t.Context(), nil, []store.Op{{Key: "fleet-carry/h2/u1", Value: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	for h, want := range map[cluster.HostID]string{"h1": "is in the cluster's configuration",
		"h2": "reports: it was heard", "h9": "no host of that name reports"} {
		if err := r.Forget(limited(t), "ann", h, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", h, err, want)
		}
	}
	r.silence("h2")
	hosts, err := r.Hosts(t.Context())
	if err != nil || len(hosts) != 2 || !hosts[0].Up || hosts[1].Up || hosts[1].Guests != 1 || hosts[1].Silent < report.Silent {
		t.Fatalf("%+v, %v", hosts, err)
	}
	// It comes back while it is being forgotten.
	stale, _ := r.sight()
	r.report(full)
	r.Service.Seen = func() (map[cluster.HostID]report.Seen, bool) { return maps.Clone(stale), true }
	if err := r.Forget(limited(t), "ann", "h2", false); !refused(err) || !strings.Contains(err.Error(), "just now") {
		t.Errorf("a host that has just reported: %v", err)
	}
	r.Service.Seen = r.sight
	if len(m.rested) != 0 {
		t.Errorf("a host that is not forgotten takes guests again: %v", m.rested)
	}
	r.report(full)
	r.silence("h2")
	// Of a guest that was moved there, or from there, nobody knows whether it runs.
	for key, word := range map[string]string{
		"fleet-carry/h2/u2": `{"uuid":"u2","name":"vm2","from":"h1","live":true}`,
		"fleet-carry/h1/u3": `{"uuid":"u3","name":"vm3","from":"h2","start":true}`,
	} {
		if _, _, err := r.client.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(word)}}); err != nil {
			t.Fatal(err)
		}
		if err := r.Forget(limited(t), "ann", "h2", false); !refused(err) || !strings.Contains(err.Error(), "vm"+key[len(key)-1:]) {
			t.Errorf("with %s: %v", key, err)
		}
		if key == "fleet-carry/h1/u3" {
			if _, _, err := r.client.Txn(t.Context(), nil, []store.Op{{Key: key}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := r.Forget(limited(t), "ann", "h2", true); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "h2 to be unknown", func() bool {
		all, err := r.Hosts(t.Context())
		return err == nil && len(all) == 1
	})
	// Whoever has the certificate of a host that was forgotten is no operator.
	if host, guestsOnly, err := r.IsHost("h2"); err != nil || !host || !guestsOnly {
		t.Errorf("the name of a forgotten host: %t, %t, %v", host, guestsOnly, err)
	}
	if host, _, err := r.IsHost("ann"); err != nil || host {
		t.Errorf("an operator's name: %t, %v", host, err)
	}
	if left, _, err := r.client.List(t.Context(), "fleet-carry/h2/"); err != nil || len(left) != 0 ||
		len(m.rested) == 0 || m.rested[len(m.rested)-1] != "ann h2" {
		t.Errorf("left %v, rested %v, %v", left, m.rested, err)
	}
}

// TestNobodyIsForgottenInAnUpgrade: the way back and the commit count on it.
func TestNobodyIsForgottenInAnUpgrade(t *testing.T) {
	mem, m := storetest.NewMem(), &oneMember{}
	r := newRig(t, mem, "h1", func(p *Parts) { p.Cluster = m })
	r.report(bare("h1"), bare("h2"))
	b := r.bundle("1.1.0")
	got := r.begin(request.Request{Bundle: b.SHA256, Version: "1.0.0", Options: upgrade.Options{Mode: manifest.Rolling, KeepGuests: true}})
	r.silence("h2")
	wantKind(t, r.Forget(limited(t), "ann", "h2", false), fail.Refused, got.Job.ID, "holdfast upgrade drop h2")
	r.end(got.Job.ID, "failed", func(s *upgrade.Status) { s.Cluster = upgrade.Rollup })
	r.silence("h2")
	wantKind(t, r.Forget(limited(t), "ann", "h2", false), fail.Refused, "not over", "roll it back first: holdfast upgrade rollback --lost h2")
}

// TestWhatWasSaidOfAHostThatIsGone: what is kept stays in nobody's way, and what is said
// now is held to.
func TestWhatWasSaidOfAHostThatIsGone(t *testing.T) {
	r, q := three(t)
	r.report(bare("h4"))
	said := q
	said.Inventory = &inventory.Inventory{Hosts: []inventory.Host{{Name: "h3"},
		{Name: "h4", Labels: map[string]string{"rack": "b"}}, {Name: "h1"}}}
	got := r.begin(said)
	r.end(got.Job.ID, "aborted", func(s *upgrade.Status) { s.Cluster = upgrade.Normal })
	r.lose("h4")
	gone := func(p upgrade.Plan) (out []upgrade.Finding) {
		for _, f := range p.Findings {
			if f.Rule == "platform" {
				out = append(out, f)
			}
		}
		return out
	}
	p, err := r.PlanUpgrade(limited(t), q)
	if err != nil || p.Blocked() || len(p.Hosts) != 3 || p.Hosts[0].Name != "h3" {
		t.Fatalf("%v, %+v", err, p.Hosts)
	}
	if f := gone(p); len(f) != 1 || f[0].Level != upgrade.Warn || !strings.Contains(f[0].Text, "h4") ||
		!strings.Contains(f[0].Remedy, "--platform") {
		t.Errorf("findings %+v", f)
	}
	if inv, err := r.reported(limited(t)); err != nil || len(inv.Hosts) != 3 {
		t.Errorf("%v, %+v", err, inv.Hosts)
	}
	_, err = r.PlanUpgrade(limited(t), said)
	wantKind(t, err, fail.Invalid, "no agent reports h4")
	said.Inventory = &inventory.Inventory{Hosts: []inventory.Host{{Name: "h1"}},
		Pair: &inventory.Pair{Nodes: []cluster.HostID{"h1", "h2"}, Active: "h1", Switch: []string{"/s"}}}
	got = r.begin(said) // this is for good
	r.end(got.Job.ID, "aborted", func(s *upgrade.Status) { s.Cluster = upgrade.Normal })
	if p, err = r.PlanUpgrade(limited(t), q); err != nil || len(gone(p)) > 0 {
		t.Errorf("%v, findings %+v", err, p.Findings)
	}
	r.lose("h2")
	_, err = r.PlanUpgrade(limited(t), q)
	wantKind(t, err, fail.Invalid, "no agent reports h2", "given last", "--platform FILE")
}

func TestBundlesAreTrustedOrMarked(t *testing.T) {
	r := newRig(t, storetest.NewMem(), "h1", nil)
	r.report(bare("h1"))
	pair, err := bundle.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	key, err := bundle.ParsePrivateKey(pair.Secret, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := bundle.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	text := makeBundle(t, "2.0.0", 1000, &key)
	for what, trust := range map[string]request.Trust{
		"no key": {}, "another key": {Keys: []string{string(other.Public)}}, "garbage": {Keys: []string{string(pair.Public), "key"}},
	} {
		_, err := r.PutBundle(limited(t), bytes.NewReader(text), trust)
		t.Run(what, func(t *testing.T) { wantKind(t, err, fail.Invalid, "") })
	}
	_, err = r.PutBundle(limited(t), bytes.NewReader(makeBundle(t, "2.0.0", 1000, nil)), request.Trust{Keys: []string{string(pair.Public)}})
	wantKind(t, err, fail.Invalid, "not signed")
	if have, err := r.cache.Have(); len(have) != 0 || err != nil {
		t.Errorf("what was refused is there: %v, %v", have, err)
	}
	b, err := r.PutBundle(limited(t), bytes.NewReader(text), request.Trust{Keys: []string{string(pair.Public)}})
	if err != nil || b.Unsigned || b.KeyID != pair.ID || b.Size != int64(len(text)) {
		t.Fatalf("%v, %+v", err, b)
	}
	got := r.begin(request.Request{Bundle: b.SHA256, Version: "1.0.0", Options: upgrade.Options{Mode: manifest.Offline}})
	if s := r.state(); s.Bundle != b || got.Report.Unsigned {
		t.Errorf("state %+v", s.Bundle)
	}
}

// TestAPlanTellsWhatContradictsThePlatformFile: the hosts' word counts, and people learn it.
func TestAPlanTellsWhatContradictsThePlatformFile(t *testing.T) {
	r, q := three(t)
	q.Inventory = &inventory.Inventory{Hosts: []inventory.Host{{Name: "h2", Kernel: "5.10"}}, VMs: []inventory.VM{{Name: "ghost"}}}
	p, err := r.PlanUpgrade(limited(t), q)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, f := range p.Findings {
		if f.Rule == "inventory" {
			told = append(told, string(f.Host)+f.VM+": "+f.Text)
		}
	}
	if want := "h2: The agent reports a different kernel than the inventory. The agent's value is used.\nghost: The " +
		"inventory has this VM, and no agent reports it."; strings.Join(told, "\n") != want {
		t.Errorf("%q", told)
	}
}

// TestStaleReports: by a report that is older than a move of what the cluster runs itself, or than the
// end of a maintenance, the hosts would be put into the wrong order, or left out.
func TestStaleReports(t *testing.T) {
	runs := func(h cluster.HostID, vms ...inventory.VM) report.Record {
		return report.Record{Host: inventory.Host{Name: h, Maintenance: h == "h3"}, VMs: vms}
	}
	own, other := inventory.VM{Protected: true, Running: true}, inventory.VM{Running: true}
	on := func(state cluster.OwnerState, rest ...cluster.HostID) cluster.Status {
		return cluster.Status{Owner: cluster.Owner{State: state, Host: "h1"}, Want: cluster.Want{Maintenance: rest}}
	}
	for what, c := range map[string]struct {
		st    cluster.Status
		r     report.Record
		stale bool
	}{
		"it is told here":       {on(cluster.Running), runs("h1", other, own), false},
		"it is not told yet":    {on(cluster.Running), runs("h1", other), true},
		"it is told elsewhere":  {on(cluster.Running), runs("h2", own), true},
		"another host":          {on(cluster.Running), runs("h2", other), false},
		"it is on its way":      {on(cluster.Migrating), runs("h1", other), false},
		"the cluster has none":  {cluster.Status{}, runs("h1", other), false},
		"it is in maintenance":  {on(cluster.Running, "h3"), runs("h3"), false},
		"it was in maintenance": {on(cluster.Running), runs("h3"), true},
		"it does not run there": {on(cluster.Running), runs("h1", inventory.VM{Protected: true}), true},
	} {
		if got := stale(&c.st, c.r); got != c.stale {
			t.Errorf("%s: stale %v", what, got)
		}
	}
}
