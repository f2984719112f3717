package steps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/transition/hostconf"
)

// confs is a host with two files, one of which is to change, and one that is to be new.
type confs struct {
	t     *testing.T
	x     *Files
	dir   string
	files []hostconf.File
}

func newConfs(t *testing.T) *confs {
	c := &confs{t: t, x: &Files{Dir: filepath.Join(t.TempDir(), "config-files")}, dir: t.TempDir()}
	c.put("nova.conf", "debug = false\n", 0o640)
	c.put("ceph.conf", "same\n", 0o644)
	me := strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid())
	c.files = []hostconf.File{
		{Path: c.at("nova.conf"), Content: "debug = true\n"},
		{Path: c.at("ceph.conf"), Content: "same\n", Owner: me},
		{Path: c.at("new.conf"), Content: "password\n", Secret: true, Owner: me},
	}
	return c
}

func (c *confs) at(name string) string { return filepath.Join(c.dir, name) }

func (c *confs) put(name, text string, mode os.FileMode) {
	c.t.Helper()
	if err := errors.Join(os.WriteFile(c.at(name), []byte(text), mode), os.Chmod(c.at(name), mode)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *confs) has(name, text string, mode os.FileMode) {
	c.t.Helper()
	got, err := os.ReadFile(c.at(name))
	info, serr := os.Stat(c.at(name))
	if err != nil || serr != nil || string(got) != text || info.Mode() != mode {
		c.t.Errorf("%s: %q, %v; want %q, %v; %v", name, got, info, text, mode, errors.Join(err, serr))
	}
}

// step is one that writes the files as they were compared.
func (c *confs) step(job string) (engine.Task, *enginetest.Heard) {
	c.t.Helper()
	a, err := c.x.Compare(c.files, true)
	if err != nil {
		c.t.Fatal(err)
	}
	args := hostconf.Args{Title: "test", Set: a.Set}
	for _, f := range a.Files {
		if f.Problem != "" {
			c.t.Fatal(f.Problem)
		}
		args.Was = append(args.Was, f.Was)
	}
	task, heard := enginetest.Task(c.t, "files", args)
	task.Job = job
	return task, heard
}

func TestFilesAreComparedWrittenAndTakenBack(t *testing.T) {
	c := newConfs(t)
	a, err := c.x.Compare(c.files, false)
	if err != nil || a.Set != "" || a.Files[0].Same || a.Files[0].Old != "debug = false\n" || !a.Files[1].Same || a.Files[1].Old != "" ||
		a.Files[2].Was != "" || a.Files[2].Hidden != "secret" || !strings.HasPrefix(a.Files[2].After, "0600 ") {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := os.Stat(c.x.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a comparison alone keeps something: %v", err)
	}
	task, heard := c.step("config-1")
	enginetest.Probed(t, c.x, task, engine.NotDone)
	if err := c.x.Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	c.has("nova.conf", "debug = true\n", 0o640)
	c.has("new.conf", "password\n", 0o600)
	enginetest.Probed(t, c.x, task, engine.ProbedDone)
	enginetest.Has(t, "log", heard.Log(), "nova.conf: 0640")
	if strings.Contains(heard.Log(), "password") || strings.Contains(heard.Log(), "ceph.conf") {
		t.Errorf("log: %s", heard.Log())
	}
	if err := c.x.Do(t.Context(), task); err != nil { // again: nothing is left to be done
		t.Error(err)
	}

	back, _ := enginetest.Task(t, "files", hostconf.Args{Title: "back", Back: "config-1"})
	back.Job = "config-2"
	enginetest.Probed(t, c.x, back, engine.NotDone)
	for range 2 {
		if err := c.x.Do(t.Context(), back); err != nil {
			t.Fatal(err)
		}
	}
	c.has("nova.conf", "debug = false\n", 0o640)
	if _, err := os.Stat(c.at("new.conf")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was not there before stays: %v", err)
	}
	enginetest.Probed(t, c.x, back, engine.ProbedDone)
	for _, dir := range []string{c.x.Dir, filepath.Join(c.x.Dir, "sets"), filepath.Join(c.x.Dir, "backups")} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info, err)
		}
	}
}

