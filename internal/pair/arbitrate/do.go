package arbitrate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/durable"
	"holdfast/internal/pair/arbiter"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// loadMark reads the note; none: the zero one. One that can not be read is an error: it may
// say that this node has won, or lost.
func loadMark(dataDir string) (m arbiter.Ballot, err error) {
	if err := readNote(markFile(dataDir), &m); err != nil {
		return m, fmt.Errorf("read the note of the arbitration: %s: %w", markFile(dataDir), err)
	}
	return m, nil
}

// readNote reads a file of writeNote into v, which stays as it is where there is none.
func readNote(file string, v any) error {
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return json.Unmarshal(data, v)
}

// writeNote writes v, on disk before it returns.
func writeNote(file string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return durable.WriteFile(file, append(data, '\n'), 0o600)
}

// do carries an action out. An error is why its outcome is not OK.
func (x *Arbitration) do(ctx context.Context, a arbiter.Action) (arbiter.Outcome, error) {
	var err error
	switch a := a.(type) {
	case arbiter.SetBallot:
		err = writeNote(markFile(x.DataDir), a.Mark)
	case arbiter.StopMember:
		err = x.member.stop(ctx)
	case arbiter.StartMember:
		x.member.start(ctx)
	case arbiter.Tiebreak:
		return x.contest(ctx, a)
	case arbiter.Form:
		err = x.form(ctx, a)
	case arbiter.Wipe:
		var to string
		if to, err = etcdstore.PutAside(x.Member.DataDir); err == nil {
			x.Log.Warn("this node's data of the store are given up, and kept", "at", to)
		}
	case arbiter.Join:
		err = x.join(ctx)
	case arbiter.Promote:
		err = x.promote(ctx)
	case arbiter.Barrier:
		err = x.seal(ctx)
	default:
		err = fmt.Errorf("unknown action %T", a)
	}
	return arbiter.Outcome{OK: err == nil}, err
}

// contest asks the arbiter. By pings it is won when an address answers, by a disk when it names
// this node. Fence devices are to switch the peer off, or are only looked at; it is won when one
// shows it off after the order, or now, and in no other way. They must be known to be the peer's:
// one that belongs to another machine proves nothing.
func (x *Arbitration) contest(ctx context.Context, a arbiter.Tiebreak) (arbiter.Outcome, error) {
	x.mu.Lock()
	heard, machine := x.heard, x.machine
	x.mu.Unlock()
	if x.Arbiter.Kind() == arbiter.Fence && !heard {
		return arbiter.Outcome{}, fmt.Errorf("%s has not said which hardware it is since this agent began: its fence "+
			"devices can not be trusted to be its own", x.Peer)
	}
	seen, err := loop.LoadGeneration(x.DataDir)
	if err != nil {
		return arbiter.Outcome{}, err
	}
	gen, err := loop.DrawGeneration(max(seen, a.Gen))
	if err != nil {
		return arbiter.Outcome{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, contestWithin)
	defer cancel()
	won := a.Look
	if a.Look {
		err = x.Arbiter.Off(ctx, machine)
	} else {
		won, err = x.wins(ctx, machine, a.Gen)
	}
	if err != nil {
		return arbiter.Outcome{}, err
	}
	return arbiter.Outcome{OK: true, Won: won, Lost: !won, Gen: gen}, nil
}

// form makes this host's data the store of generation a.Gen, with one voter. That the peer
// was shown off, or that the time of its lease and its watchdog has passed, stands for an
// operator's word that it has nothing of the group; or it is one.
func (x *Arbitration) form(ctx context.Context, a arbiter.Form) error {
	ctx, cancel := context.WithTimeout(ctx, formWithin)
	defer cancel()
	x.mu.Lock()
	mark, who := x.m.Ballot, "arbitration of "+string(x.Self)
	if mark.By == arbiter.Operator {
		who = cmp.Or(x.person, "pair resolve")
	}
	x.mu.Unlock()
	if mark.State != arbiter.Won || mark.By != x.Arbiter.Kind() && mark.By != arbiter.Operator || mark.From != a.From || mark.Gen != a.Gen {
		return fmt.Errorf("this node may not go on from generation %d: neither this pair's arbiter nor a person has decided so", a.From)
	}
	off := []cluster.Off{{Host: x.Peer, User: who}}
	var license cluster.Epoch
	carries := false
	if a.Carry {
		hctx, cancel := context.WithTimeout(ctx, holdsWithin)
		license, carries = running(x.Group.Observe(hctx))
		cancel()
	}
	err := etcdstore.GoAlone(ctx, etcdstore.AloneOptions{
		Config:    x.Member,
		Formation: &etcdstore.Formation{Gen: a.Gen, From: a.From, Role: roles[arbiter.Single], WasActive: a.WasActive},
		Edit: func(ctx context.Context, st store.Store) error {
			gen, err := generationOf(ctx, st)
			if err == nil && gen != a.From {
				err = fmt.Errorf("the data are of generation %d, and %d was won", gen, a.From)
			}
			if err != nil {
				return err
			}
			if carries {
				if carries, err = loop.CarryGeneration(ctx, st, a.Gen, x.Self, license); err != nil || carries {
					return err
				}
			}
			return loop.BeginGeneration(ctx, st, a.Gen, off)
		},
	})
	if err != nil || !carries {
		return err
	}
	// Without it the group ends, as one of a store of before, and is started again.
	license.Gen = a.Gen
	if err := x.Group.Carry(license); err != nil {
		x.Log.Warn("the group is started again, as it could not be carried into the new store", "err", err)
	}
	return nil
}

// join has the peer's store add this host as a learner, and notes how it joins.
func (x *Arbitration) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinAgain)
	defer cancel()
	x.mu.Lock()
	peer := x.m.PeerStatus.Store
	x.mu.Unlock()
	gen, err := generationOf(ctx, x.Any)
	if err != nil {
		return err
	}
	if gen != peer.Gen {
		return fmt.Errorf("%s says that it has the store of generation %d, and that store says %d", x.Peer, peer.Gen, gen)
	}
	j, err := x.Admin.Succeed(ctx, "", x.Member.Name, x.Member.PeerURL)
	if err != nil {
		return err
	}
	if err := etcdstore.SaveJoin(x.Member.DataDir, j); err != nil {
		return err
	}
	return etcdstore.SaveFormation(x.Member.DataDir, etcdstore.Formation{Gen: peer.Gen, From: peer.From,
		Role: roles[arbiter.Joining], WasActive: peer.WasActive})
}

