package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/drain"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// three is a cluster of three hosts with a bundle of version 2.0.0 on the first,
// and what asks to go there from 1.0.0.
func three(t *testing.T) (*rig, request.Request) {
	t.Helper()
	r := newRig(t, storetest.NewMem(), "h1", nil)
	r.report(bare("h1"), bare("h2"), bare("h3"))
	return r, request.Request{Bundle: r.bundle("2.0.0").SHA256, Version: "1.0.0", Options: upgrade.Options{Mode: manifest.Rolling}}
}

// end ends a job as the coordinator does.
func (r *rig) end(id, result string, change func(*upgrade.Status)) {
	r.t.Helper()
	_, err := engine.Amend(limited(r.t), r.client, id, time.Now().UTC(), func(j job.Job) (job.Job, error) {
		j.State, j.Result = job.Ended, result
		if change == nil {
			return j, nil
		}
		full, err := readJournal(limited(r.t), r.client, id)
		if err != nil {
			return j, err
		}
		st := full.status
		change(&st)
		j.Data, err = json.Marshal(st)
		return j, err
	})
	if err != nil {
		r.t.Fatal(err)
	}
}

// untouched fails when something was begun.
func (r *rig) untouched(when string) {
	r.t.Helper()
	if s := r.state(); s.mod != 0 || len(r.jobs()) != 0 {
		r.t.Errorf("%s: state %+v, jobs %v", when, s, r.jobs())
	}
}

func TestUpgradeRequestsThatMakeNoSense(t *testing.T) {
	r, q := three(t)
	r.bundle("3.0.0") // another one beside it
	for what, c := range map[string]struct {
		change func(*request.Request)
		kind   fail.Kind
		says   string
	}{
		"no version":     {func(q *request.Request) { q.Version = "" }, fail.Invalid, "--version"},
		"no bundle":      {func(q *request.Request) { q.Bundle = "" }, fail.Invalid, "SHA-256 of a bundle"},
		"another bundle": {func(q *request.Request) { q.Bundle = strings.Repeat("a", 64) }, fail.Failed, "no host that answers has it"},
		"no hash":        {func(q *request.Request) { q.Bundle = "../../etc/passwd" }, fail.Failed, "etc/passwd"},
		"no purpose":     {func(q *request.Request) { q.Purpose = "sidegrade" }, fail.Invalid, "sidegrade"},
		"a strange host": {func(q *request.Request) { q.Options.Drop = []cluster.HostID{"h9"} }, fail.Invalid, "h9"},
		"a host that no agent reports": {func(q *request.Request) {
			q.Inventory = &inventory.Inventory{Hosts: []inventory.Host{{Name: "h9"}}}
		}, fail.Invalid, "h9"},
		"another cluster": {func(q *request.Request) { q.Inventory = &inventory.Inventory{Cluster: "prod"} }, fail.Invalid, "prod"},
		"a mode of the vendor": {func(q *request.Request) { q.Options.Mode = "rollup" }, fail.Invalid,
			`--mode "rollup": want rolling, offline or reboot`},
		"a strange version": {func(q *request.Request) { q.Version = "nonsense" }, fail.Invalid, `--version "nonsense"`},
		"a strange module": {func(q *request.Request) { q.Options.Backup = map[string]string{"x": "files"} },
			fail.Invalid, "--backup x=files: the bundle has no module of that name, only db"},
		"a strange provider": {func(q *request.Request) { q.Options.Backup = map[string]string{"db": "tape"} },
			fail.Invalid, "--backup db=tape: want"},
		"a policy for nobody": {func(q *request.Request) { q.Options.Policies = map[string]inventory.Policy{"vm9": "stop"} },
			fail.Invalid, "--policy vm9=stop"},
		"a window of no length": {func(q *request.Request) { q.Options.Window = upgrade.Window{From: 60, To: 60} },
			fail.Invalid, "--window 01:00-01:00"},
		"a rule by a slip": {func(q *request.Request) { q.Options.Confirmed = []string{"dirty-rate", "bogus"} },
			fail.Invalid, `--confirmed "bogus": want one of active-manager, `},
		"too many canaries": {func(q *request.Request) { q.Options.Canary = 4 }, fail.Invalid, "--canary 4: want at most the 3 hosts"},
		"a rollback":        {func(q *request.Request) { q.Purpose = upgrade.ForRollback }, fail.Refused, "there was no upgrade"},
		"a commit":          {func(q *request.Request) { q.Purpose = upgrade.ForCommit }, fail.Refused, "there was no upgrade"},
	} {
		t.Run(what, func(t *testing.T) {
			q := q
			c.change(&q)
			_, err := r.RunUpgrade(limited(t), "ann", q)
			wantKind(t, err, c.kind, c.says)
			_, err = r.PlanUpgrade(limited(t), q)
			wantKind(t, err, c.kind, c.says)
			if what == "a rule by a slip" {
				_, err = r.CheckUpgrade(limited(t), q)
				wantKind(t, err, c.kind, c.says)
				q.Bundle = ""
				_, err = r.CheckUpgrade(limited(t), q)
				wantKind(t, err, c.kind, c.says)
			}
		})
	}
	r.untouched("in the end")
	wantKind(t, r.AdmitHost(limited(t), "ann", "h1", false), fail.Refused, "there was no upgrade")
	_, err := r.ReportUpgrade(limited(t))
	wantKind(t, err, fail.Refused, "there was no upgrade")
}

