package action

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/testbed/need"
)

// newDebian makes a package database of its own below the rig's directory; the
// machine's is not touched.
func newDebian(t *testing.T) *rig {
	t.Helper()
	need.Real(t, need.Root, need.Programs("dpkg", "dpkg", "dpkg-deb", "dpkg-query"))
	r := newRig(t)
	r.host.Tools.Root = filepath.Join(r.root, "debian")
	for _, dir := range []string{"info", "updates", "triggers"} {
		r.write("debian/var/lib/dpkg/"+dir+"/.keep", "", 0o644)
	}
	r.write("debian/var/lib/dpkg/status", "", 0o644)
	r.write("debian/var/log/.keep", "", 0o644)
	r.write("debian/var/cache/apt/archives/.keep", "", 0o644)
	return r
}

// deb builds a package with one file and one configuration file.
func (r *rig) deb(name, version string) string { return r.debOf(name, version, "all", "") }

// debOf builds one of an architecture; more are fields of its control file.
func (r *rig) debOf(name, version, arch, more string) string {
	r.Helper()
	src := fmt.Sprintf("src/%s-%s-%s/", name, version, arch)
	r.write(src+"DEBIAN/control", fmt.Sprintf("Package: %s\nVersion: %s\nArchitecture: %s\n%sMaintainer: nobody "+
		"<nobody@example.org>\nDescription: a test\n", name, version, arch, more), 0o644)
	r.write(src+"DEBIAN/conffiles", "/etc/"+name+".conf\n", 0o644)
	r.write(src+"usr/share/"+name+"/version", version, 0o644)
	r.write(src+"etc/"+name+".conf", "default of "+version, 0o644)
	file := filepath.Join(r.root, fmt.Sprintf("%s_%s_%s.deb", name, strings.ReplaceAll(version, ":", "%3a"), arch))
	if out, err := exec.CommandContext(r.ctx(), "dpkg-deb", "--root-owner-group", "-b", filepath.Join(r.root, src),
		file).CombinedOutput(); err != nil {
		r.Fatalf("%v: %s", err, out)
	}
	return file
}

func (r *rig) copyTo(file, name string) {
	r.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		r.Fatal(err)
	}
	r.write(name, string(data), 0o644)
}

// has returns the version of the package's file on the host.
func (r *rig) has(name string) string { return r.read("debian/usr/share/" + name + "/version") }

func TestDebianPackages(t *testing.T) {
	r := newDebian(t)
	old := r.deb("tiny", "1:1.0")
	r.copyTo(old, "bundle/old.deb")
	r.list("old.deb", 0o644)
	r.do(manifest.Action{Packages: &manifest.Packages{Deb: []string{"old.deb"}}}, "")
	if r.has("tiny") != "1:1.0" {
		t.Fatalf("not installed: %s", r.log.String())
	}
	r.write("debian/etc/tiny.conf", "changed by hand", 0o644)

	r.copyTo(old, "debian/var/cache/apt/archives/"+filepath.Base(old))
	r.copyTo(r.deb("tiny", "1:2.0"), "bundle/a/tiny.deb")
	r.copyTo(r.deb("more", "3.0"), "bundle/a/more.deb")
	r.list("a/tiny.deb", 0o644)
	r.list("a/more.deb", 0o644)
	a := manifest.Action{Packages: &manifest.Packages{Deb: []string{"a/tiny.deb", "a/more.deb"}, RPM: []string{"a/tiny.rpm"}}}
	r.phase = manifest.Backup
	r.steps++
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	r.phase = "install"
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	if r.has("tiny") != "1:2.0" || r.has("more") != "3.0" || r.read("debian/etc/tiny.conf") != "changed by hand" {
		t.Errorf("tiny %q, more %q, conffile %q", r.has("tiny"), r.has("more"), r.read("debian/etc/tiny.conf"))
	}
	r.do(a, "") // again changes nothing

	r.phase = manifest.Rollback
	if err := os.Remove(filepath.Join(r.root, "debian/var/cache/apt/archives", filepath.Base(old))); err != nil {
		t.Fatal(err) // it is kept elsewhere
	}
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	if r.has("tiny") != "1:1.0" || r.has("more") != "" || r.read("debian/etc/tiny.conf") != "changed by hand" {
		t.Errorf("tiny %q, more %q, conffile %q", r.has("tiny"), r.has("more"), r.read("debian/etc/tiny.conf"))
	}
	r.phase = manifest.Commit
	r.do(a, "")
}

