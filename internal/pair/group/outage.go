package group

import (
	"context"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// outageAfter is how long clients may be kept from the active database until an event tells it: a pause is no outage.
const outageAfter = 2 * time.Second

const (
	isShut  = "somebody has made the active database read-only; it is made writable again: to end all writing, use holdfast pair stop"
	wasShut = "somebody had made the active database read-only; it was made writable again: to end all writing, use holdfast pair stop"
)

// outage is what was told of clients that are kept from the active database. It belongs to the loop.
type outage struct {
	since time.Time // zero: they are not
	told  bool      // by an event
}

// judge has an event written when clients are kept from the database here for a while, and when they are not any more. A group that
// has left the node has events of its own.
func (d *Driver) judge(ctx context.Context, r cluster.PairReport) {
	now := time.Now()
	switch serves := d.m.Phase == pair.Serving && d.m.Served; {
	case serves && r.Outage && d.out.since.IsZero():
		d.out.since = now
	case serves && r.Outage:
		if !d.out.told && now.Sub(d.out.since) >= outageAfter {
			d.out.told = true
			d.event(ctx, cluster.EvOutage, r.Problem)
		}
	case serves && d.m.Seen.Replica.Role != pair.RoleActive: // it is started anew, and may not let them write yet
	default:
		if d.out.told && serves {
			d.event(ctx, cluster.EvOutageOver, "")
		}
		d.out = outage{}
	}
}

// event writes one. What is lost with the store is in the log.
func (d *Driver) event(ctx context.Context, kind cluster.EventKind, detail string) {
	if d.events == nil {
		return
	}
	ev := cluster.Event{Kind: kind, By: d.opt.Self, Resource: d.opt.Resource, Host: d.opt.Self, Detail: detail}
	d.acts.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, putWithin)
		defer cancel()
		if err := d.events(ctx, ev); err != nil {
			d.opt.Log.Warn("an event was not written", "kind", ev.Kind, "detail", ev.Detail, "err", err)
		}
	})
}

// Reopen lets clients write again to the copy that was promoted in this run of its server.
func (d *Database) Reopen(ctx context.Context) error {
	run, wrote, err := readWrote(d.Dir)
	if err != nil {
		return err
	}
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	if !wrote || st.Role != replica.Idle || st.Run != run {
		return fail.Errorf(fail.Refused, "this database is not the one any more that was made read-only")
	}
	return d.DB.Promote(ctx, replica.Claim{License: replica.Guarantee{Safe: true, Primary: d.DB.Node(), Run: st.Run}})
}
