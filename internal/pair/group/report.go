package group

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/pair"
	"holdfast/internal/store"
)

// Report is what a node tells people, as it stands in the store.
type Report struct {
	cluster.PairReport
	Judged int64 `json:"judged"` // revision of the record of the copies by which Why was said; 0: an older program's
}

// By is what the report tells when the record of the copies has a revision: why the copy was not fit by an earlier one does not count.
func (r Report) By(sync int64) cluster.PairReport {
	if r.Judged != 0 && r.Judged != sync && r.Why != "" {
		r.Why = pair.NotJudged
	}
	return r.PairReport
}

// reportEvery is between two reports of a node, which may change with each look.
const reportEvery = time.Second

// copyEvery is between two reports of a copy that goes on, which changes with each look.
const copyEvery = 2 * time.Second

// tell writes what the peer must know, when that is not what the store has.
func (d *Driver) tell(ctx context.Context, told string) {
	if told != "" && told != d.said {
		d.write(ctx, keyTold, []byte(told), func() { d.said = told })
	}
}

// stamp notes when the group came on.
func (d *Driver) stamp(a pair.Action, o pair.Outcome) {
	if !o.OK {
		return
	}
	now := time.Now().UTC()
	switch a := a.(type) {
	case pair.StopMember:
		if d.m.Phase == pair.Handing {
			d.times.Stopped = now
		}
	case pair.Put:
		if a.Sync.To == d.opt.Peer {
			d.times.Handed = now
		}
	case pair.Promote:
		d.times.Promoted = now
	}
}

// report writes what people want to know, when it has changed.
func (d *Driver) report(ctx context.Context) {
	m, now := d.m, time.Now().UTC()
	r := Report{Judged: m.Sync.Mod}
	r.Role, r.Linked, r.Waits = roleWord[m.Seen.Replica.Role], m.Seen.Replica.Linked, m.Seen.Replica.Waits
	if m.Phase != pair.Serving {
		r.Why = m.Fit()
	}
	r.Fit = r.Why == ""
	parts := d.now.Load()
	for i, s := range m.Seen.Members {
		of := cluster.PairMember{Name: parts.members[i].Spec().Name, State: stateWord[s]}
		if a, ok := parts.members[i].(*Address); ok {
			of.VIP = a.VIP.Addr().String()
		}
		r.Members = append(r.Members, of)
	}
	if t, ok := parts.data.(interface{ Describe(*cluster.PairReport) }); ok {
		t.Describe(&r.PairReport)
	}
	if d.opt.Also != nil {
		d.opt.Also(&r.PairReport)
	}
	if d.opt.Trouble != nil && r.Problem == "" {
		r.Problem = d.opt.Trouble()
	}
	switch {
	case m.Shut():
		r.Problem, r.Outage = isShut, true
	case m.Promoted && m.Phase == pair.Serving && m.BlindAt != 0:
		silent := fmt.Sprintf("its database does not answer; after %s without an answer the group is ended here", m.Hang)
		if r.Problem != "" {
			silent += ": " + r.Problem
		}
		r.Problem, r.Outage = silent, true
	}
	d.judge(ctx, r.PairReport)
	if r.Problem == "" && (!r.Fit || m.Serves() && !m.Sync.Has(d.opt.Peer)) { // it may be why
		r.Problem = d.failed
	}
	if d.times.Served.IsZero() && m.Promoted && m.Phase == pair.Serving && !slices.ContainsFunc(m.Seen.Members, func(s pair.State) bool { return s != pair.Up }) {
		d.times.Served = now
	}
	r.Times = d.times
	r.Time = d.shown.Time
	every := reportEvery
	if r.Copy != nil && d.shown.Copy != nil && r.Copy.Stage == d.shown.Copy.Stage && r.Copy.Stage != cluster.Copied {
		every = copyEvery
	}
	if reflect.DeepEqual(r, d.shown) || !r.Time.IsZero() && r.Times == d.shown.Times && now.Sub(r.Time) >= 0 && now.Sub(r.Time) < every {
		return
	}
	r.Time = now
	d.write(ctx, KeyNode, records.Encode(r), func() { d.shown = r })
}

var (
	roleWord  = [...]string{pair.RoleUnknown: "unknown", pair.RoleOff: "off", pair.RoleStandby: "standby", pair.RoleActive: "active"}
	stateWord = [...]string{pair.StateUnknown: "unknown", pair.Down: "down", pair.Up: "up", pair.Failed: "failed"}
)

// write writes a record of this node, one at a time of each key; done runs in the loop when it
// is written. What could not be written is tried again with the next look.
func (d *Driver) write(ctx context.Context, key string, value []byte, done func()) {
	if d.writing[key] {
		return
	}
	d.writing[key] = true
	d.acts.Go(func() {
		wctx, cancel := context.WithTimeout(ctx, putWithin)
		defer cancel()
		_, _, err := d.opt.Store.Txn(wctx, nil, []store.Op{{Key: key + string(d.opt.Self), Value: value}})
		d.post(ctx, func() {
			delete(d.writing, key)
			if err == nil {
				done()
			}
		})
	})
}
