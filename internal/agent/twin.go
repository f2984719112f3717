package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/store/etcdstore"
)

// Times of looking for another agent of this host's name before the member of the store is started.
const (
	twinAnswer = 2 * time.Second        // the others answer within, or nobody does
	twinAgain  = 200 * time.Millisecond // between two looks
)

// twin finds out whether another agent lives under this host's name: with a copy of its data directory, or of its settings.
//
// A copied data directory has the log of a member of the store, and two processes that are one member vote twice and
// acknowledge twice: entries that were committed may be lost. So the other members are asked before this host's own is started.
// Another boot, identity or machine that renews the host's record for longer than a lease is alive: what a process that is dead had
// sent before can not do that. The record of this very boot is of an earlier run of this agent: the lock of the data directory
// keeps a second one on this host away. A clone that was resumed from memory has the boot id, too, and is told by its machine's UUID.
//
// What is left: nothing is found while no majority of the other members answers (all hosts start after a loss of power, or the other
// one is in the minority with this one), or while the other one's agent is down and its member runs. Then both members run
// until this agent reads the store and the other one has renewed for a lease: it ends, and its member with it (endMember).
type twin struct {
	host             cluster.HostID
	addr             string
	identity, boot   string
	machine          string // "": not known
	lease, keepalive time.Duration
	read             func(context.Context) (rec cluster.Host, known bool, err error) // the record of the name, from the other members
}

// own reports whether a record was written by an agent of this boot of this host.
func (w twin) own(rec cluster.Host) bool {
	return rec.Identity == w.identity && rec.Boot == w.boot && (rec.Machine == "" || w.machine == "" || rec.Machine == w.machine)
}

// look returns loop.ErrConflict when another agent of the name lives. It returns nil when none is found, and when ctx
// has ended. After a reboot that takes three keepalives; it takes 2 s when nobody answers.
func (w twin) look(ctx context.Context) error {
	var last cluster.Host
	var since, renewed time.Time // it was seen first, and to renew
	for {
		rctx, cancel := context.WithTimeout(ctx, twinAnswer)
		rec, known, err := w.read(rctx)
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
		case renewed.Sub(since) > w.lease:
			return loop.Conflict(w.host, last, w.identity, w.addr)
		case now.Sub(renewed) >= 3*w.keepalive:
			return nil
		}
		clock.Sleep(ctx, twinAgain)
	}
}

// keepChild keeps a process running that outlives the agent; the member of the store after it was made sure that it is not
// another one's. It returns loop.ErrConflict when it is.
func (nd *node) keepChild(ctx context.Context, spec supervise.Spec, identity string) error {
	if spec.Name == storeChild {
		if err := nd.mayJoin(ctx, identity); err != nil {
			return err
		}
	}
	return supervise.Keep(ctx, spec)
}

// mayJoin returns loop.ErrConflict when this host's member of the store must not be started, see twin. One that runs is
// looked after as it is.
func (nd *node) mayJoin(ctx context.Context, identity string) (err error) {
	if st, err := supervise.Read(nd.storeDir(), storeChild); err == nil && st.PID != 0 {
		return nil
	}
	opt := nd.storeOptions()
	opt.Endpoints = slices.DeleteFunc(slices.Clone(opt.Endpoints), func(at string) bool { return at == nd.n.Store.Member.ClientURL })
	if len(opt.Endpoints) == 0 {
		return nil
	}
	others, err := etcdstore.Open(opt)
	if err != nil {
		return fmt.Errorf("ask the other members of the store whether another agent has this host's name: %w", err)
	}
	defer func() { err = errors.Join(err, others.Close()) }()
	t, host := nd.cfg.Timings(), cluster.HostID(nd.n.Host)
	w := twin{
		host: host, addr: nd.n.Addr, identity: identity, boot: nd.boot, machine: machine(nd.n.Machine), lease: t.Lease, keepalive: t.Keepalive,
		read: func(ctx context.Context) (cluster.Host, bool, error) {
			kv, known, err := others.Get(ctx, records.HostKey(host))
			if err != nil || !known {
				return cluster.Host{}, false, err
			}
			rec, err := records.Decode[cluster.Host](kv, false)
			return rec, true, err
		},
	}
	return w.look(ctx)
}

func (nd *node) storeDir() string { return filepath.Join(nd.n.RunDir, storeChild) }

// endWithin is how long a member has to end; then it is killed.
const endWithin = 3 * time.Second

// endMember ends this host's member of the store when another agent has its name, whoever has started it: an agent that was
// refused has nobody to look after the member, and the other one's is the same member. It returns why with what was done.
func (nd *node) endMember(why error) error {
	if nd.n.Store.Member == nil {
		return why
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	st, err := supervise.Read(nd.storeDir(), storeChild)
	if err = errors.Join(err, supervise.Stop(ctx, nd.storeDir(), storeChild)); err != nil {
		return fmt.Errorf("%w. The member of the store on this host may run, and is to be ended: %w", why, err)
	}
	if st.PID != 0 {
		return fmt.Errorf("%w. The member of the store that ran here was ended", why)
	}
	return why
}
