package survey

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

func look(t *testing.T, s *Survey, q Question) check.Input {
	t.Helper()
	in, err := s.Look(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestAClusterThatIsWellPasses(t *testing.T) {
	w := well()
	in := look(t, w.survey("m1"), Question{When: check.Before, SHA256: sha, Manifest: &w.man, Mode: manifest.Rolling})
	for _, f := range check.Run(in) {
		if f.Level == check.Warn || f.Level == check.Fail {
			t.Errorf("%+v", f)
		}
	}
	if len(in.Facts) != 4 || in.HABefore == nil || !*in.HABefore {
		t.Errorf("%d facts, HA before %v", len(in.Facts), in.HABefore)
	}
	for _, r := range w.requests() {
		if r.SHA256 != sha || r.Request.Unpack != "" {
			t.Errorf("%+v", r)
		}
	}
}

// Whatever keeps a host from answering is a failure that says why; the others'
// answers are not lost by it.
func TestHostsThatDoNotAnswerAreSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := well()
		w.inv.Hosts = append(w.inv.Hosts, inventory.Host{Name: "slow"}, inventory.Host{Name: "deaf"},
			inventory.Host{Name: "dead", Down: true}, inventory.Host{Name: "nobody"},
			inventory.Host{Name: "local-only"}, inventory.Host{Name: "liar"}, inventory.Host{Name: "broken"})
		for _, h := range []cluster.HostID{"slow", "deaf", "liar", "broken", "stranger"} {
			w.refs = append(w.refs, HostRef{Name: h, API: "https://x", Up: true})
		}
		w.refs = append(w.refs, HostRef{Name: "dead", API: "https://x"}, HostRef{Name: "local-only", Up: true})
		end := make(chan struct{})
		defer close(end)
		w.tell["slow"] = func(ctx context.Context, _ *fact.Facts) error { <-ctx.Done(); return ctx.Err() }
		w.tell["deaf"] = func(context.Context, *fact.Facts) error { <-end; return nil }
		w.tell["broken"] = func(context.Context, *fact.Facts) error { return errors.New("connection refused") }
		w.change("liar", func(f *fact.Facts) { f.Host = "h3" })
		began := time.Now()
		in := look(t, w.survey("m1"), Question{When: check.Before, Manifest: &w.man})
		if d := time.Since(began); d != within+patient {
			t.Errorf("it took %s", d)
		}
		got := map[string]string{}
		for _, f := range check.Run(in) {
			if f.Check == "facts" && f.Level == check.Fail {
				got[f.Where] = f.Text
			}
			if f.Check != "facts" && f.Level == check.Fail && f.Scope == check.ScopeHost {
				t.Errorf("said twice: %+v", f)
			}
		}
		want := map[string]string{
			"slow": "(no answer within 1m0s)", "deaf": "(no answer within 1m0s)", "dead": "the host is down",
			"nobody":     "(no agent of that name reports)",
			"local-only": "(its agent is not reached over the network",
			"liar":       `(the agent that was asked says that it is "h3")`, "broken": "(connection refused)",
		}
		if !slices.Equal(slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want))) {
			t.Errorf("%v", got)
		}
		for h, text := range want {
			if !strings.Contains(got[h], text) {
				t.Errorf("%s: %q, want %q", h, got[h], text)
			}
		}
		if in.Facts["h3"].Unknown[fact.Nothing] != "" || in.Facts["h3"].Version == "" || in.Facts["stranger"] != nil {
			t.Errorf("%+v", in.Facts["h3"])
		}
	})
}

func TestNotMoreThan32HostsAreAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{man: manifest.Manifest{}, tell: map[cluster.HostID]func(context.Context, *fact.Facts) error{}}
		var mu sync.Mutex
		now, most := 0, 0
		for i := range 100 {
			h := cluster.HostID(fmt.Sprintf("h%d", i))
			w.inv.Hosts = append(w.inv.Hosts, inventory.Host{Name: h})
			w.refs = append(w.refs, HostRef{Name: h, API: "https://x", Up: true})
			w.tell[h] = func(context.Context, *fact.Facts) error {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				now--
				mu.Unlock()
				return nil
			}
		}
		began := time.Now()
		in := look(t, w.survey("h0"), Question{})
		if d := time.Since(began); most != atOnce || d != 4*time.Second || len(in.Facts) != 100 {
			t.Errorf("%d at once, %s, %d answers", most, d, len(in.Facts))
		}
	})
}

func TestAnEndedContextEndsTheSurvey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := well()
		stop := errors.New("enough")
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		for _, h := range w.inv.Hosts {
			w.tell[h.Name] = func(ctx context.Context, _ *fact.Facts) error { cancel(stop); <-ctx.Done(); return ctx.Err() }
		}
		began := time.Now()
		if _, err := w.survey("m1").Look(ctx, Question{}); !errors.Is(err, stop) {
			t.Errorf("%v", err)
		}
		if d := time.Since(began); d != 0 {
			t.Errorf("it took %s", d)
		}
	})
}

