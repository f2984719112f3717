package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/host/backup"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

// tidy is the step in a job. told gets what the bundle cache is asked.
func (r *cleanupRig) tidy(job string, told *string) (*Tidy, engine.Task) {
	r.T.Helper()
	r.Task.Job, r.Task.Step.ID = job, "h1/tidy"
	r.kind(upgrade.KindTidy, upgrade.TidyArgs{SHA256: runSHA, Staged: true})
	return &Tidy{Backups: r.backups, Bundles: func(keep string, staged bool) error {
		*told = fmt.Sprint(keep, staged)
		return r.fails
	}}, r.Task
}

// What earlier jobs have left goes, a snapshot by its provider; what is of the job
// itself, or not of this program, stays.
func TestTidy(t *testing.T) {
	r := newCleanupRig(t)
	s := r.array()
	r.kind(upgrade.KindBackup, upgrade.BackupArgs{Run: "run-5", Module: "db", Provider: "array", Settings: r.settings})
	r.does(&Backup{r.backups}, r.Task, "")
	if got := s.Snapshots(); len(got) != 1 {
		t.Fatalf("snapshots %v", got)
	}
	r.write("up/backups/run-1/db/x", "own", 0o600)
	r.write("up/backups/.part/x", "not ours", 0o600)
	r.write("up/runs/rollback-9/x/1/logged", "0", 0o600)
	r.write("up/runs/run-1/x/1/logged", "0", 0o600)
	var told string
	c, task := r.tidy("run-1", &told)
	r.says(c, task, engine.NotDone)
	for range 2 {
		r.does(c, task, "")
		if b, s := r.left("backups"), r.left("runs"); !slices.Equal(b, []string{".part", "run-1"}) ||
			!slices.Equal(s, []string{"run-1"}) || told != runSHA+"true" {
			t.Errorf("left: backups %v, runs %v, bundles %s", b, s, told)
		}
	}
	if got := s.Snapshots(); len(got) > 0 {
		t.Errorf("snapshots %v", got)
	}
	if !strings.Contains(r.log(), "backups of run-0 are removed") {
		t.Errorf("log: %s", r.log())
	}
}

// What can not be removed stays whole, and does not keep the rest.
func TestTidyThatFails(t *testing.T) {
	r := newCleanupRig(t)
	files := r.backups.Providers["files"]
	r.backups.Providers["files"] = undeletable{files}
	r.fails = errors.New("no such luck")
	r.write("up/backups/run-2/db/x", "of another run", 0o600)
	var told string
	c, task := r.tidy("rollback-1", &told)
	err := c.Do(r.ctx(), task)
	if !errors.Is(err, backup.ErrBusy) || !errors.Is(err, r.fails) || !strings.Contains(err.Error(), "run-0: ") {
		t.Errorf("got %v", err)
	}
	if b, s := r.left("backups"), r.left("runs"); !slices.Equal(b, []string{"run-0"}) || len(s) > 0 {
		t.Errorf("left: %v, runs %v", b, s)
	}
	r.verifies("")
	r.backups.Providers["files"], r.fails = files, nil
	r.does(c, task, "")
	if b := r.left("backups"); len(b) > 0 {
		t.Errorf("left: %v", b)
	}
	r.kind(upgrade.KindTidy, 7)
	r.does(c, r.Task, "read")
	if _, err := c.Probe(r.ctx(), r.Task); err == nil {
		t.Error("probed")
	}
}

// A tidy whose time is over removes nothing more: the next job may have begun, and its
// directories would count as those of others.
func TestTidyEndsWithItsTime(t *testing.T) {
	r := newCleanupRig(t)
	told := "nothing"
	c, task := r.tidy("rollback-1", &told)
	ctx, cancel := context.WithCancel(r.ctx())
	cancel()
	err := c.Do(ctx, task)
	if !errors.Is(err, context.Canceled) || told != "nothing" {
		t.Errorf("got %v, bundles %s", err, told)
	}
	if b, s := r.left("backups"), r.left("runs"); !slices.Equal(b, []string{"run-0"}) || !slices.Equal(s, []string{"run-0"}) {
		t.Errorf("left: %v, runs %v", b, s)
	}
}
