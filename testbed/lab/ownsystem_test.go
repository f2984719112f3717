package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// ownPackage is the name of the package that TestOwnSystem installs.
const ownPackage = "holdfast-lab-own"

// ownFiles are the files of that package, by folder of the system.
func ownFiles() map[string]string {
	return map[string]string{
		"/usr/share/holdfast-lab-own": "u\n", "/etc/holdfast-lab-own.conf": "e\n",
		"/opt/holdfast-lab-own/file": "o\n", "/var/lib/holdfast-lab-own": "l\n",
	}
}

// buildDeb makes the package below dir and returns its file.
func buildDeb(t *testing.T, dir string) string {
	t.Helper()
	files := map[string]string{"/DEBIAN/control": "Package: " +
		ownPackage + "\nVersion: 1.0\nArchitecture: all\nMaintainer: Holdfast\nDescription: a test\n"}
	for name, text := range ownFiles() {
		files[name] = text
	}
	for name, text := range files {
		p := filepath.Join(dir, "tree", name)
		try.Must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		try.Must(t, os.WriteFile(p, []byte(text), 0o644))
	}
	deb := filepath.Join(dir, "own.deb")
	out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--build", "--root-owner-group", filepath.Join(dir, "tree"), deb).CombinedOutput()
	if err != nil {
		t.Fatalf("build the package: %v: %s", err, out)
	}
	return deb
}

// has says which version of the package a host has, and fails when its files say
// something else.
func has(t *testing.T, l *lab.Lab, host string) string {
	t.Helper()
	version, err := l.Exec(t.Context(), host, "dpkg-query", "-W", "-f", "${Version}", ownPackage)
	for name, text := range ownFiles() {
		got, ferr := l.Exec(t.Context(), host, "cat", name)
		if (ferr == nil) != (err == nil) || err == nil && got != text {
			t.Errorf("%s on %s: %q, %v; dpkg: %q, %v", name, host, got, ferr, version, err)
		}
	}
	return version
}

// TestOwnSystem installs a package on one of two hosts: the other one and the
// machine do not have it, and it is there after a reboot.
func TestOwnSystem(t *testing.T) {
	need.Drill(t, "the laboratory: packages that are installed on a host stay its own")
	needLab(t)
	ctx := t.Context()
	l := up(t, lab.Options{Hosts: 2, OwnSystem: true})
	subnet := int(l.GuestAddr().As4()[2])
	try.Must(t, os.Rename(buildDeb(t, t.TempDir()), l.HostPath("h1", "own.deb")))
	out, err := l.Exec(ctx, "h1", "dpkg", "-i", lab.HostDir+"/own.deb")
	try.Must(t, err)
	if has(t, l, "h1") != "1.0" || has(t, l, "h2") != "" {
		t.Errorf("h1 and h2 have %q and %q after: %s", has(t, l, "h1"), has(t, l, "h2"), out)
	}
	for name := range ownFiles() {
		if _, err := os.Lstat(name); !os.IsNotExist(err) {
			t.Errorf("on the machine, %s: %v", name, err)
		}
	}
	if out, err := exec.CommandContext(ctx, "dpkg-query", "-W", ownPackage).CombinedOutput(); err == nil {
		t.Errorf("the machine has the package: %s", out)
	}
	// A folder of the package moves, as an upgrade does with one.
	_, err = l.Exec(ctx, "h1", "mv", "/opt/holdfast-lab-own", "/opt/holdfast-lab-old")
	try.Must(t, err)
	_, err = l.Exec(ctx, "h1", "mv", "/opt/holdfast-lab-old", "/opt/holdfast-lab-own")
	try.Must(t, err)

	try.Must(t, l.Reboot(ctx, "h1"))
	if got := has(t, l, "h1"); got != "1.0" {
		t.Errorf("h1 has %q after a reboot", got)
	}
	try.Must(t, l.Crash(ctx, "h1"))
	try.Must(t, l.On(ctx, "h1"))
	if got := has(t, l, "h1"); got != "1.0" {
		t.Errorf("h1 has %q after a loss of power", got)
	}
	if _, err := l.Exec(ctx, "h1", "dpkg", "--purge", ownPackage); err != nil || has(t, l, "h1") != "" {
		t.Errorf("purge: %v", err)
	}

	try.Must(t, l.Down(ctx))
	if after := traces(t, l.Dir(), subnet); len(after) > 0 {
		t.Errorf("left behind: %v", after)
	}
	if _, err := os.Stat(l.Dir()); !os.IsNotExist(err) {
		t.Errorf("folder after down: %v", err)
	}
}

// TestOwnSystemRefused makes a laboratory in a folder that lies on two overlays
// already, which no kernel takes a third one on.
func TestOwnSystemRefused(t *testing.T) {
	needLab(t)
	dir := t.TempDir()
	for _, d := range []string{"l", "u", "w", "m", "n"} {
		try.Must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	exe, err := os.Executable()
	try.Must(t, err)
	// The mounts are in a namespace that ends with the program.
	const script = `set -e; cd "$1"
mount -t overlay none -o "lowerdir=$1/l,upperdir=$1/u,workdir=$1/w" m; mkdir m/l m/u m/w
mount -t overlay none -o "lowerdir=$1/m/l,upperdir=$1/m/u,workdir=$1/m/w" n 2>/dev/null || mount --bind m n
exec "$2" up --dir "$1/n/lab" --program "$2" --hosts 1 --own-system`
	out, err := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", script, "sh", dir, exe).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "want a kernel with overlayfs") {
		t.Errorf("up on overlays: %v: %s", err, out)
	}
	for _, d := range []string{"n/lab", "m/u/lab", "u/lab", "u/u/lab"} {
		if _, err := os.Stat(filepath.Join(dir, d)); !os.IsNotExist(err) {
			t.Errorf("%s was left behind: %v", d, err)
		}
	}
}
