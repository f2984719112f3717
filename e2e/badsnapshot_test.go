package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// alone is a cluster of one agent with a member of its own on loopback addresses.
type alone struct {
	exe, dir string
	node     config.Node
}

// newAlone writes its settings. Its processes end with the test.
func newAlone(t *testing.T) *alone {
	t.Helper()
	need.Real(t, built)
	exe, err := filepath.Abs("../bin/holdfast")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hfa") // unix sockets want short paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		killThatName(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	a := &alone{exe: exe, dir: dir}
	write(t, filepath.Join(dir, "cluster.json"), sampleIn(t, dir))
	client, peer := "http://"+freePort(t), "http://"+freePort(t)
	a.node = config.Node{
		Host: "h1", Addr: "127.0.0.1", Cluster: "alone", Driver: "process",
		DataDir: filepath.Join(dir, "data"), RunDir: filepath.Join(dir, "run"), ConfigFile: filepath.Join(dir, "cluster.json"),
		Process: config.Process{Command: []string{exe, "demo-guest"}, Dir: dir},
		Store: config.Store{Endpoints: []string{client}, Member: &config.Member{
			ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client, Initial: map[string]string{"h1": peer}}},
		Watchdog: config.Watchdog{Device: "none"},
	}
	write(t, a.settings(), a.node)
	return a
}

func (a *alone) settings() string { return filepath.Join(a.dir, "h1.json") }

// run runs holdfast and returns what it said and its exit code.
func (a *alone) run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), a.exe, args...).CombinedOutput()
	var e *exec.ExitError
	if err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	if e != nil {
		return string(out), e.ExitCode()
	}
	return string(out), 0
}

// agent starts the agent. The returned function ends it alone, without its member.
func (a *alone) agent(t *testing.T) (stop func()) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(a.dir, "agent.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c := exec.Command(a.exe, "agent", "--config", a.settings())
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	stop = func() {
		if ended {
			return
		}
		ended = true
		_ = c.Process.Signal(syscall.SIGTERM) // it may have ended
		kill := time.AfterFunc(15*time.Second, func() { _ = c.Process.Kill() })
		defer kill.Stop()
		if err := c.Wait(); err != nil && t.Failed() {
			t.Logf("the agent: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// asked runs a command of the API until it works.
func (a *alone) asked(t *testing.T, into any, args ...string) {
	t.Helper()
	said := ""
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		args := append(args, "-o", "json", "--socket", filepath.Join(a.dir, "run", "holdfast.sock"))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		out, err := exec.CommandContext(ctx, a.exe, args...).Output()
		cancel()
		if err == nil {
			err = lab.ReadTold(out, into)
		}
		if err == nil {
			return
		}
		said = fmt.Sprint(string(out), err)
	}
	log, err := os.ReadFile(filepath.Join(a.dir, "agent.log"))
	t.Fatalf("%v: %s; the agent's log: %s, %v", args, said, log, err)
}

// generation is the store's; an agent that has just begun does not know it.
func (a *alone) generation(t *testing.T) uint64 {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		var s cluster.StoreStatus
		if a.asked(t, &s, "store", "status"); s.Generation != 0 {
			return s.Generation
		}
	}
	t.Fatal("the agent does not learn the store's generation")
	return 0
}

// TestRestoreRefusesWhatIsNoBackup of this cluster, and loses nothing by it.
func TestRestoreRefusesWhatIsNoBackup(t *testing.T) {
	need.Drill(t, "P7: what is no backup of this cluster is not restored, and nothing is lost by it")
	a := newAlone(t)
	stop := a.agent(t)
	var b cluster.Backup
	a.asked(t, &b, "store", "backup")
	whole, err := os.ReadFile(b.File)
	if err != nil {
		t.Fatal(err)
	}
	other := a.node
	other.Cluster, other.DataDir, other.RunDir = "another", filepath.Join(a.dir, "data2"), filepath.Join(a.dir, "run2")
	foreign := filepath.Join(a.dir, "other.json")
	write(t, foreign, other)
	file := func(name string, content []byte) string {
		path := filepath.Join(a.dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	changed := bytes.Clone(whole)
	changed[len(changed)/2] ^= 1
	refused := func(code int, text, config, snapshot string, more ...string) {
		t.Helper()
		out, got := a.run(t, append([]string{"store", "restore", snapshot, "--config", config}, more...)...)
		if got != code || !strings.Contains(out, text) || strings.Contains(out, "goroutine ") {
			t.Errorf("restore %s: exit code %d, %s: want %d and %q", filepath.Base(snapshot), got, out, code, text)
		}
	}
	refused(2, "in use by another running agent", a.settings(), b.File, "--move-aside")
	stop()
	refused(2, "no complete snapshot", a.settings(), file("half", whole[:len(whole)/2]), "--move-aside")
	refused(2, "no complete snapshot", a.settings(), file("cut", whole[:len(whole)-1]), "--move-aside")
	refused(2, "no complete snapshot", a.settings(), file("changed", changed), "--move-aside")
	refused(2, "no complete snapshot", a.settings(), file("empty", nil), "--move-aside")
	refused(2, "no complete snapshot", a.settings(), file("text", []byte("hello\n")), "--move-aside")
	refused(2, "no such file", a.settings(), filepath.Join(a.dir, "none"), "--move-aside")
	refused(2, "belongs to another cluster", foreign, b.File)
	if _, err := os.Stat(filepath.Join(a.dir, "data2", "store")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused restore left data: %v", err)
	}
	refused(3, "--move-aside", a.settings(), b.File)

	// Nothing was lost: the same store, of the first generation.
	stop = a.agent(t)
	if g := a.generation(t); g != 1 {
		t.Errorf("generation %d, want 1", g)
	}
	stop()
	if out, code := a.run(t, "store", "restore", b.File, "--config", a.settings(), "--move-aside"); code != 0 ||
		!strings.Contains(out, "the store is restored, generation ") {
		t.Errorf("restore: exit code %d: %s", code, out)
	}
	stop = a.agent(t)
	if g := a.generation(t); g < 2 {
		t.Errorf("generation %d, want a new one", g)
	}
	stop()
}

// TestTimingsThatContradictEachOther are refused with the sum.
func TestTimingsThatContradictEachOther(t *testing.T) {
	a := newAlone(t)
	for text, edit := range map[string]func(*config.Timings){
		"Keepalive 5s is more than Lease 6s / 3 = 2s": func(x *config.Timings) { x.Keepalive = config.Duration(5 * time.Second) },
		"Lease 1s + Grace 2s = 3s is less than Watchdog 4s + 2 x Keepalive 300ms = 4.6s": func(x *config.Timings) {
			x.Lease, x.Keepalive, x.Election = config.Duration(time.Second), config.Duration(300*time.Millisecond), config.Duration(time.Second)
		},
		"Detection 30s is more than Lease 6s": func(x *config.Timings) { x.Detection = config.Duration(30 * time.Second) },
		"want default or fast":                func(x *config.Timings) { x.Profile = "faster" },
	} {
		cl := sampleIn(t, a.dir)
		edit(&cl.TimingConf)
		write(t, filepath.Join(a.dir, "cluster.json"), cl)
		for _, args := range [][]string{{"agent", "--check"}, {"agent"}} {
			out, code := a.run(t, append(args, "--config", a.settings())...)
			if code != 2 || !strings.Contains(out, text) {
				t.Errorf("%v: exit code %d, %s: want 2 and %q", args, code, out, text)
			}
		}
	}
}
