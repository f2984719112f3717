package service

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
)

// voting is a cluster's other half whose store has members.
type voting struct {
	fakeCluster
	mu    sync.Mutex
	leads bool
	list  []cluster.StoreMember
	asked int
}

func (v *voting) Coordinator() (int64, string, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return 1, "key", v.leads
}

func (v *voting) StoreStatus(context.Context) (cluster.StoreStatus, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	if v.list == nil {
		return cluster.StoreStatus{}, errors.New("no member answers")
	}
	return cluster.StoreStatus{Members: v.list}, nil
}

func (v *voting) set(f func()) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
	return v.asked
}

// TestMembersAreThoseOfTheStore: who has been replaced counts no more, whatever its
// record says, and its successor does. An old answer is none.
func TestMembersAreThoseOfTheStore(t *testing.T) {
	mem := storetest.NewMem()
	v := &voting{}
	r := newRig(t, mem, "h1", func(p *Parts) { p.Cluster = v })
	member := func(h cluster.HostID) report.Record {
		rec := bare(h)
		rec.Host.Member = true
		return rec
	}
	r.report(member("h1"), member("h2"), member("h3"), bare("h4"))
	votes := func() (out []cluster.HostID) {
		seen, _ := r.view.Seen()
		for h, s := range r.members.mark(report.Hosts(seen, time.Now())) {
			if s.Member {
				out = append(out, h)
			}
		}
		slices.Sort(out)
		return out
	}
	if err := r.askMembers(limited(t)); err == nil || len(votes()) > 0 {
		t.Errorf("%v, votes %v", err, votes())
	}
	v.set(func() {
		v.list = []cluster.StoreMember{{Name: "h1"}, {Name: "h3"}, {Name: "h4"}, {Name: "h2", Learner: true}, {Name: "h9"}, {}}
	})
	if err := r.askMembers(limited(t)); err != nil || !slices.Equal(votes(), []cluster.HostID{"h1", "h3", "h4", "h9"}) {
		t.Errorf("%v, votes %v", err, votes())
	}
	if inv, _, err := r.inventory(limited(t), State{}, nil, "", "app", "1.0.0"); err != nil || inv.Hosts[1].Member || !inv.Hosts[3].Member {
		t.Errorf("%v, hosts %+v", err, inv.Hosts)
	}
	seen, _ := r.view.Seen()
	if s := r.members.mark(report.Hosts(seen, time.Now()))["h9"]; s.Up || !s.Member {
		t.Errorf("a member without a record: %+v", s)
	}
	r.members.till = time.Now()
	if len(votes()) > 0 {
		t.Errorf("votes by an old answer: %v", votes())
	}
	inv, _, err := r.inventory(limited(t), State{}, nil, "", "app", "1.0.0")
	if err != nil || !inv.Hosts[1].Member || inv.Hosts[3].Member {
		t.Errorf("%v, hosts %+v", err, inv.Hosts)
	}
}

// TestMembersAreAskedDuringUpgrades only, by the coordinator.
func TestMembersAreAskedDuringUpgrades(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		v := &voting{list: []cluster.StoreMember{{Name: "h1"}}}
		s := &Service{Parts: Parts{Store: mem.NewClient("h1"), Cluster: v}}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { s.followMembers(ctx) })
		defer wg.Wait()
		defer cancel()
		asks := func(what string, want bool) {
			t.Helper()
			time.Sleep(time.Second) // a look of the same moment may have begun before
			before := v.set(func() {})
			time.Sleep(time.Minute)
			if got := v.set(func() {}) > before; got != want {
				t.Errorf("%s: asked: %v, want %v", what, got, want)
			}
		}
		asks("another host leads", false)
		v.set(func() { v.leads = true })
		asks("there is no upgrade", false)
		steps := []job.Step{{ID: "a", Kind: upgrade.KindCheck, Timeout: time.Second}}
		if err := engine.Submit(t.Context(), s.Store, job.Job{ID: "u1", Kind: job.Upgrade, State: job.Active},
			[]byte("plan"), steps, engine.Also{}); err != nil {
			t.Fatal(err)
		}
		asks("one runs", true)
		if got := s.members.now(); !slices.Equal(got, []cluster.HostID{"h1"}) {
			t.Errorf("members %v", got)
		}
		v.set(func() { v.leads = false })
		asks("another host leads it", false)
		if got := s.members.now(); got != nil {
			t.Errorf("members %v", got)
		}
	})
}