// memberOf is a host's member of the store; nil: it has none.
func (x *Arbitration) memberOf(ctx context.Context, name cluster.HostID) (*etcdstore.MemberStatus, error) {
	all, err := x.Admin.Status(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == string(name) {
			return &all[i], nil
		}
	}
	return nil, nil
}

// promote makes a voter of the peer, unless the coordinator's care has done it, and notes
// that there are two.
func (x *Arbitration) promote(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinAgain)
	defer cancel()
	if _, err := x.Admin.Promote(ctx); err != nil {
		return err
	}
	// By a read of the majority: a list of this member alone may be old.
	if _, err := generationOf(ctx, x.Own); err != nil {
		return err
	}
	m, err := x.memberOf(ctx, x.Peer)
	switch {
	case err != nil:
		return err
	case m == nil || m.Learner:
		return fmt.Errorf("%s has not caught up yet", x.Peer)
	}
	f, found, err := etcdstore.ReadFormation(x.Member.DataDir)
	if err != nil {
		return err
	}
	if !found || f.Role != roles[arbiter.Single] {
		return fmt.Errorf("this node is not the only voter of its store, but %q", f.Role)
	}
	f.Role = roles[arbiter.Two]
	return etcdstore.SaveFormation(x.Member.DataDir, f)
}

// keySealed has the record that the vote of a member counts.
const keySealed = "pair/sealed"

// seal is the record: it is committed by both voters, so whoever has it has all before it.
type seal struct {
	Gen    uint64 `json:"generation"`
	Member uint64 `json:"member"` // etcd's id of who joined
}

// seal writes the record that the peer's vote counts, after this node has applied that.
func (x *Arbitration) seal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinAgain)
	defer cancel()
	m, err := x.memberOf(ctx, x.Peer)
	if err != nil {
		return err
	}
	if m == nil || m.Learner || !m.Reachable() {
		return fmt.Errorf("%s does not vote yet", x.Peer)
	}
	x.mu.Lock()
	gen := x.m.Seen.Store.Gen
	x.mu.Unlock()
	_, _, err = x.Own.Txn(ctx, nil, []store.Op{{Key: keySealed, Value: records.Encode(seal{gen, m.ID})}})
	return err
}

// sealed reports that this host's own member has the record about itself.
func (x *Arbitration) sealed(ctx context.Context, gen uint64) (bool, error) {
	kv, found, err := x.Own.Get(ctx, keySealed)
	if err != nil || !found {
		return false, nil // it is asked again
	}
	s, err := records.Decode[seal](kv, false)
	if err != nil {
		return false, err
	}
	m, err := x.memberOf(ctx, x.Self)
	if err != nil || m == nil {
		return false, nil // the same
	}
	return s.Gen == gen && s.Member == m.ID && !m.Learner, nil
}

var errGeneration = errors.New("the store's generation can not be read")

// generationOf reads the store's generation, by a majority.
func generationOf(ctx context.Context, st store.Store) (uint64, error) {
	kv, found, err := st.Get(ctx, records.KeyGeneration)
	if err != nil {
		return 0, err
	}
	g, err := records.Decode[uint64](kv, !found)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errGeneration, err)
	}
	return max(g, 1), nil
}
