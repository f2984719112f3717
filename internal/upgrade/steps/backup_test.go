package steps

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/host/backup/array"
	"holdfast/internal/host/backup/array/arraytest"
	"holdfast/internal/host/backup/mariadb/ctbackup"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/testbed/need"
)

// backupRig is a runRig with backups of module db.
type backupRig struct {
	*runRig
	backups  Backups
	settings json.RawMessage
}

func newBackupRig(t *testing.T) *backupRig {
	t.Helper()
	r := &backupRig{runRig: newRunRig(t)}
	r.backups = Backups{Dir: r.up(), Host: "h1", Providers: Providers(slog.New(slog.DiscardHandler))}
	r.write("data/x", "old", 0o644)
	r.settings = json.RawMessage(`{"paths":["` + filepath.Join(r.Root, "data") + `"]}`)
	return r
}

// step is a step of this kind of the module, with an Executor.
func (r *backupRig) step(kind, provider string, confirmed ...string) (engine.Executor, engine.Task) {
	r.T.Helper()
	r.Task.Step.ID = "h1/" + kind + "/db"
	if kind == upgrade.KindBackup {
		r.kind(kind, upgrade.BackupArgs{Run: "run-0", Module: "db", Provider: provider, Settings: r.settings, Confirmed: confirmed})
		return &Backup{r.backups}, r.Task
	}
	r.kind(kind, upgrade.RestoreArgs{Run: "run-0", Module: "db", Provider: provider})
	return &Restore{r.backups}, r.Task
}

func (r *backupRig) does(d engine.Executor, t engine.Task, words string) {
	r.T.Helper()
	err := d.Do(r.ctx(), t)
	if (err == nil) != (words == "") || err != nil && !strings.Contains(err.Error(), words) {
		r.Errorf("got %v, want %q; log: %s", err, words, r.log())
	}
}

func (r *backupRig) says(d engine.Executor, t engine.Task, want engine.Probed) {
	r.T.Helper()
	if got, err := d.Probe(r.ctx(), t); err != nil || got != want {
		r.Errorf("probed %d, %v, want %d", got, err, want)
	}
}

func (r *backupRig) verifies(words string) {
	r.T.Helper()
	err := r.backups.VerifyBackup(r.ctx(), "run-0", "db")
	if (err == nil) != (words == "") || err != nil && !strings.Contains(err.Error(), words) {
		r.Errorf("verify: %v, want %q", err, words)
	}
}

func (r *backupRig) receipts() string { return filepath.Join(r.up(), "backups/run-0/.receipts") }

func TestBackupAndRestore(t *testing.T) {
	r := newBackupRig(t)
	d, task := r.step(upgrade.KindBackup, "files")
	r.says(d, task, engine.NotDone)
	r.verifies("has no backup of upgrade run-0")
	r.does(d, task, "")
	r.says(d, task, engine.ProbedDone)
	r.does(d, task, "")
	r.verifies("")
	if !strings.Contains(r.log(), "[holdfast: backup db-") {
		t.Errorf("log: %s", r.log())
	}
	r.write("data/x", "new", 0o644)
	d, task = r.step(upgrade.KindRestore, "mariadb")
	r.does(d, task, `made by provider "files", want "mariadb"`)
	d, task = r.step(upgrade.KindRestore, "files")
	r.says(d, task, engine.NotDone)
	r.does(d, task, "")
	if r.file("data/x") != "old" {
		t.Errorf("restored %q", r.file("data/x"))
	}
	r.says(d, task, engine.ProbedDone)
	// A later rollback restores it once more.
	task.Job = "rollback-2"
	r.says(d, task, engine.NotDone)
	r.write("data/x", "newer", 0o644)
	r.does(d, task, "")
	if r.file("data/x") != "old" {
		t.Errorf("restored %q", r.file("data/x"))
	}
	if got := must(t, os.ReadDir, r.receipts()); len(got) == 0 {
		t.Error("no receipts")
	}
}

