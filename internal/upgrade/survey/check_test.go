package survey

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/facts"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

var _ engine.Executor = (*Check)(nil)

// executor checks on a host of the world, in a run of which nothing was decided when
// none is given.
func (w *world) executor(host cluster.HostID, run *Run) *Check {
	return &Check{
		Survey: w.survey(host),
		Manifest: func(_ context.Context, s string) (*manifest.Manifest, error) {
			if s != sha {
				return nil, errors.New("no such bundle")
			}
			return &w.man, nil
		},
		Run: func(context.Context, string) (Run, error) {
			w.reads++
			if run == nil {
				run = &Run{Plan: &upgrade.Plan{Options: upgrade.Options{Mode: manifest.Rolling}}}
			}
			if run.Plan == nil {
				return Run{}, errors.New("no such job")
			}
			return *run, nil
		},
	}
}

func args(when upgrade.When) upgrade.CheckArgs {
	return upgrade.CheckArgs{When: when, Run: "up-1", SHA256: sha, Mode: manifest.Rolling}
}

func TestACheckIsAlwaysMadeAnew(t *testing.T) {
	task, _ := task(t, "up-1", "h1", args(upgrade.Before))
	if got, err := well().executor("h1", nil).Probe(t.Context(), task); got != engine.NotDone || err != nil {
		t.Errorf("%v %v", got, err)
	}
}

func TestAHostChecksItself(t *testing.T) {
	w := well()
	w.host("h2").Down = true
	task, log := task(t, "up-1", "h1", args(upgrade.Before))
	if err := w.executor("h1", nil).Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	has(t, log.String(), "Local host(h1): group g, version E0303", "[ -OK- ] Required commands pre-check... Done.",
		"[ -OK- ] Check of h1 status of lab environment... Done.")
	for _, not := range []string{"h2", "Quorum", "Facts of the hosts pre-check... 1 failed"} {
		if strings.Contains(log.String(), not) {
			t.Errorf("it tells of %q:\n%s", not, log)
		}
	}
	if r := w.requests(); len(r) != 1 || r[0].Request.Host != "h1" || r[0].SHA256 != sha {
		t.Errorf("asked %+v", r)
	}
	has(t, log.noted(), "100 0 failed, 0 warnings")
	if w.reads > 0 {
		t.Error("it has read the plan, which makes no difference")
	}
}

func TestAHostFailsForAllThatIsWrongWithIt(t *testing.T) {
	w := well()
	w.change("m1", func(f *fact.Facts) {
		f.Commands["tree"], f.Python["requests"], f.Space.Free, f.Clock.Synced = "", "No module named 'requests'", 2<<30, false
		f.Maps = []fact.Map{{Name: "mpatha", Paths: []fact.Path{{Device: "sda", State: "failed"}}}}
	})
	task, log := task(t, "up-1", "m1", args(upgrade.Before))
	err := w.executor("m1", nil).Do(t.Context(), task)
	if err == nil {
		t.Fatal("it passed")
	}
	has(t, err.Error(), "4 faults found: ", "commands: m1: commands are missing: tree (what to do: apt-get install tree",
		"python-modules: m1: Python can not import requests",
		"free-space: m1: /var has 4.0 GiB free, want 5.0 GiB (what to do: ", "storage-paths: mpatha: multipath device mpatha: no path is up")
	has(t, log.String(), "[FAIL] commands are missing: tree", "[WARN] the clock follows no time server", "Remedy: apt-get install tree")
	has(t, log.noted(), "100 4 failed, 1 warnings: m1: the clock follows no time server (chrony says so)")
	if n := len(w.requests()); n != 1 {
		t.Errorf("before anything is changed it looked %d times", n)
	}
}

// A host that can not even look at itself does not pass.
func TestAHostThatCanNotLookAtItselfFails(t *testing.T) {
	w := well()
	w.tell["h1"] = func(context.Context, *fact.Facts) error { return errors.New("too many open files") }
	task, _ := task(t, "up-1", "h1", args(upgrade.Before))
	err := w.executor("h1", nil).Do(t.Context(), task)
	if err == nil || !strings.Contains(err.Error(), "facts: h1: the host has reported no facts (too many open files)") {
		t.Errorf("%v", err)
	}
}

func TestAfterAChangeThingsMaySettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := well()
		began := time.Now()
		w.change("m1", func(f *fact.Facts) {
			if time.Since(began) < 20*time.Second {
				f.Status.Exit, f.Status.Text = 1, "db is starting"
			}
			f.HA.Exit = 1
		})
		task, log := task(t, "up-1", "m1", args(upgrade.Between))
		if err := w.executor("m1", nil).Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != 20*time.Second {
			t.Errorf("it took %s", d)
		}
		has(t, log.noted(), "-1 looks again: m1: status reports that the cluster is not healthy (exit code 1): db is starting")
	})
}

func TestWhatDoesNotSettleFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := well()
		began := time.Now()
		w.change("m1", func(f *fact.Facts) { f.Status.Exit = 1 })
		step, _ := task(t, "up-1", "m1", args(upgrade.Between))
		err := w.executor("m1", nil).Do(t.Context(), step)
		if err == nil || !strings.Contains(err.Error(), "cluster-status: m1: status reports") {
			t.Errorf("%v", err)
		}
		if d := time.Since(began); d != settle {
			t.Errorf("it took %s", d)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		time.AfterFunc(10*time.Second, func() { cancel(engine.ErrCancelled) })
		step, _ = task(t, "up-1", "m1", args(upgrade.Between))
		if err := w.executor("m1", nil).Do(ctx, step); !errors.Is(err, engine.ErrCancelled) {
			t.Errorf("%v", err)
		}
	})
}

func TestWhatWasDecidedOfGuestsCounts(t *testing.T) {
	w := well()
	w.inv.VMs[0].Fixed = []string{"host device"}
	do := func(host cluster.HostID, o *upgrade.Options) error {
		var run *Run
		if o != nil {
			run = &Run{Plan: w.plan(t, *o)}
		}
		task, _ := task(t, "up-1", host, args(upgrade.Before))
		return w.executor(host, run).Do(t.Context(), task)
	}
	if err := do("h2", nil); err != nil {
		t.Errorf("it is about another host: %v", err)
	}
	if w.reads > 0 {
		t.Error("it has read the plan for another host's guest")
	}
	if err := do("h1", &upgrade.Options{Mode: manifest.Rolling}); err == nil ||
		!strings.Contains(err.Error(), "migratable: a: can not move live: host device") {
		t.Errorf("undecided: %v", err)
	}
	for name, o := range map[string]upgrade.Options{
		"by name":       {Mode: manifest.Rolling, Policies: map[string]inventory.Policy{"a": inventory.PolicyStop}},
		"by default":    {Mode: manifest.Rolling, DefaultPolicy: inventory.PolicyCold},
		"guests stay":   {Mode: manifest.Rolling, KeepGuests: true},
		"not live, off": {Mode: manifest.Offline},
	} {
		if err := do("h1", &o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	task, _ := task(t, "up-1", "h1", args(upgrade.Before))
	err := w.executor("h1", &Run{}).Do(t.Context(), task)
	if err == nil || !strings.Contains(err.Error(), "(a: can not move live: host device), and what was decided of it "+
		"is not known: no such job") {
		t.Errorf("without a plan: %v", err)
	}
}

// What an operator has confirmed when the run began does not stop it later.
func TestWhatIsConfirmedIsAWarning(t *testing.T) {
	w := well()
	w.change("h1", func(f *fact.Facts) { f.Commands, f.Python = nil, nil })
	run := &Run{Plan: w.plan(t, upgrade.Options{Mode: manifest.Rolling, Confirmed: []string{"commands", "same-version"}})}
	step, log := task(t, "up-1", "h1", args(upgrade.Before))
	err := w.executor("h1", run).Do(t.Context(), step)
	if err == nil || strings.Contains(err.Error(), "tree") || !strings.Contains(err.Error(), "1 faults found: python-modules: h1") {
		t.Errorf("%v", err)
	}
	has(t, log.String(), "[WARN] commands are missing: tree (confirmed by an operator)")
	w.change("h1", func(f *fact.Facts) {})
	d := w.executor("m1", run) // the versions are the old ones still
	d.Reports, d.Settle = t.TempDir(), time.Millisecond
	step, log = task(t, "up-1", "", args(upgrade.After))
	if err := d.Do(t.Context(), step); err != nil {
		t.Error(err)
	}
	has(t, log.String(), "[WARN] has version E0303, want E0306 (confirmed by an operator)")
}

// After its upgrade a host runs the new kernel; after its rollback, the old one.
func TestAHostThatIsDoneIsLookedAtAsSuch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := well()
		w.man.Kernel = "5.10.0"
		w.host("h1").Pools = []inventory.Pool{{Name: "p", Kind: "ocfs2", Shared: true, Paths: 2, Active: true}}
		do := func(job string) error {
			step, _ := task(t, job, "h1", args(upgrade.Between))
			return w.executor("h1", nil).Do(t.Context(), step)
		}
		if err := do("up-1"); err == nil || !strings.Contains(err.Error(), "kernel: h1: runs the kernel 4.1.0, want 5.10.0") {
			t.Errorf("%v", err)
		}
		if err := do("rollback-1"); err != nil {
			t.Errorf("back: %v", err)
		}
		w.host("h1").Pools[0].Active = false
		if err := do("rollback-1"); err == nil || !strings.Contains(err.Error(), "template-storage: p: the pool p (ocfs2) is not active") {
			t.Errorf("pool: %v", err)
		}
	})
}

