package arbitrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/pair/arbiter"
	"holdfast/internal/store/etcdstore"
)

// saying is what the peer says, if it was heard.
type saying struct {
	word  arbiter.PeerStatus
	heard bool
}

// within is how long a peer may take that has so much time, when it is there.
func (x *Arbitration) within(there time.Duration) time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.isOff: // nothing but a device that lies would let it answer
		return askOffWithin
	case x.m.LostAt != 0:
		return askLostWithin
	}
	return there
}

// hear asks the peer. What can not be understood counts as silence.
func (x *Arbitration) hear(ctx context.Context) saying {
	within := x.within(askWithin)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	w, err := x.Ask(ctx)
	x.mu.Lock()
	x.whole = err == nil && w.Whole
	x.mu.Unlock()
	if err != nil {
		return saying{}
	}
	role, err := roleOf(w.Role)
	if err != nil {
		x.Log.Warn("the other node's word is not understood", "err", err)
		return saying{}
	}
	x.mu.Lock()
	x.heard, x.machine, x.keep = true, w.Machine, w.Keep
	x.mu.Unlock()
	return saying{arbiter.PeerStatus{Store: arbiter.Store{Gen: w.Gen, From: w.From, Role: role, WasActive: w.WasActive}, Won: w.Won}, true}
}

// look looks at this node.
func (x *Arbitration) look(ctx context.Context, hears func() saying) (s arbiter.Seen, err error) {
	if s.Running, err = x.member.running(ctx); err != nil {
		return s, err
	}
	f, found, err := etcdstore.ReadFormation(x.Member.DataDir)
	if err != nil {
		return s, err
	}
	if !found {
		if f, err = x.first(hears()); err != nil {
			return s, err
		}
	}
	if f.Gen != 0 {
		role, err := roleOf(f.Role)
		if err != nil {
			return s, err
		}
		s.Store = arbiter.Store{Gen: f.Gen, From: f.From, Role: role, WasActive: f.WasActive}
	}
	if s.Running {
		if s.Quorum, err = x.quorum(ctx, &s.Store); err != nil {
			return s, err
		}
	}
	hctx, cancel := context.WithTimeout(ctx, holdsWithin)
	defer cancel()
	s.Holds, s.HoldsBy = holding(x.Group.Observe(hctx))
	return s, nil
}

// first notes that this host is one of the two that form the first store, when it has
// never seen one and the other node has not, or has just noted the same. Both have to be
// there: whoever was made anew meets a store, and joins it.
func (x *Arbitration) first(said saying) (f etcdstore.Formation, err error) {
	seen, err := loop.LoadGeneration(x.DataDir)
	if err != nil {
		return f, err
	}
	peer := said.word.Store
	if seen != 0 || !said.heard || peer.Role != arbiter.Empty && (peer.Gen != 1 || peer.Role != arbiter.Two) {
		return f, nil
	}
	f = etcdstore.Formation{Gen: 1, Role: roles[arbiter.Two]}
	if err := etcdstore.SaveFormation(x.Member.DataDir, f); err != nil {
		return etcdstore.Formation{}, err
	}
	return f, nil
}

// quorum reports that this host's member commits, by a read that needs a majority. A copy
// that joins votes as soon as it has the record of that (Barrier).
func (x *Arbitration) quorum(ctx context.Context, s *arbiter.Store) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, x.within(readWithin))
	defer cancel()
	gen, err := generationOf(ctx, x.Own)
	switch {
	case errors.Is(err, errGeneration):
		return false, err
	case err != nil:
		return false, nil // no quorum, or no vote yet
	case gen != s.Gen:
		return false, fmt.Errorf("this host's member has the store of generation %d, and its note says %d", gen, s.Gen)
	case s.Role != arbiter.Joining:
		return true, nil
	}
	sealed, err := x.sealed(ctx, s.Gen)
	if err != nil || !sealed {
		return false, err
	}
	f := etcdstore.Formation{Gen: s.Gen, From: s.From, Role: roles[arbiter.Two], WasActive: s.WasActive}
	if err := etcdstore.SaveFormation(x.Member.DataDir, f); err != nil {
		return false, err
	}
	s.Role = arbiter.Two
	return true, nil
}

// running says of a look at the group whether it surely runs here, and by which license.
func running(g cluster.Guest, err error) (license cluster.Epoch, runs bool) {
	return g.Epoch, err == nil && g.State == cluster.GuestRunning && !g.Migrating
}

// holding says of a look at the group whether it is here, or may be, and of which store its license surely is, 0
// for not known. A group that is being handed over may be the peer's already: the record of that may have been
// written with this node's vote, and not have reached this process before the peer was lost.
func holding(g cluster.Guest, err error) (holds bool, by uint64) {
	switch {
	case err != nil, g.State == cluster.GuestUnknown, g.Migrating:
		return true, 0
	}
	return g.State != cluster.GuestAbsent, g.Epoch.Gen
}