func TestWithoutAnInventoryThereIsNothingToLookAt(t *testing.T) {
	s := well().survey("m1")
	s.Inventory = func() (inventory.Inventory, error) { return inventory.Inventory{}, errors.New("not read yet") }
	if _, err := s.Look(t.Context(), Question{}); err == nil || !strings.Contains(err.Error(), "not read yet") {
		t.Errorf("%v", err)
	}
}

func TestTheInventoryOfTheQuestionCountsAndIsNotChanged(t *testing.T) {
	w := well()
	mine := w.inv
	mine.Hosts = slices.Clone(w.inv.Hosts)
	mine.Hosts[1].Down = true
	in := look(t, w.survey("m1"), Question{Inventory: &mine})
	if in.Inventory.Hosts[1].Down || !mine.Hosts[1].Down {
		t.Errorf("down: found %v, given %v", in.Inventory.Hosts[1].Down, mine.Hosts[1].Down)
	}
}

func TestClocksAreCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := well()
		w.change("h1", func(f *fact.Facts) { f.At = f.At.Add(-3 * time.Hour); time.Sleep(time.Second) })
		w.change("h2", func(f *fact.Facts) { f.At = f.At.Add(5 * time.Second); time.Sleep(time.Second) })
		w.change("h3", func(f *fact.Facts) { f.At = time.Time{} })
		w.change("m1", func(f *fact.Facts) { f.At = f.At.Add(time.Hour) })
		in := look(t, w.survey("m1"), Question{})
		got := map[cluster.HostID]int64{}
		for _, h := range in.Inventory.Hosts {
			got[h.Name] = h.SkewMillis
		}
		if want := map[cluster.HostID]int64{"m1": 0, "h1": -3 * 3600 * 1000, "h2": 4000, "h3": 0}; !maps.Equal(got, want) {
			t.Errorf("%v", got)
		}
		for _, f := range check.Run(in) { // facts of a host with a wrong clock are not old
			if f.Check == "facts" && f.Level != check.OK {
				t.Errorf("%+v", f)
			}
		}
	})
}

// What the bundle takes already must not be free a second time.
func TestSpaceOfAnUnpackedBundleCountsAsFree(t *testing.T) {
	w := well()
	w.refs[1].Bundles = []string{"other", sha}
	free := func(q Question) (out []int64) {
		in := look(t, w.survey("m1"), q)
		for _, h := range in.Inventory.Hosts {
			out = append(out, in.Facts[h.Name].Space.Free>>30)
		}
		return out
	}
	if got := free(Question{SHA256: sha, Manifest: &w.man}); !slices.Equal(got, []int64{20, 22, 20, 20}) {
		t.Errorf("%v GiB", got)
	}
	if got := free(Question{SHA256: sha, Manifest: &w.man, Staged: true}); !slices.Equal(got, []int64{22, 22, 22, 22}) {
		t.Errorf("staged: %v GiB", got)
	}
	if got := free(Question{Manifest: &w.man}); !slices.Equal(got, []int64{20, 20, 20, 20}) {
		t.Errorf("no bundle: %v GiB", got)
	}
}

func TestTheStoreIsAskedOnce(t *testing.T) {
	w := well()
	s := w.survey("m1")
	s.Quorum = func(context.Context) (check.Quorum, error) { return check.Quorum{}, errors.New("no leader") }
	in := look(t, s, Question{})
	i := slices.IndexFunc(check.Run(in), func(f check.Finding) bool {
		return f.Check == "store-quorum" && f.Level == check.Warn && strings.HasSuffix(f.Text, ": no leader")
	})
	if i < 0 {
		t.Errorf("%+v", in.Store)
	}
	if in := look(t, s, Question{Only: []cluster.HostID{"h1"}}); in.Store != nil || len(in.Facts) != 1 {
		t.Errorf("%+v, %d answers", in.Store, len(in.Facts))
	}
	s.Quorum = nil
	if in := look(t, s, Question{}); in.Store != nil {
		t.Errorf("%+v", in.Store)
	}
}

