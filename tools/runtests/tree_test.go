package main

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tree makes a module of these files, and goes there.
func tree(t *testing.T, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module holdfast\n\ngo 1.24\n"
	files["testbed/need/need.go"] = "package need\n\nfunc Real(x any) {}\n\nfunc Drill(x any, proves string) {}\n"
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

const head = "\n\nimport (\n\t\"testing\"\n\n\t\"holdfast/testbed/need\"\n)\n\n"

func small() map[string]string {
	return map[string]string{
		"internal/pure/pure.go":      "package pure\n",
		"internal/pure/pure_test.go": "package pure\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {}\n",
		"internal/port/port.go":      "package port\n\nfunc F() { go F() }\n",
		"internal/port/port_test.go": "package port_test" +
			head + "func TestUnit(t *testing.T) {}\n\nfunc TestPort(t *testing.T) { need.Real(t) }\n\n" +
			"func TestLong(t *testing.T) {\n\tt.Parallel()\n\tneed.Drill(t, \"P1: it \\\"lasts\\\"\")\n}\n\nfunc FuzzPort(f *testing.F) {}\n",
		// A helper that asks for real components makes those tests real that import it, also by way of another one.
		"testbed/rig/rig.go":   "package rig\n\nimport \"holdfast/testbed/need\"\n\nfunc Start() { need.Real(nil) }\n",
		"testbed/rigs/rigs.go": "package rigs\n\nimport _ \"holdfast/testbed/rig\"\n",
		"internal/user/user_test.go": "package user\n\nimport (\n\t\"testing\"\n\n\t_ " +
			"\"holdfast/testbed/rigs\"\n)\n\nfunc TestX(t *testing.T) {}\n",
		"internal/onlydrill/onlydrill_test.go": "package onlydrill" +
			head + "func TestLong(t *testing.T) {\n\tneed.Drill(t, `P3: many times`)\n}\n",
		"internal/none/none.go": "package none\n",
		"e2e/e2e_test.go":       "package e2e" + head + "func TestHosts(t *testing.T) {\n\tneed.Drill(t, \"P2: hosts\")\n}\n",
	}
}

func TestATreeIsRead(t *testing.T) {
	tree(t, small())
	all, err := packages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range drillsOf(all) {
		names = append(names, d.Name)
		switch d.Name {
		case "port/TestLong":
			if d.Proves != `P1: it "lasts"` || d.File != "internal/port/port_test.go" || !slices.Contains(d.args, "-run=^TestLong$") || !d.isTest() {
				t.Errorf("%+v", d)
			}
		case "port/FuzzPort":
			if !d.fuzzes() || !slices.Contains(d.args, "-fuzz=^FuzzPort$") {
				t.Errorf("%+v", d)
			}
		}
	}
	// A race drill only where goroutines are begun.
	want := "arm64/build arm64/vet e2e/TestHosts onlydrill/TestLong port/FuzzPort port/TestLong race/port staticcheck"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("drills %s\nwant   %s", got, want)
	}
	var real []string
	for p := range realOnes(all) {
		real = append(real, p)
	}
	slices.Sort(real)
	if got := strings.Join(real, " "); got != "holdfast/internal/port holdfast/internal/user holdfast/testbed/rig" {
		t.Errorf("on real components: %s", got)
	}
}

// TestThePlan: each package with tests is in one layer, and those under the race detector in that one, too.
func TestThePlan(t *testing.T) {
	files := small()
	files["internal/server/server_test.go"] = "package server\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {}\n"
	tree(t, files)
	all, err := packages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	show := func(much which) string {
		var out []string
		for _, l := range plan(all, much) {
			pkgs := slices.Clone(l.pkgs)
			for i := range pkgs {
				pkgs[i] = strings.TrimPrefix(short(pkgs[i]), "internal/")
			}
			slices.Sort(pkgs)
			out = append(out, l.name+": "+strings.Join(pkgs, " "))
		}
		return strings.Join(out, "\n")
	}
	if got, want := show(fast), "units: e2e onlydrill port pure server user"; got != want {
		t.Errorf("fast:\n%s\nwant\n%s", got, want)
	}
	if got, want := show(everything), "units: onlydrill pure server\nrace detector: server\nreal components: port "+
		"user\nend to end: e2e"; got != want {
		t.Errorf("everything:\n%s\nwant\n%s", got, want)
	}
}

func TestADrillThatDoesNotSayWhatItProves(t *testing.T) {
	for name, call := range map[string]string{"a variable": "need.Drill(t, what)", "a call": "need.Drill(t, f())",
		"nothing": "need.Drill(t)"} {
		tree(t, map[string]string{"internal/x/x_test.go": "package x" + head + "func TestX(t *testing.T) {\n\t" + call + "\n}\n"})
		if _, err := packages(t.Context()); err == nil || !strings.Contains(err.Error(), "TestX: need.Drill: want a string constant") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWrongCalls(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "want fast, test, drills, list or report"},
		{"all", `"all": want fast`},
		{"drills x", `"x": no arguments`},
		{"test -only x", "test takes no flags"},
		{"drills -only (", `-only "(": want a regular expression`},
		{"drills -budget -1s", "-budget -1s: want a time above 0"},
		{"drills -budget soon", `invalid value "soon" for flag -budget`},
		{"drills -colour red", "flag provided but not defined"},
	} {
		err := run(t.Context(), strings.Fields(c.args), io.Discard)
		if w, ok := err.(wrong); !ok || !strings.Contains(w.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.args, err, c.want)
		}
	}
}

// TestAGroupOfGoroutinesIsRaced: goroutines are begun by a WaitGroup, too.
func TestAGroupOfGoroutinesIsRaced(t *testing.T) {
	files := small()
	files["internal/group/group.go"] = "package group\n\nimport \"sync\"\n\nfunc F(wg *sync.WaitGroup) { wg.Go(func() {}) }\n"
	files["internal/group/group_test.go"] = "package group\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {}\n"
	tree(t, files)
	all, err := packages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(drillsOf(all), func(d drill) bool { return d.Name == "race/group" }) {
		t.Error("no drill race/group")
	}
}
