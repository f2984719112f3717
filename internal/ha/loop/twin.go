package loop

import (
	"context"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Times of looking for another agent of this host's name before the member of the store is started.
const (
	twinAnswer = 2 * time.Second        // the others answer within, or nobody does
	twinAgain  = 200 * time.Millisecond // between two looks
)

// Twin finds out whether another agent lives under this host's name: with a copy of its data directory, or of its settings.
//
// A copied data directory has the log of a member of the store, and two processes that are one member vote twice and
// acknowledge twice: entries that were committed may be lost. So the other members are asked before this host's own is started.
// Another boot, identity or machine that renews the host's record for longer than a lease is alive: what a process that is dead had
// sent before can not do that. The record of this very boot is of an earlier run of this agent: the lock of the data directory
// keeps a second one on this host away. A clone that was resumed from memory has the boot id, too, and is told by its machine's UUID.
//
// What is left: nothing is found while no majority of the other members answers (all hosts start after a loss of power, or the other
// one is in the minority with this one), or while the other one's agent is down and its member runs. Then both members run
// until this agent reads the store and the other one has renewed for a lease: it ends, and its member with it .
type Twin struct {
	Host             cluster.HostID
	Addr             string
	Identity, Boot   string
	Machine          string // "": not known
	Lease, Keepalive time.Duration
	Read             func(context.Context) (rec cluster.Host, known bool, err error) // the record of the name, from the other members
}

// own reports whether a record was written by an agent of this boot of this host.
func (w Twin) own(rec cluster.Host) bool {
	return rec.Identity == w.Identity && rec.Boot == w.Boot && (rec.Machine == "" || w.Machine == "" || rec.Machine == w.Machine)
}

// Look returns ErrConflict when another agent of the name lives. It returns nil when none is found, and when ctx
// has ended. After a reboot that takes three keepalives; it takes 2 s when nobody answers.
func (w Twin) Look(ctx context.Context) error {
	var last cluster.Host
	var since, renewed time.Time // it was seen first, and to renew
	for {
		rctx, cancel := context.WithTimeout(ctx, twinAnswer)
		rec, known, err := w.Read(rctx)
		cancel()
		now := time.Now()
		switch {
		case ctx.Err() != nil || err != nil && since.IsZero():
			return nil
		case err != nil: // what was seen becomes old
		case !known || w.own(rec):
			return nil
		case since.IsZero() || rec.Identity != last.Identity || rec.Boot != last.Boot || rec.Machine != last.Machine:
			last, since, renewed = rec, now, now
		case rec.Seq != last.Seq:
			last, renewed = rec, now
		}
		switch {
		case renewed.Sub(since) > w.Lease:
			return Conflict(w.Host, last, w.Identity, w.Addr)
		case now.Sub(renewed) >= 3*w.Keepalive:
			return nil
		}
		clock.Sleep(ctx, twinAgain)
	}
}

// ReadHost reads the record of a host; false: there is none.
func ReadHost(ctx context.Context, st store.Store, host cluster.HostID) (cluster.Host, bool, error) {
	kv, known, err := st.Get(ctx, records.HostKey(host))
	if err != nil || !known {
		return cluster.Host{}, false, err
	}
	rec, err := records.Decode[cluster.Host](kv, false)
	return rec, true, err
}
