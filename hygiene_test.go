// Package holdfast_test holds the rules that the whole tree obeys.
package holdfast_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// pure are the packages that decide. They do no I/O and read no clock.
var pure = []string{
	"holdfast/internal/ha", "holdfast/internal/host/watchdog/keeper", "holdfast/internal/fleet/evacuate",
	"holdfast/internal/inventory", "holdfast/internal/inventory/fact", "holdfast/internal/pair",
	"holdfast/internal/pair/arbiter", "holdfast/internal/pair/precheck", "holdfast/internal/cluster/reason",
	"holdfast/internal/job", "holdfast/internal/upgrade", "holdfast/internal/inventory/manifest",
	"holdfast/internal/upgrade/path", "holdfast/internal/cluster/version",
	"holdfast/internal/transition/db/mapping", "holdfast/internal/transition/db/column",
	"holdfast/internal/transition/db/sqlexpr", "holdfast/internal/transition", "holdfast/internal/transition/pin",
	"holdfast/internal/transition/feature", "holdfast/internal/transition/hostconf",
	"holdfast/internal/transition/platform", "holdfast/internal/transition/net",
}

// texts are packages of ours that make values of texts, and do nothing else.
var texts = []string{"holdfast/internal/lib/strictyaml", "holdfast/internal/lib/text"}

// notInPure are imports that a pure package must not have, with all below them but net/netip, which has values only.
var notInPure = []string{"context", "os", "net", "sync", "log", "math/rand", "crypto", "runtime", "syscall", "io"}

// notCalled are functions of package time that read or wait for a clock.
var notCalled = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

func TestPurePackagesImportNothingThatActs(t *testing.T) {
	for _, p := range pure {
		for file, f := range parse(t, p) {
			for _, i := range f.Imports {
				path := strings.Trim(i.Path.Value, `"`)
				for _, bad := range notInPure {
					if path == bad || strings.HasPrefix(path, bad+"/") && path != "net/netip" {
						t.Errorf("%s imports %s: a pure package must not", file, path)
					}
				}
				if strings.HasPrefix(path, "holdfast/") && path != "holdfast/internal/cluster" && !slices.Contains(slices.Concat(pure, texts), path) {
					t.Errorf("%s imports %s: a pure package knows internal/cluster, readers of texts and other pure ones only", file, path)
				}
				if strings.Contains(strings.Split(path, "/")[0], ".") {
					t.Errorf("%s imports %s: a pure package uses the standard library only", file, path)
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(notCalled, s.Sel.Name) {
						t.Errorf("%s uses time.%s: a pure package gets the time as a value", file, s.Sel.Name)
					}
				}
				if g, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s: goroutine at offset %d: a pure package has none", file, g.Pos())
				}
				return true
			})
		}
	}
}

// beside says what a package must not import itself: another has it for it.
var beside = []struct{ who, not, why string }{
	{"holdfast/internal/cli/transition", "holdfast/internal/transition/db/",
		"holdfast/internal/transition/db knows in which order the parts of an alignment work"},
}

// floors are the rooms of internal, from the ground up. A room imports its own floor and those below; those of one
// floor import one another in one direction only.
var floors = [][]string{
	{"cluster", "lib"}, // the vocabulary, and leaves without policy
	{"config", "host", "inventory", "job", "store"},
	{"fleet", "ha", "install", "pair", "transition", "upgrade"}, // the tools
	{"agent", "api", "cli", "server", "web"},
}

