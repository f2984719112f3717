package survey

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

const sha = "6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c6f0c"

// world is a cluster whose hosts answer as the test wants it.
type world struct {
	mu    sync.Mutex
	inv   inventory.Inventory
	man   manifest.Manifest
	refs  []HostRef
	tell  map[cluster.HostID]func(ctx context.Context, f *fact.Facts) error // changes what a host says
	asked []fact.Wanted
	reads int // of the plan
}

// well is a cluster of one manager and three hosts that are well.
func well() *world {
	w := &world{
		inv: inventory.Inventory{
			Cluster: "lab", Version: "E0303", HA: &inventory.Switch{Off: []string{"/ha", "off"},
				On: []string{"/ha", "on"}, Status: []string{"/opt/ha", "status", "secret"}},
			Hosts: []inventory.Host{
				{Name: "m1", Roles: []inventory.Role{inventory.RoleManager}, Group: "m"},
				{Name: "h1", MemoryMiB: 64 << 10, Group: "g"}, {Name: "h2", MemoryMiB: 64 << 10, Group: "g"},
				{Name: "h3", MemoryMiB: 64 << 10, Group: "g"},
			},
			VMs: []inventory.VM{{Name: "a", Host: "h1", MemoryMiB: 4096, Running: true}, {Name: "b", Host: "h2", MemoryMiB: 4096, Running: true}},
			Status: inventory.Watched{
				Cluster: []string{"/opt/status"}, Replication: [][]string{{"/opt/slave", "-p", "secret"}, {}},
				VersionFile: "/etc/version", BackupDir: "/backup",
			},
		},
		man: manifest.Manifest{
			Name: "cas", Version: "E0306", UpgradeFrom: []manifest.Source{{Version: "3.0", Modes: []manifest.Mode{manifest.Rolling}}},
			Requires: manifest.Requires{Commands: []string{"tree"}, PythonModules: []string{"requests"}},
			Modules: []manifest.Module{
				{Name: "db", RunsOn: "manager", CanRollback: true, Files: []manifest.File{{Path: "db/x", Size: 1 << 30}},
					Config:  []manifest.ConfigFile{{File: "db/db.json", Installed: "/etc/db.json"}},
					Actions: manifest.Actions{Install: &manifest.Action{Run: []string{"db/x"}}}},
				{Name: "web", RunsOn: "host", CanRollback: true, Files: []manifest.File{{Path: "web/x", Size: 1 << 30}},
					Actions: manifest.Actions{Install: &manifest.Action{Run: []string{"web/x"}}}},
			},
		},
		tell: map[cluster.HostID]func(context.Context, *fact.Facts) error{},
	}
	for _, h := range w.inv.Hosts {
		w.refs = append(w.refs, HostRef{Name: h.Name, API: "https://" + string(h.Name), Up: true})
	}
	return w
}

// answer is what a host says that is well.
func (w *world) answer(ctx context.Context, h HostRef, want fact.Wanted) (fact.Facts, error) {
	w.mu.Lock()
	w.asked = append(w.asked, want)
	tell := w.tell[h.Name]
	w.mu.Unlock()
	r := want.Request
	f := fact.Facts{
		Host: r.Host, At: time.Now(), OS: fact.OS{ID: "debian"}, Version: "E0303", Space: fact.Space{Dir: "/var", Free: 20 << 30},
		Commands: map[string]string{"tree": "/usr/bin/tree"}, Python: map[string]string{"requests": ""},
		Kernel: fact.Kernel{Running: "4.1.0", Next: "4.1.0"}, Clock: fact.Clock{Synced: true, By: "chrony"}, LastBackup: time.Now(),
	}
	for _, c := range r.Config {
		f.Config = append(f.Config, fact.Config{Installed: c.Installed, Names: []string{"a"}, Bundle: []string{"a"}})
	}
	for _, p := range []struct {
		asked *fact.Program
		to    **fact.Probe
	}{{r.Status, &f.Status}, {r.HA, &f.HA}} {
		if p.asked != nil {
			*p.to = &fact.Probe{Name: p.asked.Name}
		}
	}
	for _, p := range r.Replication {
		f.Replication = append(f.Replication, fact.Probe{Name: p.Name})
	}
	if tell != nil {
		return f, tell(ctx, &f)
	}
	return f, nil
}

func (w *world) survey(host cluster.HostID) *Survey {
	return &Survey{
		Host: host, Hosts: func() []HostRef { return w.refs }, Facts: w.answer, Now: time.Now,
		Inventory: func() (inventory.Inventory, error) { return w.inv, nil },
		Quorum:    func(context.Context) (check.Quorum, error) { return check.Quorum{Voters: 3, Healthy: 3}, nil },
	}
}

// host returns a host of the inventory.
func (w *world) host(name cluster.HostID) *inventory.Host {
	for i := range w.inv.Hosts {
		if h := &w.inv.Hosts[i]; h.Name == name {
			return h
		}
	}
	panic(name)
}

// change lets a host say something else.
func (w *world) change(h cluster.HostID, f func(*fact.Facts)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell[h] = func(_ context.Context, x *fact.Facts) error { f(x); return nil }
}

func (w *world) requests() []fact.Wanted {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// log keeps what a step writes and notes.
type log struct {
	mu    sync.Mutex
	text  strings.Builder
	notes []string
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *log) note(what string, percent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes = append(l.notes, fmt.Sprintf("%d %s", percent, what))
}

func (l *log) noted() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.notes, "\n")
}

// task is a step that checks.
func task(t *testing.T, jobID string, host cluster.HostID, args any) (engine.Task, *log) {
	t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	l := &log{}
	id := string(host)
	if id == "" {
		id = "cluster"
	}
	return engine.Task{
		Job: jobID, Kind: job.Upgrade, Attempt: 1, Host: host, Log: l, Note: l.note,
		Step: job.Step{ID: id + "/post-check", Host: host, Kind: upgrade.KindCheck, Args: text, Timeout: time.Minute, Idempotent: true},
	}, l
}

// plan is an upgrade of the world's hosts.
func (w *world) plan(t *testing.T, o upgrade.Options) *upgrade.Plan {
	t.Helper()
	o.Run, o.SHA256 = "up-1", sha
	p, err := upgrade.Build(w.man, w.inv, o)
	if err != nil {
		t.Fatal(err)
	}
	return &p
}

// has fails when a text lacks something.
func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("no %q in\n%s", p, text)
		}
	}
}
