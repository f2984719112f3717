package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func moment(paths ...string) snapshot {
	s := snapshot{Files: map[string]entry{}}
	for _, p := range paths {
		path, stamp, _ := strings.Cut(p, "=")
		s.Files[path] = entry{Stamp: stamp}
	}
	return s
}

// saying gives what is found, the things that count with a mark.
func saying(found []finding) (all string) {
	for _, f := range found {
		if f.Ours {
			all += "! "
		}
		all += f.Kind + ": " + f.String() + "\n"
	}
	return all
}

func TestNewFilesCountWhereTheRunIsAloneOrTheyAreNamedInTheSources(t *testing.T) {
	made := sources(t, map[string]string{
		"a/a_test.go": `package a
			func TestThing(t *testing.T) { os.MkdirTemp("", "hfx") }
			func TestThingElse(t *testing.T) {}`,
		"b.go": `package b
			const dir = "/srv/shared/images"
			func id() string { return fmt.Sprintf("hf%d", 1) }`,
	})
	before := moment("/srv", "/tmp", "/tmp/old", "/etc", "/etc/hosts=1", "/etc/gone=1")
	after := moment("/srv", "/srv/shared", "/srv/shared/images", "/tmp", "/tmp/hfx123", "/tmp/hfx123/x",
		"/tmp/TestThingElse_case12", "/tmp/other",
		"/etc", "/etc/hosts=2")
	after.Groups, after.Links = []string{"hf3-h1", "user.slice"}, []string{"docker0"}
	alone := saying(run{root: "/src"}.judge(before, after, made))
	for _, want := range []string{
		"! files: /srv/shared, of user 0, changed at 00:00:00, with 1 files below; named as in b.go\n",
		"! files: /tmp/hfx123, of user 0, changed at 00:00:00, with 1 files below; named as in TestThing in a/a_test.go\n",
		"! files: /tmp/TestThingElse_case12, of user 0, changed at 00:00:00; named as in TestThingElse in a/a_test.go\n",
		"\nfiles: /tmp/other, of user 0",
		"\nfiles: /etc/gone is gone\n",
		"\nfiles: /etc/hosts was changed: 2, was 1\n",
		"! control groups: hf3-h1; named as in id in b.go\n",
		"\ncontrol groups: user.slice\n",
		"\nlinks: docker0\n",
	} {
		if !strings.Contains("\n"+alone, want) {
			t.Errorf("no %q in:\n%s", want, alone)
		}
	}
	if strings.Contains(alone, "/tmp/old") || strings.Count(alone, "hfx123") != 1 {
		t.Errorf("named twice, or gone from a folder that is emptied now and then:\n%s", alone)
	}
	fresh := saying(run{root: "/src", fresh: true}.judge(before, after, made))
	if n := strings.Count(fresh, "! "); n != 8 { // all but the link
		t.Errorf("%d things count in a fresh root, want 8:\n%s", n, fresh)
	}
	after.Company = true
	if crowded := saying(run{root: "/src"}.judge(before, after, made)); strings.Contains(crowded, "! ") {
		t.Errorf("beside another run nothing can be told apart:\n%s", crowded)
	}
}

func sources(t *testing.T, files map[string]string) []maker {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	made, err := readSources(dir)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestTheTreesOwnNamesAreKnown(t *testing.T) {
	made, err := readSources("../..")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/var/tmp/holdfast-e2e-12345": "in e2e/",
		"/tmp/hfx12345":               "TestExternalStore in e2e/",
		"hf1-h1":                      "testbed/lab/names.go",
		"/var/tmp/holdfast-lab":       "testbed/lab/options.go",
		"docker0":                     "",
		"/tmp/tmp.Yx12":               "",
		"/var/lib/dpkg/info/x.list":   "",
	} {
		got := whoMakes(made, name)
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: made by %q, want %q", name, got, want)
		}
	}
}

