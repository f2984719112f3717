package arbitrate

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/ha/loop"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/arbiter"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// goneAlone makes a node that is off the only voter of a store of that generation.
func (s *side) goneAlone(t *testing.T, gen uint64, held bool) {
	t.Helper()
	alone := etcdstore.AloneOptions{
		Config:    s.member,
		Formation: &etcdstore.Formation{Gen: gen, From: 1, Role: roles[arbiter.Single], WasActive: held},
		Edit: func(ctx context.Context, st store.Store) error {
			_, _, err := st.Txn(ctx, nil, []store.Op{{Key: "of-" + s.member.Name, Value: []byte("x")}})
			return errors.Join(err, loop.BeginGeneration(ctx, st, gen, nil))
		},
	}
	try.Until(t, "the member to let go of its data", func() bool {
		err := etcdstore.GoAlone(t.Context(), alone)
		if !errors.Is(err, etcdstore.ErrDataInUse) { // of a process that was killed, on a busy machine
			try.Must(t, err)
		}
		return err == nil
	})
}

// TestAPersonKeepsOneOfTwoHistories: both nodes have gone on alone, and a person decides. Until then
// the one that had the group goes on, and the other one stands still, also when they part again.
// The one whose data are not named keeps a copy of them, and joins.
func TestAPersonKeepsOneOfTwoHistories(t *testing.T) {
	need.Drill(t, "P1: after both went on alone one history is kept, by a person's word, and a copy of the other one")
	a, b := newSides(t)
	a.manual, b.manual = true, true
	a.power(t)
	b.power(t)
	bothVote(t, a, b)
	a.put(t, "of-both")
	a.off(t)
	b.off(t)
	a.goneAlone(t, 20, true)
	b.goneAlone(t, 30, false)

	a.power(t)
	b.power(t)
	stands := func() bool {
		return a.state() == arbiter.SplitOperator && b.state() == arbiter.SplitOperator && a.commits() && !b.runs() &&
			b.marked() == arbiter.LostTiebreak
	}
	try.Until(t, "b to stand still", stands)
	for range 5 { // so that the own member is not asked any more
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, _, err := b.x.Any.Get(ctx, "of-a")
		cancel()
		if err == nil {
			t.Fatal("the agent of the node whose data are not given up reads the other one's store")
		}
	}
	a.cut.Store(true)
	try.Until(t, "the nodes to part", func() bool { return !a.hears() && !b.hears() })
	var refused *fail.Error
	if _, err := b.x.Resolve("somebody"); !errors.As(err, &refused) || refused.Kind != fail.Refused {
		t.Errorf("a word that one node hears only: %v", err)
	}
	if b.runs() {
		t.Error("b has begun again")
	}
	a.cut.Store(false)
	try.Until(t, "the nodes to meet", stands)
	try.Until(t, "b to take the word", func() bool { // a node of a busy machine may not be heard for a moment
		chosen, err := b.x.Resolve("somebody")
		if err != nil {
			t.Log(err)
		}
		return err == nil && chosen
	})
	a.off(t)
	b.off(t)
	a.power(t) // the word outlives the agents
	b.power(t)
	bothVote(t, a, b)
	for _, s := range []*side{a, b} {
		s.want(t, "of-b")
		if _, found, err := s.x.Own.Get(t.Context(), "of-a"); err != nil || found {
			t.Errorf("%s has what a alone had: %v, %v", s.member.Name, found, err)
		}
	}
	if kept, err := filepath.Glob(a.member.DataDir + ".given-up-*"); err != nil || len(kept) != 1 {
		t.Errorf("given up: %v, %v, want one copy", kept, err)
	}
}

func (s *side) marked() arbiter.BallotState {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	return s.x.m.Ballot.State
}

func (s *side) runs() bool {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	return s.x.m.Seen.Running
}

func (s *side) hears() bool {
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	return s.x.m.Heard
}
