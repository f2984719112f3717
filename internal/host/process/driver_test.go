package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/try"
)

const limit = 2 * time.Minute

// TestMain makes this binary play the guest and the agent too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "play-guest":
			playGuest()
			return
		case "play-agent":
			playAgent(os.Args[2:])
			return
		}
	}
	os.Exit(m.Run())
}

// playGuest runs until SIGTERM, or for a minute so that none is left behind by
// a test that was itself killed. With FORK set it has a child.
func playGuest() {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	if os.Getenv("FORK") != "" {
		child := exec.Command("sleep", "60")
		if err := child.Start(); err != nil {
			log.Fatal(err)
		}
	}
	clock.Sleep(ctx, time.Minute)
}

// playAgent starts a guest and hangs.
func playAgent(args []string) {
	d, err := New(Options{Command: []string{os.Args[0], "play-guest"}, Dir: args[0], Shared: args[1], Host: "h1", UUID: args[2]})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("start")
	if err := d.Start(context.Background(), cluster.GuestSpec{Epoch: cluster.Epoch{Gen: 1, Seq: 7}}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("started")
	time.Sleep(time.Minute)
}

func TestAGuestIsStartedObservedAndKilled(t *testing.T) {
	d := newDriver(t, "h1")
	wantState(t, d, cluster.GuestAbsent)
	if err := d.Kill(ctxFor(t)); err != nil {
		t.Fatalf("kill of nothing: %v", err)
	}
	startGuest(t, d, 3)
	g := wantState(t, d, cluster.GuestRunning)
	if want := (cluster.Epoch{Gen: 1, Seq: 3}); g.Epoch != want || g.PID == 0 || g.Started == 0 {
		t.Fatalf("got %+v, want epoch %s and a process", g, want)
	}
	wantWake(t, d)
	for range 2 {
		if err := d.Kill(ctxFor(t)); err != nil {
			t.Fatal(err)
		}
		wantState(t, d, cluster.GuestAbsent)
	}
	if p, err := proc.Here.Read(g.PID); !errors.Is(err, proc.ErrGone) {
		t.Errorf("a zombie is left: %+v, %v", p, err)
	}
}

func TestTheEndOfAGuestWakes(t *testing.T) {
	d := newDriver(t, "h1")
	startGuest(t, d, 1)
	g := wantState(t, d, cluster.GuestRunning)
	wantWake(t, d)
	if err := unix.Kill(g.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantWake(t, d)
	wantState(t, d, cluster.GuestAbsent)
}

func TestShutdownAsksTheGuestToEnd(t *testing.T) {
	d := newDriver(t, "h1")
	if err := d.Shutdown(ctxFor(t)); err != nil {
		t.Fatalf("shutdown of nothing: %v", err)
	}
	startGuest(t, d, 1)
	wantWake(t, d)
	if err := d.Shutdown(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	wantWake(t, d)
	wantState(t, d, cluster.GuestAbsent)
}

func TestASecondStartIsRefused(t *testing.T) {
	d := newDriver(t, "h1")
	startGuest(t, d, 1)
	first := wantState(t, d, cluster.GuestRunning)
	err := d.Start(ctxFor(t), cluster.GuestSpec{Epoch: cluster.Epoch{Gen: 1, Seq: 2}})
	if !errors.Is(err, cluster.ErrNotStarted) {
		t.Fatalf("got %v, want ErrNotStarted", err)
	}
	if now := wantState(t, d, cluster.GuestRunning); now != first {
		t.Errorf("it was %+v and is now %+v", first, now)
	}
}

func TestHostsOfOneMachineSeeOnlyTheirOwnGuest(t *testing.T) {
	d1, d2 := newDriver(t, "h1"), newDriver(t, "h2")
	d2.opt.UUID = d1.opt.UUID
	startGuest(t, d1, 1)
	wantState(t, d2, cluster.GuestAbsent)
	startGuest(t, d2, 2)
	if err := d1.Kill(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	wantState(t, d1, cluster.GuestAbsent)
	wantState(t, d2, cluster.GuestRunning)
}

func TestAStoppedProcessIsPausedAndCanBeKilled(t *testing.T) {
	d := newDriver(t, "h1")
	startGuest(t, d, 1)
	g := wantState(t, d, cluster.GuestRunning)
	if err := unix.Kill(g.PID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "state paused", func() bool {
		g, err := d.Observe(ctxFor(t))
		return err == nil && g.State == cluster.GuestPaused
	})
	if err := d.Kill(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	wantState(t, d, cluster.GuestAbsent)
}

func TestKillEndsWhatTheGuestHasStarted(t *testing.T) {
	t.Setenv("FORK", "1")
	d := newDriver(t, "h1")
	startGuest(t, d, 1)
	try.Until(t, "two processes", func() bool { return len(mustFind(t, d)) == 2 })
	// The guest alone dies: its child still counts.
	if err := unix.Kill(oldest(mustFind(t, d)).proc.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "one process", func() bool { return len(mustFind(t, d)) == 1 })
	wantState(t, d, cluster.GuestRunning)
	if err := d.Kill(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	wantState(t, d, cluster.GuestAbsent)
}

func TestTheGuestOutlivesItsAgentAndIsFoundAgain(t *testing.T) {
	d := newDriver(t, "h1")
	agent, out := startAgent(t, d)
	for out.Scan() && out.Text() != "started" {
	}
	killAgent(t, agent)
	g := wantState(t, d, cluster.GuestRunning)
	if want := (cluster.Epoch{Gen: 1, Seq: 7}); g.Epoch != want {
		t.Errorf("epoch %s, want %s", g.Epoch, want)
	}
	if sid, err := unix.Getsid(g.PID); err != nil || sid != g.PID {
		t.Errorf("session %d, %v; want its own", sid, err)
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", g.PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", g.PID, fd.Name()))
		if err == nil && strings.HasPrefix(to, "pipe:") {
			t.Errorf("the guest has inherited descriptor %s, %s", fd.Name(), to)
		}
	}
	if err := d.Kill(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	wantState(t, d, cluster.GuestAbsent)
	wantWake(t, d)
}

func TestAbsentIsTrueWhateverMomentTheAgentDiesAt(t *testing.T) {
	d := newDriver(t, "h1")
	started, agents := 0, 15
	if testing.Short() {
		agents = 3
	}
	for range agents {
		agent, out := startAgent(t, d)
		out.Scan()
		time.Sleep(rand.N(20 * time.Millisecond)) // the moment under test
		killAgent(t, agent)
		g, err := d.Observe(ctxFor(t))
		if err != nil {
			t.Fatal(err)
		}
		if g.State == cluster.GuestRunning {
			started++
			if err := d.Kill(ctxFor(t)); err != nil {
				t.Fatal(err)
			}
		}
		for end := time.Now().Add(15 * time.Millisecond); time.Now().Before(end); {
			wantState(t, d, cluster.GuestAbsent)
		}
	}
	t.Logf("%d of %d agents had started the guest before they died", started, agents)
}

func TestAGuestNeverLooksAbsentBetweenStartAndKill(t *testing.T) {
	d := newDriver(t, "h1")
	var running sync.RWMutex // held for writing while it may be either
	running.Lock()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if !running.TryRLock() {
				continue
			}
			if g, err := d.Observe(context.Background()); err != nil || g.State != cluster.GuestRunning {
				t.Errorf("while it runs: %+v, %v", g, err)
			}
			running.RUnlock()
		}
	})
	guests := 15
	if testing.Short() {
		guests = 3
	}
	for i := range guests {
		startGuest(t, d, uint64(i+1))
		running.Unlock()
		wantState(t, d, cluster.GuestRunning)
		running.Lock()
		if err := d.Kill(ctxFor(t)); err != nil {
			t.Error(err)
		}
	}
	close(done)
	wg.Wait()
}

func TestWhileAStartIsUnderWayNothingIsProved(t *testing.T) {
	d := newDriver(t, "h1")
	unlock, err := d.lock(t.Context(), unix.LOCK_EX)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if g, err := d.Observe(ctx); err == nil || g.State != cluster.GuestUnknown {
		t.Errorf("observe: %+v, %v; want unknown and an error", g, err)
	}
	if err := d.Kill(ctx); !errors.Is(err, cluster.ErrNotProved) {
		t.Errorf("kill: %v; want ErrNotProved", err)
	}
	if err := d.Start(ctx, cluster.GuestSpec{}); !errors.Is(err, cluster.ErrNotStarted) {
		t.Errorf("start: %v; want ErrNotStarted", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	wantState(t, d, cluster.GuestAbsent)
}

func TestCheckSaysWhatIsMissing(t *testing.T) {
	d := newDriver(t, "h1")
	if err := d.Check(ctxFor(t), cluster.GuestSpec{UUID: d.opt.UUID}); err != nil {
		t.Fatal(err)
	}
	if err := d.Check(ctxFor(t), cluster.GuestSpec{UUID: "other"}); err == nil {
		t.Error("another uuid is accepted")
	}
	good := d.opt
	d.opt.Shared = os.Args[0]
	if err := d.Check(ctxFor(t), cluster.GuestSpec{}); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("shared is a file: %v", err)
	}
	d.opt = good
	d.opt.Command = []string{filepath.Join(d.opt.Dir, "none")}
	if err := d.Start(ctxFor(t), cluster.GuestSpec{}); !errors.Is(err, cluster.ErrNotStarted) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such command: %v", err)
	}
}

func TestMigrationIsRefused(t *testing.T) {
	d := newDriver(t, "h1")
	if err := d.Migrate(ctxFor(t), "127.0.0.1", false); err == nil || err.Error() != "the process driver can not migrate live" {
		t.Errorf("got %v", err)
	}
	if err := d.AbortMigration(ctxFor(t)); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesAnEmptyIdentity(t *testing.T) {
	for _, opt := range []Options{{Host: "h", UUID: "u"}, {Command: []string{"c"}, UUID: "u"}, {Command: []string{"c"}, Host: "h"}} {
		opt.Dir = t.TempDir()
		if _, err := New(opt); err == nil {
			t.Errorf("%+v is accepted", opt)
		}
	}
}

func newDriver(t *testing.T, host cluster.HostID) *Driver {
	t.Helper()
	d, err := New(Options{
		Command: []string{os.Args[0], "play-guest"}, Dir: t.TempDir(), Shared: t.TempDir(),
		Host: host, Resource: cluster.MgmtVM, UUID: fmt.Sprintf("%d-%x", os.Getpid(), rand.Uint64()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		d.opt.Command = []string{os.Args[0]}
		if err := errors.Join(d.Kill(ctx), d.Close()); err != nil {
			t.Error(err)
		}
	})
	return d
}

func startGuest(t *testing.T, d *Driver, seq uint64) {
	t.Helper()
	if err := d.Start(ctxFor(t), cluster.GuestSpec{Epoch: cluster.Epoch{Gen: 1, Seq: seq}, UUID: d.opt.UUID}); err != nil {
		t.Fatal(err)
	}
}

func startAgent(t *testing.T, d *Driver) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "play-agent", d.opt.Dir, d.opt.Shared, d.opt.UUID)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the test has killed it already, unless it failed before
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func killAgent(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the agent has ended by itself")
	}
}

func mustFind(t *testing.T, d *Driver) []guest {
	t.Helper()
	found, err := d.find(ctxFor(t))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func wantState(t *testing.T, d *Driver, want cluster.GuestState) cluster.Guest {
	t.Helper()
	g, err := d.Observe(ctxFor(t))
	if err != nil || g.State != want {
		t.Fatalf("got %+v, %v; want %s", g, err, want)
	}
	return g
}

func wantWake(t *testing.T, d *Driver) {
	t.Helper()
	<-d.Wake()
}

func ctxFor(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