func must[A, B any](t *testing.T, f func(A) (B, error), a A) B {
	t.Helper()
	b, err := f(a)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBackupThatIsDamaged(t *testing.T) {
	r := newBackupRig(t)
	d, task := r.step(upgrade.KindBackup, "files")
	r.does(d, task, "")
	archives := must(t, filepath.Glob, r.receipts()+"/*.tar.zst")
	if len(archives) != 1 {
		t.Fatalf("archives: %v", archives)
	}
	if err := os.Truncate(archives[0], 10); err != nil {
		t.Fatal(err)
	}
	r.verifies(backup.ErrDamaged.Error())
	r.write("data/x", "new", 0o644)
	d, task = r.step(upgrade.KindRestore, "files")
	r.does(d, task, backup.ErrDamaged.Error())
	r.says(d, task, engine.NotDone)
	if r.file("data/x") != "new" {
		t.Error("it was restored")
	}
}

func TestBackupIsRefused(t *testing.T) {
	r := newBackupRig(t)
	d, task := r.step(upgrade.KindBackup, "tape")
	r.does(d, task, `knows no provider of backups "tape"`)
	r.settings = json.RawMessage(`{"path":"x"}`)
	d, task = r.step(upgrade.KindBackup, "files")
	r.does(d, task, "unknown field")
	d, task = r.step(upgrade.KindRestore, "files")
	r.does(d, task, "has no backup")
	for _, args := range []upgrade.BackupArgs{{Run: "../x", Module: "db"}, {Run: "run-0", Module: "../x"},
		{Run: "run-0", Module: ""}, {Run: "a/b", Module: "db"}} {
		args.Provider = "files"
		r.kind(upgrade.KindBackup, args)
		r.does(&Backup{r.backups}, r.Task, "want letters, digits")
		r.does(&Restore{r.backups}, r.Task, "want letters, digits")
		if err := r.backups.VerifyBackup(r.ctx(), args.Run, args.Module); err == nil {
			t.Errorf("verified %+v", args)
		}
	}
	r.Task.Step.Args = []byte("x")
	r.does(&Backup{r.backups}, r.Task, "read its arguments")
	r.does(&Restore{r.backups}, r.Task, "read its arguments")
}

// Two modules, two hosts and two runs never have one backup, whatever their names.
func TestBackupNames(t *testing.T) {
	seen := map[string]string{}
	for _, host := range []string{"h1", "h2"} {
		for _, run := range []string{"run-1", "run-2"} {
			for _, module := range []string{"a.b", "a-b", "_", "-", "db", strings.Repeat("x", 64), strings.Repeat("x", 63) + "y"} {
				q, err := (&Backups{Dir: "/up", Host: "h1"}).request(run, module, nil)
				if host == "h2" {
					q, err = (&Backups{Dir: "/up", Host: "h2"}).request(run, module, nil)
				}
				key := host + run + module
				if err == nil {
					err = q.Check(&struct{}{})
				}
				if err != nil || seen[q.ID] != "" {
					t.Errorf("%s: %v, %s is the name of %s", key, err, q.ID, seen[q.ID])
				}
				seen[q.ID] = key
			}
		}
	}
}

func (r *backupRig) array() *arraytest.Server {
	r.T.Helper()
	s := arraytest.Start("fs1")
	r.Cleanup(s.Close)
	pw := r.write("password", arraytest.Password, 0o600)
	text, err := json.Marshal(array.Options{Address: s.Address(), User: arraytest.User, Password: backup.SecretRef(pw),
		Fingerprint: s.Fingerprint(), FileSystems: []string{"fs1"}})
	if err != nil {
		r.Fatal(err)
	}
	r.settings = text
	r.backups.Providers["array"] = array.Provider{Request: 2 * time.Second, Again: time.Millisecond}
	return s
}

func TestBackupByAnArray(t *testing.T) {
	r := newBackupRig(t)
	s := r.array()
	d, task := r.step(upgrade.KindBackup, "array")
	r.says(d, task, engine.NotDone)
	r.does(d, task, "")
	r.says(d, task, engine.ProbedDone)
	r.verifies("")
	if got := s.Snapshots(); len(got) != 1 || !strings.HasPrefix(got[0], "holdfast_db-") {
		t.Errorf("snapshots %v", got)
	}
	s.Write("fs1", "new")
	d, task = r.step(upgrade.KindRestore, "array")
	r.does(d, task, "")
	if s.Read("fs1") != "" {
		t.Errorf("the file system holds %q", s.Read("fs1"))
	}
}

func TestBackupByHand(t *testing.T) {
	r := newBackupRig(t)
	r.array().Close()
	d, task := r.step(upgrade.KindBackup, "array")
	r.does(d, task, "make the snapshots by hand, abort, and run again with --confirmed array-snapshots-done")
	r.says(d, task, engine.NotDone)
	r.verifies("has no backup")
	d, task = r.step(upgrade.KindBackup, "array", "other", upgrade.SnapshotsDone)
	r.does(d, task, "")
	r.says(d, task, engine.ProbedDone)
	if !strings.Contains(r.log(), "an operator has said that the snapshots were made by hand") {
		t.Errorf("log: %s", r.log())
	}
	r.verifies(ErrByHand.Error())
	d, task = r.step(upgrade.KindRestore, "array")
	if err := d.Do(r.ctx(), task); !errors.Is(err, ErrByHand) {
		t.Errorf("got %v", err)
	}
	// It can be reached after all.
	r.array()
	d, task = r.step(upgrade.KindBackup, "array", upgrade.SnapshotsDone)
	r.does(d, task, "")
	r.verifies("")
	if left := must(t, filepath.Glob, r.receipts()+"/*"+backupByHand); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// Nothing but an array that can not be reached is made good by an operator's word.
func TestBackupByHandIsNoExcuse(t *testing.T) {
	r := newBackupRig(t)
	s := r.array()
	r.write("password", "wrong", 0o600)
	d, task := r.step(upgrade.KindBackup, "array", upgrade.SnapshotsDone)
	if err := d.Do(r.ctx(), task); err == nil || errors.Is(err, array.ErrArrayUnreachable) {
		t.Errorf("got %v", err)
	}
	if s.WrongPasswords() != 1 {
		t.Errorf("%d wrong passwords", s.WrongPasswords())
	}
	r.verifies("has no backup")
}

func (r *backupRig) choice(c ctbackup.Choice) {
	r.T.Helper()
	if err := os.MkdirAll(filepath.Join(r.Root, "ct"), 0o755); err != nil {
		r.Fatal(err)
	}
	o := ctbackup.Options{Choice: c, SysPassword: backup.SecretRef(r.write("sys", "Sys-geheim", 0o600)),
		StoragePath: filepath.Join(r.Root, "ct")}
	if c == ctbackup.During {
		o.Address, o.User, o.MetadataPath = "127.0.0.1", "root", "/var/lib/mysql"
		o.Password = backup.SecretRef(r.write("mysql", "My-geheim", 0o600))
	}
	text, err := json.Marshal(o)
	if err != nil {
		r.Fatal(err)
	}
	r.settings = text
}

// The upgrade's own step asks what the choice is about, and is answered.
func TestBackupByCtbackup(t *testing.T) {
	need.Seconds(t)
	r := newBackupRig(t)
	r.choice(ctbackup.Stop)
	d, task := r.step(upgrade.KindBackup, "ctbackup")
	r.does(d, task, ctbackup.ErrStopFirst.Error())
	r.choice(ctbackup.Done)
	d, task = r.step(upgrade.KindBackup, "ctbackup")
	r.does(d, task, ctbackup.ErrUnproved.Error())
	r.choice(ctbackup.During)
	tools := filepath.Dir(r.write("tools/mariadb", "#!/bin/sh\nprintf '/srv/mysql\\t8.0.26\\n'\n", 0o700))
	t.Setenv("PATH", tools+":"+os.Getenv("PATH"))
	r.settings = bytes.Replace(r.settings, []byte(`"metadataPath":"/var/lib/mysql",`), nil, 1) // it is found
	d, task = r.step(upgrade.KindBackup, "ctbackup")
	r.does(d, task, "")
	if !strings.Contains(r.log(), "the metadata of MySQL is in /srv/mysql: the data directory of MySQL at 127.0.0.1") {
		t.Errorf("log: %s", r.log())
	}
	r.says(d, task, engine.ProbedDone)
	r.verifies(ctbackup.ErrUnproved.Error())

	r.script("action/db/appctl.sh", `ask() { read $2 -p "$1: " x; [ -z "$2" ] || echo; echo "$x" >> $R/said; }
ask "what's your choice, please input [1|2|3]"
ask "mysql login ip"; ask "mysql login port"; ask "mysql login user"; ask "mysql login pwd" -s
ask "mysql metadata storage path"; ask "ctbackup storage path"; ask "cantian sys pwd" -s
echo "I know $x"; ask "what else"; touch $R/ct/backup`)
	r.module().Actions.Install = &manifest.Action{Run: []string{"action/db/appctl.sh"}}
	r.action(manifest.Install)
	r.Credentials = r.write("credentials", "secrets: {other: Op-geheim}\nexpect: [{prompt: what else, secret: other}]\nsilence: 5s", 0o600)
	if err := r.do(1); err != nil {
		t.Fatalf("%v; log: %s", err, r.log())
	}
	if got, want := r.file("said"), "3\n127.0.0.1\n3306\nroot\nMy-geheim\n/srv/mysql\n"+r.Root+"/ct\nSys-geheim\nOp-geheim\n"; got != want {
		t.Errorf("said %q, want %q", got, want)
	}
	if strings.Contains(r.log(), "geheim") || !strings.Contains(r.log(), "I know ***") {
		t.Errorf("log: %s", r.log())
	}
	r.secretsAreGone()
	d, task = r.step(upgrade.KindRestore, "ctbackup")
	r.does(d, task, ctbackup.ErrByHand.Error())
}

// secretsAreGone looks that no secret is in a file of the upgrade.
func (r *runRig) secretsAreGone() {
	r.T.Helper()
	err := filepath.WalkDir(r.up(), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(data), "geheim") {
			r.Errorf("%s has a secret", path)
		}
		return err
	})
	if err != nil {
		r.Error(err)
	}
}

// The agent is killed while a program has its answers: the next one removes them.
func TestBackupAnswersAreRemovedAfterAKill(t *testing.T) {
	r := newBackupRig(t)
	r.choice(ctbackup.During)
	d, task := r.step(upgrade.KindBackup, "ctbackup")
	r.does(d, task, "")
	r.write("code", "0", 0o600)
	r.installs(actionWaiting)
	r.Task.Step.ID = "h1/install/db"
	kill := r.agent(1)
	r.await("the program", r.begun)
	kill()
	r.write("go", "", 0o600)
	r.over(1)
	r.probed(1, engine.ProbedDone)
	r.secretsAreGone()
}

func TestBackupIsCancelled(t *testing.T) {
	r := newBackupRig(t)
	ctx, cancel := context.WithCancelCause(r.ctx())
	cancel(engine.ErrCancelled)
	d, task := r.step(upgrade.KindBackup, "files")
	if err := d.Do(ctx, task); err == nil {
		t.Error("no error")
	}
	r.says(d, task, engine.NotDone)
	r.does(d, task, "")
}
