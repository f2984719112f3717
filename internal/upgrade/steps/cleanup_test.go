package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/host/backup"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

// cleanupRig is a host with a bundle and the backups of run-0.
type cleanupRig struct {
	*backupRig
	bundles []string
	fails   error // of Remove
}

func newCleanupRig(t *testing.T) *cleanupRig {
	t.Helper()
	r := &cleanupRig{backupRig: newBackupRig(t), bundles: []string{runSHA, "other"}}
	d, task := r.step(upgrade.KindBackup, "files")
	r.does(d, task, "")
	r.installs("echo kept > $HOLDFAST_BACKUP/x")
	r.Task.Job = "run-0"
	if err := r.do(1); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *cleanupRig) cleanup(job string) (*Cleanup, engine.Task) {
	r.T.Helper()
	r.Task.Job, r.Task.Step.ID = job, "h1/cleanup"
	r.kind(upgrade.KindCleanup, upgrade.CleanupArgs{Run: "run-0", SHA256: runSHA})
	return &Cleanup{
		Backups: r.backups,
		Have:    func() ([]string, error) { return r.bundles, nil },
		Remove: func(sha string) error {
			if r.fails == nil {
				r.bundles = slices.DeleteFunc(r.bundles, func(s string) bool { return s == sha })
			}
			return r.fails
		},
	}, r.Task
}

func (r *cleanupRig) left(dir string) []string {
	r.T.Helper()
	list, err := os.ReadDir(filepath.Join(r.up(), dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestCleanup(t *testing.T) {
	r := newCleanupRig(t)
	r.write("up/backups/run-9/db/x", "of another run", 0o600)
	r.write("up/runs/run-9/x/1/logged", "0", 0o600)
	r.write("data/x", "new", 0o644)
	d, task := r.step(upgrade.KindRestore, "files")
	r.does(d, task, "")
	c, task := r.cleanup("commit-1")
	r.says(c, task, engine.NotDone)
	r.does(c, task, "")
	r.says(c, task, engine.ProbedDone)
	r.does(c, task, "")
	if b, s := r.left("backups"), r.left("runs"); !slices.Equal(b, []string{"run-9"}) ||
		!slices.Equal(s, []string{"run-9"}) || !slices.Equal(r.bundles, []string{"other"}) {
		t.Errorf("left: backups %v, runs %v, bundles %v", b, s, r.bundles)
	}
	if got := must(t, os.ReadDir, r.Root); slices.ContainsFunc(got,
		func(e os.DirEntry) bool { return strings.Contains(e.Name(), ".before") }) {
		t.Errorf("what the restore put aside is left: %v", got)
	}
	if !strings.Contains(r.log(), "is deleted") {
		t.Errorf("log: %s", r.log())
	}
}

// What is left after a cleanup was stopped, whatever it is, is found.
func TestCleanupProbe(t *testing.T) {
	for _, name := range []string{"up/backups/run-0/db/x", "up/runs/run-0/x/1/logged", "bundle"} {
		r := newCleanupRig(t)
		c, task := r.cleanup("commit-1")
		r.does(c, task, "")
		r.says(c, task, engine.ProbedDone)
		if name == "bundle" {
			r.bundles = append(r.bundles, runSHA)
		} else {
			r.write(name, "0", 0o600)
		}
		r.says(c, task, engine.NotDone)
		r.does(c, task, "")
		r.says(c, task, engine.ProbedDone)
	}
}

// undeletable is a provider whose backups can not be deleted now.
type undeletable struct{ backup.Provider }

func (undeletable) Delete(context.Context, backup.Receipt) error { return backup.ErrBusy }

func TestCleanupThatFails(t *testing.T) {
	r := newCleanupRig(t)
	files := r.backups.Providers["files"]
	r.backups.Providers["files"] = undeletable{files}
	r.fails = errors.New("no such luck")
	c, task := r.cleanup("commit-1")
	err := c.Do(r.ctx(), task)
	if !errors.Is(err, backup.ErrBusy) || !errors.Is(err, r.fails) {
		t.Errorf("got %v", err)
	}
	if got := r.left("backups/run-0"); !slices.Equal(got, []string{".receipts"}) || len(r.left("runs")) > 0 {
		t.Errorf("left: %v, runs %v", got, r.left("runs"))
	}
	r.verifies("")
	r.says(c, task, engine.NotDone)
	r.backups.Providers["files"], r.fails = files, nil
	r.does(c, task, "")
	r.says(c, task, engine.ProbedDone)
}

func TestCleanupLeavesWhatRuns(t *testing.T) {
	r := newCleanupRig(t)
	r.write("code", "0", 0o600)
	r.installs(actionWaiting)
	if err := r.interrupt(2, engine.ErrStopping, r.begun); err == nil {
		t.Fatal("it has ended")
	}
	action := r.Task
	c, task := r.cleanup("commit-1")
	r.does(c, task, "a program of the run still runs")
	r.Task = action
	r.probed(2, engine.StillRunning)
	r.write("go", "", 0o600)
	r.over(2)
	r.probed(2, engine.ProbedDone)
	r.does(c, task, "")
	r.says(c, task, engine.ProbedDone)
}

// The run itself cleans up: its other steps are not over yet.
func TestCleanupOfTheSameJob(t *testing.T) {
	r := newCleanupRig(t)
	c, task := r.cleanup("run-0")
	r.does(c, task, "")
	r.says(c, task, engine.ProbedDone)
	if got := r.left("runs"); !slices.Equal(got, []string{"run-0"}) {
		t.Errorf("left: %v", got)
	}
}

func TestCleanupByHand(t *testing.T) {
	r := newCleanupRig(t)
	r.write("up/backups/run-0/.receipts/db-1.by-hand.json", "{}", 0o600)
	r.write("up/backups/run-0/.receipts/web-1.receipt.json", "{", 0o600)
	c, task := r.cleanup("commit-1")
	r.does(c, task, "read the receipt of backup web-1")
	if !strings.Contains(r.log(), "the snapshots of db-1 were made by hand") {
		t.Errorf("log: %s", r.log())
	}
}

func TestCleanupIsRefused(t *testing.T) {
	r := newCleanupRig(t)
	c, task := r.cleanup("commit-1")
	for _, run := range []string{"", "..", "../run-0", "/"} {
		r.kind(upgrade.KindCleanup, upgrade.CleanupArgs{Run: run, SHA256: runSHA})
		r.does(c, r.Task, "want letters, digits")
		if _, err := c.Probe(r.ctx(), r.Task); err == nil {
			t.Errorf("probed %q", run)
		}
	}
	r.says(c, task, engine.NotDone)
}
