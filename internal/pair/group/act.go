package group

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/internal/store"
)

// Deadlines of actions.
const (
	promoteWithin = 2 * time.Minute // with the recovery of a server that is started
	briefWithin   = 5 * time.Second // the least for what takes a moment
	joinWithin    = time.Minute
	followWithin  = 4 * time.Hour // a copy of everything
	memberWithin  = time.Minute
)

// brief is the time of an action that takes a moment: where leases are long hosts are slow, and a look may take longer, too.
func (d *Driver) brief() time.Duration { return max(briefWithin, d.opt.Within) }

// slow is a member whose start may take longer than memberWithin.
type slow interface{ StartWithin() time.Duration }

func startWithin(m Member) time.Duration {
	if s, ok := m.(slow); ok {
		return s.StartWithin()
	}
	return memberWithin
}

// action is how one is carried out, and within which time.
func (d *Driver) action(a pair.Action) (within time.Duration, do func(context.Context) pair.Outcome) {
	now, s, told := d.now.Load(), d.m.Sync.Sync, d.told
	data := now.data
	plain := func(f func(context.Context) error) func(context.Context) pair.Outcome {
		return func(ctx context.Context) pair.Outcome { return outcome(f(ctx)) }
	}
	switch a := a.(type) {
	case pair.Put:
		return putWithin, func(ctx context.Context) pair.Outcome { return d.put(ctx, a) }
	case pair.Promote:
		if o, ok := data.(opener); ok && a.Shut {
			return d.brief(), plain(o.Reopen)
		}
		return promoteWithin, plain(func(ctx context.Context) error { return data.Promote(ctx, s) })
	case pair.Demote:
		return d.brief(), plain(func(ctx context.Context) error { return data.Demote(ctx, a.Hard) })
	case pair.Drain:
		return d.brief(), plain(func(ctx context.Context) error { return data.Drain(ctx, told) })
	case pair.Alone:
		return d.brief(), plain(data.Alone)
	case pair.Join:
		return joinWithin, func(ctx context.Context) pair.Outcome {
			proof, err := data.Join(ctx, told)
			o := outcome(err)
			o.Proof = proof
			return o
		}
	case pair.Follow:
		return followWithin, plain(func(ctx context.Context) error { return data.Follow(ctx, a.Cut) })
	case pair.Unfollow:
		return d.brief(), plain(data.Unfollow)
	case pair.StartMember:
		m := now.members[a.I]
		return startWithin(m), plain(m.Start)
	case pair.StopMember:
		return memberWithin, plain(func(ctx context.Context) error { return now.members[a.I].Stop(ctx, a.Hard) })
	}
	panic(fmt.Sprintf("no call for %T", a))
}

// outcome tells of an error what helps, too: the reason is what people see.
func outcome(err error) pair.Outcome {
	var e *fail.Error
	switch {
	case err == nil:
		return pair.Outcome{OK: true}
	case errors.As(err, &e) && e.Remedy != "":
		return pair.Outcome{Why: err.Error() + "; " + e.Remedy}
	}
	return pair.Outcome{Why: err.Error()}
}

// put writes the record, word by word as the core has it.
func (d *Driver) put(ctx context.Context, p pair.Put) pair.Outcome {
	// Another store that answers meanwhile has a generation of its own.
	conds := []store.Cmp{{Key: KeySync, Rev: p.SyncMod}, {Key: records.KeyGeneration, Rev: d.generation.Load()}}
	if p.OwnerMod != 0 {
		conds = append(conds, store.Cmp{Key: records.OwnerKey(d.opt.Resource), Rev: p.OwnerMod})
	}
	rev, ok, err := d.opt.Store.Txn(ctx, conds, []store.Op{{Key: KeySync, Value: records.Encode(p.Sync)}})
	if err != nil {
		return pair.Outcome{Why: err.Error()}
	}
	return pair.Outcome{OK: ok, Mod: rev}
}

// describe is what the log says of an action.
func describe(a pair.Action) string {
	if p, ok := a.(pair.Put); ok {
		return fmt.Sprintf("complete %v, license %s %s, to %q: %s", p.Sync.Complete, p.Sync.Host, p.Sync.Epoch, p.Sync.To, p.Why)
	}
	return fmt.Sprintf("%T%+v", a, a)
}
