package action

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/testbed/need"
)

// dpkg runs dpkg as an operator of the rig's host does. It may fail.
func (r *rig) dpkg(args ...string) string {
	r.Helper()
	d := dpkg{r.host}
	argv := d.command(args...)
	out, err := exec.CommandContext(r.ctx(), argv[0], argv[1:]...).CombinedOutput()
	r.Logf("dpkg %s: %v\n%s", strings.Join(args, " "), err, out)
	return string(out)
}

// packages tells all that the rig's host has, one in a line: name, architecture,
// version, state and selection.
func (r *rig) packages() string {
	r.Helper()
	d := dpkg{r.host}
	out, err := exec.CommandContext(r.ctx(), "dpkg-query", "--admindir="+d.database(), "-W", "-f",
		"${Package}:${Architecture} ${Version} ${db:Status-Status} ${db:Status-Want}\n").CombinedOutput()
	if err != nil {
		r.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// architectures: native is dpkg's own one, foreign another one that the rig's host knows.
func (r *rig) architectures() (native, foreign string) {
	r.Helper()
	out, err := exec.CommandContext(r.ctx(), "dpkg", "--print-architecture").Output()
	if err != nil {
		r.Fatal(err)
	}
	native, foreign = strings.TrimSpace(string(out)), "i386"
	if native == foreign {
		foreign = "amd64"
	}
	r.dpkg("--add-architecture", foreign)
	return native, foreign
}

// bundled puts packages into the bundle, and gives the action that installs them.
func (r *rig) bundled(files ...string) manifest.Action {
	r.Helper()
	p := &manifest.Packages{}
	for _, f := range files {
		name := "a/" + filepath.Base(f)
		r.copyTo(f, "bundle/"+name)
		r.list(name, 0o644)
		p.Deb = append(p.Deb, name)
	}
	return manifest.Action{Packages: p}
}

// cached puts a package into apt's cache.
func (r *rig) cached(file string) {
	r.copyTo(file, "debian/var/cache/apt/archives/"+filepath.Base(file))
}

// What could not be brought back is refused before anything is changed, and taken
// when it was mended.
func TestPackagesThatAreNotPlainAreRefused(t *testing.T) {
	need.Drill(t, "P4: packages of dpkg that could not be brought back are refused before anything is changed")
	for name, c := range map[string]struct {
		state string // of tiny 1, as its status file has it
		why   string
	}{
		"unpacked": {"install ok unpacked", "package tiny:all 1 is unpacked: a rollback could not bring it " +
			"back like that. Repair it first: dpkg --configure -a"},
		"half configured": {"install ok half-configured", "tiny:all 1 is half-configured"},
		"trigger":         {"install ok triggers-pending\nTriggers-Pending: x", "tiny:all 1 is triggers-pending"},
		"half installed": {"install ok half-installed",
			"tiny:all 1 is half-installed: a rollback could not bring it back like that. Repair it first: apt-get install --reinstall tiny"},
		"to reinstall": {"install reinstreq half-configured", "tiny:all 1 is to be reinstalled"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newDebian(t)
			old := r.deb("tiny", "1")
			r.dpkg("--install", old)
			r.cached(old)
			good := r.read("debian/var/lib/dpkg/status")
			r.write("debian/var/lib/dpkg/status", strings.Replace(good, "install ok installed", c.state, 1), 0o644)
			was := r.packages()
			a := r.bundled(r.deb("more", "3"), r.deb("tiny", "2"))
			for _, r.phase = range []manifest.Phase{manifest.Backup, "install"} {
				r.do(a, c.why)
				r.probe(a, program.NotDone)
			}
			if got := r.packages(); got != was || r.has("tiny") != "1" || r.has("more") != "" {
				t.Errorf("changed:\n%s\nwant\n%s", got, was)
			}
			r.write("debian/var/lib/dpkg/status", good, 0o644)
			r.do(a, "")
			r.phase = manifest.Rollback
			r.do(a, "")
			if got := r.packages(); !strings.Contains(got, "tiny:all 1 installed install\n") || strings.Contains(got, "more:all 3 installed") {
				t.Errorf("after the way back:\n%s", got)
			}
		})
	}
}

// All packages that are not plain are told at once.
func TestAllPackagesThatAreNotPlainAreTold(t *testing.T) {
	need.Drill(t, "P7: all packages that are not plain are told at once")
	r := newDebian(t)
	r.dpkg("--unpack", r.deb("one", "1"), r.deb("two", "1"))
	a := r.bundled(r.deb("one", "2"), r.deb("two", "2"))
	for _, r.phase = range []manifest.Phase{manifest.PreCheck, "install"} {
		r.do(a, "package one:all 1 is unpacked: a rollback could not bring it back like that. Repair it first: dpkg "+
			"--configure -a\npackage two:all 1 is unpacked")
	}
	r.dpkg("--configure", "-a")
	was := r.packages()
	r.phase = manifest.PreCheck
	r.do(a, "")
	r.probe(a, program.NotDone)
	if got := r.packages(); got != was {
		t.Errorf("the look has changed:\n%s\nwant\n%s", got, was)
	}
	r.phase = manifest.Rollback
	r.do(a, "there is no record of packages that this run has installed on this host: if none was, skip this step")
	r.phase = "install"
	r.do(a, "")
}

// A package that replaces the same of another architecture gives way to it again.
func TestPackageOfAnotherArchitectureComesBack(t *testing.T) {
	need.Drill(t, "P4: a package that replaces the same of another architecture gives way to it again")
	for _, c := range []struct{ name, from, to, version string }{
		{"all to native", "all", "native", "2"}, {"native to all", "native", "all", "2"}, {"same version", "all", "native", "1"},
		{"foreign to native", "foreign", "native", "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newDebian(t)
			native, foreign := r.architectures()
			arch := map[string]string{"all": "all", "native": native, "foreign": foreign}
			old := r.debOf("tiny", "1", arch[c.from], "")
			r.dpkg("--install", old)
			r.cached(old)
			a := r.bundled(r.debOf("tiny", c.version, arch[c.to], ""))
			was := r.packages()
			r.phase = manifest.Backup
			r.do(a, "")
			r.phase = "install"
			r.probe(a, program.NotDone)
			r.do(a, "")
			r.probe(a, program.Done)
			if got, want := r.packages(), "tiny:"+arch[c.to]+" "+c.version+" installed install\n"; got != want {
				t.Errorf("installed:\n%s\nwant\n%s", got, want)
			}
			r.phase = manifest.Rollback
			r.probe(a, program.NotDone)
			r.do(a, "")
			r.probe(a, program.Done)
			if got := r.packages(); got != was {
				t.Errorf("after the way back:\n%s\nwant\n%s", got, was)
			}
		})
	}
}

