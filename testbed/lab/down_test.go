package lab_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bougou/go-ipmi/pkg/command/chassis"

	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// traces are what the laboratory with the number has on the machine: its
// namespace, control groups, mounts, and processes with its folder in their
// command line.
func traces(t *testing.T, dir string, subnet int) []string {
	t.Helper()
	prefix := fmt.Sprintf("hf%d-", subnet)
	var all []string
	for _, pattern := range []string{"/run/netns/" + prefix + "*", "/sys/fs/cgroup/*/" + prefix + "*", "/sys/fs/cgroup/" + prefix + "*"} {
		found, err := filepath.Glob(pattern)
		try.Must(t, err)
		all = append(all, found...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	try.Must(t, err)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) || strings.Contains(line, prefix) {
			all = append(all, "mount "+strings.Fields(line)[4])
		}
	}
	for _, line := range try.Processes(t, dir) {
		all = append(all, "process "+strings.ReplaceAll(line, "\x00", " "))
	}
	return all
}

// inside lists the processes of the hosts' PID namespaces.
func inside(t *testing.T, l *lab.Lab) map[string]bool {
	t.Helper()
	s, err := l.Status(t.Context())
	try.Must(t, err)
	spaces := map[string]bool{}
	for _, h := range s.Hosts {
		if h.On {
			link := fmt.Sprintf("/proc/%d/ns/pid", h.PID)
			ns, err := os.Readlink(link)
			try.Must(t, err)
			spaces[ns] = true
			// Kept, so that the kernel gives its number to no other namespace.
			held, err := os.Open(link)
			try.Must(t, err)
			t.Cleanup(func() { held.Close() })
		}
	}
	return inSpaces(t, spaces)
}

func inSpaces(t *testing.T, spaces map[string]bool) map[string]bool {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	try.Must(t, err)
	found := map[string]bool{}
	for _, link := range links {
		if ns, err := os.Readlink(link); err == nil && spaces[ns] {
			found[ns+" "+link] = true
		}
	}
	return found
}

// TestDownLeavesNothing looks for traces of a laboratory after its end, which
// finds one host frozen with an order of its controller under way, one without
// power, and one whose storage hangs.
func TestDownLeavesNothing(t *testing.T) {
	need.Drill(t, "the laboratory: nothing of it is left after its end, whatever state its hosts are in")
	needLab(t)
	dir := filepath.Join(t.TempDir(), "lab")
	downAtEnd(t, dir)
	l, err := lab.Up(t.Context(), lab.Options{Dir: dir, Hosts: 3, Watchdogs: true, BMCs: true, Disk: lab.DiskNBD})
	try.Must(t, err)
	subnet := int(l.GuestAddr().As4()[2])
	if now := traces(t, dir, subnet); len(now) < 5 {
		t.Errorf("traces do not show the laboratory: %v", now)
	}
	try.Must(t, l.Freeze(t.Context(), "h1"))
	try.Must(t, l.CrashWithBMC(t.Context(), "h2"))
	try.Must(t, l.HangStorage(t.Context(), "h3"))
	try.Must(t, l.BMCMode(t.Context(), "h1", lab.BMCSlow+"10m"))
	if err := order(t, l, "h1", chassis.ChassisControlPowerDown); err == nil {
		t.Error("a slow controller answered")
	}
	procs := inside(t, l)
	if len(procs) < 6 {
		t.Errorf("two hosts that are on have only these processes: %v", procs)
	}
	try.Must(t, l.Down(t.Context()))
	try.Must(t, l.Down(t.Context()))
	if after := traces(t, dir, subnet); len(after) > 0 {
		t.Errorf("left behind: %v", after)
	}
	spaces := map[string]bool{}
	for p := range procs {
		spaces[strings.Fields(p)[0]] = true
	}
	if left := inSpaces(t, spaces); len(left) > 0 {
		t.Errorf("processes left behind: %v", left)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("folder after down: %v", err)
	}
}

// TestFailedUpLeavesNothing gives the hosts a program that ends at once.
func TestFailedUpLeavesNothing(t *testing.T) {
	need.Drill(t, "the laboratory: nothing is left of one that does not come up")
	needLab(t)
	dir := filepath.Join(t.TempDir(), "lab")
	downAtEnd(t, dir)
	subnet := 200 + os.Getpid()%50 // other tests may run on this machine
	if _, err := lab.Up(t.Context(), lab.Options{Dir: dir, Subnet: subnet, Self: "/bin/false"}); err == nil {
		t.Fatal("hosts of /bin/false came up")
	}
	if after := traces(t, dir, subnet); len(after) > 0 {
		t.Errorf("left behind: %v", after)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("folder after a failed up: %v", err)
	}
}

// TestDownAfterKilledUp kills "holdfast-lab up" at several moments and expects
// that Down still finds everything.
func TestDownAfterKilledUp(t *testing.T) {
	need.Drill(t, "the laboratory: its end finds everything of one whose making was killed")
	needLab(t)
	exe, err := os.Executable()
	try.Must(t, err)
	for _, moment := range []struct{ file, text string }{
		{"state.json", "netns"}, {"state.json", "power\": {"}, {"state.json", "watchdogs\": {"},
		{"state.json", "chassis\": {"}, {"state.json", "bmcs\": {"}, {"state.json", "disk\": {"},
		{"state.json", "init"}, {"events.jsonl", `"on"`},
	} {
		dir := filepath.Join(t.TempDir(), "lab")
		downAtEnd(t, dir)
		cmd := exec.CommandContext(t.Context(), exe, "up", "--dir", dir, "--program", exe, "--watchdogs", "--bmcs", "--disk", "nbd")
		try.Must(t, cmd.Start())
		deadline := hopeless()
		for {
			// Until it is there, it can not be read.
			raw, err := os.ReadFile(filepath.Join(dir, moment.file))
			if err == nil && strings.Contains(string(raw), moment.text) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no %q in %s", moment.text, moment.file)
			}
		}
		try.Must(t, cmd.Process.Kill())
		if cmd.Wait() == nil {
			t.Logf("%s in %s: up was done before the kill", moment.text, moment.file)
		}
		l, err := lab.Open(dir)
		try.Must(t, err)
		subnet := int(l.GuestAddr().As4()[2])
		procs := inside(t, l)
		try.Must(t, l.Down(t.Context()))
		// A short command that the killed one had started may still be at its end.
		left := traces(t, dir, subnet)
		for end := hopeless(); len(left) > 0 && time.Now().Before(end); {
			left = traces(t, dir, subnet)
		}
		if len(left) > 0 {
			t.Errorf("killed at %s in %s, left behind: %v", moment.text, moment.file, left)
		}
		t.Logf("killed at %s in %s with %d processes in the hosts", moment.text, moment.file, len(procs))
	}
}