// TestUpgradeBeginsNothingThatIsBlocked: neither by its plan nor by a check that
// nobody has confirmed.
func TestUpgradeBeginsNothingThatIsBlocked(t *testing.T) {
	r, q := three(t)
	old := q
	old.Version = "0.9.0"
	got, err := r.RunUpgrade(limited(t), "ann", old)
	if err != nil || got.Job != nil || !got.Plan.Blocked() || got.Plan.From != "0.9.0" {
		t.Errorf("%v, %+v, findings %+v", err, got.Job, got.Plan.Findings)
	}
	got, err = r.RunUpgrade(limited(t), "ann", q)
	if err != nil || got.Job != nil || got.Plan.Blocked() || got.Report == nil || !got.Report.Unsigned {
		t.Fatalf("%v, %+v, report %+v", err, got.Job, got.Report)
	}
	if !slices.ContainsFunc(got.Report.Findings, func(f check.Finding) bool {
		return f.Check == "facts" && f.Host == "h2" && f.Level == check.Fail
	}) {
		t.Errorf("no check tells of a host that can not be asked: %+v", got.Report.Findings)
	}
	rep, err := r.CheckUpgrade(limited(t), q)
	if err != nil || !rep.Unsigned || len(unconfirmed(rep.Findings, nil)) != len(unconfirmed(got.Report.Findings, nil)) {
		t.Errorf("%v, %+v", err, rep)
	}
	p, err := r.PlanUpgrade(limited(t), q)
	if err != nil || p.Purpose != upgrade.ForUpgrade || p.From != "1.0.0" || p.To != "2.0.0" || len(p.Hosts) != 3 || p.Options.Last != "h1" {
		t.Errorf("%v, %+v", err, p)
	}
	r.untouched("planned")
}