// A package that is kept no more is not removed, whatever its architecture.
func TestPackageOfAnotherArchitectureIsNotRemoved(t *testing.T) {
	need.Drill(t, "P4: a package that was not kept is not removed, whatever its architecture")
	r := newDebian(t)
	native, _ := r.architectures()
	r.dpkg("--install", r.debOf("tiny", "1", "all", ""))
	a := r.bundled(r.debOf("tiny", "2", native, ""))
	r.do(a, "")
	r.write("backup/packages/tiny_1_all.deb", "damaged", 0o600)
	r.phase = manifest.Rollback
	r.do(a, "tiny 1 of all can not be brought back")
	if got, want := r.packages(), "tiny:"+native+" 2 installed install\n"; got != want {
		t.Errorf("has\n%s\nwant\n%s", got, want)
	}
}

// Packages that live beside the same of another architecture come and go without it.
func TestPackagesOfTwoArchitectures(t *testing.T) {
	need.Drill(t, "P4: packages that live beside the same of another architecture come and go without it")
	const same = "Multi-Arch: same\n"
	r := newDebian(t)
	native, foreign := r.architectures()
	lib := func(version, arch string) string { return r.debOf("lib", version, arch, same) }
	r.dpkg("--install", lib("1", foreign))
	was := r.packages()
	r.do(r.bundled(lib("2", native)), "package lib:"+foreign+" 1 is installed beside "+
		native+", and dpkg wants both in one version: remove it first (dpkg --remove lib:"+foreign+"), or put lib:"+foreign+" 2 into the bundle")
	a := r.bundled(lib("1", native))
	r.do(a, "")
	r.probe(a, program.Done)
	r.phase = manifest.Rollback
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	// What was removed leaves its configuration behind.
	if got := r.packages(); !strings.Contains(got, was) || strings.Count(got, " installed ") != 1 {
		t.Errorf("after the way back:\n%s\nwant\n%s", got, was)
	}

	r.dpkg("--install", lib("1", native))
	r.cached(lib("1", native))
	r.cached(lib("1", foreign))
	was = r.packages()
	r.phase = "install"
	both := r.bundled(lib("2", native), lib("2", foreign))
	r.do(both, "")
	if got := r.packages(); strings.Count(got, " 2 installed ") != 2 {
		t.Errorf("both:\n%s", got)
	}
	r.phase = manifest.Rollback
	r.do(both, "")
	r.probe(both, program.Done)
	if got := r.packages(); got != was {
		t.Errorf("both, after the way back:\n%s\nwant\n%s", got, was)
	}
}

