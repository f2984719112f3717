package action

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
	"holdfast/testbed/need"
)

// tree tells all that the rig's host has below a directory: modes, owners, links, contents.
func (r *rig) tree(dir string) string {
	r.Helper()
	var b strings.Builder
	root := filepath.Join(r.root, "debian", dir)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		var stat unix.Stat_t
		text := ""
		switch st.Mode().Type() {
		case 0:
			data, rerr := os.ReadFile(path)
			text, err = string(data), rerr
		case fs.ModeSymlink:
			text, err = os.Readlink(path)
		}
		fmt.Fprintf(&b, "%s %s %q", strings.TrimPrefix(path, root), st.Mode(), text)
		err = errors.Join(err, unix.Lstat(path, &stat))
		fmt.Fprintf(&b, " %d:%d\n", stat.Uid, stat.Gid)
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
	return b.String()
}

// rich builds a package with files of many kinds; later versions lack some of them.
func (r *rig) rich(version string) string {
	r.Helper()
	src := "src/rich-" + version + "-all/"
	r.write(src+"usr/lib/rich/tool", "tool "+version, 0o755)
	if version == "1" {
		r.write(src+"usr/lib/rich/super", "super", 0o755)
		if err := errors.Join(os.Chmod(filepath.Join(r.root, src+"usr/lib/rich/super"), 0o755|fs.ModeSetuid),
			os.Symlink("tool", filepath.Join(r.root, src+"usr/lib/rich/link")),
			os.Symlink("/nowhere", filepath.Join(r.root, src+"usr/lib/rich/dangling")),
			os.MkdirAll(filepath.Join(r.root, src+"var/lib/rich/empty"), 0o700)); err != nil {
			r.Fatal(err)
		}
		r.write(src+"usr/lib/rich/"+strings.Repeat("long", 40)+"/"+strings.Repeat("name", 40), "", 0o644)
		r.write(src+"usr/lib/rich/with space", "x", 0o600)
	}
	return r.deb("rich", version)
}

// A package that no cache and no repository has is made of what is installed, and the way back leads
// to what was there, byte by byte, with what was changed by hand.
func TestPackageThatNobodyHasComesBack(t *testing.T) {
	r := newDebian(t)
	r.dpkg("--install", r.rich("1"))
	r.write("debian/etc/rich.conf", "changed by hand", 0o644)
	r.write("debian/usr/lib/rich/tool", "mended by hand", 0o755)
	if err := errors.Join(os.Remove(filepath.Join(r.root, "debian/usr/share/rich/version")),
		os.Chown(filepath.Join(r.root, "debian/usr/lib/rich/with space"), 12, 34)); err != nil {
		t.Fatal(err)
	}
	was, had := r.tree("usr")+r.tree("etc")+r.tree("var/lib/rich"), r.packages()
	a := r.bundled(r.rich("2"), r.deb("more", "1"))
	for _, r.phase = range []manifest.Phase{manifest.PreCheck, manifest.Backup, "install"} {
		r.do(a, "")
		if now := r.packages(); r.phase != "install" && now != had {
			t.Fatalf("%s has changed\n%s", r.phase, now)
		}
	}
	r.probe(a, program.Done)
	if now := r.tree("usr"); strings.Contains(now, "super") || !strings.Contains(now, "tool 2") {
		t.Fatalf("installed\n%s", now)
	}
	r.phase = manifest.Rollback
	r.do(a, "")
	r.probe(a, program.Done)
	if now := r.tree("usr") + r.tree("etc") + r.tree("var/lib/rich"); withoutLeftovers(now) != was {
		t.Errorf("came back\n%s\nwant\n%s", now, was)
	}
}

