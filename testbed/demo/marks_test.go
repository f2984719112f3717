package demo

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/process"
	"holdfast/internal/lib/proc"
)

func TestScanFindsTheProcessesOfOneRunByHost(t *testing.T) {
	m, other := testMarks(t), testMarks(t)
	family, _, _ := spawn(t, m.env("h1"), "play-family")
	idle, _, _ := spawn(t, m.env("h2"), "play-idle")
	spawn(t, other.env("h1"), "play-idle")
	hosts := func() map[string][]int {
		got := map[string][]int{}
		for _, p := range must[[]markedProc](t)(m.Scan()) {
			got[string(p.Host)] = append(got[string(p.Host)], p.PID)
		}
		return got
	}
	eventually(t, "three processes", func() bool { got := hosts(); return len(got["h1"]) == 2 && len(got["h2"]) == 1 })
	got := hosts()
	if got["h1"][0] != family.Process.Pid && got["h1"][1] != family.Process.Pid || got["h2"][0] != idle.Process.Pid {
		t.Errorf("got %v, want %d on h1 and %d on h2", got, family.Process.Pid, idle.Process.Pid)
	}
}

// TestALateScanLooksOnceMore: the scan before saw the process during its exec,
// when it shows no mark, and the next one comes only after the process has
// settled.
func TestALateScanLooksOnceMore(t *testing.T) {
	m := testMarks(t)
	idle, _, _ := spawn(t, m.env("h1"), "play-idle")
	eventually(t, "the process is there", func() bool { return len(must[[]markedProc](t)(m.Scan())) == 1 })
	m.known[idle.Process.Pid] = &markEntry{first: time.Now().Add(-2 * settleTime)}
	if found := must[[]markedProc](t)(m.Scan()); len(found) != 1 || !m.known[idle.Process.Pid].settled {
		t.Errorf("got %+v, want process %d, settled", found, idle.Process.Pid)
	}
}

func TestScanKnowsTheVM(t *testing.T) {
	m := testMarks(t)
	t.Setenv(process.EnvGuest, "uuid")
	t.Setenv(process.EnvEpoch, "2.5")
	spawn(t, m.env("h3"), "play-idle", "--socket", "/s")
	var p markedProc
	eventually(t, "the process is there", func() bool {
		found := must[[]markedProc](t)(m.Scan())
		if len(found) == 1 {
			p = found[0]
		}
		return p.Guest
	})
	if p.Host != "h3" || p.Epoch.String() != "2.5" || p.Socket != "/s" {
		t.Errorf("got %+v", p)
	}
}

func TestKillEndsAHostAndNoOther(t *testing.T) {
	m := testMarks(t)
	spawn(t, m.env("h1"), "play-family")
	spawn(t, m.env("h2"), "play-idle")
	eventually(t, "three processes", func() bool { return len(must[[]markedProc](t)(m.Scan())) == 3 })
	if err := m.Kill(ctxFor(t), ofHost("h1")); err != nil {
		t.Fatal(err)
	}
	var living []markedProc
	for _, p := range must[[]markedProc](t)(m.Scan()) {
		if !p.Dead() {
			living = append(living, p)
		}
	}
	if len(living) != 1 || living[0].Host != "h2" {
		t.Errorf("left: %+v, want one on h2", living)
	}
}

func TestKillEndsAProcessThatKeepsStartingNewOnes(t *testing.T) {
	m := testMarks(t)
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 500 ]; do sleep 20 & i=$((i+1)); done; wait")
	cmd.Env = append(os.Environ(), m.env("h1"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a few processes", func() bool { return len(must[[]markedProc](t)(m.Scan())) > 3 })
	if err := m.Kill(ctxFor(t), anyHost); err != nil {
		t.Fatal(err)
	}
	// Kill has collected it, so that the result of waiting says nothing.
	_ = cmd.Wait()
	for _, p := range must[[]markedProc](t)(newMarks(m.run).Scan()) {
		if !p.Dead() {
			t.Fatalf("still there: %+v", p)
		}
	}
}

func TestOrphansAreCollectedAndOwnChildrenAreNot(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			t.Error(err)
		}
	}()
	m := testMarks(t)
	family, _, _ := spawn(t, m.env("h1"), "play-family")
	m.Own(family.Process.Pid)
	var child proc.Proc
	eventually(t, "a child", func() bool {
		for _, p := range must[[]markedProc](t)(m.Scan()) {
			if p.PPID == family.Process.Pid {
				child = p.Proc
			}
		}
		return child.PID != 0
	})
	if err := family.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child came to this process", func() bool {
		p, err := proc.Here.Read(child.PID)
		return err == nil && p.PPID == os.Getpid()
	})
	if err := unix.Kill(child.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the orphan is collected", func() bool {
		if err := m.Collect(must[[]markedProc](t)(m.Scan())); err != nil {
			t.Fatal(err)
		}
		_, err := proc.Here.Read(child.PID)
		return errors.Is(err, proc.ErrGone)
	})
	var exit *exec.ExitError
	if err := family.Wait(); !errors.As(err, &exit) {
		t.Errorf("wait for the own child: %v, want its exit status", err)
	}
}

func TestNothingStaysWhenTheDemoIsKilled(t *testing.T) {
	m := testMarks(t)
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, runFile), []byte(m.run), 0o600); err != nil {
		t.Fatal(err)
	}
	demo, out, _ := spawn(t, "", "play-demo", m.run, dir)
	if !out.Scan() || out.Text() != "ready" {
		t.Fatalf("got %q", out.Text())
	}
	eventually(t, "two processes", func() bool { return len(must[[]markedProc](t)(m.Scan())) == 2 })
	if err := demo.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no process is left", func() bool {
		for _, p := range must[[]markedProc](t)(m.Scan()) {
			if !p.Dead() {
				return false
			}
		}
		return true
	})
	eventually(t, "the directory is removed", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
}

func TestTheJanitorRemovesOnlyTheDirectoryOfItsRun(t *testing.T) {
	dir := t.TempDir()
	if err := removeRun(dir, "a"); err != nil {
		t.Fatalf("a directory without a mark: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, runFile), []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeRun(dir, "b"); err == nil {
		t.Fatal("the directory of another run was accepted")
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{nil, {""}, {"a", "b", "c"}} {
		if err := runJanitor(args, new(bufio.Reader)); err == nil {
			t.Errorf("arguments %q are accepted", args)
		}
	}
}
