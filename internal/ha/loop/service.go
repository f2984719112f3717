package loop

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// The methods of this file are what the API serves (server.Cluster).

// statusWithin bounds the wait for the loop, which never blocks.
const statusWithin = 2 * time.Second

// peek runs f in the loop for somebody outside of it; false: it did not within statusWithin, and may still do.
func (a *Agent) peek(f func()) bool {
	ctx, cancel := context.WithTimeout(context.Background(), statusWithin)
	defer cancel()
	return a.ask(ctx, f)
}

// Status returns what this agent knows now.
func (a *Agent) Status() cluster.Status {
	var st cluster.Status
	if !a.peek(func() { st = a.status() }) {
		st = cluster.Status{Time: time.Now(), Cluster: a.Cluster, Type: a.Config.Type, Self: a.Host, StoreError: "the agent is ending"}
	}
	return st
}

func (a *Agent) status() cluster.Status {
	v := a.s.snapshot(a.Clock())
	heard := a.s.heard(v)
	st := cluster.Status{
		Time: time.Now(), Cluster: a.Cluster, Type: a.s.cfg.Type, Self: a.Host, Connected: a.s.storeErr == nil && v.Synced,
		Coordinator: v.Coord.Host, Term: v.Coord.Mod, Want: v.Want.Want, Owner: v.Owner.Owner, OwnerMod: v.Owner.Mod,
		Takeover: heard.Takeover(), Waiting: v.Waiting(), Timings: v.Timings, Members: v.Order,
		Pending: a.s.pending, Labels: a.s.cfg.Labels, FenceCheck: a.s.looked,
	}
	if a.s.storeErr != nil {
		st.StoreError = a.s.storeErr.Error()
		// renewals of this host are news, too
	} else if still := v.Now.Sub(a.s.lookedAt); st.Connected && !a.s.watches && still > 2*v.Timings.Keepalive {
		st.Connected, st.StoreError = false, fmt.Sprintf("it has told nothing new for %s", still.Round(time.Second))
	}
	if st.StoreError != "" {
		if a.s.trouble != "" {
			// The host's own record, which tells it too, may be old now.
			st.StoreError += "; on this host: " + a.s.trouble
		}
		st.Waiting = "a quorum of the store: " + st.StoreError
	}
	if !st.Connected {
		st.Coordinator = ""
		if a.s.lookedAt != 0 {
			st.AsOf = st.Time.Add(-a.Clock().Sub(a.s.lookedAt))
		}
		st.Takeover = cluster.Takeover{Why: "this host does not reach a quorum of the store, and does not know what the others could do"}
	}
	if a.s.outside != "" {
		st.Waiting = a.s.outside
	}
	if v.Owner.State == cluster.Migrating && a.s.pctMod > v.Owner.Mod { // else it is of an earlier one
		st.Percent = a.s.percent
	}
	for h, r := range v.Hosts {
		hs := cluster.HostStatus{
			Host: r.Host, Silent: v.Now.Sub(a.s.renewal(h).at), Coordinator: h == st.Coordinator,
			Alive: r.Expelled.IsZero() && v.Now.Sub(heard.Hosts[h].SeenAt) < v.Timings.Lease,
		}
		switch {
		case h == v.Self && !a.s.watches: // this agent knows better than its record
			hs.Guest, hs.Fit, hs.Retry, hs.Why = v.Guest.Seen.State, v.ThisHost.Fit, v.ThisHost.Retry, v.ThisHost.Why
		case !r.Expelled.IsZero():
			hs.Guest, hs.Fit, hs.Why = cluster.GuestAbsent, false, ""
		case !hs.Alive:
			hs.Guest, hs.Fit, hs.Why = cluster.GuestUnknown, false, ""
		}
		hs.Fit = hs.Fit && !hs.Retry // where it is tried again, and may fail again, nobody counts on it
		st.Hosts = append(st.Hosts, hs)
	}
	slices.SortFunc(st.Hosts, func(x, y cluster.HostStatus) int { return cmp.Compare(x.Name, y.Name) })
	return st
}

// Changed delivers a value after each change, coalesced, until ctx ends.
func (a *Agent) Changed(ctx context.Context) <-chan struct{} {
	out := make(chan struct{}, 1)
	next := a.next()
	go func() {
		defer close(out)
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.done:
				return
			case <-next:
			}
			next = a.next()
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}

// HostMod returns the revision of a host's record; 0: it has none.
func (a *Agent) HostMod(h cluster.HostID) (mod int64) {
	a.peek(func() { mod = a.s.core.Hosts[h].Mod })
	return mod
}

