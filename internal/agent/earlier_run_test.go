package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/service"
	"holdfast/testbed/earlier"
	"holdfast/testbed/earlier/revive"
	"holdfast/testbed/try"
)

// connected is an agent that reaches a quorum of the store.
type connected struct{ service.Cluster }

func (connected) Status() cluster.Status { return cluster.Status{Connected: true} }

// assertTold wants `upgrade status -o json` and `jobs show -o json` to be what the earlier
// version has said at that moment, with all times.
func assertTold(t *testing.T, st store.Store, m earlier.Moment) {
	t.Helper()
	if m == earlier.Moving {
		return // guests moved while it would have been asked
	}
	s, err := service.New(service.Parts{
		Store: st, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler), Cluster: connected{},
		Seen: func() (map[cluster.HostID]report.Seen, bool) { return nil, false }, // no host reports
	})
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.Upgrade(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u.Next, u.Blocked = nil, nil // the earlier version left them to who asked
	earlier.Same(t, "upgrade status", earlier.Said(t, m, "upgrade-status"), u)
	v, err := engine.Jobs{Store: st, Planners: planners}.Get(t.Context(), earlier.Upgrade)
	if err != nil {
		t.Fatal(err)
	}
	earlier.Same(t, "jobs show", earlier.Said(t, m, "jobs-show"), v)
}

// TestStoreOfAnEarlierVersionIsRestored: `store restore` takes a backup of the earlier
// version, and begins a generation after all that the host of then has seen.
func TestStoreOfAnEarlierVersionIsRestored(t *testing.T) {
	dir, data := try.ShortDir(t), earlier.Files(t, "end")
	free := func() string { return "http://" + revive.FreeAddr(t) }
	opt := options(settings(t, dir, func(n *config.Node) {
		n.Host, n.Cluster, n.DataDir = earlier.Host, earlier.Cluster, data
		m := &config.Member{ListenPeer: free(), ListenClient: free()}
		m.PeerURL, m.ClientURL = m.ListenPeer, m.ListenClient
		m.Initial = map[string]string{earlier.Host: m.PeerURL}
		n.Store.Endpoints, n.Store.Member = []string{m.ClientURL}, m
	}))
	if seen, err := loop.LoadGeneration(data); err != nil || seen != laterGeneration {
		t.Errorf("the host has seen generation %d, %v: want %d", seen, err, laterGeneration)
	}
	if id, err := readID(filepath.Join(data, "identity")); err != nil || len(id) != 32 {
		t.Errorf("identity %q, %v", id, err)
	}
	got, err := RestoreStore(t.Context(), opt, earlier.Snapshot(t, earlier.Failed), false)
	if err != nil || got.Generation <= laterGeneration {
		t.Fatalf("restored as %+v, %v", got, err)
	}
	c, err := MemberConfig(opt.NodeFile)
	if err != nil {
		t.Fatal(err)
	}
	c.LogLevel = "error"
	st := revive.Run(t, c)
	if gen := record[uint64](t, st, records.KeyGeneration); gen != got.Generation {
		t.Errorf("the store is of generation %d, want %d", gen, got.Generation)
	}
	if o := record[cluster.Owner](t, st, records.OwnerKey(cluster.MgmtVM)); o.Epoch.Gen != 1 {
		t.Errorf("owner %+v", o)
	}
	if left := revive.List(t, st, records.KeyHosts); len(left) > 0 {
		t.Errorf("hosts of before are there: %v", left)
	}
}

// adopter is the worker of today on the host of then.
type adopter struct {
	dir       string
	st        store.Store
	executors map[string]engine.Executor
	asked     atomic.Int32 // how far a step is
	begun     atomic.Int32 // steps that would have been done from their begin
}

func adopts(t *testing.T, m earlier.Moment, files string) *adopter {
	t.Helper()
	a := &adopter{dir: earlier.Files(t, files), st: revive.Store(t, m)}
	s, err := service.New(service.Parts{
		Store: a.st, Host: earlier.Host, Dir: a.dir, Log: slog.New(slog.DiscardHandler), Exe: "/bin/false",
		BootIDFile: "/proc/sys/kernel/random/boot_id",
	})
	if err != nil {
		t.Fatal(err)
	}
	a.executors = s.Executors()
	return a
}

// watched counts what the worker asks for.
type watched struct {
	engine.Executor
	a *adopter
}

func (w watched) Probe(ctx context.Context, t engine.Task) (engine.Probed, error) {
	defer w.a.asked.Add(1)
	return w.Executor.Probe(ctx, t)
}

func (w watched) Do(context.Context, engine.Task) error {
	w.a.begun.Add(1)
	return errors.New("begun anew")
}

