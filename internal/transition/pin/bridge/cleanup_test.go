package bridge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// systemd stands for systemctl in a folder: a unit, whose drop-ins count when it is told to read
// them. What it prints has the form that systemd 252 prints (Debian 12).
const systemd = `#!/bin/sh
dir=$(dirname "$0")
case "$1" in
daemon-reload)
	[ ! -e "$dir/broken" ] || { echo "Failed to reload daemon: Connection timed out" >&2; exit 1; }
	rm -f "$dir/loaded"
	for f in "$dir"/run/neutron-ovs-cleanup.service.d/*.conf; do [ -e "$f" ] && cat "$f" >>"$dir/loaded"; done
	exit 0;;
show)
	case "$2" in
	--property=LoadState) cat "$dir/state";;
	*)
		if grep -qs ExecStart=/bin/true "$dir/loaded" && [ ! -e "$dir/stubborn" ]; then
			echo "ExecStart={ path=/bin/true ; argv[]=/bin/true ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
		else
			echo "ExecStart={ path=/usr/bin/neutron-ovs-cleanup ; argv[]=/usr/bin/neutron-ovs-cleanup --config-file /etc/neutron/neutron.conf ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
			echo "ExecStop={ path=/usr/bin/neutron-ovs-cleanup ; argv[]=/usr/bin/neutron-ovs-cleanup ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }"
		fi;;
	esac;;
*) echo "unknown: $*" >&2; exit 1;;
esac
`

func newCleanup(t *testing.T, state string) (c cleanup, dir string) {
	t.Helper()
	dir = t.TempDir()
	c = cleanup{filepath.Join(dir, "systemctl"), filepath.Join(dir, "run")}
	write(t, c.systemctl, systemd, 0o755)
	write(t, filepath.Join(dir, "state"), state+"\n", 0o644)
	if err := os.Mkdir(c.runtime, 0o755); err != nil {
		t.Fatal(err)
	}
	return c, dir
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// empty wants no drop-in to be left.
func empty(t *testing.T, c cleanup) {
	t.Helper()
	if list, err := filepath.Glob(c.runtime + "/*/*"); err != nil || len(list) > 0 {
		t.Errorf("left: %v, %v", list, err)
	}
}

func TestTheCleanupServiceIsDisarmed(t *testing.T) {
	c, _ := newCleanup(t, "loaded")
	for range 2 { // once more, as for a second bridge
		if did, err := c.disarm(t.Context()); !did || err != nil {
			t.Fatal(did, err)
		}
		if p, err := c.runs(t.Context()); p != "" || err != nil {
			t.Fatalf("it would run %q, %v", p, err)
		}
	}
	for range 2 {
		if err := c.rearm(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p, err := c.runs(t.Context()); p != "/usr/bin/neutron-ovs-cleanup" || err != nil {
			t.Fatalf("it would run %q, %v", p, err)
		}
	}
	empty(t, c)
}

func TestWithoutTheCleanupService(t *testing.T) {
	for _, state := range []string{"not-found", "masked"} {
		c, _ := newCleanup(t, state)
		if did, err := c.disarm(t.Context()); did || err != nil {
			t.Errorf("%s: %v, %v", state, did, err)
		}
		empty(t, c)
	}
	c := cleanup{"/no/systemctl", filepath.Join(t.TempDir(), "none")}
	if did, err := c.disarm(t.Context()); did || err != nil {
		t.Errorf("without systemd: %v, %v", did, err)
	}
	if err := c.rearm(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAServiceThatIsNotDisarmed: what was read back counts, and nothing is left then.
func TestAServiceThatIsNotDisarmed(t *testing.T) {
	for file, want := range map[string]string{"stubborn": "it would still run /usr/bin/neutron-ovs-cleanup",
		"broken": "Connection timed out"} {
		c, dir := newCleanup(t, "loaded")
		write(t, filepath.Join(dir, file), "", 0o644)
		if did, err := c.disarm(t.Context()); did || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", file, did, err)
		}
		empty(t, c)
	}
}

// onSystemd is a variable that says that this host may have a unit of the service: an emulated one, see packaging/testroot.
const onSystemd = "HOLDFAST_TEST_SYSTEMD"

// TestTheCleanupServiceUnderSystemd: a unit as RDO has it, which runs its program when it is started and when it is
// stopped, does neither while it is disarmed, and both afterwards. It is never started or stopped by that.
func TestTheCleanupServiceUnderSystemd(t *testing.T) {
	if os.Getenv(onSystemd) == "" { // no drill: packaging/testroot starts it
		t.Skip("it makes a unit of systemd: packaging/testroot runs it in an emulated host")
	}
	program, runs := filepath.Join(t.TempDir(), "neutron-ovs-cleanup"), filepath.Join(t.TempDir(), "runs")
	write(t, program, "#!/bin/sh\necho \"$1\" >>"+runs+"\n", 0o755)
	unit := "/etc/systemd/system/" + cleanupUnit
	write(t, unit, "[Service]\nType=oneshot\nExecStart="+program+" start\nExecStop="+program+" stop\nRemainAfterExit=yes\n", 0o644)
	c := cleanupService
	tell := func(args ...string) {
		t.Helper()
		if _, err := c.ask(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	said := func(when, want string) {
		t.Helper()
		if b, err := os.ReadFile(runs); err != nil || string(b) != want {
			t.Errorf("%s: it has run %q, %v; want %q", when, b, err, want)
		}
	}
	tell("daemon-reload")
	tell("start", cleanupUnit)
	tell("restart", cleanupUnit)
	said("before", "start\nstop\nstart\n")
	for range 2 {
		if did, err := c.disarm(t.Context()); !did || err != nil {
			t.Fatal(did, err)
		}
	}
	tell("restart", cleanupUnit)
	tell("stop", cleanupUnit)
	tell("start", cleanupUnit)
	said("disarmed", "start\nstop\nstart\n")
	if err := c.rearm(t.Context()); err != nil {
		t.Fatal(err)
	}
	said("armed again", "start\nstop\nstart\n")
	tell("restart", cleanupUnit)
	said("afterwards", "start\nstop\nstart\nstop\nstart\n")
	if err := os.Remove(unit); err != nil {
		t.Fatal(err)
	}
	tell("daemon-reload")
	tell("stop", cleanupUnit)
	if did, err := c.disarm(t.Context()); did || err != nil {
		t.Errorf("without the unit: %v, %v", did, err)
	}
}