func TestProcessesOfTheRunCountByTheirMarkTheirProgramAndTheirParents(t *testing.T) {
	self := os.Getpid()
	var before, now snapshot
	before.Processes = []process{{PID: 9, Start: "1", Exe: "/src/bin/old"}}
	now.Files = map[string]entry{"/var/tmp": {}, "/var/tmp/hfx1": {}}
	before.Files = map[string]entry{"/var/tmp": {}}
	now.Processes = []process{
		before.Processes[0],
		{PID: 10, Start: "2", Parent: 1, Line: "marked", Marked: true, Dir: "/src/e2e"},
		{PID: 11, Start: "2", Parent: 10, Line: "its child"},
		{PID: 12, Start: "2", Parent: 1, Line: "another's"},
		{PID: 13, Start: "2", Parent: 1, Line: "/src/bin/holdfast-lab demo", Exe: "/src/bin/holdfast-lab"},
		{PID: 14, Start: "2", Parent: 1, Line: "qemu -drive file=/var/tmp/hfx1/disk", Dir: "/var/tmp/hfx1/lab"},
		{PID: 9, Start: "3", Parent: 1, Line: "a number used again"},
		{PID: 20, Start: "2", Parent: 1, Line: "shell of the recipe", Marked: true},
		{PID: self, Start: "2", Parent: 20, Line: "this", Marked: true},
		{PID: 21, Start: "2", Parent: 20, Line: "reader", Marked: true},
	}
	made := []maker{{path: "/var/tmp/hfx1", where: "TestX in x_test.go"}}
	r := run{root: "/src", mark: "m"}
	got := ""
	for _, f := range r.judge(before, now, made) {
		if f.Kind == "processes" {
			got += f.String() + "\n"
		}
	}
	want := `process 10, child of 1: marked; started by a test in e2e
process 11, child of 10: its child
process 13, child of 1: /src/bin/holdfast-lab demo
process 14, child of 1: qemu -drive file=/var/tmp/hfx1/disk; named as in TestX in x_test.go
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	r.fresh = true
	if n := len(r.judge(before, now, made)); n != 1+6 { // with the folder
		t.Errorf("%d in a fresh root, want 7", n)
	}
}

func TestRealProcess(t *testing.T) {
	cmd := exec.Command("sleep", "600")
	cmd.Env = []string{markVar + "=7"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for mark, want := range map[string]bool{"7": true, "77": false, "": false} {
		all, err := processes(mark)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			if p.PID == cmd.Process.Pid && (p.Marked != want || p.Parent != os.Getpid() || !strings.HasSuffix(p.Line, "sleep 600")) {
				t.Errorf("mark %q: %+v", mark, p)
			}
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
}

func TestCompanyIsAnotherTreesTestOrLaboratory(t *testing.T) {
	r := run{root: "/src"}
	for exe, want := range map[string]bool{
		"/tmp/go-build1/b1/e2e.test": true, "/other/bin/holdfast": true, "/other/bin/holdfast-lab": true,
		"/src/bin/holdfast": false, "/bin/sh": false, "": false,
	} {
		if got := r.company([]process{{Exe: exe}}); got != want {
			t.Errorf("%q: %v", exe, got)
		}
	}
	if r.company([]process{{Exe: "/tmp/x.test", Marked: true}}) {
		t.Error("a test of this run is no company")
	}
}

// TestRealFiles leaves a folder and a changed file in a place of its own.
func TestRealFiles(t *testing.T) {
	dir := t.TempDir()
	defer func(p, x []string) { places, exact = p, x }(places, exact)
	places, exact = []string{dir, filepath.Join(dir, "none")}, []string{filepath.Join(dir, "etc")}
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("etc/hosts", "1")
	write("old", "1")
	write("src/go.mod", "")
	r := run{root: filepath.Join(dir, "src"), fresh: true}
	file := filepath.Join(dir, "src", "before.json")
	if err := r.save(file); err != nil {
		t.Fatal(err)
	}
	write("etc/hosts", "changed")
	write("old", "changed: nobody minds")
	write("new/deep/file", "")
	write("src/new", "")
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var before snapshot
	if err := json.Unmarshal(raw, &before); err != nil {
		t.Fatal(err)
	}
	now, err := r.look()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range append(newFiles(before, now), changes(before, now)...) {
		got = append(got, strings.Fields(strings.ReplaceAll(f.What, ",", ""))[0])
	}
	if want := dir + "/new " + dir + "/etc/hosts"; strings.Join(got, " ") != want {
		t.Errorf("found %v, want %s", got, want)
	}
	if now.Taken.Before(before.Taken) || now.Files[dir+"/new"].Made.After(time.Now()) {
		t.Error("times are wrong")
	}
}

func TestReportIsWhatGoTestWouldSay(t *testing.T) {
	var out, notes bytes.Buffer
	if report(&out, &notes, []finding{{Kind: "files", What: "/tmp/x", Ours: true}, {Kind: "links", What: "eth9"}}, nil) {
		t.Error("it passes")
	}
	for _, want := range []string{
		`{"Action":"output","Package":"leftovers","Test":"files","Output":"    left: /tmp/x\n"}`,
		`{"Action":"fail","Package":"leftovers","Test":"files","Output":""}`,
		`{"Action":"pass","Package":"leftovers","Test":"links","Output":""}`,
		`{"Action":"fail","Package":"leftovers","Test":"","Output":""}`,
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if got := notes.String(); got != "new, perhaps of another's work: links: eth9\n" {
		t.Errorf("notes: %q", got)
	}
	out.Reset()
	if report(&out, &notes, nil, os.ErrNotExist) || !strings.Contains(out.String(), `"fail","Package":"leftovers","Test":"compare"`) {
		t.Errorf("without a snapshot: %s", out.String())
	}
	out.Reset()
	if !report(&out, &notes, nil, nil) || strings.Count(out.String(), `"pass"`) != len(kinds)+1 {
		t.Errorf("nothing left: %s", out.String())
	}
}
