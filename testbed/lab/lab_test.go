package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/host/watchdog"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestMain lets the test program serve as the laboratory's, and as the one that agents are.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "version" {
		fmt.Println("holdfast test")
		os.Exit(0)
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		if err := lab.Command().ExecuteContext(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, "holdfast-lab:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// needLab skips only where a laboratory can not be: without root or packages.
func needLab(t *testing.T) {
	t.Helper()
	need.Real(t, need.Root, func() error {
		if m := lab.Missing(); len(m) > 0 {
			return errors.New(strings.Join(m, ", "))
		}
		return nil
	})
}

// hopeless is when nobody waits any longer for what takes seconds, or never comes.
func hopeless() time.Time { return time.Now().Add(10 * time.Minute) }

// up makes a laboratory that is gone at the test's end.
func up(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	needLab(t)
	o.Dir = filepath.Join(t.TempDir(), "lab")
	start := time.Now()
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %v", time.Since(start))
	t.Cleanup(func() {
		if t.Failed() {
			dumpLogs(t, l)
		}
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// downAtEnd removes a laboratory that the test left in dir.
func downAtEnd(t *testing.T, dir string) {
	t.Cleanup(func() {
		l, err := lab.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err == nil {
			err = l.Down(context.Background())
		}
		if err != nil {
			t.Error(err)
		}
	})
}

// dumpLogs shows the ends of the laboratory's logs.
func dumpLogs(t *testing.T, l *lab.Lab) {
	for _, pattern := range []string{"events.jsonl", "wd/log", "hosts/*/init.log", "hosts/*/srv/log/*.log",
		"hosts/*/var-log-libvirt/libvirtd.log"} {
		files, err := filepath.Glob(filepath.Join(l.Dir(), pattern))
		if err != nil {
			t.Error(err)
		}
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%s:\n%s", f, raw[max(0, len(raw)-1500):])
		}
	}
}

func TestLab(t *testing.T) {
	need.Drill(t, "the laboratory: each fault does what it says and nothing else, and its observer and its client see it")
	needLab(t)
	ctx := t.Context()
	l := up(t, lab.Options{})
	if len(l.Hosts()) != 3 {
		t.Fatalf("hosts: %v", l.Hosts())
	}
	ids := map[string]bool{}
	for _, h := range l.Hosts() {
		name, err := l.Exec(ctx, h, "hostname")
		try.Must(t, err)
		if strings.TrimSpace(name) != h {
			t.Errorf("host %s calls itself %q", h, name)
		}
		id, err := l.Exec(ctx, h, "cat", "/proc/sys/kernel/random/boot_id")
		try.Must(t, err)
		ids[id] = true
	}
	if len(ids) != 3 {
		t.Errorf("boot ids are not distinct: %v", ids)
	}

	first, err := l.StartGuest(ctx, "h1")
	try.Must(t, err)
	t.Logf("guest: %+v", first)

	t.Run("guest agent", func(t *testing.T) {
		// The agent comes up a moment after the guest's web server.
		deadline := hopeless()
		for {
			out, err := l.Exec(ctx, "h1", "virsh", "-c", "qemu:///system", "qemu-agent-command", "--timeout", "10",
				lab.GuestName, `{"execute":"guest-ping"}`)
			if err == nil && strings.Contains(out, `"return":{}`) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("guest-ping: %q, %v", out, err)
			}
		}
	})
	t.Run("migrate", func(t *testing.T) { testMigrate(t, l, first) })
	t.Run("double start", func(t *testing.T) {
		if _, err := l.StartGuest(ctx, "h3"); err == nil || !strings.Contains(err.Error(), "lock") {
			t.Errorf("second start of the guest: %v, want a refusal by the image's lock", err)
		}
	})
	t.Run("isolate", func(t *testing.T) { testIsolate(t, l) })
	t.Run("freeze", func(t *testing.T) { testFreeze(t, l) })
	t.Run("cut", func(t *testing.T) { testCut(t, l) })
	t.Run("cut datagrams", func(t *testing.T) { testCutBeats(t, l) })
	t.Run("cut store", func(t *testing.T) { testCutStore(t, l) })
	t.Run("hang storage", func(t *testing.T) { testHangStorage(t, l) })
	t.Run("step clock", func(t *testing.T) { testStepClock(t, l) })
	t.Run("daemons", func(t *testing.T) { testDaemons(t, l) })
	t.Run("crash", func(t *testing.T) { testCrash(t, l, ids) })
	t.Run("guest panics", func(t *testing.T) { testGuestEnds(t, l, "/cgi-bin/crash") })
	t.Run("idempotent up", func(t *testing.T) {
		try.Must(t, l.Off(ctx, "h1"))
		_, err := lab.Up(ctx, lab.Options{Dir: l.Dir()})
		try.Must(t, err)
		s, err := l.Status(ctx)
		try.Must(t, err)
		for _, h := range s.Hosts {
			if !h.On || !h.Cable {
				t.Errorf("host after a second up: %+v", h)
			}
		}
	})
}

// testMigrate moves the guest from h1 to h2 under the eyes of both witnesses.
func testMigrate(t *testing.T, l *lab.Lab, first lab.Answer) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var pings lab.Pings
	var seen lab.Observation
	var pingErr, seeErr error
	wg.Go(func() { pings, pingErr = l.Ping(ctx, l.GuestAddr()) })
	wg.Go(func() { seen, seeErr = l.Observe(ctx, lab.GuestUUID) })
	try.Must(t, l.MigrateGuest(t.Context(), "h1", "h2"))
	after, err := l.WaitGuest(t.Context(), 10*time.Second)
	try.Must(t, err)
	later := waitCounter(t, l, after.N+5)
	stop()
	wg.Wait()
	try.Must(t, pingErr)
	try.Must(t, seeErr)
	t.Logf("pings %+v", pings)
	t.Logf("seen %+v", seen)
	if later.Boot != first.Boot {
		t.Errorf("boot id changed in a live migration: %s, %s", first.Boot, later.Boot)
	}
	if seen.Max != 1 || len(seen.Overlap) != 0 || len(seen.Holders) != 2 || seen.Holders[1].Host != "h2" || !seen.Holders[1].Incoming {
		t.Errorf("observer saw %+v, want the hand-over from h1 to h2", seen)
	}
	if pings.Sent < 20 || pings.Lost > pings.Sent/2 {
		t.Errorf("pings %+v, want a short gap", pings)
	}
}

func waitCounter(t *testing.T, l *lab.Lab, n uint64) lab.Answer {
	t.Helper()
	deadline := hopeless()
	for {
		a, err := l.Ask(t.Context())
		if err == nil && a.N >= n {
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("guest's counter does not reach %d: %+v, %v", n, a, err)
		}
	}
}

// reaches tries to connect from the switch to the host's libvirtd.
func reaches(t *testing.T, l *lab.Lab, host string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	conn, err := l.Dial(ctx, "tcp", l.Addr(host).String()+":16509")
	if err != nil {
		return false
	}
	try.Must(t, conn.Close())
	return true
}

func testIsolate(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	if !reaches(t, l, "h2") {
		t.Fatal("h2 is not reached")
	}
	try.Must(t, l.Isolate(ctx, "h2"))
	if reaches(t, l, "h2") {
		t.Error("h2 is reached while isolated")
	}
	if _, err := l.Ask(ctx); err == nil {
		t.Error("the guest on h2 answers while h2 is isolated")
	}
	try.Must(t, l.Heal(ctx, "h2"))
	_, err := l.WaitGuest(ctx, 10*time.Second)
	try.Must(t, err)
}

func testFreeze(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	try.Must(t, l.Freeze(ctx, "h2"))
	if _, err := l.Exec(ctx, "h2", "true"); err == nil {
		t.Error("a command ran on a frozen host")
	}
	if !reaches(t, l, "h2") {
		t.Error("the kernel of a frozen host does not take connections")
	}
	if _, err := l.Ask(ctx); err == nil {
		t.Error("the guest answers while its host is frozen")
	}
	try.Must(t, l.Thaw(ctx, "h2"))
	_, err := l.WaitGuest(ctx, 10*time.Second)
	try.Must(t, err)
}

func testCut(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	from := func(a, b string) error {
		_, err := l.Exec(ctx, a, "busybox", "ping", "-c1", "-W1", "-q", l.Addr(b).String())
		return err
	}
	try.Must(t, from("h1", "h3"))
	try.Must(t, l.Cut(ctx, "h1", "h3"))
	if from("h1", "h3") == nil {
		t.Error("h1 reaches h3 through the cut")
	}
	try.Must(t, from("h1", "h2"))
	if err := l.Cut(ctx, "h1", "h9"); err == nil {
		t.Error("a cut to an unknown host was accepted")
	}
	try.Must(t, l.Heal(ctx, "h1"))
	try.Must(t, from("h1", "h3"))
	try.Must(t, l.Cut(ctx, "switch", "h3"))
	if reaches(t, l, "h3") {
		t.Error("h3 is reached through the cut")
	}
	try.Must(t, l.Heal(ctx, "h3"))
	if !reaches(t, l, "h3") {
		t.Error("h3 is not reached after heal")
	}
}

func testDaemons(t *testing.T, l *lab.Lab) {
	ctx := t.Context()
	before := daemonPID(t, l, "h2", "libvirtd", 0)
	try.Must(t, l.Kill(ctx, "h2", "libvirtd"))
	daemonPID(t, l, "h2", "libvirtd", before)
	if _, err := l.WaitGuest(ctx, 10*time.Second); err != nil {
		t.Errorf("the guest did not survive the end of libvirtd: %v", err)
	}
	try.Must(t, l.Pause(ctx, "h3", "libvirtd"))
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if _, err := l.Exec(short, "h3", "virsh", "-c", "qemu:///system", "list"); err == nil {
		t.Error("a paused libvirtd answered")
	}
	try.Must(t, l.Resume(ctx, "h3", "libvirtd"))
	_, err := l.Exec(ctx, "h3", "virsh", "-c", "qemu:///system", "list")
	try.Must(t, err)
	if err := l.Kill(ctx, "h3", "nobody"); err == nil {
		t.Error("a daemon that does not exist was killed")
	}
}

// daemonPID waits until the daemon runs with another pid than not.
func daemonPID(t *testing.T, l *lab.Lab, host, name string, not int) int {
	t.Helper()
	deadline := hopeless()
	for {
		s, err := l.Status(t.Context())
		try.Must(t, err)
		i := slices.IndexFunc(s.Hosts, func(h lab.HostStatus) bool { return h.Name == host })
		if pid := s.Hosts[i].Daemons[name]; pid != 0 && pid != not {
			return pid
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s on %s does not come back: %+v", name, host, s.Hosts[i])
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
}

// testCrash takes the power of the guest's host and starts the guest elsewhere.
func testCrash(t *testing.T, l *lab.Lab, ids map[string]bool) {
	ctx := t.Context()
	before, err := l.Ask(ctx)
	try.Must(t, err)
	start := time.Now()
	try.Must(t, l.Crash(ctx, "h2"))
	t.Logf("crash took %v", time.Since(start))
	try.Must(t, l.Crash(ctx, "h2"))
	after, err := l.StartGuest(ctx, "h3")
	try.Must(t, err)
	t.Logf("guest back %v after the crash: %+v", time.Since(start), after)
	if after.Boot == before.Boot || !strings.Contains(after.Prev, "boot="+before.Boot) {
		t.Errorf("guest after the crash %+v, before %+v: want a new boot with the old one's line on its disk", after, before)
	}
	start = time.Now()
	try.Must(t, l.On(ctx, "h2"))
	t.Logf("power-on took %v", time.Since(start))
	id, err := l.Exec(ctx, "h2", "cat", "/proc/sys/kernel/random/boot_id")
	try.Must(t, err)
	if ids[id] {
		t.Error("the boot id did not change at a power-on")
	}
}

// testGuestEnds lets the guest end by itself and waits until its process is gone.
func testGuestEnds(t *testing.T, l *lab.Lab, page string) {
	_, err := l.GuestGet(t.Context(), page)
	try.Must(t, err)
	deadline := hopeless()
	for {
		s, err := l.Status(t.Context())
		try.Must(t, err)
		if !slices.ContainsFunc(s.Hosts, func(h lab.HostStatus) bool { return h.Guests > 0 }) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the guest did not end: %+v", s.Hosts)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
}

// TestWatchdog arms a frozen host's watchdog and expects the reset: power off,
// and on again with another boot.
func TestWatchdog(t *testing.T) {
	need.Drill(t, "the laboratory: an armed watchdog resets a frozen host")
	l := up(t, lab.Options{Hosts: 1, Watchdogs: true})
	ctx := t.Context()
	try.Must(t, l.Freeze(ctx, "h1"))
	dev, err := watchdog.Open("unix:" + filepath.Join(l.Dir(), "wd", "h1.sock"))
	try.Must(t, err)
	timer, err := dev.Arm(ctx, 300*time.Millisecond)
	try.Must(t, err)
	try.Must(t, timer.Close())
	deadline := hopeless()
	for {
		s, err := l.Status(ctx)
		try.Must(t, err)
		h := s.Hosts[0]
		if h.Boots == 2 && h.On && !h.Frozen && h.Daemons["libvirtd"] != 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no reset: %+v", h)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at a condition
	}
	events, err := l.Events()
	try.Must(t, err)
	var what []string
	for _, e := range events {
		what = append(what, e.What)
	}
	// The last "ready" may not be written yet.
	want := []string{"on", "ready", "freeze", "watchdog", "crash", "on"}
	if len(what) < len(want) || !slices.Equal(what[:len(want)], want) {
		t.Errorf("events %v, want %v", what, want)
	}
}

// labCommand runs holdfast-lab as a process of its own.
func labCommand(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	try.Must(t, err)
	if args[0] == "up" {
		args = append(args, "--program", exe)
	}
	out, err := exec.CommandContext(t.Context(), exe, append([]string{"--dir", dir}, args...)...).CombinedOutput()
	return string(out), err
}

func TestCommand(t *testing.T) {
	need.Drill(t, "the laboratory: its commands do what they say, and refuse the rest with a reason")
	needLab(t)
	dir := filepath.Join(t.TempDir(), "lab")
	downAtEnd(t, dir)
	t.Setenv("LAB_EXEC", "of the caller")
	for _, step := range []struct {
		args string
		want string // in the output
		fail bool
	}{
		{"status", "there is no laboratory in " + dir, true},
		{"up --hosts 2", "2 hosts are up", false},
		{"exec h2 hostname", "h2\n", false},
		{"exec h2 sh -c pwd", "/\n", false},
		{"exec h2 printenv LAB_EXEC", "of the caller\n", false},
		{"exec h3 hostname", "want one of h1..h2, or a word: holder, other", true},
		{"exec holder hostname", "runs no agents", true},
		{"crash all h2", `want "all" alone`, true},
		{"off everyone", "or a word: holder, other, all", true},
		{"crash h1", "", false},
		{"status -o json", `"on": false`, false},
		{"isolate h1", "host h1 is off", true},
		{"on h1", "", false},
		{"isolate h1", "", false},
		{"bmc h1 dead", "made without management controllers", true},
		{"hang-storage h2", "", false},
		{"status -o json", `"hung": true`, false},
		{"unhang-storage h2", "", false},
		{"hang-disk h2", "is a file of the shared folder", true},
		{"unhang-disk h2", "", false},
		{"cut-store h2", "", false},
		{"up --disk tape", "want \"file\", \"nbd\" or", true},
		{"on all", "", false},
		{"status", "10.98.", false},
		{"down", "", false},
		{"down", "there is no laboratory in " + dir + ": nothing to remove", false},
	} {
		start := time.Now()
		out, err := labCommand(t, dir, strings.Fields(step.args)...)
		t.Logf("lab %s: %v", step.args, time.Since(start))
		if (err != nil) != step.fail || !strings.Contains(out, step.want) {
			t.Fatalf("lab %s: %v: %s", step.args, err, out)
		}
	}
}