// TestWhatChangedMeanwhileIsLeft: between the comparison and the step, in the middle of a step,
// and before it is taken back.
func TestWhatChangedMeanwhileIsLeft(t *testing.T) {
	c := newConfs(t)
	task, _ := c.step("config-1")
	c.put("ceph.conf", "by hand\n", 0o644)
	if err := c.x.Do(t.Context(), task); err == nil ||
		!strings.Contains(err.Error(), "ceph.conf was changed since it was compared: nothing is written") {
		t.Errorf("%v", err)
	}
	c.has("nova.conf", "debug = false\n", 0o640)
	c.has("ceph.conf", "by hand\n", 0o644)

	c.put("ceph.conf", "same\n", 0o600) // the mode alone
	if err := c.x.Do(t.Context(), task); err == nil {
		t.Error("another mode is written over")
	}
	c.put("ceph.conf", "same\n", 0o644)
	if err := c.x.Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	c.put("nova.conf", "by hand\n", 0o640)
	enginetest.Probed(t, c.x, task, engine.NotDone)
	if err := c.x.Do(t.Context(), task); err == nil || !strings.Contains(err.Error(), "nova.conf was changed") {
		t.Errorf("%v", err)
	}
	back, _ := enginetest.Task(t, "files", hostconf.Args{Back: "config-1"})
	if err := c.x.Do(t.Context(), back); err == nil || !strings.Contains(err.Error(), "nova.conf was changed") {
		t.Errorf("%v", err)
	}
	c.has("new.conf", "password\n", 0o600)
}

// TestAStepThatWasCutOff goes on: the first file was written, the second was not.
func TestAStepThatWasCutOff(t *testing.T) {
	c := newConfs(t)
	task, _ := c.step("config-1")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(engine.ErrStopping)
	if err := c.x.Do(ctx, task); !errors.Is(err, engine.ErrStopping) {
		t.Fatalf("%v", err)
	}
	c.put("nova.conf", "debug = true\n", 0o640) // as if it had been written
	enginetest.Probed(t, c.x, task, engine.NotDone)
	task.Attempt = 2
	if err := c.x.Do(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	c.has("new.conf", "password\n", 0o600)
	back, _ := enginetest.Task(t, "files", hostconf.Args{Back: "config-1"})
	if err := c.x.Do(t.Context(), back); err != nil { // the backup is that of before
		t.Fatal(err)
	}
	c.has("nova.conf", "debug = false\n", 0o640)
}

func TestFilesThatCanNotBeWritten(t *testing.T) {
	c := newConfs(t)
	if err := errors.Join(os.Symlink(c.at("nova.conf"), c.at("link")), os.Mkdir(c.at("dir"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		c.at("link"):      "is a symbolic link: want the path of the file itself",
		c.at("dir"):       "is no plain file",
		c.at("no/where"):  "no such file or directory",
		c.at("ceph.conf"): ": this host has no user nobody-here",
	} {
		f := hostconf.File{Path: path}
		if strings.Contains(want, "nobody-here") {
			f.Owner = "nobody-here:root"
		}
		a, err := c.x.Compare([]hostconf.File{f}, false)
		if err != nil || !strings.Contains(a.Files[0].Problem, want) || a.Files[0].Same {
			t.Errorf("%+v, %v; want %s", a, err, want)
		}
	}
	for _, f := range []hostconf.File{{Path: "x"}, {Path: "/a/../b"}, {Path: "/x", Mode: "4755"},
		{Path: "/x", Content: strings.Repeat("y", hostconf.MaxFile+1)}} {
		if _, err := c.x.Compare([]hostconf.File{f}, true); err == nil {
			t.Errorf("%.20q is taken", f.Path)
		}
	}
	if _, err := c.x.Compare(append(c.files, c.files[0]), true); err == nil {
		t.Error("one file twice is taken")
	}
	for _, args := range []hostconf.Args{{Set: "../x"}, {Back: "../x"}, {Set: "gone", Was: []string{""}}, {Back: "config-9"}} {
		task, _ := enginetest.Task(t, "files", args)
		if err := c.x.Do(t.Context(), task); err == nil {
			t.Errorf("%+v is done", args)
		}
	}
}

// TestOldSetsAndBackupsGo: the newest ones stay.
func TestOldSetsAndBackupsGo(t *testing.T) {
	c := newConfs(t)
	for i := range keepSets + 3 {
		c.files[0].Content = strconv.Itoa(i)
		if _, err := c.x.Compare(c.files, true); err != nil {
			t.Fatal(err)
		}
	}
	list, err := os.ReadDir(filepath.Join(c.x.Dir, "sets"))
	if err != nil || len(list) != keepSets {
		t.Errorf("%d sets, %v", len(list), err)
	}
}