// A package that is on hold stays so, there and back, also when its architecture
// changes.
func TestHoldsAreKept(t *testing.T) {
	need.Drill(t, "P4: packages on hold stay so, there and back")
	r := newDebian(t)
	native, _ := r.architectures()
	old, cross := r.deb("tiny", "1"), r.deb("cross", "1")
	r.dpkg("--install", old, cross, r.deb("free", "1"))
	for _, f := range []string{old, cross, r.deb("free", "1")} {
		r.cached(f)
	}
	r.mark(pkg{Name: "tiny", Arch: "all", Mark: "hold"}, pkg{Name: "cross", Arch: "all", Mark: "hold"})
	was := r.packages()
	if strings.Count(was, " hold\n") != 2 {
		t.Fatalf("before:\n%s", was)
	}
	a := r.bundled(r.deb("tiny", "2"), r.debOf("cross", "2", native, ""), r.deb("free", "2"))
	r.do(a, "")
	r.probe(a, program.Done)
	want := "cross:" + native + " 2 installed hold\nfree:all 2 installed install\ntiny:all 2 installed hold\n"
	if got := r.packages(); got != want {
		t.Errorf("installed:\n%s\nwant\n%s", got, want)
	}
	r.mark(pkg{Name: "tiny", Arch: "all", Mark: "install"}) // as if the agent had died before it put it on hold again
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	r.phase = manifest.Rollback
	r.do(a, "")
	r.probe(a, program.Done)
	if got := r.packages(); got != was {
		t.Errorf("after the way back:\n%s\nwant\n%s", got, was)
	}
}

// mark gives packages dpkg's selections.
func (r *rig) mark(ps ...pkg) {
	r.Helper()
	d := dpkg{r.host}
	for _, argv := range d.marks(ps, false) {
		if out, err := exec.CommandContext(r.ctx(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
			r.Fatalf("%v: %s", err, out)
		}
	}
}

// A package that dpkg could not set up is neither installed nor gone, and goes again.
func TestPackageWhoseSetUpFails(t *testing.T) {
	need.Drill(t, "P4: a package that dpkg could not set up goes again")
	r := newDebian(t)
	old := r.deb("tiny", "1")
	r.dpkg("--install", old)
	r.cached(old)
	for _, name := range []string{"tiny", "more"} {
		r.write("src/"+name+"-2-all/DEBIAN/postinst", "#!/bin/sh\nexit 1\n", 0o755)
	}
	a := r.bundled(r.deb("tiny", "2"), r.deb("more", "2"))
	r.do(a, "exit code 1")
	r.probe(a, program.NotDone)
	if got := r.packages(); strings.Count(got, " 2 half-configured ") != 2 {
		t.Fatalf("installed:\n%s", got)
	}
	r.do(a, "exit code 1") // what was recorded before the first try counts
	r.phase = manifest.Rollback
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	if got := r.packages(); !strings.Contains(got, "tiny:all 1 installed install\n") ||
		strings.Contains(got, "half-configured") || r.has("more") != "" {
		t.Errorf("after the way back:\n%s", got)
	}
}
