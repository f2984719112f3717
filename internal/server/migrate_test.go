package server

import (
	"context"
	"reflect"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
	"holdfast/testbed/try"
)

// migrate runs a migration to its end and returns what was reported.
func migrate(t *testing.T, r *running, host string) ([]api.Progress, error) {
	t.Helper()
	var seen []api.Progress
	for p, err := range r.Migrate(try.Context(t), host, "") {
		if err != nil {
			return seen, err
		}
		seen = append(seen, p)
	}
	return seen, nil
}

func TestMigrateRefusals(t *testing.T) {
	r := run(t, nil)
	base := servertest.Three(testTime())
	cases := []struct {
		name string
		host string
		edit func(*cluster.Status)
		kind fail.Kind
		text string
	}{
		{"unknown host", "node9", nil, fail.Invalid,
			`host "node9" is not in this cluster; hosts: node1 (10.0.0.11), node2 (10.0.0.12), node3 (10.0.0.13)`},
		{"no host", "", nil, fail.Invalid, "hosts: node1"},
		{"already there", "node1", nil, fail.Invalid, "it runs on node1 already"},
		{"already there by address", "10.0.0.11", nil, fail.Invalid, "it runs on node1 already"},
		{"silent host", "node2", func(s *cluster.Status) {
			s.Hosts[1].Alive, s.Hosts[1].Silent = false,
				12*time.Second
		}, fail.Refused, "silent for 12s"},
		{"unfit host", "node2", func(s *cluster.Status) { s.Hosts[1].Fit, s.Hosts[1].Why = false, "image is missing" },
			fail.Refused, "image is missing"},
		{"no quorum", "node2", func(s *cluster.Status) { s.Connected = false }, fail.Refused, "no quorum"},
		{"hands off", "node2", func(s *cluster.Status) { s.Want.HandsOff = true }, fail.Refused, "hands are off"},
		{"stopping", "node2", func(s *cluster.Status) { s.Want.Run = false }, fail.Refused, "asked to stop"},
		{"not running", "node2", func(s *cluster.Status) { s.Owner.State = cluster.Assigned }, fail.Refused, "its state is assigned"},
		{"under way", "node2", func(s *cluster.Status) { s.Owner.State, s.Owner.To = cluster.Migrating, "node3" },
			fail.Refused, "move from node1 to node3 is in progress"},
		{"asked for", "node2", func(s *cluster.Status) { s.Want.MoveTo = "node3" }, fail.Refused, "move to node3 is in progress"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r.fake.Update(func(s *cluster.Status) {
				*s = base
				s.Hosts = append([]cluster.HostStatus(nil), base.Hosts...)
				if c.edit != nil {
					c.edit(s)
				}
			})
			before := r.fake.Status().Want
			_, err := migrate(t, r, c.host)
			wantKind(t, err, c.kind, c.text)
			if got := r.fake.Status().Want; !reflect.DeepEqual(got, before) {
				t.Errorf("the want record was changed to %+v", got)
			}
		})
	}
}

func TestMigrateSucceeds(t *testing.T) {
	for name, host := range map[string]string{"by name": "node3", "by address": "10.0.0.13"} {
		t.Run(name, func(t *testing.T) {
			r := run(t, nil)
			at := make(chan struct{}) // one value lets the fake take one step
			r.fake.Obey(func(f *servertest.Fake, w cluster.Want) {
				f.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To, s.Percent = cluster.Migrating, w.MoveTo, 10 })
				<-at
				f.Update(func(s *cluster.Status) { s.Percent = 60 })
				<-at
				f.Update(func(s *cluster.Status) {
					s.Owner.State, s.Owner.Host, s.Owner.To, s.Percent = cluster.Running, w.MoveTo, "", 0
					s.Want.MoveTo = ""
				})
			})
			var last api.Progress
			seen := map[int]bool{}
			for p, err := range r.Migrate(try.Context(t), host, "") {
				if err != nil {
					t.Fatal(err)
				}
				last = p
				if p.Percent > 0 && p.Percent < 100 && !seen[p.Percent] {
					at <- struct{}{}
				}
				seen[p.Percent] = true
			}
			r.fake.Wait()
			if !last.Done || last.Host != "node3" || last.Percent != 100 || last.State != cluster.Running || last.Epoch != (cluster.Epoch{Seq: 3}) {
				t.Errorf("last report %+v", last)
			}
			if !seen[10] || !seen[60] {
				t.Errorf("percentages seen: %v, want 10 and 60 among them", seen)
			}
		})
	}
}

func TestMigrateFails(t *testing.T) {
	begin := func(f *servertest.Fake, w cluster.Want) {
		f.Update(func(s *cluster.Status) {
			s.Owner.State, s.Owner.To, s.Want.MoveTo = cluster.Migrating, w.MoveTo, ""
		})
	}
	cases := []struct {
		name string
		obey func(*servertest.Fake, cluster.Want)
		text string
	}{
		{"back at the source, event first", func(f *servertest.Fake, w cluster.Want) {
			begin(f, w)
			f.Log(cluster.Event{Kind: cluster.EvMigrateEnd, Host: "node1", To: "node3", Detail: "target out of memory"})
			f.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To = cluster.Running, "" })
		}, "target out of memory"},
		{"back at the source, no event", func(f *servertest.Fake, w cluster.Want) {
			begin(f, w)
			f.Update(func(s *cluster.Status) {
				s.Owner.State, s.Owner.To, s.Owner.Reason, s.Want.MoveTo = cluster.Running, "", "aborted", ""
			})
		}, "it runs on node1"},
		{"refused", func(f *servertest.Fake, _ cluster.Want) {
			f.Log(cluster.Event{Kind: cluster.EvRefused, To: "node3", Detail: "watchdog of node3 is gone"})
			f.Update(func(s *cluster.Status) { s.Want.MoveTo = "" })
		}, "watchdog of node3 is gone"},
		{"forgotten", func(f *servertest.Fake, _ cluster.Want) {
			f.Update(func(s *cluster.Status) { s.Want.MoveTo = "" })
		}, "the request"},
		{"source lost", func(f *servertest.Fake, w cluster.Want) {
			begin(f, w)
			f.Update(func(s *cluster.Status) {
				s.Owner.State, s.Owner.To, s.Owner.Reason = cluster.Released, "", "node1 lost"
			})
		}, "node1 lost"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, func(s *Server) { s.grace = 50 * time.Millisecond })
			r.fake.Log(cluster.Event{Kind: cluster.EvMigrateEnd, Host: "node1", To: "node3", Detail: "an older one"})
			r.fake.Obey(c.obey)
			_, err := migrate(t, r, "node3")
			r.fake.Wait()
			wantKind(t, err, fail.Failed, c.text)
		})
	}
}

