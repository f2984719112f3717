package loop

import (
	"context"
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// rivalAgent notices that another agent lives under this host's name before this one
// has registered: a copied data directory or agent.json. Without it this agent
// would wait in silence, as the decisions let it wait while the other may live.
type rivalAgent struct {
	identity, boot string
	seq            uint64
	since          cluster.Instant // first seen
	renewed        cluster.Instant // the last time that it was seen to renew
}

// check returns ErrConflict once the other has been seen to renew for longer
// than a lease. What a process that is dead had sent before can not do that.
func (r *rivalAgent) check(v *ha.Machine, now cluster.Instant) error {
	rec, known := v.Hosts[v.Self]
	if !v.Synced || !known || v.Lease.Mod != 0 || rec.Identity == v.ThisHost.Identity && rec.Boot == v.ThisHost.Boot {
		*r = rivalAgent{}
		return nil
	}
	if rec.Identity != r.identity || rec.Boot != r.boot {
		*r = rivalAgent{identity: rec.Identity, boot: rec.Boot, seq: rec.Seq, since: now, renewed: now}
	}
	if rec.Seq != r.seq {
		r.seq, r.renewed = rec.Seq, now
	}
	if r.renewed.Sub(r.since) <= v.Timings.Lease {
		return nil
	}
	return Conflict(v.Self, rec.Host, v.ThisHost.Identity, v.ThisHost.Addr)
}

// Conflict is ErrConflict with what is known of the other agent, by the record that it renews, and of this one.
func Conflict(self cluster.HostID, other cluster.Host, identity, addr string) error {
	same := "another identity: two hosts have one name"
	if other.Identity == identity {
		same = "the same identity: the data directory was copied"
	}
	return fmt.Errorf("%w: %q lives at %s and renews its record (boot %s, %s). This agent at %s has written no "+
		"record; give one of the two another name and an empty data_dir",
		ErrConflict, self, other.Addr, other.Boot, same, addr)
}

// Registered returns when this host's record is of this agent: nobody else has its name. It returns as well when the host is
// no member any more, and has no record. false: ctx or the agent has ended before.
func (a *Agent) Registered(ctx context.Context) bool {
	for {
		next, yes := a.next(), false
		if !a.ask(ctx, func() { yes = a.s.core.Lease.Mod != 0 || a.s.outside != "" }) {
			return false
		}
		if yes {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-a.done:
			return false
		case <-next:
		}
	}
}