func TestABadPackageIsRefused(t *testing.T) {
	r := newDebian(t)
	r.inBundle("bad.deb", "no package", 0o644)
	r.do(manifest.Action{Packages: &manifest.Packages{Deb: []string{"bad.deb"}}}, "is no package that dpkg-deb can read")
	r.write("bundle/bad.deb", "no packagE", 0o644)
	r.do(manifest.Action{Packages: &manifest.Packages{Deb: []string{"bad.deb"}}}, "is not what the manifest says")
	r.do(manifest.Action{Packages: &manifest.Packages{RPM: []string{"x.rpm"}}}, "no package of the bundle fits this host")
	for need, unmet := range map[fact.Need]bool{{RPM: 1}: true, {Deb: 1}: false, {}: false} {
		if why := r.host.Unmet(t.Context(), need, ""); (why != "") != unmet || unmet &&
			!strings.Contains(why, "no package of the bundle fits this host") {
			t.Errorf("%+v: %q", need, why)
		}
	}
}

func TestDpkgLock(t *testing.T) {
	r := newDebian(t)
	r.copyTo(r.deb("tiny", "1"), "bundle/1.deb")
	r.list("1.deb", 0o644)
	a := manifest.Action{Packages: &manifest.Packages{Deb: []string{"1.deb"}}}
	r.host.Tools.LockWait = 300 * time.Millisecond
	free := r.holdLock()
	r.do(a, "the package manager is in use by process")
	r.host.Tools.LockWait = 20 * time.Second
	freed := make(chan error, 1)
	r.change = func(s *Step) {
		s.Attempt = r.attempt(&until{word: "waiting for the package manager", then: func() {
			select {
			case freed <- free():
			default:
			}
		}})
	}
	r.do(a, "")
	if err := <-freed; err != nil {
		t.Error(err)
	}
	if r.has("tiny") != "1" {
		t.Error("not installed")
	}
}