func (a *adopter) attempt(step string, more ...string) string {
	return filepath.Join(append([]string{a.dir, "upgrade", "runs", earlier.Upgrade, strings.ReplaceAll(step, "/", "_")}, more...)...)
}

// TestStepOfAnEarlierVersionGoesOn: the agent of then has begun a program that still runs.
// The agent of today finds it by the state directory, waits for it, and tells how it has
// ended, as the same attempt.
func TestStepOfAnEarlierVersionGoesOn(t *testing.T) {
	const step = "h2/install/agentd"
	a := adopts(t, earlier.Middle, "middle")
	lock := a.helper(t, a.attempt(step, "1", "1", "lock"))
	then := a.record(t, step).Began // its time is not over
	w := engine.NewWorker(engine.WorkerOptions{
		Store: a.st, Host: earlier.Host, Instance: "today", Boot: "today", Dir: a.dir,
		Executors:   map[string]engine.Executor{upgrade.KindAction: watched{a.executors[upgrade.KindAction], a}},
		Coordinator: func() (int64, string, bool) { return 0, "", false }, Handover: time.Hour,
		Now: func() time.Time { return then.Add(time.Minute) }, Rand: func() float64 { return 0 }, Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	try.Until(t, "the worker to ask twice", func() bool { return a.asked.Load() >= 2 })
	r := a.record(t, step)
	if r.State != job.Running || r.Attempt != 1 || r.Instance == "today" || a.asked.Load() < 2 || a.begun.Load() != 0 {
		t.Fatalf("while it runs: %+v, asked %d times, begun %d times", r, a.asked.Load(), a.begun.Load())
	}
	end, err := os.ReadFile(filepath.Join(earlier.Files(t, "prepared"), "upgrade", "runs", earlier.Upgrade, "h2_install_agentd", "1", "1", "exit.json"))
	if err == nil {
		err = os.WriteFile(a.attempt(step, "1", "1", "exit.json"), end, 0o600)
	}
	if err = errors.Join(err, lock.Close()); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "the end of the step", func() bool { r = a.record(t, step); return r.State != job.Running })
	if r.State != job.Done || r.Attempt != 1 || a.begun.Load() != 0 || !strings.Contains(r.Tail, "the program is replaced") {
		t.Errorf("when it has ended: %+v, begun %d times", r, a.begun.Load())
	}
	log, err := os.ReadFile(engine.LogFile(a.dir, earlier.Upgrade, step, 1))
	if err != nil || bytes.Count(log, []byte("the program is replaced")) != 1 {
		t.Errorf("its log: %q, %v", log, err)
	}
	if more, err := os.ReadDir(a.attempt(step)); err != nil || len(more) != 1 {
		t.Errorf("attempts: %v, %v", more, err)
	}
}

// helper holds the lock as the helper of a program does that runs.
func (a *adopter) helper(t *testing.T, file string) *os.File {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (a *adopter) record(t *testing.T, step string) job.Record {
	t.Helper()
	r, err := engine.Record(t.Context(), a.st, earlier.Upgrade, step)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestStepsOfAnEarlierVersionAreFound: of the programs, the reboot and the bundle of the
// host, the agent of today says that they are done, by what lies on its disk.
func TestStepsOfAnEarlierVersionAreFound(t *testing.T) {
	a := adopts(t, earlier.Failed, "prepared")
	l, err := engine.Load(t.Context(), a.st, earlier.Upgrade)
	if err != nil {
		t.Fatal(err)
	}
	p, err := planners[job.Upgrade](l.Plan)
	if err != nil {
		t.Fatal(err)
	}
	// Whether these are done is seen in the system of the host, which is not here.
	elsewhere := []string{"h2/backup/base", "h2/install/base", "h2/backup/web", "h2/install/web"}
	kinds := []string{upgrade.KindAction, upgrade.KindReboot, upgrade.KindStage}
	found := 0
	for _, s := range p.Steps() {
		r := l.Records[s.ID]
		if s.Host != earlier.Host || r.State != job.Done || !slices.Contains(kinds, s.Kind) || slices.Contains(elsewhere, s.ID) {
			continue
		}
		if _, err := os.Stat(engine.LogFile(a.dir, earlier.Upgrade, s.ID, r.Attempt)); err != nil {
			t.Errorf("the log of %s: %v", s.ID, err)
		}
		var out bytes.Buffer
		got, err := a.executors[s.Kind].Probe(t.Context(), engine.Task{
			Job: earlier.Upgrade, Kind: job.Upgrade, Step: s, Attempt: r.Attempt, Host: r.Host, Boot: r.Boot, Log: &out, Note: func(string, int) {},
		})
		if err != nil || got != engine.ProbedDone {
			t.Errorf("%s: probed as %d, %v: %s", s.ID, got, err, out.String())
		}
		found++
	}
	if found != 10 {
		t.Errorf("%d steps were found, want 10", found)
	}
}