func TestHABeforeIsWhatAnyManagerSays(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		when  check.When
		given *bool
		exits []int // -1: unknown
		want  *bool
	}{
		{check.Before, nil, []int{0, 1}, &yes},
		{"", nil, []int{1, 0}, &yes},
		{check.Before, nil, []int{1, 5}, &no},
		{check.Before, nil, []int{5, -1}, nil},
		{check.Before, &no, []int{0, 0}, &no},
		{check.After, nil, []int{0, 0}, nil},
		{check.After, &yes, []int{1, 1}, &yes},
	} {
		w := well()
		w.host("h1").Roles = []inventory.Role{inventory.RoleManager}
		for i, h := range []cluster.HostID{"m1", "h1"} {
			w.change(h, func(f *fact.Facts) {
				f.HA.Exit = c.exits[i]
				if c.exits[i] < 0 {
					f.HA, f.Unknown = nil, map[string]string{"ha": "it hangs"}
				}
			})
		}
		in := look(t, w.survey("m1"), Question{When: c.when, HABefore: c.given})
		if !reflect.DeepEqual(in.HABefore, c.want) {
			t.Errorf("%+v: %v", c, in.HABefore)
		}
	}
}

// TestNeedsAreAskedFor: what a module's preCheck would refuse is asked of the hosts on which it runs.
func TestNeedsAreAskedFor(t *testing.T) {
	m := &manifest.Manifest{Modules: []manifest.Module{
		{Name: "engine", RunsOn: "manager",
			Actions: manifest.Actions{PreCheck: &manifest.Action{Appctl: &manifest.Appctl{Home: "/opt/e", Call: []string{"pre_upgrade"}}}}},
		{Name: "status", Actions: manifest.Actions{PreCheck: &manifest.Action{Appctl: &manifest.Appctl{Home: "/opt/e", Installed: true}}}},
		{Name: "web", Actions: manifest.Actions{Install: &manifest.Action{Packages: &manifest.Packages{Deb: []string{"a", "b"},
			RPM: []string{"c"}}}}},
	}}
	q := &Question{Mode: manifest.Offline, Confirmed: []string{upgrade.SnapshotsDone}}
	web := fact.Need{Module: "web", Mode: "offline", SnapshotsDone: true, Deb: 2, RPM: 1}
	if got := needs(q, m, &inventory.Host{Name: "h", Roles: []inventory.Role{inventory.RoleHost}}); !reflect.DeepEqual(got, []fact.Need{web}) {
		t.Errorf("host: %+v", got)
	}
	engine := fact.Need{Module: "engine", Engine: "/opt/e", Mode: "offline", SnapshotsDone: true}
	if got := needs(q, m, &inventory.Host{Name: "m", Roles: []inventory.Role{inventory.RoleManager}}); len(got) == 0 || got[0] != engine {
		t.Errorf("manager: %+v", got)
	}
}

func TestBuildRequest(t *testing.T) {
	w := well()
	base := fact.Request{Commands: []string{"tree"}, Python: []string{"requests"}, VersionFile: "/etc/version", BackupDir: "/backup"}
	onHost := base
	onHost.Host, onHost.Unpack = "h1", "/data/bundles"
	if got := BuildRequest(&w.man, &w.inv, w.host("h1"), "/data/bundles/X", "/data/bundles"); !reflect.DeepEqual(got, onHost) {
		t.Errorf("host: %+v", got)
	}
	manager := base
	manager.Host = "m1"
	manager.Config = []fact.ConfigFile{{Installed: "/etc/db.json", Bundle: "db/db.json"}}
	manager.Status = &fact.Program{Name: "status", Run: []string{"/opt/status"}}
	manager.HA = &fact.Program{Name: "ha", Run: []string{"/opt/ha", "status", "secret"}}
	manager.Replication = []fact.Program{{Name: "slave", Run: []string{"/opt/slave", "-p", "secret"}}}
	if got := BuildRequest(&w.man, &w.inv, w.host("m1"), "", ""); !reflect.DeepEqual(got, manager) {
		t.Errorf("manager: %+v", got)
	}
	if got := BuildRequest(&w.man, &w.inv, w.host("m1"), "/data/X", ""); got.Config[0].Bundle != "/data/X/db/db.json" {
		t.Errorf("staged: %+v", got.Config)
	}
	// A node of the pair is a manager; without any manager, all hosts are asked.
	w.inv.Pair = &inventory.Pair{Nodes: []cluster.HostID{"h1", "h2"}}
	for h, want := range map[cluster.HostID]bool{"h1": true, "h3": false, "m1": true} {
		if got := BuildRequest(&w.man, &w.inv, w.host(h), "", "").Status != nil; got != want {
			t.Errorf("%s of a pair: %v", h, got)
		}
	}
	w.inv.Pair, w.inv.HA = nil, nil
	w.host("m1").Roles = nil
	if r := BuildRequest(&w.man, &w.inv, w.host("h3"), "", ""); r.Status == nil || len(r.Replication) != 1 || r.HA != nil {
		t.Errorf("without managers: %+v", r)
	}
	if got := BuildRequest(&manifest.Manifest{}, &inventory.Inventory{}, &inventory.Host{Name: "x"}, "",
		""); !reflect.DeepEqual(got, fact.Request{Host: "x"}) {
		t.Errorf("nothing: %+v", got)
	}
}
