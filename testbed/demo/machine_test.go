package demo

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/lib/pki"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/need"
)

// testHost is a machine whose agent is playAgent.
type testHost struct {
	*procMachine
	mu    sync.Mutex
	kinds []string
}

func newTestHost(t *testing.T) *testHost {
	t.Helper()
	l := testLayout(t)
	m := testMarks(t)
	n := newNetwork(func(context.Context, netip.AddrPort, netip.AddrPort) (cluster.HostID, error) {
		return "",
			errNobody
	}, slog.New(slog.DiscardHandler))
	h := &testHost{}
	h.procMachine = newProcMachine(l.places[0], os.Args[0], m, n, func(kind, _ string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.kinds = append(h.kinds, kind)
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	ready := make(chan struct{})
	go func() { done <- h.watch(ctx, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		err := h.PowerOff(context.Background())
		cancel()
		if err := errors.Join(err, <-done, n.Close()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func testLayout(t *testing.T) *layout {
	t.Helper()
	l := must[*layout](t)(newLayout("", "run"+randomID()))
	t.Cleanup(func() {
		if err := removeRun(l.dir, l.run); err != nil {
			t.Error(err)
		}
	})
	if err := l.write(os.Args[0]); err != nil {
		t.Fatal(err)
	}
	return l
}

// living counts the host's processes.
func (h *testHost) living(t *testing.T) int {
	t.Helper()
	n := 0
	for _, p := range must[[]markedProc](t)(h.marks.Scan()) {
		if !p.Dead() {
			n++
		}
	}
	return n
}

// family reports whether exactly one agent and that many children of agents run.
// A process between fork and exec counts as what its parent is: the first start
// of a child forks once more, to see what the kernel can do.
func (h *testHost) family(t *testing.T, children int) bool {
	t.Helper()
	got := map[string]int{}
	for _, p := range must[[]markedProc](t)(h.marks.Scan()) {
		if img, err := proc.Here.ReadImage(p.PID); err == nil && !p.Dead() && len(img.Args) > 1 {
			got[img.Args[1]]++
		}
	}
	return got["agent"] == 1 && got["play-idle"] == children
}

func (h *testHost) saw(kind string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Contains(h.kinds, kind)
}

func TestPowerLossEndsEveryProcessOfAHostAndABootIsNew(t *testing.T) {
	h := newTestHost(t)
	if h.Reachable() {
		t.Error("reachable without power")
	}
	var boots []string
	for range 2 {
		for range 2 { // the second time it is on already
			if err := h.PowerOn(ctxFor(t)); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the agent and its child run", func() bool { return h.family(t, 1) })
		if !h.Reachable() || h.net.Isolated(h.name) {
			t.Error("on but not reachable")
		}
		boots = append(boots, string(must[[]byte](t)(os.ReadFile(h.bootID))))
		for _, f := range []string{filepath.Join(h.runDir, "f"), filepath.Join(h.dataDir, "f")} {
			if err := os.WriteFile(f, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := h.PowerOff(ctxFor(t)); err != nil {
				t.Fatal(err)
			}
		}
		if n := h.living(t); n != 0 || h.Reachable() || !h.net.Isolated(h.name) || h.Condition().agent {
			t.Errorf("off, but %d processes, %+v", n, h.Condition())
		}
	}
	if boots[0] == boots[1] || len(strings.TrimSpace(boots[0])) != 36 {
		t.Errorf("boot ids %q", boots)
	}
	if err := h.PowerOn(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(h.dataDir, "f")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(h.runDir, "f")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the run directory has survived: %v", err)
	}
}

func TestAKilledAgentIsRestartedAndItsChildGoesOn(t *testing.T) {
	h := newTestHost(t)
	if err := h.KillAgent(ctxFor(t)); err == nil {
		t.Error("an agent that does not run was killed")
	}
	if err := h.PowerOn(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent and its child run", func() bool { return h.family(t, 1) })
	if err := h.KillAgent(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	// The new agent starts a child of its own, the old child lives on.
	eventually(t, "a new agent with two children", func() bool { return h.family(t, 2) && h.Condition().agent })
	if !h.saw("agent-ended") {
		t.Error("no event says so")
	}
}

func TestAnIsolatedHostStaysSoUntilItIsHealed(t *testing.T) {
	h := newTestHost(t)
	if err := h.PowerOn(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	if err := h.Cut(ctxFor(t), true); err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOff(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	if err := h.PowerOn(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	if h.Reachable() || !h.net.Isolated(h.name) {
		t.Error("a new boot has plugged the cables in")
	}
	if err := h.Cut(ctxFor(t), false); err != nil {
		t.Fatal(err)
	}
	if !h.Reachable() || h.net.Isolated(h.name) {
		t.Error("still not reachable")
	}
}

func TestTheWatchdogResetsTheHost(t *testing.T) {
	need.Seconds(t)
	h := newTestHost(t)
	if err := h.PowerOn(ctxFor(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent and its child run", func() bool { return h.family(t, 1) })
	first := string(must[[]byte](t)(os.ReadFile(h.bootID)))
	dev := must[watchdog.Device](t)(watchdog.Open("unix:" + h.device))
	timer := must[watchdog.Timer](t)(dev.Arm(ctxFor(t), 100*time.Millisecond))
	defer func() { _ = timer.Close() }() // the device drops it when it fires
	eventually(t, "it has fired and the host is off", func() bool { return h.Condition().fired == 1 && !h.Condition().on })
	eventually(t, "the host is on again", func() bool { return h.Condition().on && h.family(t, 1) })
	if boot := string(must[[]byte](t)(os.ReadFile(h.bootID))); boot == first {
		t.Error("the boot id is the same")
	}
}

func TestTheFilesOfARunAreAccepted(t *testing.T) {
	l := testLayout(t)
	cfg, warnings, err := config.Load(l.configFile(), config.Options{AllowUndersized: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(warnings)
	if len(cfg.Nodes()) != hostCount {
		t.Errorf("nodes %v", cfg.Nodes())
	}
	for _, p := range l.places {
		n, err := config.LoadNode(p.config)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := pki.Load(n.TLS.CA, n.TLS.Cert, n.TLS.Key); err != nil {
			t.Error(err)
		}
		if len(n.Store.Endpoints) != hostCount || !strings.Contains(n.Store.Endpoints[0], p.inside.String()) {
			t.Errorf("%s: endpoints %v: want its own first", p.name, n.Store.Endpoints)
		}
	}
	if l.places[0].outside == l.places[1].outside || !l.free(l.ports) {
		t.Errorf("addresses %+v, ports %+v", l.places, l.ports)
	}
	taken := must[net.Listener](t)(net.Listen("tcp", net.JoinHostPort(l.places[2].inside.String(), "0")))
	defer func() { _ = taken.Close() }()
	port := uint16(taken.Addr().(*net.TCPAddr).Port)
	if l.free(ports{peer: l.ports.peer, client: l.ports.client, api: port}) {
		t.Error("a port that is taken counts as free")
	}
}

func TestADirectoryWithTooLongAPathIsRefused(t *testing.T) {
	parent := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	_, err := newLayout(parent, "r")
	if err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Fatalf("got %v", err)
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(parent)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
