// Package testroot_test installs the packages where nobody worked before: in a clean
// Debian root, and on a host under QEMU with systemd as its first process.
package testroot_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// The versions that are built: the second one upgrades the first.
const before, after = "1.4.0", "1.5.0"

// built is the directory with the packages of both versions, and clean the Debian root;
// why is the reason when there is none.
var built, clean, why string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv(need.Variable) != "drills" {
			return m.Run() // all tests are drills
		}
		out, err := exec.Command("./root.sh").Output()
		if err != nil {
			why = "no clean root: " + err.Error()
			if e, ok := err.(*exec.ExitError); ok {
				why = strings.TrimSpace(string(e.Stderr))
			}
			return m.Run()
		}
		clean = filepath.Join(strings.TrimSpace(string(out)), "root")
		if built, err = os.MkdirTemp("", "packages-*"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(built)
		for _, version := range []string{before, after} {
			cmd := exec.Command("../build.sh", version)
			cmd.Env = append(os.Environ(), "OUT="+built, "SOURCE_DATE_EPOCH=1767366245")
			if out, err := cmd.CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "build %s: %v: %s", version, err, out)
				return 1
			}
		}
		return m.Run()
	}())
}

// root is a copy of the clean root, which lasts for a test.
type root struct{ dir string }

func newRoot(t *testing.T) *root {
	t.Helper()
	if why != "" {
		t.Skip(why)
	}
	r := &root{t.TempDir()}
	for _, d := range []string{"upper", "work", "at"} {
		if err := os.Mkdir(filepath.Join(r.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// enter makes the root in namespaces of its own and runs a script in it, with the packages
// in /packages. Its last argument is what is to be mounted at /proc.
const enter = `set -eu
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/at"
mkdir -p "$1/at/packages"
mount --bind "$3" "$1/at/packages"
[ -z "$5" ] || mount -t "$5" proc "$1/at/proc"
mount -t tmpfs tmpfs "$1/at/dev"
for d in null zero random urandom; do : >"$1/at/dev/$d"; mount --bind /dev/$d "$1/at/dev/$d"; done
exec chroot "$1/at" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive sh -euc "$4"`

// try runs a script in the root and returns all that it said.
func (r *root) try(t *testing.T, script string) (string, error) {
	t.Helper()
	return r.with(t, "proc", script)
}

// with is try with that file system at /proc; "": none.
func (r *root) with(t *testing.T, proc, script string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork",
		"--kill-child", "sh", "-c", enter, "sh",
		r.dir, clean, built, script, proc).CombinedOutput()
	return string(out), err
}

func (r *root) run(t *testing.T, script string) string {
	t.Helper()
	out, err := r.try(t, script)
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return out
}

// list has a line for each file of the root, with its mode, owner, size and target. What
// package managers keep for themselves is left out.
func (r *root) list(t *testing.T) string {
	t.Helper()
	return r.run(t, `find / -xdev \( -path /proc -o -path /dev -o -path /run -o -path /tmp -o -path /var/lib/dpkg -o -path /var/lib/rpm -o -path /var/log/dpkg.log -o -path '/var/cache/man' -o -path /var/cache/ldconfig \) -prune -o -type d -printf '%p/ %m %u %g\n' -o -printf '%p %m %u %g %s %l\n' | sort`)
}

// same fails when two listings differ.
func same(t *testing.T, when, before, after string) {
	t.Helper()
	if before == after {
		return
	}
	was := map[string]bool{}
	for l := range strings.Lines(before) {
		was[l] = true
	}
	for l := range strings.Lines(after) {
		if !was[l] {
			t.Errorf("%s: new or changed: %s", when, l)
		}
		delete(was, l)
	}
	for l := range was {
		t.Errorf("%s: gone or changed: %s", when, l)
	}
}

func (r *root) wants(t *testing.T, script, want string) {
	t.Helper()
	if out := r.run(t, script); !strings.Contains(out, want) {
		t.Errorf("%s: %q is not in: %s", script, want, out)
	}
}

// state shows what must survive an upgrade and a removal.
const state = `cat /etc/holdfast/agent.json /etc/holdfast/pki/host.key /var/lib/holdfast/identity; stat -c '%a %n' /etc/holdfast /etc/holdfast/pki /var/lib/holdfast /var/log/holdfast`

// writable lists what others than root may change of what Holdfast has on a host, or become root by; readable lists the files that
// others read there, by name at least: 65534 is a user without rights.
const (
	places   = `$(ls -d /etc/holdfast /var/lib/holdfast /var/log/holdfast /run/holdfast 2>/dev/null)`
	writable = `find /opt/holdfast ` + places + ` ! -type l \( ! -user root -o ! -group root -o -perm /7022 \)`
	readable = `find ` + places + ` -type f | setpriv --reuid=65534 --regid=65534 --clear-groups sh -c 'while read -r f; do [ ! -r "$f" ] || echo "$f"; done'`
)

// configure is what an installer leaves behind.
const configure = `systemctl enable holdfast
echo '{"host": "h1", "addr": "127.0.0.1", "cluster": "c", "guests_only": true, "store": {"endpoints": ["http://127.0.0.1:1"]}}' >/etc/holdfast/agent.json
echo key >/etc/holdfast/pki/host.key; echo me >/var/lib/holdfast/identity`

// TestDeb installs, upgrades, removes and purges the package. Afterwards the root has the
// files that it had before.
func TestDeb(t *testing.T) {
	need.Drill(t, "P4: the package for Debian is installed in a clean root, upgraded, removed and purged, and leaves "+
		"what was there before", need.Root, need.Programs("util-linux", "unshare"))
	r := newRoot(t)
	bare := r.list(t)
	r.wants(t, "dpkg -i /packages/holdfast_"+before+"_amd64.deb && /usr/bin/holdfast version", "holdfast "+before)
	r.wants(t, "systemctl is-enabled holdfast || true", "disabled")
	r.wants(t, "readlink /usr/bin/zsha", "/opt/holdfast/bin/holdfast")
	r.wants(t, "systemd-analyze verify holdfast.service && echo good", "good")
	// docs/packages.md says why it is not less; the threshold is ten times the exposure.
	r.wants(t, "systemd-analyze security --no-pager --offline=true --threshold=92 holdfast.service && echo within", "within")
	r.wants(t, `bash -ec '. /usr/share/bash-completion/completions/holdfast; complete -p holdfast'`, "__start_holdfast")
	r.run(t, "dpkg -V holdfast")

	r.run(t, configure)
	kept := r.run(t, state)
	if !strings.HasSuffix(kept, "755 /etc/holdfast\n700 /etc/holdfast/pki\n711 /var/lib/holdfast\n750 /var/log/holdfast\n") {
		t.Errorf("modes: %s", kept)
	}
	r.wants(t, "dpkg -i /packages/holdfast_"+after+"_amd64.deb && holdfast version", "holdfast "+after)
	same(t, "upgraded", kept, r.run(t, state))
	r.wants(t, "systemctl is-enabled holdfast", "enabled")
	// configure has made these with an ordinary umask
	if out := r.run(t, writable+"\n"+readable); out != "/etc/holdfast/agent.json\n/var/lib/holdfast/identity\n" {
		t.Errorf("others than root may write or read: %s", out)
	}

	r.wants(t, "dpkg -r holdfast", "/etc/holdfast, /var/lib/holdfast and /var/log/holdfast stay")
	same(t, "removed", kept, r.run(t, state))
	r.run(t, "[ -d /opt ] && ! [ -e /opt/holdfast ] && ! [ -e /usr/bin/holdfast ] && ! [ -L /usr/bin/zsha ] && ! [ "+
		"-L /etc/systemd/system/multi-user.target.wants/holdfast.service ]")

	// Installed again, with the settings that are there, it is not enabled.
	r.run(t, "dpkg -i /packages/holdfast_"+after+"_amd64.deb")
	same(t, "installed again", kept, r.run(t, state))
	r.wants(t, "systemctl is-enabled holdfast || true", "disabled")
	r.run(t, "dpkg -P holdfast")
	same(t, "purged", bare, r.list(t))
}

// booted has the scripts of a package take the root for one that has booted, and does what they ask of systemd.
const booted = `mkdir -p /run/systemd/system; printf '#!/bin/sh\n' >/usr/bin/systemctl
`

// TestDebOnAHostOfNoCluster: where there never was one, nothing is said of clusters and members.
func TestDebOnAHostOfNoCluster(t *testing.T) {
	need.Drill(t, "P4: the package for Debian says nothing of clusters on a host that never was of one", need.Root,
		need.Programs("util-linux", "unshare"))
	r := newRoot(t)
	for _, c := range []struct{ script, want string }{
		{"dpkg -i /packages/holdfast_" + before + "_amd64.deb",
			"holdfast: installed, not configured: there is no /etc/holdfast/agent.json. What this host has and lacks: holdfast doctor"},
		{"dpkg -i /packages/holdfast_" + after + "_amd64.deb", "holdfast: installed, not configured"},
		{"dpkg -r holdfast", ""},
		{"dpkg -P holdfast", ""},
	} {
		out := r.run(t, booted+c.script)
		if !strings.Contains(out, c.want) || strings.Contains(out, "cluster") || strings.Contains(out, "member") {
			t.Errorf("%s: want %q, and no word of a cluster: %s", c.script, c.want, out)
		}
	}
	r.run(t, booted+"dpkg -i /packages/holdfast_"+after+"_amd64.deb; "+configure)
	r.wants(t, booted+"dpkg -r holdfast", "the cluster still counts it as a member")
}

// TestDebWithoutProc: the root of an image that is being made need not have it.
func TestDebWithoutProc(t *testing.T) {
	need.Drill(t, "P4: the package for Debian is installed in a root without /proc", need.Root, need.Programs("util-linux", "unshare"))
	r := newRoot(t)
	out, err := r.with(t, "", "! [ -e /proc/self ] && dpkg -i /packages/holdfast_"+
		before+"_amd64.deb && stat -c '%a %n' /etc/holdfast /etc/holdfast/pki /var/lib/holdfast /var/log/holdfast")
	if err != nil || !strings.HasSuffix(out, "755 /etc/holdfast\n700 /etc/holdfast/pki\n711 /var/lib/holdfast\n750 /var/log/holdfast\n") {
		t.Errorf("%v: %s", err, out)
	}
	r.wants(t, "dpkg -V holdfast && holdfast version", "holdfast "+before)
}

// TestDebLeavesWhatIsNotItsOwn: another program's zsha, and what is mounted below the data.
func TestDebLeavesWhatIsNotItsOwn(t *testing.T) {
	need.Drill(t, "P4: the package for Debian leaves what is not its own", need.Root, need.Programs("util-linux", "unshare"))
	r := newRoot(t)
	r.run(t, `echo theirs >/usr/bin/zsha
dpkg -i /packages/holdfast_`+after+`_amd64.deb
mkdir /var/lib/holdfast/images
mount -t tmpfs tmpfs /var/lib/holdfast/images
echo image >/var/lib/holdfast/images/mnvm.img
echo mine >/var/lib/holdfast/mine
dpkg -P holdfast
[ "$(cat /usr/bin/zsha)" = theirs ]
[ "$(cat /var/lib/holdfast/images/mnvm.img)" = image ]
! [ -e /var/lib/holdfast/mine ]`)
	// A removal that can not read the settings changes nothing.
	r.run(t, `dpkg -i /packages/holdfast_`+after+`_amd64.deb; systemctl enable holdfast; echo '{"hosst": 1}' >/etc/holdfast/agent.json`)
	out, err := r.try(t, "dpkg -r holdfast")
	if err == nil || !strings.Contains(out, "hosst") || !strings.Contains(out, "move the file away") {
		t.Errorf("removed with broken settings: %v: %s", err, out)
	}
	r.wants(t, "systemctl is-enabled holdfast && holdfast version", "holdfast "+after)
}

// TestRPM lists the other package and runs its scripts, on Debian's rpm with a database of
// its own.
func TestRPM(t *testing.T) {
	need.Drill(t, "P4: the package for openEuler is installed in a clean root, upgraded and removed", need.Root,
		need.Programs("util-linux", "unshare"))
	r := newRoot(t)
	rpm := "rpm --force-debian --nodeps "
	bare := r.list(t)
	r.wants(t, "rpm -qpl /packages/holdfast-"+before+".x86_64.rpm", "/usr/share/zsh/site-functions/_holdfast")
	r.wants(t, "rpm -qp --qf '%{NAME} %{VERSION} %{ARCH} %{LICENSE} %{BUILDHOST}\n' /packages/holdfast-"+
		before+".x86_64.rpm", "holdfast "+before+" x86_64 Apache-2.0 localhost")
	r.wants(t, "rpm -qp --requires --recommends /packages/holdfast-"+before+".x86_64.rpm", "qemu-kvm")
	r.wants(t, rpm+"-i /packages/holdfast-"+before+".x86_64.rpm && holdfast version", "holdfast "+before)
	r.wants(t, "readlink /usr/bin/zsha; systemctl is-enabled holdfast || true", "/opt/holdfast/bin/holdfast\ndisabled")
	r.run(t, configure)
	kept := r.run(t, state)
	r.wants(t, rpm+"-U /packages/holdfast-"+after+".x86_64.rpm && holdfast version && systemctl is-enabled holdfast", "holdfast "+after)
	r.wants(t, "readlink /usr/bin/zsha && rpm -V --nodeps holdfast && rpm -q holdfast", "holdfast-"+after)
	same(t, "upgraded", kept, r.run(t, state))
	r.wants(t, rpm+"-e holdfast", "stay")
	same(t, "removed", kept, r.run(t, state))
	// rpm has no purge. These directories belong to other packages where rpm is at home.
	r.run(t, "rm -r /etc/holdfast /var/lib/holdfast /var/log/holdfast /root/.rpmdb; rmdir -p "+
		"/usr/share/fish/vendor_completions.d /usr/share/zsh/site-functions /usr/share/licenses || true")
	same(t, "removed", bare, r.list(t))
}