func TestUpgradeIsBegunOnce(t *testing.T) {
	r, q := three(t)
	before, err := r.Upgrade(limited(t))
	if err != nil || !reflect.DeepEqual(before, request.Standing{ClusterState: upgrade.Normal, Hosts: []request.HostStanding{}, Next: []string{
		"holdfast upgrade check --bundle FILE --key KEY --version VERSION", "holdfast upgrade run --bundle FILE --key KEY --version VERSION",
	}}) {
		t.Errorf("before: %v, %+v", err, before)
	}
	q.Options.Probe = true
	got := r.begin(q)
	if !strings.HasPrefix(got.Job.ID, "upgrade-") || got.Job.User != "ann" || got.Job.State != "active" ||
		got.Job.Kind != "upgrade" || got.Job.Changed.IsZero() {
		t.Errorf("job %+v", got.Job)
	}
	if o := got.Plan.Options; o.Run != got.Job.ID || o.SHA256 != q.Bundle {
		t.Errorf("the plan does not know its run: %+v", o)
	}
	want := State{
		Versions: map[string]string{"app": "1.0.0"}, To: "2.0.0", Run: got.Job.ID, Last: got.Job.ID, Probe: true,
		Bundle: request.BundleInfo{SHA256: q.Bundle, Size: r.state().Bundle.Size, Name: "app", Version: "2.0.0",
			Unsigned: true}, mod: r.state().mod,
	}
	if s := r.state(); !reflect.DeepEqual(s, want) {
		t.Errorf("state %+v, want %+v", s, want)
	}
	j, err := engine.Jobs{Store: r.Store, Planners: map[job.Kind]func([]byte) (job.Planner,
		error){job.Upgrade: Planner}}.Get(limited(t), got.Job.ID)
	if err != nil || len(j.Steps) != len(got.Plan.Steps()) || j.Steps[0].State != "pending" ||
		!reflect.DeepEqual(r.jobs(), []string{got.Job.ID}) {
		t.Errorf("%v, %d steps of %d, jobs %v", err, len(j.Steps), len(got.Plan.Steps()), r.jobs())
	}
	now, err := r.Upgrade(limited(t))
	if err != nil || now.Run != got.Job.ID || now.Job.ID != got.Job.ID || now.Version != "1.0.0" || now.To != "2.0.0" ||
		now.Purpose != upgrade.ForUpgrade ||
		now.Steps.Total != len(j.Steps) || now.Steps.Over != 0 || len(now.Hosts) != 3 || now.Committed || !now.Bundle.Unsigned {
		t.Errorf("%v, %+v", err, now)
	}
	for _, purpose := range []upgrade.Purpose{"", upgrade.ForUpgrade, upgrade.ForCommit, upgrade.ForRollback} {
		q := q
		q.Purpose = purpose
		_, err := r.RunUpgrade(limited(t), "bob", q)
		wantKind(t, err, fail.Refused, got.Job.ID, "begun by ann", "active", "holdfast upgrade status")
	}
	if len(r.jobs()) != 1 || r.state().mod != want.mod {
		t.Errorf("what was refused has left something: %v, %+v", r.jobs(), r.state())
	}
}

func TestUpgradeAndDrainExcludeEachOther(t *testing.T) {
	r, q := three(t)
	begun, err := drain.Begin(limited(t), r.Store, r.sight, "bob", "h2", job.Upgrade)
	if err != nil {
		t.Fatal(err)
	}
	q = r.confirmed(q)
	_, err = r.RunUpgrade(limited(t), "ann", q)
	wantKind(t, err, fail.Refused, begun, "bob", "empty host h2")
	if s := r.state(); s.mod != 0 || len(r.jobs()) != 1 {
		t.Errorf("state %+v, jobs %v", s, r.jobs())
	}
	r.end(begun, "done", nil)
	got := r.begin(q)
	_, err = drain.Begin(limited(t), r.Store, r.sight, "bob", "h2", job.Upgrade)
	wantKind(t, err, fail.Refused, got.Job.ID, "ann")
	_, err = drain.Begin(limited(t), r.Store, r.sight, "bob", "h9", job.Upgrade)
	wantKind(t, err, fail.Invalid, "h9")
}

// TestUpgradeIsRaced: somebody else begins between the look and the write.
func TestUpgradeIsRaced(t *testing.T) {
	mem := storetest.NewMem()
	other := mem.NewClient("other")
	var once bool
	r := newRig(t, mem, "h1", func(p *Parts) {
		p.Store = &raced{p.Store, func() {
			if !once {
				once = true
				putState(t, other, State{To: "9", Run: "upgrade-x", Last: "upgrade-x"})
			}
		}}
	})
	r.report(bare("h1"))
	q := r.confirmed(request.Request{Bundle: r.bundle("2.0.0").SHA256, Version: "1.0.0", Options: upgrade.Options{Mode: manifest.Offline}})
	if once {
		t.Fatal("something was written before")
	}
	_, err := r.RunUpgrade(limited(t), "ann", q)
	wantKind(t, err, fail.Refused, "upgrade/state was changed meanwhile")
	if r.state().To != "9" || len(r.jobs()) != 0 {
		t.Errorf("state %+v, jobs %v", r.state(), r.jobs())
	}
}