func TestNoImportRunsUp(t *testing.T) {
	on, imports := map[string]int{}, map[string]map[string]string{} // of rooms: those that they import, and where
	for floor, rooms := range floors {
		for _, room := range rooms {
			on[room], imports[room] = floor, map[string]string{}
		}
	}
	room := func(path string) string {
		rest, inside := strings.CutPrefix(path, "holdfast/internal/")
		name, _, _ := strings.Cut(rest, "/")
		if _, known := on[name]; inside && !known {
			t.Errorf("internal/%s is on no floor", name)
		}
		return map[bool]string{true: name}[inside]
	}
	for p := range packages(t) {
		from := room(p)
		if from == "" {
			continue
		}
		for file, f := range parse(t, p) {
			for _, i := range f.Imports {
				to := room(strings.Trim(i.Path.Value, `"`))
				if to == "" || to == from {
					continue
				}
				imports[from][to] = file
				if on[to] > on[from] {
					t.Errorf("%s imports internal/%s, which is on a floor above", file, to)
				}
			}
		}
	}
	var walk func(way []string)
	walk = func(way []string) {
		for to, file := range imports[way[len(way)-1]] {
			if to == way[0] {
				t.Errorf("rooms import one another in a circle: %v, %s closes it", way, file)
			} else if !slices.Contains(way, to) {
				walk(append(way, to))
			}
		}
	}
	for from := range imports {
		walk([]string{from})
	}
}

