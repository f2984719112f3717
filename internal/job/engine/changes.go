package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/store"
)

// change is one write of a decision.
type change struct {
	op   store.Op
	cond *store.Cmp
	took func(rev int64) // puts it into the view
}

// Bounds of what is kept for people.
const (
	tellEvery = 2 * time.Second // the waits are written at most this often
	maxWaits  = 100             // lines
	maxText   = 1000            // bytes of a reason or note
)

// changes are the writes that make a draft true, the job's record first.
func (v *view) changes(j *jobView, d draft, now time.Time) []change {
	var out []change
	if !bytes.Equal(encode(d.job), encode(j.job)) {
		out = append(out, j.rewrite(d.job, func() {}))
	}
	for _, r := range d.recs {
		out = append(out, j.record(r))
	}
	if !j.foreign {
		out = append(out, v.todoChanges(j, d)...)
	}
	if d.quiet {
		return out
	}
	return append(out, v.waitsChanges(j, d, now)...)
}

// rewrite is the change that writes the job's record.
func (v *jobView) rewrite(next job.Job, also func()) change {
	return change{
		op: store.Op{Key: runKey(next.Kind), Value: encode(next)},
		took: func(rev int64) {
			next.Mod = rev
			if next.State == job.Ended && v.job.State != job.Ended {
				toldJob(next)
			}
			v.job = next
			also()
		},
	}
}

// record is the change that writes a step's record in place of revision r.Mod.
func (v *jobView) record(r job.Record) change {
	key := stepKey(v.job.ID, r.Step)
	return change{
		op:   store.Op{Key: key, Value: encode(r)},
		cond: &store.Cmp{Key: key, Rev: r.Mod},
		took: func(rev int64) {
			r.Mod = rev
			v.set(r)
		},
	}
}

// todoChanges are what the hosts' todos need when the draft is true: complete for
// every host with open steps, rewritten with every grant, gone when nothing is
// left of a job that has ended.
func (v *view) todoChanges(j *jobView, d draft) []change {
	open, fresh := j.openWith(d.recs)
	have := v.todos[d.job.Kind]
	var out []change
	for _, host := range slices.Sorted(maps.Keys(open)) {
		h := have[host]
		if fresh[host] || h.Job != d.job.ID || h.State != d.job.State || !covers(h.Steps, open[host]) {
			t := todo{Job: d.job.ID, Kind: d.job.Kind, State: d.job.State, Steps: open[host]}
			out = append(out, v.todoChange(host, t, encode(t)))
		}
	}
	for _, host := range slices.Sorted(maps.Keys(have)) {
		if open[host] == nil && (have[host].Job != d.job.ID || d.job.State == job.Ended) {
			out = append(out, v.todoChange(host, todo{Kind: d.job.Kind}, nil))
		}
	}
	return out
}

// openWith lists the open steps by word of the host when recs are written, in
// order. fresh are the hosts that get new ones.
func (v *jobView) openWith(recs []job.Record) (open map[string][]string, fresh map[string]bool) {
	open, fresh = map[string][]string{}, map[string]bool{}
	by := make(map[string]string, len(v.open)) // host of each open step
	for step := range v.open {
		by[step] = hostWord(v.recs[step].Work.Host)
	}
	for _, r := range recs {
		delete(by, r.Step)
		if isOpen(r.State) {
			by[r.Step] = hostWord(r.Work.Host)
			fresh[by[r.Step]] = true
		}
	}
	for _, step := range slices.Sorted(maps.Keys(by)) {
		open[by[step]] = append(open[by[step]], step)
	}
	return open, fresh
}

func covers(all, some []string) bool {
	for _, s := range some {
		if !slices.Contains(all, s) {
			return false
		}
	}
	return true
}

// todoChange writes a host's todo, or removes it when value is nil.
func (v *view) todoChange(host string, t todo, value []byte) change {
	return change{
		op: store.Op{Key: keyTodo + host + "/" + string(t.Kind), Value: value},
		took: func(rev int64) {
			t.mod = rev
			if v.todos[t.Kind] == nil {
				v.todos[t.Kind] = map[string]todo{}
			}
			if value == nil {
				delete(v.todos[t.Kind], host)
			} else {
				v.todos[t.Kind][host] = t
			}
		},
	}
}

// waitsChanges tell what is waited for, not too often.
func (v *view) waitsChanges(j *jobView, d draft, now time.Time) []change {
	op := store.Op{Key: waitsKey(d.job.Kind)}
	ended := d.job.State == job.Ended
	if !ended && len(d.waits) > 0 {
		op.Value = encode(short(d.waits))
	}
	if have, exists := v.waits[op.Key]; string(op.Value) == have.value && exists == (op.Value != nil) {
		return nil
	}
	if since := now.Sub(j.told); !ended && since >= 0 && since < tellEvery {
		return nil
	}
	return []change{{op: op, took: func(rev int64) {
		j.told = now
		if op.Value == nil {
			delete(v.waits, op.Key)
		} else {
			v.waits[op.Key] = stored{string(op.Value), rev}
		}
	}}}
}

// short bounds what is told.
func short(waits []reason.Reason) []reason.Reason {
	if more := len(waits) - maxWaits; more > 0 {
		return append(slices.Clone(waits[:maxWaits]), reason.More.With(more))
	}
	return waits
}

// Sizes of one transaction; etcd takes 128 operations and 1.5 MiB.
const (
	maxOps   = 100
	maxBytes = 1 << 20
)

// write writes changes in transactions, each of which compares the term and the
// job, and takes what was written into the view. When a condition does not hold,
// the watch tells what has changed. wrote says that something was written.
func (t *turn) write(ctx context.Context, j *jobView, changes []change) (wrote bool, err error) {
	for len(changes) > 0 {
		n := fit(changes)
		conds := []store.Cmp{t.term, {Key: runKey(j.job.Kind), Rev: j.job.Mod}}
		var ops []store.Op
		for _, ch := range changes[:n] {
			if ch.cond != nil {
				conds = append(conds, *ch.cond)
			}
			ops = append(ops, ch.op)
		}
		rev, ok, err := txn(ctx, t.c.Store, conds, ops)
		if errors.Is(err, store.ErrUnknown) {
			// It may still come. Before anything else is decided the job's record is
			// rewritten, with which it can not come any more.
			j.unsure, t.notTill = true, time.Now().Add(pause)
			t.c.Log.Warn("outcome of a decision unknown", "job", j.job.ID, "err", err)
			return wrote, nil
		}
		if err != nil {
			return wrote, fmt.Errorf("write decisions on %s %s: %w", j.job.Kind, j.job.ID, err)
		}
		if !ok {
			return wrote, nil
		}
		wrote = true
		for _, ch := range changes[:n] {
			ch.took(rev)
		}
		changes = changes[n:]
	}
	return wrote, nil
}

// fit is how many of the changes go into one transaction, at least one.
func fit(changes []change) int {
	size := 0
	for n, ch := range changes {
		size += len(ch.op.Key) + len(ch.op.Value)
		if n > 0 && (n >= maxOps || size > maxBytes) {
			return n
		}
	}
	return len(changes)
}