func TestHostsAreAdmitted(t *testing.T) {
	r, q := three(t)
	q.Options.ApprovePerHost = true
	got := r.begin(q)
	if err := r.AdmitHost(limited(t), "bob", "h2", false); err != nil {
		t.Fatal(err)
	}
	wantKind(t, r.AdmitHost(limited(t), "bob", "h9", false), fail.Invalid, "no such host")
	wantKind(t, r.AdmitHost(limited(t), "bob", "h9", true), fail.Invalid, "no such host")
	for _, q := range []request.Request{
		{Purpose: upgrade.ForRollback, Hosts: []cluster.HostID{"h9"}}, {Purpose: upgrade.ForRollback, Lost: []cluster.HostID{"h9"}},
		{Purpose: upgrade.ForCommit, Lost: []cluster.HostID{"h9"}},
	} {
		_, err := r.PlanUpgrade(limited(t), q)
		wantKind(t, err, fail.Invalid, `host "h9": the run has no such host`)
	}
	wantKind(t, r.AdmitHost(limited(t), "bob", "h3", true), fail.Refused, "its agent answers, or did a moment ago: it counts as up for 3")
	r.lose("h3") // it is gone
	if err := r.AdmitHost(limited(t), "bob", "h3", true); err != nil {
		t.Error(err)
	}
	u, err := r.Upgrade(limited(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range u.Hosts {
		approved, dropped := "", ""
		switch h.Name {
		case "h2":
			approved = "bob"
		case "h3":
			dropped = "bob"
		}
		if h.Approved != approved || h.Dropped != dropped {
			t.Errorf("%+v", h)
		}
	}
	r.end(got.Job.ID, "aborted", nil)
	wantKind(t, r.AdmitHost(limited(t), "bob", "h1", false), fail.Refused, "has ended (aborted)")

	r, q = three(t)
	r.begin(q)
	wantKind(t, r.AdmitHost(limited(t), "bob", "h2", false), fail.Refused, "asks for no approvals")
}

// TestWhatFollowsAnUpgrade: a commit when it is prepared, and nothing else beside.
func TestWhatFollowsAnUpgrade(t *testing.T) {
	r, q := three(t)
	up := r.begin(q)
	commit, back := request.Request{Purpose: upgrade.ForCommit}, request.Request{Purpose: upgrade.ForRollback}
	blocked := func(what string, q request.Request, rule string) {
		t.Helper()
		got, err := r.RunUpgrade(limited(t), "ann", q)
		if err != nil || got.Job != nil || !slices.ContainsFunc(got.Plan.Findings,
			func(f upgrade.Finding) bool { return f.Rule == rule && f.Level == upgrade.Block }) {
			t.Errorf("%s: %v, %+v, findings %+v", what, err, got.Job, got.Plan.Findings)
		}
	}
	p, err := r.PlanUpgrade(limited(t), commit)
	if err != nil || !p.Blocked() {
		t.Errorf("planned while it runs: %v, %+v", err, p.Findings)
	}
	stands := func(what string, q request.Request, words string) {
		t.Helper()
		p, err := r.PlanUpgrade(limited(t), q)
		if err != nil || !p.Blocked() || p.Findings[0].Rule != "not-over" ||
			!strings.Contains(p.Findings[0].Text, words) || p.Findings[0].Remedy == "" {
			t.Errorf("%s: %v, %+v", what, err, p.Findings)
		}
	}
	stands("a commit while it runs", commit, "is active: only one upgrade at a time")

	r.end(up.Job.ID, "failed", func(s *upgrade.Status) {
		s.Cluster, s.Hosts = upgrade.Rollup, map[cluster.HostID]upgrade.HostState{"h1": upgrade.HostRollup}
	})
	blocked("a commit of half of it", commit, "not-prepared")
	blocked("a rollback of nothing", back, "never-upgraded")
	other := q
	other.Bundle = r.bundle("3.0.0").SHA256
	stands("another upgrade after half of it", other, "is not over: the cluster is rollup")
	_, err = r.RunUpgrade(limited(t), "ann", other)
	wantKind(t, err, fail.Refused, "app 2.0.0", "is not over", up.Job.ID, "rollup", "corrected one of the same version",
		"upgrade skip STEP", "holdfast upgrade run", "holdfast upgrade rollback")
	if len(r.jobs()) != 1 {
		t.Errorf("jobs %v", r.jobs())
	}

	r.end(up.Job.ID, "done", func(s *upgrade.Status) {
		s.Cluster = upgrade.Prepared
		for _, h := range []cluster.HostID{"h1", "h2", "h3"} {
			s.Hosts[h] = upgrade.HostRollupDone
		}
	})
	_, err = r.RunUpgrade(limited(t), "ann", q)
	wantKind(t, err, fail.Refused, "is not over", "prepared")
	got, err := r.RunUpgrade(limited(t), "ann", commit)
	if err != nil || got.Job == nil || !strings.HasPrefix(got.Job.ID, "commit-") || got.Report != nil {
		t.Fatalf("%v, %+v, findings %+v", err, got.Job, got.Plan.Findings)
	}
	s := r.state()
	if s.Run != up.Job.ID || s.Last != got.Job.ID || s.version() != "1.0.0" || s.Committed || s.Bundle.SHA256 != q.Bundle {
		t.Errorf("state %+v", s)
	}
	if keep, err := r.Kept(limited(t)); err != nil || !slices.Equal(keep, []string{up.Job.ID, got.Job.ID}) {
		t.Errorf("kept %v, %v", keep, err)
	}
	_, err = r.RunUpgrade(limited(t), "bob", commit)
	wantKind(t, err, fail.Refused, got.Job.ID, "begun by ann")

	i := slices.IndexFunc(got.Plan.Steps(), func(s job.Step) bool { return s.Kind == upgrade.KindCommit })
	executor := &Commit{Store: r.client}
	if err := executor.Do(limited(t), engine.Task{Job: got.Job.ID, Step: got.Plan.Steps()[i], Log: &bytes.Buffer{},
		Note: func(string, int) {}}); err != nil {
		t.Fatal(err)
	}
	r.end(got.Job.ID, "done", func(s *upgrade.Status) { *s = upgrade.Status{Cluster: upgrade.Normal, Committed: true} })
	u, err := r.Upgrade(limited(t))
	rep, errReport := r.ReportUpgrade(limited(t))
	if errReport != nil || len(rep.Hosts) == 0 || rep.Hosts[0].Version != "2.0.0" ||
		slices.ContainsFunc(rep.Findings, func(f check.Finding) bool {
			return f.Check == "same-version" && f.Level == check.Warn && f.Host == ""
		}) {
		t.Errorf("the report of what was committed: %v, %+v, %+v", errReport, rep.Hosts, rep.Findings)
	}
	if err != nil || !u.Committed || u.Version != "2.0.0" || u.ClusterState != upgrade.Normal ||
		u.Purpose != upgrade.ForCommit || u.Run != up.Job.ID || u.Job.ID != got.Job.ID {
		t.Errorf("%v, %+v", err, u)
	}
	again, err := r.RunUpgrade(limited(t), "bob", commit)
	if err != nil || again.Job == nil || again.Job.ID != got.Job.ID || again.Job.Result != "done" {
		t.Errorf("asked once more: %v, %+v", err, again.Job)
	}
	blocked("a rollback of what was committed", back, "committed")
	// What is installed is known now, whatever people say.
	next, err := r.RunUpgrade(limited(t), "ann", request.Request{Bundle: r.bundle("3.0.0").SHA256, Version: "1.0.0", Options: q.Options})
	if err != nil || next.Job != nil || next.Plan.From != "2.0.0" || !next.Plan.Blocked() {
		t.Errorf("%v, %+v, from %s", err, next.Job, next.Plan.From)
	}
	if len(r.jobs()) != 2 {
		t.Errorf("jobs %v", r.jobs())
	}
}

// TestRollbackIsBegun: of the host that was touched.
func TestRollbackIsBegun(t *testing.T) {
	r, q := three(t)
	up := r.begin(q)
	step := slices.IndexFunc(up.Plan.Steps(), func(s job.Step) bool { return s.Host == "h2" && strings.HasSuffix(s.ID, "/install/db") })
	if step < 0 {
		t.Fatalf("no step installs: %+v", up.Plan.Steps())
	}
	// Its record, as the worker has left it.
	r.record(up.Job.ID, up.Plan.Steps()[step].ID, job.Failed)
	r.end(up.Job.ID, "failed", func(s *upgrade.Status) {
		s.Cluster, s.Hosts = upgrade.Rollup, map[cluster.HostID]upgrade.HostState{"h2": upgrade.HostRollup}
	})
	got, err := r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForRollback})
	if err != nil || got.Job == nil {
		t.Fatalf("%v, findings %+v", err, got.Plan.Findings)
	}
	if len(got.Plan.Hosts) != 1 || got.Plan.Hosts[0].Name != "h2" || got.Plan.To != "1.0.0" {
		t.Errorf("plan to %s of %+v", got.Plan.To, got.Plan.Hosts)
	}
	if s := r.state(); s.Run != up.Job.ID || s.Last != got.Job.ID || s.To != "2.0.0" || s.version() != "1.0.0" {
		t.Errorf("state %+v", s)
	}
	u, err := r.Upgrade(limited(t))
	if err != nil || u.Purpose != upgrade.ForRollback || u.Run != up.Job.ID || u.ClusterState != upgrade.Rollup {
		t.Errorf("%v, %+v", err, u)
	}
	r.end(got.Job.ID, "done", func(s *upgrade.Status) { s.Cluster = upgrade.Normal })
	_, err = r.RunUpgrade(limited(t), "ann", request.Request{Purpose: upgrade.ForCommit})
	wantKind(t, err, fail.Refused, "the cluster is normal: there is nothing to commit")
	if again := r.begin(q); again.Job.ID == up.Job.ID {
		t.Error("the same upgrade again")
	}
}

