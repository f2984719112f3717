package agent

import (
	"context"
	"slices"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/fleet"
	"holdfast/internal/ha/records"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/service"
	"holdfast/testbed/earlier"
)

// planners are those of work.go.
var planners = map[job.Kind]func([]byte) (job.Planner, error){evacuate.HostJob: evacuate.HostPlanner, job.Upgrade: service.Planner}

// laterGeneration is that of the store after the restore.
const laterGeneration = 4016000002516309

// assertRecords wants what is read to be what was so at that moment.
func assertRecords(t *testing.T, st store.Store, m earlier.Moment) {
	t.Helper()
	gen, rest, seq := uint64(1), []cluster.HostID{"h2", "h3"}, uint64(1)
	proof := cluster.ProofFirst
	switch m {
	case earlier.Failed: // the management VM has moved
		rest, proof = []cluster.HostID{"h1", "h3"}, cluster.ProofReleased
	case earlier.End:
		gen, rest, seq, proof = laterGeneration, []cluster.HostID{"h3"}, 2, cluster.ProofRestored
		if g := record[uint64](t, st, records.KeyGeneration); g != gen {
			t.Errorf("generation %d, want %d", g, gen)
		}
	}
	o := record[cluster.Owner](t, st, records.OwnerKey(cluster.MgmtVM))
	if o.State != cluster.Running || o.Epoch != (cluster.Epoch{Gen: gen, Seq: seq}) || o.Proof.Kind != proof || o.Time.IsZero() {
		t.Errorf("owner %+v, want one that runs in epoch %d.%d, by the proof %s", o, gen, seq, proof)
	}
	want := record[cluster.Want](t, st, records.WantKey(cluster.MgmtVM))
	if !want.Run || want.HandsOff || !slices.Equal(want.Rest, rest) {
		t.Errorf("wanted is %+v, and these in maintenance: %v", want, rest)
	}
	for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
		r := record[cluster.Host](t, st, records.HostKey(h))
		if r.Name != h || r.Guard != 2*time.Second || r.WatchdogTimeout != 4*time.Second || r.Identity == "" || r.Version != earlier.Version || !r.Fit {
			t.Errorf("host %+v", r)
		}
		kv, ok, err := st.Get(t.Context(), report.RecordKey(h))
		if err != nil || !ok {
			t.Fatalf("%s reports nothing: %v", h, err)
		}
		f, err := report.DecodeRecord(kv.Key, kv.Value)
		if err != nil || f.Agent != earlier.Version || f.Host.Install != r.Identity || len(f.Host.Pools) != 2 || !f.Host.Member || !f.CarriesLive || f.Generation != 1 {
			t.Errorf("%s reports %+v, %v", h, f, err)
		}
	}
	c := record[config.Cluster](t, st, records.KeyConfig)
	if len(c.Node) != 3 || c.MemorySizeInMB != 128 || len(c.Network) != 1 || c.Network[0].Bridge != "br0" {
		t.Errorf("configuration %+v", c)
	}
	if secret := record[[]byte](t, st, records.KeyBeat); len(secret) != 32 {
		t.Errorf("the secret of the heartbeats has %d bytes", len(secret))
	}
	assertRun(t, st, m)
}

// assertRun looks at the upgrade, and at the steps that are neither done nor pending.
func assertRun(t *testing.T, st store.Store, m earlier.Moment) {
	t.Helper()
	l, err := engine.Load(t.Context(), st, earlier.Upgrade)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := upgrade.DecodePlan(l.Plan)
	if err != nil {
		t.Fatal(err)
	}
	if plan.From != "1.0" || plan.To != "1.1" || plan.Options.Mode != manifest.Rolling || len(plan.Hosts) != 3 || len(plan.Steps()) != 72 {
		t.Errorf("the plan: %s to %s, %s, %d steps", plan.From, plan.To, plan.Options.Mode, len(plan.Steps()))
	}
	status, err := upgrade.StatusOf(&plan, l.Job)
	if err != nil {
		t.Fatal(err)
	}
	wants := map[earlier.Moment]struct {
		state   job.State
		done    int
		open    string // the step that is under way, or has failed
		is      job.StepState
		cluster upgrade.ClusterState
		hosts   int // that are upgraded
	}{
		earlier.Moving: {job.Active, 32, "h2/drain", job.Running, upgrade.Rollup, 1},
		earlier.Middle: {job.Active, 40, "h2/install/agentd", job.Running, upgrade.Rollup, 1},
		earlier.Failed: {job.Paused, 67, "h1/postCheck/base", job.Failed, upgrade.Rollup, 2},
		earlier.End:    {job.Ended, 72, "", "", upgrade.Prepared, 3},
	}
	w, done, upgraded := wants[m], 0, 0
	for _, h := range status.Hosts {
		if h == upgrade.HostRollupDone {
			upgraded++
		}
	}
	for step, r := range l.Records {
		switch {
		case r.State == job.Done:
			done++
		case step != w.open || r.State != w.is || r.Attempt != 1:
			t.Errorf("step %s: %+v", step, r)
		case r.State == job.Running && (r.Work == nil || r.Work.Host != earlier.Host || r.Host != earlier.Host):
			t.Errorf("step %s is under way, and is %+v", step, r)
		case r.State == job.Failed && (r.Exit != 1 || r.Tail == ""):
			t.Errorf("step %s has failed, and is %+v", step, r)
		}
	}
	if l.Job.State != w.state || done != w.done || status.Cluster != w.cluster || upgraded != w.hosts {
		t.Errorf("the run is %s, %d steps done, the cluster %s, %d hosts upgraded: want %+v", l.Job.State, done, status.Cluster, upgraded, w)
	}
	if m == earlier.End && l.Records["h1/postCheck/base"].Attempt != 2 {
		t.Errorf("the step that was tried again: %+v", l.Records["h1/postCheck/base"])
	}
}

// record reads one of the core's records.
func record[T any](t *testing.T, st store.Store, key string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	kv, ok, err := st.Get(ctx, key)
	if err != nil || !ok {
		t.Fatalf("%s: there: %t, %v", key, ok, err)
	}
	r, err := records.Decode[T](kv, false)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
