package loop

import (
	"fmt"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
)

// rival notices that another agent lives under this host's name before this one
// has registered: a copied data directory or agent.json. Without it this agent
// would wait in silence, as the decisions let it wait while the other may live.
type rival struct {
	identity, boot string
	seq            uint64
	since          cluster.Instant // first seen
	renewed        cluster.Instant // the last time that it was seen to renew
}

// check returns ErrConflict once the other has been seen to renew for longer
// than a lease. What a process that is dead had sent before can not do that.
func (r *rival) check(v *ha.Machine, now cluster.Instant) error {
	rec, known := v.Hosts[v.Self]
	if !v.Synced || !known || v.Lease.Mod != 0 || rec.Identity == v.Me.Identity && rec.Boot == v.Me.Boot {
		*r = rival{}
		return nil
	}
	if rec.Identity != r.identity || rec.Boot != r.boot {
		*r = rival{identity: rec.Identity, boot: rec.Boot, seq: rec.Seq, since: now, renewed: now}
	}
	if rec.Seq != r.seq {
		r.seq, r.renewed = rec.Seq, now
	}
	if r.renewed.Sub(r.since) <= v.Timings.Lease {
		return nil
	}
	same := "another identity: two hosts have one name"
	if rec.Identity == v.Me.Identity {
		same = "the same identity: the data directory was copied"
	}
	return fmt.Errorf("%w: %q lives at %s and renews its record (boot %s, %s). This agent at %s has changed nothing; give one of the two another name and an empty data_dir",
		ErrConflict, v.Self, rec.Addr, rec.Boot, same, v.Me.Addr)
}