// record writes the record of a step.
func (r *rig) record(id, step string, state job.StepState) {
	r.t.Helper()
	rec := job.Record{Step: step, State: state, Attempt: 1, Why: "exit code 1"}
	if state == job.Running {
		rec.Why, rec.Work = "", &job.Step{ID: step, Host: cluster.HostID(strings.Split(step, "/")[0]),
			Kind: upgrade.KindAction, Timeout: time.Minute}
	}
	value, err := json.Marshal(rec)
	if err == nil {
		_, _, err = r.client.Txn(limited(r.t), nil, []store.Op{{Key: "job/step/" + id + "/" + step, Value: value}})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if rec, err := engine.Record(limited(r.t), r.client, id, step); err != nil || rec.State != state {
		r.t.Fatalf("the engine reads %+v, %v", rec, err)
	}
}

// TestWhatPeopleSayIsKept: when a job begins with it, for those that come after.
func TestWhatPeopleSayIsKept(t *testing.T) {
	r, q := three(t)
	order := func(q request.Request) string {
		t.Helper()
		q.Options.Last = "h2"
		p, err := r.PlanUpgrade(limited(t), q)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, h := range p.Hosts {
			out = append(out, string(h.Name))
		}
		return strings.Join(out, " ")
	}
	said := q
	said.Inventory = &inventory.Inventory{Cluster: "lab",
		Apart: []inventory.Apart{{Name: "db", VMs: []string{"vm1", "vm2"}}},
		Hosts: []inventory.Host{{Name: "h3", Labels: map[string]string{"rack": "b"}}, {Name: "h1"}}}
	if a, b := order(q), order(said); a != "h1 h3 h2" || b != "h3 h1 h2" {
		t.Errorf("hosts %q, with what was said %q", a, b)
	}
	if kept, err := platform(limited(t), r.client, "app"); kept != nil || err != nil {
		t.Errorf("a plan has kept %+v, %v", kept, err)
	}
	large := r.confirmed(said)
	large.Inventory = &inventory.Inventory{Hosts: []inventory.Host{{Name: "h1",
		Labels: map[string]string{"x": strings.Repeat("x", maxPlatform)}}}}
	_, err := r.RunUpgrade(limited(t), "ann", large)
	wantKind(t, err, fail.Invalid, fmt.Sprint(maxPlatform))
	r.untouched("too large")

	db := bare("h1")
	db.VMs = []inventory.VM{{Name: "vm1", UUID: "u1", Host: "h1"}, {Name: "vm2", UUID: "u2", Host: "h1"}}
	r.report(db)
	got := r.begin(said)
	if kept, err := platform(limited(t), r.client, "app"); err != nil || !reflect.DeepEqual(kept, said.Inventory) {
		t.Errorf("kept %+v, %v", kept, err)
	}
	if kv, ok, err := r.client.Get(limited(t), evacuate.KeyApart); err != nil || !ok ||
		string(kv.Value) != `[{"name":"db","uuids":["u1","u2"]}]` {
		t.Errorf("drains are told %s, %v", kv.Value, err)
	}
	r.end(got.Job.ID, "aborted", func(s *upgrade.Status) { s.Cluster = upgrade.Normal })
	if a := order(q); a != "h3 h1 h2" {
		t.Errorf("hosts %q: what was said is forgotten", a)
	}
	q.Inventory = &inventory.Inventory{Hosts: []inventory.Host{{Name: "h2"}}}
	if a := order(q); a != "h1 h3 h2" {
		t.Errorf("hosts %q: what is said now counts", a)
	}
}