// layers says what a package must not depend on, directly or not, beside what is on a floor above.
var layers = []struct {
	who string
	not []string
	why string
}{
	{"holdfast/internal/cluster", []string{"holdfast/"}, "the vocabulary depends on nothing of ours"},
	{"holdfast/internal/lib/database", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/domainxml", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/durable", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/fail", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/lang", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/strictyaml", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/text", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/cluster/reason", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/cluster/version", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/support", []string{"holdfast/"}, "a leaf without policy depends on nothing of ours"},
	{"holdfast/internal/lib/admit", []string{"holdfast/internal/lib/pki"}, "a listener asks whoever has certificates"},
	{"holdfast/internal/lib/pki", []string{"holdfast/internal/cluster"}, "a leaf without policy"},
	{"holdfast/internal/lib/proc", []string{"holdfast/internal/cluster"}, "a leaf without policy"},
	{"holdfast/internal/agent/logfile", []string{"holdfast/internal/agent", "holdfast/internal/host",
		"holdfast/internal/cluster"}, "a leaf without policy"},
	{"holdfast/internal/host/libvirt", []string{libvirts}, "what all who call libvirtd share"},
	{"holdfast/internal/host/libvirt/migration", []string{libvirts + "guests", libvirts + "pools",
		libvirts + "protected"}, "what both migrations share"},
	{"holdfast/internal/host/libvirt/pools", []string{libvirts + "guests", libvirts + "protected"}, "pools do not know what lies in them"},
	{"holdfast/internal/host/libvirt/protected", []string{libvirts + "guests", libvirts + "pools"},
		"what it takes for sure must not depend on more"},
	{"holdfast/internal/host/libvirt/guests", []string{libvirts + "protected"}, "business guests need no fencing"},
	{"holdfast/internal/fleet/losses", []string{"holdfast/internal/host"}, "words and a page; the package measure knows the adapter"},
	{"holdfast/internal/store", []string{"holdfast/"}, "the port depends on nothing of ours"},
	{"holdfast/internal/cli", []string{"holdfast/internal/agent", "holdfast/internal/ha", "holdfast/internal/store",
		"holdfast/internal/host/", "holdfast/internal/server"}, "the command line is a client of the API"},
	{"holdfast/internal/server", []string{"holdfast/internal/agent", "holdfast/internal/ha", "holdfast/internal/store/",
		"holdfast/internal/host/"}, "handlers decide nothing and know interfaces only"},
	{"holdfast/internal/transition/db", []string{"holdfast/internal/host/", "holdfast/internal/store"}, "alignment needs no cluster"},
	{"holdfast/internal/transition/net", []string{"holdfast/internal/host/", "holdfast/internal/store",
		"holdfast/internal/transition/db"}, "a document, its checks and what differs need nothing else"},
	{"holdfast/internal/transition/pin/bridge", []string{"holdfast/internal/store"}, "a pin needs no cluster"},
	{"holdfast/internal/transition/feature/guests", []string{"holdfast/internal/store"}, "trying features needs no cluster"},
	{"holdfast/internal/transition/feature/openstack", []string{"holdfast/internal/store", "holdfast/internal/host/"},
		"trying features needs no cluster"},
	{"holdfast/internal/transition/platform/collect", []string{"holdfast/internal/store", "holdfast/internal/host/"},
		"reading a platform needs no cluster"},
	{"holdfast/internal/transition/db/copier", []string{"github.com/go-mysql-org/"}, "only the follower reads binary logs"},
	{"holdfast/testbed/sim", []string{"holdfast/internal/agent", "holdfast/internal/host/",
		"holdfast/internal/store/etcdstore"}, "the simulator runs the core, not the daemon"},
	{"holdfast/cmd/holdfast", []string{"holdfast/testbed"}, "the laboratory is a program of its own"},
	{"holdfast/cmd/holdfast-lab", []string{"holdfast/internal/agent", "holdfast/internal/server"}, "its agents are the program holdfast"},
}

// keeperRules is pure and in an adapter's folder: the simulator drives it as the
// adapter does.
const keeperRules = "holdfast/internal/host/watchdog/keeper"

func TestLayers(t *testing.T) {
	for _, l := range layers {
		for _, dep := range deps(t, l.who) {
			for _, bad := range l.not {
				if dep != l.who && dep != keeperRules && strings.HasPrefix(dep, bad) {
					t.Errorf("%s depends on %s: %s", l.who, dep, l.why)
				}
			}
		}
	}
	for _, l := range beside {
		for file, f := range parse(t, l.who) {
			for _, i := range f.Imports {
				if path := strings.Trim(i.Path.Value, `"`); strings.HasPrefix(path, l.not) {
					t.Errorf("%s imports %s: %s", file, path, l.why)
				}
			}
		}
	}
}

func TestChecksKnowNoPlans(t *testing.T) {
	if slices.Contains(deps(t, "holdfast/internal/upgrade/check"), "holdfast/internal/upgrade") {
		t.Error("checks judge manifests and facts, not plans: plans follow from what they found")
	}
}

// libvirts begins the paths of the packages of one adapter.
const libvirts = "holdfast/internal/host/libvirt/"

func TestAdaptersKnowNeitherTheCoreNorEachOther(t *testing.T) {
	leaves := []string{"cluster", "cluster/version", "inventory", "inventory/fact", "inventory/manifest", "lib/clock", "lib/database",
		"lib/domainxml", "lib/durable", "lib/fail", "lib/network", "lib/proc", "lib/strictyaml", "lib/text"}
	for _, a := range slices.Sorted(maps.Keys(packages(t))) {
		if !strings.HasPrefix(a, "holdfast/internal/host/") {
			continue
		}
		for _, dep := range deps(t, a) {
			switch {
			case dep == a || strings.HasPrefix(dep, a+"/") || strings.HasPrefix(a, dep+"/"):
			case strings.HasPrefix(a, libvirts) && strings.HasPrefix(dep, libvirts):
			case strings.HasPrefix(dep, "holdfast/internal/host/"):
				t.Errorf("adapter %s depends on adapter %s", a, dep)
			case strings.HasPrefix(dep, "holdfast/") && !slices.Contains(leaves, strings.TrimPrefix(dep, "holdfast/internal/")):
				t.Errorf("adapter %s depends on %s: want internal/cluster and leaves without policy only", a, dep)
			}
		}
	}
}

func TestEveryPackageHasOnePackageComment(t *testing.T) {
	for _, p := range slices.Sorted(maps.Keys(packages(t))) {
		if strings.Contains(p, "/api/v1") {
			continue // generated
		}
		var with []string
		for file, f := range parse(t, p) {
			if f.Doc != nil {
				with = append(with, file)
			}
		}
		if len(with) != 1 {
			t.Errorf("package %s has package comments in %v: want one", p, with)
		}
	}
}

func TestScenariosHaveAReadmeAndAGolden(t *testing.T) {
	dirs, err := os.ReadDir("scenarios")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		for _, f := range []string{"README", "scenario.txt", "want.events"} {
			if _, err := os.Stat(filepath.Join("scenarios", d.Name(), f)); d.IsDir() && err != nil {
				t.Error(err)
			}
		}
	}
}