// withoutLeftovers is a tree without what dpkg itself leaves: the configuration of a package that was
// removed, and that of the new version beside one that was changed by hand.
func withoutLeftovers(tree string) string {
	var b strings.Builder
	for line := range strings.Lines(tree) {
		if !strings.HasPrefix(line, "/more.conf ") && !strings.Contains(line, ".dpkg-dist ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// A file in the cache with the right name, version and architecture, and other contents, is not what is
// installed.
func TestAnotherBuildInTheCacheIsNotKept(t *testing.T) {
	r := newDebian(t)
	r.dpkg("--install", r.deb("tiny", "1"))
	r.write("src/tiny-1-all/usr/share/tiny/more", "of another build", 0o644)
	was := r.tree("usr")
	for name, change := range map[string]func(){
		"other contents": func() { r.write("src/tiny-1-all/usr/share/tiny/.keep", "", 0o644) },
		"other script":   func() { r.write("src/tiny-1-all/DEBIAN/prerm", "#!/bin/sh\nexit 1\n", 0o755) },
	} {
		change()
		src := filepath.Join(r.root, "src/tiny-1-all")
		if name == "other contents" {
			r.write("src/tiny-1-all/usr/share/tiny/version", "1, built again", 0o644)
		}
		file := filepath.Join(r.root, "tiny_1_all.deb")
		if out, err := exec.CommandContext(r.ctx(), "dpkg-deb", "--root-owner-group", "-b", src, file).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		r.cached(file)
		d := dpkg{r.host}
		err := d.same(r.ctx(), filepath.Join(r.root, "debian/var/cache/apt/archives/tiny_1_all.deb"), pkg{Name: "tiny", Arch: "all", Was: "1"})
		if err == nil || !strings.Contains(err.Error(), "has another") {
			t.Errorf("%s: %v", name, err)
		}
		r.write("src/tiny-1-all/usr/share/tiny/version", "1", 0o644)
	}
	a := r.bundled(r.deb("tiny", "2"))
	r.do(a, "")
	r.phase = manifest.Rollback
	r.do(a, "")
	if now := r.tree("usr"); now != was {
		t.Errorf("came back\n%s\nwant\n%s", now, was)
	}
}

// What can not be had is refused by its name before anything is changed, in each phase; a module that can
// not be rolled back needs nothing of it.
func TestPackageThatCanNotBeKeptIsRefused(t *testing.T) {
	need.Drill(t, "P4: a package that can not be kept for the way back is refused before anything is changed")
	r := newDebian(t)
	r.dpkg("--install", r.deb("tiny", "1"), r.deb("other", "1"))
	for _, name := range []string{"tiny", "other"} {
		file := filepath.Join(r.root, "debian/usr/share", name, "version")
		if err := errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	had := r.packages()
	a := r.bundled(r.deb("tiny", "2"), r.deb("other", "2"))
	for _, r.phase = range []manifest.Phase{manifest.PreCheck, manifest.Backup, "install"} {
		r.do(a, "a rollback could not bring package tiny 1 back, so it is not replaced: put its file into the cache "+
			"of the package manager as "+r.root+"/debian/var/cache/apt/archives/tiny_1_all.deb")
		r.do(a, "a rollback could not bring package other 1 back")
		r.do(a, "/usr/share/tiny/version is no file, directory or link")
		if now := r.packages(); now != had {
			t.Fatalf("%s has changed\n%s", r.phase, now)
		}
	}
	r.cached(r.deb("tiny", "1")) // as it says
	r.cached(r.deb("other", "1"))
	r.phase = manifest.PreCheck
	r.do(a, "")
	for _, name := range []string{"tiny", "other"} {
		if err := os.Remove(filepath.Join(r.root, "debian/var/cache/apt/archives", name+"_1_all.deb")); err != nil {
			t.Fatal(err)
		}
	}
	r.phase = "install" // of what was kept
	r.do(a, "")

	r = newDebian(t)
	r.dpkg("--install", r.deb("tiny", "1"))
	file := filepath.Join(r.root, "debian/usr/share/tiny/version")
	if err := errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)); err != nil {
		t.Fatal(err)
	}
	a = r.bundled(r.deb("tiny", "2"))
	r.change = func(s *Step) { s.NoWayBack = true }
	r.do(a, "")
	if r.has("tiny") != "2" {
		t.Error("not installed")
	}
}

// Packages of this machine, with scripts, configuration, diversions and modes, are made again from what is
// installed: dpkg reads them, and installs one without scripts elsewhere. Nothing here is changed.
func TestRealPackagesAreMadeAgain(t *testing.T) {
	need.Real(t, need.Root, need.Programs("dpkg", "dpkg", "dpkg-deb", "dpkg-query"))
	r := newRig(t)
	d := dpkg{r.host}
	done := 0
	for _, name := range []string{"hostname", "sed", "sudo", "zlib1g", "iputils-ping", "dash", "base-files", "linux-perf"} {
		have, err := d.there(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if len(have) == 0 {
			continue
		}
		x := pkg{Name: name, Arch: have[0].Arch, Was: have[0].Version, Version: "new"}
		file := filepath.Join(r.root, name+".deb")
		if err := d.again(t.Context(), x, file); err != nil {
			t.Fatal(err)
		}
		done++
		if got, err := d.info(t.Context(), file); err != nil || got.Name != name || got.Version != x.Was ||
			got.Arch != x.Arch || got.same != have[0].Same {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		db, err := d.installed(t.Context(), x)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-c", file).CombinedOutput()
		if lines := strings.Count(string(out), "\n"); err != nil || lines == 0 || lines > len(db.list) {
			t.Errorf("%s: %v, %d of %d names", name, err, lines, len(db.list))
		}
		if name == "sudo" && !strings.Contains(string(out), "-rwsr-xr-x root/root") && !strings.Contains(string(out), "-rwsr-xr-x 0/0") {
			t.Errorf("sudo has lost its mode:\n%s", out)
		}
		if name == "hostname" {
			scratch := newDebian(t)
			scratch.dpkg("--force-depends", "--install", file)
			was, err := os.ReadFile("/bin/hostname")
			if err != nil || scratch.read("debian/bin/hostname") != string(was) || !strings.Contains(scratch.packages(), x.Was+" installed") {
				t.Errorf("hostname elsewhere: %v\n%s", err, scratch.packages())
			}
		}
	}
	if done < 3 {
		t.Errorf("only %d packages were tried", done)
	}
}

// rpm can not make packages again: what the cache does not have is fetched, or refused by its name.
func TestRPMThatIsNotInTheCache(t *testing.T) {
	r := newRig(t)
	r.tool("rpm", fakeRPM)
	r.write("installed", "app x86_64 (none):1.0-1\n", 0o644)
	r.tool("rpm", `args=(); while [ $# -gt 0 ]; do if [ "$1" = --root ]; then shift 2; else args+=("$1"); shift; fi; done; set -- "${args[@]}"`+fakeRPM)
	r.host.Tools.Root = filepath.Join(r.root, "redhat")
	r.inBundle("app.rpm", "app x86_64 (none):2.0-1\n", 0o644)
	a := manifest.Action{Packages: &manifest.Packages{RPM: []string{"app.rpm"}}}
	refused := "a rollback could not bring package app 1.0-1 back, so it is not replaced: put its file into the " +
		"cache of the package manager as " + r.root + "/redhat/var/cache/dnf/app-1.0-1.x86_64.rpm"
	r.phase = manifest.PreCheck
	r.do(a, refused)
	r.tool("dnf", `echo "No package app available"; exit 1`)
	r.do(a, refused)
	r.do(a, "No package app available")
	other := `echo "app x86_64 (none):1.0-1 rebuilt" > "$4/$5.rpm"`
	r.tool("dnf", other)
	r.do(a, "is another build than the one that is installed")
	r.phase = "install"
	r.do(a, "is another build")
	if r.read("installed") != "app x86_64 (none):1.0-1\n" {
		t.Fatal("changed")
	}
	r.tool("dnf", `[ "$1 $2 $3" = "-y download --destdir" ] && echo "app x86_64 (none):1.0-1" > "$4/$5.rpm"`)
	r.do(a, "")
	r.phase = manifest.Rollback
	r.do(a, "")
	if r.read("installed") != "app x86_64 (none):1.0-1\n" {
		t.Errorf("installed %s", r.read("installed"))
	}
}