// holdLock lets another process hold dpkg's lock, as apt does.
func (r *rig) holdLock() (free func() error) {
	r.Helper()
	file := r.write("debian/var/lib/dpkg/lock-frontend", "", 0o640)
	cmd := exec.CommandContext(r.ctx(), os.Args[0], "hold", file)
	in, err := cmd.StdinPipe()
	if err != nil {
		r.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	ended := false
	free = func() error {
		if ended {
			return nil
		}
		ended = true
		return errors.Join(in.Close(), cmd.Wait())
	}
	r.Cleanup(func() {
		if err := free(); err != nil {
			r.Error(err)
		}
	})
	if _, err := io.ReadFull(out, make([]byte, 5)); err != nil {
		r.Fatal(err)
	}
	return free
}

// A manager that lost the race for the lock is called again.
func TestDpkgIsCalledAgainWhenAnotherWasFaster(t *testing.T) {
	r := newDebian(t)
	r.copyTo(r.deb("tiny", "1"), "bundle/1.deb")
	r.list("1.deb", 0o644)
	r.tool("dpkg", `[ -e $R/tried ] && exec /usr/bin/dpkg "$@"; touch $R/tried
echo "dpkg: error: dpkg frontend lock was locked by another process with pid 1"; exit 2`)
	a := manifest.Action{Packages: &manifest.Packages{Deb: []string{"1.deb"}}}
	r.do(a, "")
	r.probe(a, program.Done)
	if strings.Count(r.calls(), "dpkg --force-confdef --force-confold --root=") != 2 {
		t.Errorf("calls: %s", r.calls())
	}
}

// dpkg goes on when the agent does not, and what it did is seen on the host.
func TestDpkgOutlivesWhoCalledIt(t *testing.T) {
	r := newDebian(t)
	r.copyTo(r.deb("tiny", "1"), "bundle/1.deb")
	r.list("1.deb", 0o644)
	r.tool("dpkg", `echo begun; until [ -e $R/go ]; do sleep 0.02; done; exec /usr/bin/dpkg "$@"`)
	a := manifest.Action{Packages: &manifest.Packages{Deb: []string{"1.deb"}}}
	ctx, cancel := context.WithCancel(t.Context())
	s := r.step()
	s.Attempt = r.attempt(&until{word: "begun", then: cancel})
	if _, err := r.host.Do(ctx, a, s); !errors.Is(err, program.ErrLeft) {
		t.Fatalf("got %v", err)
	}
	r.probe(a, program.Running)
	r.write("go", "", 0o600)
	s = r.same()
	res, err := s.Attempt.Follow(r.ctx(), r.look(a, s))
	r.judge(res, err, "")
	r.probe(a, program.Done)
	if r.has("tiny") != "1" {
		t.Error("not installed")
	}
}

// An rpm of its own: files that say what they are, and a list of what is there. A digest is that of the
// line.
const fakeRPM = `
old=""; root=$(pwd)
case "$*" in *SIGMD5*) digest() { while read -r l; do echo "$l $(echo "$l" | md5sum | cut -c1-32) (none)"; done; };; *) digest() { cut -d" " -f1-3; };; esac
case $1 in
--version) exit 0;;
-qp) shift 4; digest < "$1"; exit 0;;
-q) shift 3; grep -q "^$1 " $R/installed || { echo "package $1 is not installed"; exit 1; }; grep "^$1 " $R/installed | digest;;
-U|-i) how=$1; shift; for f in "$@"; do case $f in --*) continue;; esac
  read n rest < "$f"; [ $how = -U ] && sed -i "/^$n /d" $R/installed; cat "$f" >> $R/installed; done;;
-e) shift; for p in "$@"; do p=${p%.*}; r=${p##*-}; p=${p%-*}; v=${p##*-}; sed -i "/^${p%-*} .*:$v-$r\$/d" $R/installed; done;;
esac`

func TestRPMPackages(t *testing.T) {
	r := newRig(t)
	r.tool("rpm", fakeRPM)
	r.write("installed", "app x86_64 (none):1.0-1\nkernel x86_64 (none):4.1-1\ntool noarch (none):1-1\n", 0o644)
	r.host.Tools.Root = filepath.Join(r.root, "redhat")
	// The fake does not know --root.
	r.write("redhat/var/cache/dnf/base/packages/app-1.0-1.x86_64.rpm", "app x86_64 (none):1.0-1\n", 0o644)
	r.tool("rpm", `args=(); while [ $# -gt 0 ]; do if [ "$1" = --root ]; then shift 2; else args+=("$1"); shift; fi; done; set -- "${args[@]}"`+fakeRPM)
	r.write("redhat/var/cache/dnf/base/packages/tool-1-1.noarch.rpm", "tool noarch (none):1-1\n", 0o644)
	r.inBundle("tool.rpm", "tool x86_64 (none):2-1\n", 0o644) // takes the place of one without an architecture
	r.inBundle("app.rpm", "app x86_64 (none):2.0-1\n", 0o644)
	r.inBundle("kernel.rpm", "kernel x86_64 (none):4.19-1\n", 0o644)
	r.inBundle("new.rpm", "new noarch 1:7-7\n", 0o644)
	a := manifest.Action{Packages: &manifest.Packages{RPM: []string{"app.rpm", "kernel.rpm", "new.rpm", "tool.rpm"}, Deb: []string{"x.deb"}}}
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	if got, want := r.read("installed"), "kernel x86_64 (none):4.1-1\napp x86_64 (none):2.0-1\nnew noarch "+
		"1:7-7\ntool x86_64 (none):2-1\nkernel x86_64 (none):4.19-1\n"; got != want {
		t.Errorf("installed\n%s\nwant\n%s; log: %s", got, want, r.log.String())
	}
	r.phase = manifest.Rollback
	r.probe(a, program.NotDone)
	r.do(a, "")
	r.probe(a, program.Done)
	if got, want := r.read("installed"), "kernel x86_64 (none):4.1-1\napp x86_64 (none):1.0-1\ntool noarch (none):1-1\n"; got != want {
		t.Errorf("installed\n%s\nwant\n%s; log: %s; calls: %s", got, want, r.log.String(), r.calls())
	}
	if !strings.Contains(r.calls(), "rpm -i --root") && !strings.Contains(r.calls(), "rpm -i --oldpackage") {
		t.Errorf("kernels were upgraded, not added: %s", r.calls())
	}
}

// imageFile is an image as docker saves it.
func imageFile(t *testing.T, tag, config string, zip bool) string {
	t.Helper()
	var b bytes.Buffer
	var w io.Writer = &b
	z := gzip.NewWriter(&b)
	if zip {
		w = z
	}
	text := fmt.Sprintf(`[{"Config":%q,"RepoTags":[%q],"Layers":[]}]`, config, tag)
	tw := tar.NewWriter(w)
	for name, body := range map[string]string{"layer.tar": "x", "manifest.json": text} {
		err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(body)), Mode: 0o644})
		if _, werr := io.WriteString(tw, body); errors.Join(err, werr) != nil {
			t.Fatal(err, werr)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if zip {
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func TestImage(t *testing.T) {
	const tag = "registry.example.org:5000/app:2"
	for _, engine := range []string{"docker", "podman", "nerdctl", "ctr"} {
		t.Run(engine, func(t *testing.T) {
			r := newRig(t)
			r.host.Tools.Path = filepath.Join(r.root, "tools") + ":/usr/bin:/bin"
			r.inBundle("app.tar", imageFile(t, tag, "blobs/sha256/abcdef", engine == "podman"), 0o644)
			a := manifest.Action{Image: &manifest.Image{File: "app.tar", Tag: tag}}
			r.do(a, "none of docker, podman, nerdctl, ctr is on this host")
			r.tool(engine, `while [ "${1:0:2}" = -- ]; do shift 2; done
case "$1 $2" in
"load -i"|"images import") touch $R/loaded;;
"image inspect") [ -e $R/loaded ] && echo sha256:abcdef || exit 1;;
"images ls") [ -e $R/loaded ] && echo `+tag+`; exit 0;;
*) exit 9;;
esac`)
			r.host.Tools.Namespace = "k8s.io"
			r.probe(a, program.NotDone)
			r.do(a, "")
			want := program.Done
			if engine == "ctr" {
				want = program.NotDone // it can not be compared, and is loaded again
			}
			r.probe(a, want)
			if space := strings.Contains(r.calls(), engine+" --namespace k8s.io "); space != (engine == "nerdctl" || engine == "ctr") {
				t.Errorf("calls: %s", r.calls())
			}
		})
	}
}

func TestImageThatIsNotInItsFile(t *testing.T) {
	r := newRig(t)
	r.inBundle("app.tar", imageFile(t, "other:1", "abc.json", false), 0o644)
	r.tool("docker", `[ "$1" = load ]`)
	r.do(manifest.Action{Image: &manifest.Image{File: "app.tar", Tag: "app:2"}}, "there is no image app:2 in it")
	file := filepath.Join(r.bundle.Dir, "app.tar")
	if got, err := digest(t.Context(), file, "other:1"); got != "abc" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := digest(t.Context(), file, "app:2"); err == nil {
		t.Error("found an image that is not there")
	}
}

// A file of the bundle that is damaged, or gone, is no reason not to know: the
// image is loaded once more, and that refuses the file.
func TestImageWhoseFileIsDamagedIsNotDone(t *testing.T) {
	r := newRig(t)
	r.inBundle("app.tar", imageFile(t, "app:2", "abc.json", false), 0o644)
	r.tool("docker", `[ "$1" = load ] || echo sha256:abc`)
	a := manifest.Action{Image: &manifest.Image{File: "app.tar", Tag: "app:2"}}
	r.do(a, "")
	r.probe(a, program.Done)
	r.write("bundle/app.tar", "x", 0o644)
	r.probe(a, program.NotDone)
	if err := os.Remove(filepath.Join(r.bundle.Dir, "app.tar")); err != nil {
		t.Fatal(err)
	}
	r.probe(a, program.NotDone)
	r.do(a, "app.tar")
}

func TestImageIsNotReadBeyondItsTime(t *testing.T) {
	r := newRig(t)
	r.inBundle("app.tar", imageFile(t, "app:2", "abc.json", false), 0o644)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := digest(ctx, filepath.Join(r.bundle.Dir, "app.tar"), "app:2"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was given up", err)
	}
}