// renames are the folders whose code may rename without internal/lib/durable, which puts
// the new name on disk, and why.
var renames = map[string]string{
	"internal/lib/durable":            "it is what the others use",
	"internal/host/action/filetree":   "a name that is taken must not be replaced; it syncs the directory itself",
	"internal/host/backup":            "a swap of two names with its own order, which syncs the directory once at its end",
	"internal/host/libvirt/protected": "a note for the next agent on this boot, which need not outlive the kernel",
	"internal/host/watchdog":          "a mark of this boot, by a process that must not wait for a disk",
	"internal/store/etcdstore":        "directories in the middle of a restore, which syncs all of them at its end",
	"internal/lib/proc/supervise":     "records of processes and logs, which need not outlive the kernel",
	"testbed/lab":                     "a laboratory need not outlive the kernel",
	"tools/runtests":                  "logs of a drill that failed need not outlive the kernel",
	"internal/upgrade/bundle":         "it syncs the directory by the descriptor that holds its lock",
	"internal/upgrade/cache":          "one sync after several renames, and its tests stop between them",
	"internal/upgrade/check":          "three names at once: one sync after them",
}

func TestNamesOnDiskAreGivenByOnePackage(t *testing.T) {
	used := map[string]bool{}
	walk(t, func(path, text string) {
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") && strings.Contains(text, "os.Rename"+"(") {
			used[filepath.Dir(path)] = true
		}
	})
	for dir := range used {
		if renames[dir] == "" {
			t.Errorf("%s calls os.Rename: durable.Rename also makes the name last", dir)
		}
	}
	for dir := range renames {
		if !used[dir] {
			t.Errorf("%s renames nothing any more: take it from the list", dir)
		}
	}
}

// wide finds what makes a file or a directory that others may use, by a mode that the umask 077 of the agent's unit cuts.
var wide = regexp.MustCompile(`os\.(Mkdir|MkdirAll|OpenFile|WriteFile)\([^\n]*, 0o[0-7]*([1-7][0-7]|[0-7][1-7])\)`)

// cut are the files that may do so nevertheless, and why.
var cut = map[string]string{
	"internal/host/action/appctl.go":          "it walks the whole with chmod",
	"internal/host/action/program/cgroup.go":  "the helper of a step has the usual umask",
	"internal/host/backup/mariadb/datadir.go": "chmod follows",
	"packaging/files/files.go":                "for who builds packages, who has the usual umask",
}

func TestWhatOthersUseIsMadeWhateverTheUmask(t *testing.T) {
	used := map[string]bool{}
	walk(t, func(path, text string) {
		notOfTheAgent := slices.ContainsFunc([]string{"testbed/", "internal/cli/", "internal/transition/", "tools/",
			"bench/", "e2e/"}, func(p string) bool { return strings.HasPrefix(path, p) })
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || notOfTheAgent {
			return
		}
		if found := wide.FindString(text); found != "" {
			if used[path] = true; cut[path] == "" {
				t.Errorf("%s: %s: the umask of the unit cuts that: durable.MakeDirs, durable.WriteFile and chmod do not ask it", path, found)
			}
		}
	})
	for path := range cut {
		if !used[path] {
			t.Errorf("%s has no such mode any more: take it from the list", path)
		}
	}
}