// requestAgain is the time between two tries of a request.
const requestAgain = 200 * time.Millisecond

// Request changes what is asked for, in one transaction with an event that
// names the user. It tries again, as long as ctx lives, when it raced another
// request or the outcome is not known: by its key, a request that was carried
// out is found and not repeated.
func (a *Agent) Request(ctx context.Context, user, key string, change func(*cluster.Want, cluster.Status) error) error {
	if key == "" {
		key = rand.Text()
	}
	for {
		done, err := a.requestOnce(ctx, user, key, change)
		if done || err != nil && !errors.Is(err, store.ErrRetry) && !errors.Is(err, store.ErrUnknown) {
			return err
		}
		if !clock.Sleep(ctx, requestAgain) {
			if err == nil {
				err = fmt.Errorf("%w: other requests came in between", store.ErrRetry)
			}
			return err
		}
	}
}

// requestOnce reports whether the request is carried out.
func (a *Agent) requestOnce(ctx context.Context, user, key string, change func(*cluster.Want, cluster.Status) error) (bool, error) {
	wkey, rkey := records.WantKey(cluster.MgmtVM), records.KeyRequests+key
	kv, found, err := a.Store.Get(ctx, wkey)
	if err != nil {
		return false, fmt.Errorf("read what is asked for: %w", err)
	}
	want, err := records.Decode[cluster.Want](kv, !found)
	if err != nil {
		return false, err
	}
	if _, done, err := a.Store.Get(ctx, rkey); err != nil || done {
		return done, err
	}
	before := want
	if err := change(&want, a.Status()); err != nil {
		return false, err
	}
	return a.request(ctx, []store.Cmp{{Key: wkey, Rev: kv.ModRev}, {Key: rkey}}, key, before, want, user)
}

func (a *Agent) request(ctx context.Context, conds []store.Cmp, key string, before, want cluster.Want, user string) (bool, error) {
	ops := []store.Op{
		{Key: records.WantKey(cluster.MgmtVM), Value: records.Encode(want)},
		{Key: records.KeyRequests + key, Value: []byte(time.Now().UTC().Format(time.RFC3339))},
	}
	ev := cluster.Event{Kind: cluster.EvWant, By: a.Host, Resource: cluster.MgmtVM, User: user, To: want.MoveTo,
		Detail: wantDetail(before, want)}
	return a.writeWith(ctx, "what is asked for", conds, ops, ev)
}

// writeWith carries out a transaction along with its event, and reports whether its
// conditions held. The record of the first operation is known here when it returns.
func (a *Agent) writeWith(ctx context.Context, what string, conds []store.Cmp, ops []store.Op, ev cluster.Event) (bool, error) {
	if !a.ask(ctx, func() { ops = append(ops, a.event(ev)) }) {
		return false, fmt.Errorf("%w: the agent is ending", store.ErrRetry)
	}
	tctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	rev, ok, err := a.Store.Txn(tctx, conds, ops)
	if err != nil {
		return false, fmt.Errorf("write %s: %w", what, err)
	}
	if ok {
		// Before the answer: a status asked for next must know of it.
		a.ask(ctx, func() { a.own(ops[0].Key, ops[0].Value, rev); a.notify() })
	}
	return ok, nil
}

// wantDetail says what a request changed.
func wantDetail(before, want cluster.Want) string {
	var what []string
	if before.HandsOff != want.HandsOff {
		what = append(what, map[bool]string{true: "hands off", false: "hands on"}[want.HandsOff])
	}
	if before.Run != want.Run {
		what = append(what, map[bool]string{true: "start", false: "stop"}[want.Run])
	}
	for _, o := range want.Off {
		if !slices.Contains(before.Off, o) {
			what = append(what, "confirmed that "+string(o.Host)+" is off")
		}
	}
	for _, h := range want.Maintenance {
		if !slices.Contains(before.Maintenance, h) {
			what = append(what, string(h)+" in maintenance")
		}
	}
	for _, h := range before.Maintenance {
		if !slices.Contains(want.Maintenance, h) {
			what = append(what, string(h)+" out of maintenance")
		}
	}
	switch {
	case before.MoveTo == want.MoveTo:
	case want.MoveTo == "":
		what = append(what, "do not move to "+string(before.MoveTo))
	default:
		what = append(what, "move to "+string(want.MoveTo))
	}
	if before.Cancel != want.Cancel {
		what = append(what, "cancel the move")
	}
	if len(what) == 0 {
		return "nothing new"
	}
	return strings.Join(what, ", ")
}