func TestBackupsMustBeWholeBeforeARollback(t *testing.T) {
	d := well().executor("h1", nil)
	var asked []string
	d.Verify = func(_ context.Context, run, module string) error {
		asked = append(asked, run+"/"+module)
		if module != "web" {
			return errors.New("no receipt\n[ -OK- ] forged")
		}
		return nil
	}
	a := args(upgrade.BeforeRollback)
	a.Backups = []string{"db", "web", "tools"}
	task, log := task(t, "rollback-1", "h1", a)
	err := d.Do(t.Context(), task)
	if err == nil {
		t.Fatal("it passed")
	}
	has(t, err.Error(), "the backup of db can not be used: no receipt", "the backup of tools can not be used")
	has(t, log.String(), "[ -OK- ] the backup of web is whole\n")
	if strings.Contains(log.String(), "\n[ -OK- ] forged") {
		t.Errorf("%q", log)
	}
	if got := strings.Join(asked, " "); got != "up-1/db up-1/web up-1/tools" {
		t.Errorf("%s", got)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(engine.ErrStopping)
	if err := d.Do(ctx, task); !errors.Is(err, engine.ErrStopping) {
		t.Errorf("%v", err)
	}
}

func TestAStepThatMakesNoSenseIsRefused(t *testing.T) {
	for want, c := range map[string]struct {
		host cluster.HostID
		args any
	}{
		"this is host h1":          {"h2", args(upgrade.Before)},
		"\"noon\" is not known":    {"h1", args("noon")},
		"does not say of which":    {"h1", upgrade.CheckArgs{When: upgrade.Before}},
		"no such bundle":           {"h1", upgrade.CheckArgs{When: upgrade.Before, SHA256: "x"}},
		"read the arguments of h1": {"h1", []int{1}},
		"read the journal":         {"", args(upgrade.After)},
	} {
		task, _ := task(t, "up-1", c.host, c.args)
		if err := well().executor("h1", &Run{}).Do(t.Context(), task); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// The real gatherer, on this machine.
func TestThisMachineChecksItself(t *testing.T) {
	w := well()
	w.inv.Status, w.inv.HA = inventory.Watched{}, nil
	w.man.Requires = manifest.Requires{Commands: []string{"sh", "holdfast-no-such-command"}}
	d := w.executor("h1", nil)
	dir := t.TempDir()
	d.Survey.Facts = func(ctx context.Context, _ HostRef, want fact.Wanted) (fact.Facts, error) {
		want.Request.Unpack = dir
		return (&facts.Gatherer{Timeout: 5 * time.Second}).Gather(ctx, want.Request), nil
	}
	task, log := task(t, "up-1", "h1", args(upgrade.Before))
	err := d.Do(t.Context(), task)
	if err == nil {
		t.Fatalf("it passed:\n%s", log)
	}
	has(t, err.Error(), "commands: h1: commands are missing: holdfast-no-such-command (what to do: ")
	t.Log(log.String())
}

// ended is a run of the world's plan of which all steps are done.
func (w *world) ended(t *testing.T, o upgrade.Options) *Run {
	t.Helper()
	r := &Run{Plan: w.plan(t, o), Records: map[string]job.Record{}, Unsigned: true, Losses: []check.Loss{{Guest: "a", Sent: 100, Lost: 1}}}
	for _, s := range r.Plan.Steps() {
		r.Records[s.ID] = job.Record{Step: s.ID, State: job.Done, Attempt: 1}
	}
	delete(r.Records, "cluster/post-check")
	return r
}

func TestTheClusterIsCheckedInTheEndAndReported(t *testing.T) {
	w := well()
	for _, h := range []cluster.HostID{"m1", "h1", "h2", "h3"} {
		w.change(h, func(f *fact.Facts) { f.Version = "E0306" })
	}
	run := w.ended(t, upgrade.Options{Mode: manifest.Rolling})
	d := w.executor("m1", run)
	d.Reports = filepath.Join(t.TempDir(), "reports")
	step, log := task(t, "up-1", "", args(upgrade.After))
	if err := d.Do(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(d.Reports, "postcheck-report_*"))
	if err != nil || len(names) != 3 {
		t.Fatalf("%v %v", names, err)
	}
	for _, n := range names {
		has(t, log.String(), "report: "+n)
	}
	text, err := os.ReadFile(names[2])
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(text), "[WARN] The bundle has no signature.", "Bundle: cas E0306 (sha256 6f0c6f0c6f0c).",
		"Local host(m1): group m, version E0306", "a: 1 of 100 lost",
		"[ -OK- ] Quorum of the store post-check... Done.", "[ -OK- ] Post-check status of lab environment... Done.")
	if strings.Contains(string(text), "not begun") { // the step that checks is not one of those that it counts
		t.Errorf("%s", text)
	}
	has(t, log.noted(), "100 0 failed, 0 warnings; report "+strings.TrimSuffix(names[2], ".txt"))
}

func TestTheEndTellsWhatFailedAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := well()
		for _, h := range []cluster.HostID{"m1", "h1"} {
			w.change(h, func(f *fact.Facts) { f.Version = "E0306" })
		}
		w.refs[3].Up = false // h3, which was dropped
		run := w.ended(t, upgrade.Options{Mode: manifest.Rolling})
		install := "h2/install/web"
		if _, ok := run.Records[install]; !ok {
			t.Fatalf("no step %s: %+v", install, run.Records)
		}
		run.Records[install] = job.Record{Step: install, State: job.Skipped, By: "anna", Why: "by hand", Tail: "CREATE USER: LREP already exist"}
		data, err := json.Marshal(upgrade.Status{Cluster: upgrade.Rollup,
			Hosts:   map[cluster.HostID]upgrade.HostState{"h1": upgrade.HostRollupDone, "h2": upgrade.HostRollup},
			Dropped: map[cluster.HostID]string{"h3": "bob"}})
		if err != nil {
			t.Fatal(err)
		}
		run.Job.Data = data
		d := w.executor("m1", run)
		d.Reports = t.TempDir()
		task, log := task(t, "up-1", "", args(upgrade.After))
		err = d.Do(t.Context(), task)
		if err == nil {
			t.Fatal("it passed")
		}
		has(t, err.Error(), "1 faults found: same-version: h2: has version E0303, want E0306 (what to do: upgrade "+
			"the host, or roll the others back); report "+d.Reports)
		has(t, log.String(), "Step h2/install/web of host h2 was skipped by anna: by hand",
			"| CREATE USER: LREP already exist", "Known (logrep-user-exists)", "ds.username",
			"the host has reported no facts (its agent does not report any more), so it was not checked; it was left out",
			"Host(h1): group g, version E0306, kernel 4.1.0, upgraded.", "half upgraded", "dropped by bob", "1 skipped",
			"State of the cluster: rollup.")
	})
}

