package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/try"
)

// fakeCluster is the agent's other half. No host coordinates.
type fakeCluster struct{}

func (fakeCluster) Coordinator() (int64, string, bool) { return 0, "", false }
func (fakeCluster) SetMaintenance(context.Context, string, cluster.HostID, bool) error {
	return errors.New("no host is to be emptied")
}
func (fakeCluster) Power(context.Context, string, bool) error {
	return errors.New("the management VM is left alone")
}
func (fakeCluster) Status() cluster.Status {
	return cluster.Status{Cluster: "lab", Coordinator: "h1", Connected: true}
}
func (fakeCluster) StoreStatus(context.Context) (cluster.StoreStatus, error) {
	return cluster.StoreStatus{}, errors.New("nobody asks the store")
}

// rig is a Service of host h1 that reads the records of hosts. No worker runs, and
// there is no hypervisor.
type rig struct {
	*Service
	t      *testing.T
	client *storetest.Client
	view   *report.View

	mu     sync.Mutex
	silent map[cluster.HostID]bool // for this host
	gone   map[cluster.HostID]bool // their records
}

// sight is what this host sees.
func (r *rig) sight() (map[cluster.HostID]report.Seen, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen, ok := r.view.Seen()
	for h := range r.silent {
		if s, known := seen[h]; known {
			s.SeenAt = s.SeenAt.Add(-2 * report.Silent)
			seen[h] = s
		}
	}
	for h := range r.gone {
		delete(seen, h)
	}
	return seen, ok
}

// silence makes a host silent for this one.
func (r *rig) silence(h cluster.HostID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent[h] = true
}

// lose takes a host's record away from this one.
func (r *rig) lose(h cluster.HostID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone[h] = true
}

// limited bounds calls of a test.
func limited(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// newRig makes the Service of a host, and lets it follow the records.
func newRig(t *testing.T, mem *storetest.Mem, host cluster.HostID, change func(*Parts)) *rig {
	t.Helper()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	fleet, err := guests.New(guests.Options{Socket: filepath.Join(dir, "no-libvirtd"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	client := mem.NewClient(string(host))
	r := &rig{t: t, client: client, view: &report.View{Store: client, Log: log}, silent: map[cluster.HostID]bool{},
		gone: map[cluster.HostID]bool{}}
	p := Parts{
		Seen: r.sight, Forgotten: r.view.Forgotten,
		Store: client, Cluster: fakeCluster{}, Name: "lab", Host: host, Dir: dir, Fleet: fleet,
		Addresses: fleet.Addresses, Log: log, Exe: "/nonexistent/holdfast",
		Dial: dials(nil),
	}
	if change != nil {
		change(&p)
	}
	if r.view.Names, err = report.OpenNames(filepath.Join(p.Dir, "reported.json")); err != nil {
		t.Fatal(err)
	}
	s, err := New(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.view.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := errors.Join(fleet.Close(), client.Close()); err != nil {
			t.Error(err)
		}
	})
	r.Service = s
	return r
}

// report writes hosts' records and waits until the view has them.
func (r *rig) report(recs ...report.Record) {
	r.t.Helper()
	for _, rec := range recs {
		r.mu.Lock()
		delete(r.silent, rec.Host.Name)
		r.mu.Unlock()
		value, err := json.Marshal(rec)
		if err != nil {
			r.t.Fatal(err)
		}
		rev, _, err := r.client.Txn(r.t.Context(), nil, []store.Op{{Key: report.RecordKey(rec.Host.Name), Value: value}})
		if err != nil {
			r.t.Fatal(err)
		}
		try.Until(r.t, "the record of "+string(rec.Host.Name), func() bool {
			seen, ok := r.view.Seen()
			return ok && seen[rec.Host.Name].Mod >= rev
		})
	}
}

// bare is the record of a host without guests, 4 GiB large.
func bare(h cluster.HostID) report.Record {
	return report.Record{Host: inventory.Host{Name: h, MemoryMiB: 4096, Boot: "boot-1", Install: "install-" + string(h),
		Kernel: "6.1"}, Addr: "addr-" + string(h), Agent: "0.1", Seq: 1}
}

const appManifest = `
name: app
version: %s
minSpaceGB: 1
upgradeFrom:
- {version: 1.0.0, modes: [offline, rolling]}
modules:
- name: db
  canRollback: true
  files: [bin/db.sh, data/]
  actions:
    install: {run: [bin/db.sh, install]}
    rollback: {run: [bin/db.sh, rollback]}
`

// makeBundle builds a bundle of a version, with a file of some size that does not
// shrink.
func makeBundle(t *testing.T, version string, size int, key *bundle.PrivateKey) []byte {
	t.Helper()
	dir := t.TempDir()
	data := make([]byte, size)
	for i, x := 0, uint32(1); i < size; i++ {
		x = x*1664525 + 1013904223
		data[i] = byte(x >> 24)
	}
	for name, text := range map[string]string{"manifest.yaml": fmt.Sprintf(appManifest, version),
		"bin/db.sh": "#!/bin/sh\nexit 1\n", "data/blob": string(data)} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c, err := bundle.CompressionOf("app.tar")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := bundle.Build(t.Context(), dir, &out, bundle.BuildOptions{Key: key, Compression: c}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bundle brings an unsigned bundle of a version to the host.
func (r *rig) bundle(version string) request.BundleInfo {
	r.t.Helper()
	b, err := r.PutBundle(limited(r.t), bytes.NewReader(makeBundle(r.t, version, 1000, nil)), request.Trust{AllowUnsigned: true})
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// confirmed accepts the checks that fail in this place without asking to run:
// there is no hypervisor, no store that can be asked and no other agent.
func (r *rig) confirmed(q request.Request) request.Request {
	r.t.Helper()
	rep, err := r.CheckUpgrade(limited(r.t), q)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range unconfirmed(rep.Findings, nil) {
		if slices.ContainsFunc(check.List(), func(c check.Check) bool { return c.ID == f.Check }) { // a plan's rules are no checks
			q.Options.Confirmed = append(q.Options.Confirmed, f.Check)
		}
	}
	return q
}

// begin begins an upgrade to a bundle.
func (r *rig) begin(q request.Request) request.Begun {
	r.t.Helper()
	got, err := r.RunUpgrade(limited(r.t), "ann", r.confirmed(q))
	if err != nil || got.Job == nil {
		r.t.Fatalf("%v, findings %+v, report %+v", err, got.Plan.Findings, got.Report)
	}
	return got
}

// state reads the record.
func (r *rig) state() State {
	r.t.Helper()
	s, err := loadState(limited(r.t), r.client)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// jobs are the ids of all jobs.
func (r *rig) jobs() []string {
	r.t.Helper()
	list, err := engine.List(limited(r.t), r.Store)
	if err != nil {
		r.t.Fatal(err)
	}
	var out []string
	for _, j := range list {
		out = append(out, j.ID)
	}
	return out
}

// wantKind fails unless err is a fail.Error of a kind whose text, with its remedy,
// holds all texts.
func wantKind(t *testing.T, err error, kind fail.Kind, texts ...string) {
	t.Helper()
	var e *fail.Error
	if !errors.As(err, &e) {
		t.Errorf("got %v (%T), want an error of kind %s", err, err, kind)
		return
	}
	for _, text := range texts {
		if e.Kind != kind || !strings.Contains(e.Message+"\n"+e.Remedy, text) {
			t.Errorf("got %s %q (%q), want %s with %q", e.Kind, e.Message, e.Remedy, kind, text)
		}
	}
}
