package e2e

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/host/action/program"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// Versions of the made-up platform.
const (
	platformOld = "1.0"
	platformNew = "1.1"
)

// failPostCheck is a file that makes the check of the module base fail on the
// host that has it.
const failPostCheck = "fail-post-check"

// releaseKey is a pair of keys for bundles: files.
type releaseKey struct{ secret, public string }

// here runs the program on this machine, outside of the laboratory.
func here(t testing.TB, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), theProgram, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("holdfast %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// newKey makes a pair of keys that needs no password.
func newKey(t testing.TB) releaseKey {
	t.Helper()
	name := filepath.Join(t.TempDir(), "release")
	here(t, "bundle", "keygen", name, "--no-password")
	return releaseKey{name + ".key", name + ".pub"}
}

// copied copies a folder of testdata, with values in place of @WORDS@ in one of
// its files.
func copied(t testing.TB, name, file string, values ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", name))); err != nil {
		t.Fatal(err)
	}
	f := filepath.Join(dir, file)
	writeFile(t, f, filled(t, f, values...))
	return dir
}

// filled reads a file with values in place of @WORDS@.
func filled(t testing.TB, file string, values ...string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := strings.NewReplacer(values...).Replace(string(text))
	if strings.Contains(out, "@") {
		t.Fatalf("%s: a word is left: %s", file, out)
	}
	return out
}

func writeFile(t testing.TB, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// makeDeb makes the Debian package NAME_VERSION_all.deb of files by their absolute
// paths, in dir, and returns its file. What lies in /etc is configuration.
func makeDeb(t testing.TB, dir, name, version string, files map[string]string) string {
	t.Helper()
	tree := t.TempDir()
	var conffiles strings.Builder
	for f, text := range files {
		writeFile(t, filepath.Join(tree, f), text)
		if strings.HasPrefix(f, "/etc/") {
			conffiles.WriteString(f + "\n")
		}
	}
	writeFile(t, filepath.Join(tree, "DEBIAN/control"), "Package: "+name+"\nVersion: "+version+
		"\nArchitecture: all\nMaintainer: Holdfast <nobody@example.org>\nDescription: "+name+" for a drill\n")
	writeFile(t, filepath.Join(tree, "DEBIAN/conffiles"), conffiles.String())
	deb := filepath.Join(dir, name+"_"+version+"_all.deb")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--build", "--root-owner-group", tree, deb).CombinedOutput()
	if err != nil {
		t.Fatalf("build %s: %v: %s", deb, err, out)
	}
	return deb
}

// platformBase makes the package of the module base.
func platformBase(t testing.TB, dir, version string) string {
	return makeDeb(t, dir, "platform-base", version, map[string]string{
		"/usr/share/platform/VERSION": "Version: " + version + "\n", // as checks read it
		"/etc/platform/base.conf":     "version = " + version + "\n",
	})
}

// platformBundle builds the bundle platform, which takes hosts from platformOld to
// platformNew, and returns its file.
func platformBundle(t testing.TB, key releaseKey, reboot bool) string {
	t.Helper()
	word := map[bool]string{true: "true", false: "false"}[reboot]
	dir := copied(t, "platform", "manifest.yaml", "@REBOOT@", word)
	platformBase(t, filepath.Join(dir, "base"), platformNew)
	return build(t, dir, key)
}

// build builds the bundle of a folder, and returns its file.
func build(t testing.TB, dir string, key releaseKey) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), filepath.Base(dir)+".hfb")
	here(t, "bundle", "build", dir, "-o", file, "--key", key.secret)
	return file
}

// giveCredentials lets the agent of a host answer the prompts of the appctl package,
// until the end of the test.
func (r *rig) giveCredentials(t testing.TB, h string) {
	t.Helper()
	file := r.lab.HostPath(h, filepath.Base(lab.CredentialsFile))
	if err := os.WriteFile(file, []byte(appctlCredentials), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Error(err)
		}
	})
	if _, err := program.ReadCredentials(file); err != nil {
		t.Fatal(err)
	}
}

// packTar packs a folder as tar does, with directories, below a prefix.
func packTar(file, dir, prefix string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(f)
	w := tar.NewWriter(z)
	defer func() { err = errors.Join(err, w.Close(), z.Close(), f.Close()) }()
	return fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		h, err := tar.FileInfoHeader(info, "")
		if err != nil {
			return err
		}
		h.Name = path.Join(prefix, name)
		if d.IsDir() {
			h.Name += "/"
			return w.WriteHeader(h)
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	})
}