func TestAReportThatCanNotBeWrittenFails(t *testing.T) {
	w := well()
	run := w.ended(t, upgrade.Options{Mode: manifest.Rolling})
	d := w.executor("m1", run)
	d.Settle = time.Millisecond
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d.Reports = file
	task, _ := task(t, "up-1", "", args(upgrade.After))
	err := d.Do(t.Context(), task)
	if err == nil || !strings.Contains(err.Error(), "make the directory of reports") || !strings.Contains(err.Error(), "want E0306") {
		t.Errorf("%v", err)
	}
}

// TestAConfirmationIsAPartOfTheNeed: a host is asked for what its engine's scripts want after what an operator has said
// of them, not before.
func TestAConfirmationIsAPartOfTheNeed(t *testing.T) {
	w := well()
	w.man.Modules = append(w.man.Modules, manifest.Module{
		Name: "engine", RunsOn: manifest.OnEngine("/opt/e"),
		Actions: manifest.Actions{PreCheck: &manifest.Action{Appctl: &manifest.Appctl{Home: "/opt/e", Call: []string{"pre_upgrade"}}}},
	})
	h := w.host("h1")
	h.Engines = []inventory.Engine{{Dir: "/opt/e"}}
	run := &Run{Plan: w.plan(t, upgrade.Options{Mode: manifest.Offline, Confirmed: []string{upgrade.SnapshotsDone}})}
	step, _ := task(t, "up-1", "h1", args(upgrade.Before))
	c := w.executor("h1", run)
	var asked []fact.Need
	answer := c.Survey.Facts
	c.Survey.Facts = func(ctx context.Context, ref HostRef, wanted fact.Wanted) (fact.Facts, error) {
		asked = wanted.Request.Needs
		f, err := answer(ctx, ref, wanted)
		f.Met = []fact.Met{{Module: "engine"}}
		return f, err
	}
	if err := c.Do(t.Context(), step); err != nil || len(asked) != 1 || !asked[0].SnapshotsDone || asked[0].Mode != "offline" {
		t.Errorf("%v: asked for %+v", err, asked)
	}
}