func TestMigrateGoesOnWithoutItsCaller(t *testing.T) {
	r := run(t, nil)
	ctx, cancel := context.WithCancel(try.Context(t))
	defer cancel()
	for p, err := range r.Migrate(ctx, "node2", "") {
		if err != nil {
			wantKind(t, err, fail.Canceled, "given up")
			break
		}
		if p.Note == "" {
			t.Errorf("report %+v does not say what it waits for", p)
		}
		cancel()
	}
	if got := r.fake.Status().Want.MoveTo; got != "node2" {
		t.Errorf("the request is gone: move to %q", got)
	}
	try.Until(t, "the report to end at the server", func() bool { return r.fake.Watchers() == 0 })
}

func TestMigrateSurvivesAStoreThatIsAway(t *testing.T) {
	r := run(t, nil)
	r.fake.Obey(func(f *servertest.Fake, w cluster.Want) {
		f.Update(func(s *cluster.Status) { s.Connected, s.Owner.State, s.Owner.To = false, cluster.Migrating, w.MoveTo })
		f.Update(func(s *cluster.Status) { s.Connected, s.Owner.State, s.Owner.Host = true, cluster.Running, w.MoveTo })
	})
	if _, err := migrate(t, r, "node2"); err != nil {
		t.Error(err)
	}
	r.fake.Wait()
}

func TestCancelMigration(t *testing.T) {
	moving := func(s *cluster.Status) { s.Owner.State, s.Owner.To, s.OwnerMod = cluster.Migrating, "node3", 77 }
	for _, c := range []struct {
		name string
		edit func(*cluster.Status)
		want cluster.Want // when it is not refused
		says api.Cancelled
		text string // of a refusal
	}{
		{"none", func(*cluster.Status) {}, cluster.Want{}, api.Cancelled{}, "no move is under way: it runs on node1"},
		{"none, stopped", func(s *cluster.Status) { s.Owner.State = cluster.Released }, cluster.Want{}, api.Cancelled{}, "its state is released"},
		{"under way", moving, cluster.Want{Run: true, Cancel: 77}, api.Cancelled{From: "node1", To: "node3", OwnerMod: 77}, ""},
		{"asked for", func(s *cluster.Status) { s.Want.MoveTo, s.OwnerMod = "node2", 70 }, cluster.Want{Run: true},
			api.Cancelled{From: "node1", To: "node2"}, ""},
		{"it has left", func(s *cluster.Status) { s.Owner.State, s.Owner.Host = cluster.Settling, "node3" },
			cluster.Want{}, api.Cancelled{}, "too late to cancel: it has left its source and goes on on node3"},
		{"in maintenance", func(s *cluster.Status) { moving(s); s.Want.Maintenance = []cluster.HostID{"node1"} },
			cluster.Want{}, api.Cancelled{}, "host node1 is in maintenance"},
		{"no quorum", func(s *cluster.Status) { moving(s); s.Connected = false }, cluster.Want{}, api.Cancelled{}, "no quorum"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := run(t, nil)
			r.fake.Update(func(s *cluster.Status) { *s = servertest.Three(testTime()); c.edit(s) })
			before := r.fake.Status().Want
			got, err := r.CancelMigration(t.Context(), "")
			if c.text != "" {
				wantKind(t, err, fail.Refused, c.text)
				c.want = before
			} else if err != nil {
				t.Fatal(err)
			}
			if now := r.fake.Status().Want; got != c.says || !reflect.DeepEqual(now, c.want) {
				t.Errorf("said %+v, want %+v; the wish is %+v, want %+v", got, c.says, now, c.want)
			}
		})
	}
}

// TestCancelIsAskedOnce: a request that is repeated, because its answer was lost, says
// the same and ends no later migration.
func TestCancelIsAskedOnce(t *testing.T) {
	r := run(t, nil)
	r.fake.Update(func(s *cluster.Status) { s.Owner.State, s.Owner.To, s.OwnerMod = cluster.Migrating, "node3", 77 })
	for range 2 {
		got, err := r.CancelMigration(t.Context(), "one")
		if want := (api.Cancelled{From: "node1", To: "node3", OwnerMod: 77}); err != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, err, want)
		}
	}
	r.fake.Update(func(s *cluster.Status) { s.OwnerMod = 90 })
	if got, err := r.CancelMigration(t.Context(), "one"); err != nil || got != (api.Cancelled{}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if w := r.fake.Status().Want; w.Cancel != 77 || len(r.fake.Users()) != 1 {
		t.Errorf("the wish is %+v after %v", w, r.fake.Users())
	}
}