// inside are the files of what the agent consists of that start a program as it is itself, and why.
var inside = map[string]string{
	"internal/host/action/program/attach.go":   "the helper of a step frees itself",
	"internal/host/action/program/helper.go":   "the helper of a step frees itself",
	"internal/host/action/repack.go":           "it reads a package",
	"internal/host/ceph/ceph.go":               "it asks the cluster",
	"internal/host/facts/gather.go":            "it asks the host",
	"internal/host/libvirt/config.go":          "it asks libvirt",
	"internal/host/process/driver.go":          "the guest of a demonstration is our own program",
	"internal/host/replica/drbd/drbd.go":       "it listens to the kernel",
	"internal/host/replica/mariadb/command.go": "it reads the settings of the server",
	"internal/host/replica/mariadb/crashed.go": "it reads the settings of the server",
	"internal/host/storage/dir.go":             "the probe of a storage is our own program",
	"internal/host/reboot/reboot.go":           "it asks systemd, and must know whether it did",
	"internal/install/onhost/gather.go":        "of an installation, which no unit confines",
	"internal/install/remote/here.go":          "of an installation, which no unit confines",
	"internal/install/remote/login.go":         "of an installation, which no unit confines",
	"internal/pair/group/unit.go":              "it asks systemd",
	"internal/lib/proc/supervise/supervise.go": "our own processes are confined, too",
	"internal/lib/support/host.go":             "it asks the host",
	"internal/lib/proc/foreign.go":             "it is what the others use",
	"internal/lib/proc/tool.go":                "what it runs is small, ends soon and leaves no files",
}

func TestOtherPrograms(t *testing.T) {
	used := map[string]bool{}
	walk(t, func(path, text string) {
		room := slices.ContainsFunc([]string{"internal/agent/", "internal/host/", "internal/install/", "internal/pair/",
			"internal/lib/proc/supervise/", "internal/lib/support/", "internal/lib/proc/", "internal/upgrade/"},
			func(p string) bool { return strings.HasPrefix(path, p) })
		if room && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") &&
			(strings.Contains(text, "exec.Command") || strings.Contains(text, "exec.Cmd{")) {
			if used[path] = true; inside[path] == "" {
				t.Errorf("%s starts a program with the umask and the limits of the agent's unit: use proc.Foreign", path)
			}
		}
	})
	for path := range inside {
		if !used[path] {
			t.Errorf("%s starts no program any more: take it from the list", path)
		}
	}
}

// walk calls f with every text file of ours.
func walk(t *testing.T, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return fs.SkipDir
		}
		switch filepath.Ext(path) {
		case ".go", ".md", ".sh", ".txt":
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f(path, string(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// parse reads the files of a package, tests left out, by name.
func parse(t *testing.T, pkg string) map[string]*ast.File {
	t.Helper()
	out := map[string]*ast.File{}
	dir := "./" + strings.TrimPrefix(strings.TrimPrefix(pkg, "holdfast"), "/")
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	only := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return strings.HasSuffix(n, "_test.go") })
	if len(only) == 0 {
		only = names // a package of tests
	}
	for _, n := range only {
		f, err := parser.ParseFile(token.NewFileSet(), n, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		out[n] = f
	}
	if len(out) == 0 {
		t.Fatalf("package %s has no files", pkg)
	}
	return out
}

// listed is a package of this module, as go knows it.
type listed struct {
	Imports, Deps []string // Deps: with those of imports
}

// tree is what `go list` says of all packages of this module, once.
var tree = sync.OnceValues(func() (map[string]listed, error) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...")
	raw, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	out := map[string]listed{}
	for d := json.NewDecoder(bytes.NewReader(raw)); ; {
		var p struct {
			ImportPath string
			listed
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return nil, err
		}
		out[p.ImportPath] = p.listed
	}
})

// packages are all of this module, by import path.
func packages(t *testing.T) map[string]listed {
	t.Helper()
	all, err := tree()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return all
}

// deps are the packages that one depends on, with itself.
func deps(t *testing.T, pkg string) []string {
	t.Helper()
	p, ok := packages(t)[pkg]
	if !ok {
		t.Fatalf("there is no package %s", pkg)
	}
	return append(slices.Clone(p.Deps), pkg)
}