// everywhere does something on all hosts at once.
func (r *rig) everywhere(t testing.TB, what string, do func(ctx context.Context, h string) error) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	var wg sync.WaitGroup
	for _, h := range r.lab.Hosts() {
		wg.Go(func() {
			if err := do(ctx, h); err != nil {
				t.Errorf("%s on %s: %v", what, h, err)
			}
		})
	}
	if wg.Wait(); t.Failed() {
		t.FailNow()
	}
}

// script runs a script on a host.
func (r *rig) script(ctx context.Context, h, text string, args ...string) (string, error) {
	return r.lab.Exec(ctx, h, append([]string{"bash", "-euc", text, "script"}, args...)...)
}

// give copies files into a folder of the host's disk, new, and returns the folder
// as the host sees it.
func (r *rig) give(h, name string, files ...string) (string, error) {
	dir := r.lab.HostPath(h, name)
	err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755))
	for _, f := range files {
		text, rerr := os.ReadFile(f)
		info, serr := os.Stat(f)
		if err = errors.Join(err, rerr, serr); err != nil {
			return "", err
		}
		err = os.WriteFile(filepath.Join(dir, filepath.Base(f)), text, info.Mode().Perm())
	}
	return path.Join(lab.HostDir, name), err
}

// installDeb installs a package as apt would: its file stays in apt's cache.
const installDeb = `
dpkg --force-confnew -i "$1"
cp "$1" /var/cache/apt/archives/
`

// installPlatform brings every host to platformOld, whatever it has.
func (r *rig) installPlatform(t testing.TB) {
	t.Helper()
	deb := platformBase(t, t.TempDir(), platformOld)
	r.everywhere(t, "install the platform", func(ctx context.Context, h string) error {
		dir, err := r.give(h, "platform-"+platformOld, deb, "testdata/platform/agentd/ctl.sh", "testdata/platform/agentd/agentd")
		if err != nil {
			return err
		}
		_, err = r.script(ctx, h, installDeb+`
			rm -rf /opt/platform "/srv/host/$4"
			mkdir -p /opt/platform/web
			echo "$3" >/opt/platform/web/version
			"$2/ctl.sh" stop
			rm -rf /srv/host/platform
			"$2/ctl.sh" install "$3"
			"$2/ctl.sh" start`, path.Join(dir, filepath.Base(deb)), dir, platformOld, failPostCheck)
		return err
	})
}

// platformOn says what a host has of the platform: the versions of base, web and
// agentd, and whether the last one runs.
func (r *rig) platformOn(ctx context.Context, h string) (string, error) {
	out, err := r.script(ctx, h, `
		echo "base $(dpkg-query -W -f '${Version}' platform-base)"
		echo "web $(cat /opt/platform/web/version)"
		echo "agentd $(cat /srv/host/platform/agentd/version)"
		tr '\0' ' ' <"/proc/$(cat /srv/host/platform/agentd/pid)/cmdline" | grep -q agentd && echo runs || echo stopped`)
	return strings.Join(strings.Fields(out), " "), err
}

// whole is what platformOn says of a host that has one version of everything.
func whole(version string) string {
	return "base " + version + " web " + version + " agentd " + version + " runs"
}

// spent takes the laboratory down at the end of a test when it failed, or always:
// its cluster may be half upgraded then, or is of another version. The next test
// begins with a new one.
func (r *rig) spent(t testing.TB, always bool) {
	t.Cleanup(func() {
		if theRig != r || !t.Failed() && !always {
			return
		}
		theRig = nil
		r.failed = r.failed || t.Failed() && !damaged(t)
		if err := r.down(); err != nil {
			t.Error(err)
		}
	})
}

// TestBundlesOfTheDrillsBuild builds every bundle that the drills use, and lets the
// program verify them.
func TestBundlesOfTheDrillsBuild(t *testing.T) {
	need.Real(t, built, need.Programs("dpkg", "dpkg-deb"))
	key := newKey(t)
	engine, signature := appctlBundle(t, key, appctlPackage(t))
	for file, want := range map[string]string{
		platformBundle(t, key, false): "platform 1.1",
		platformBundle(t, key, true):  "platform 1.1",
		galeraBundle(t, key):          "dbcluster 2.0",
	} {
		if out := here(t, "bundle", "verify", file, "--key", key.public); !strings.Contains(out, want) {
			t.Errorf("want %s: %s", want, out)
		}
	}
	cas, casSignature := casBundle(t, key, "e0509h01", false)
	if out := here(t, "bundle", "verify", cas, "--key", key.public, "--signature", casSignature); !strings.Contains(out, "cas E0509H01") {
		t.Errorf("the package of CAS: %s", out)
	}
	if out := here(t, "bundle", "verify", engine, "--key", key.public, "--signature", signature); !strings.Contains(out, engineNew) {
		t.Errorf("the appctl package: %s", out)
	}
}
