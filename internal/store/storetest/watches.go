package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/store"
)

// collect reads a watch until n changes have come. It checks the order, that
// transactions come whole, and the batches' revisions on the way.
func (f *fixture) collect(w store.Watcher, n int) []store.Change {
	f.Helper()
	timeout := time.After(2 * patience)
	var out []store.Change
	var seen int64 // revision up to which everything has come
	for len(out) < n {
		select {
		case b, open := <-w.C():
			if !open {
				f.Fatalf("watch ended after %d changes of %d: %v", len(out), n, w.Err())
			}
			f.checkBatch(b, seen)
			seen = b.Rev
			out = append(out, b.Changes...)
		case <-timeout:
			f.Fatalf("%d changes of %d came", len(out), n)
		}
	}
	if len(out) > n {
		f.Errorf("%d changes came, want %d: %v", len(out), n, out[n:])
	}
	return out
}

// checkBatch checks one batch. One without changes only tells a revision.
func (f *fixture) checkBatch(b store.Batch, seen int64) {
	f.Helper()
	if b.Rev < seen {
		f.Errorf("batch of revision %d after %d", b.Rev, seen)
	}
	last := seen + 1
	for _, c := range b.Changes {
		if c.KV.ModRev < last || c.KV.ModRev > b.Rev {
			f.Errorf("change of revision %d, in a batch of %d, after all up to %d", c.KV.ModRev, b.Rev, last)
		}
		last = c.KV.ModRev
	}
}

func describe(prefix string, changes []store.Change) []string {
	var out []string
	for _, c := range changes {
		name := c.KV.Key[len(prefix):]
		if c.Deleted {
			out = append(out, fmt.Sprintf("%d -%s", c.KV.ModRev, name))
		} else {
			out = append(out, fmt.Sprintf("%d +%s=%s", c.KV.ModRev, name, c.KV.Value))
		}
	}
	return out
}

func (f *fixture) wantChanges(got []store.Change, want []string) {
	f.Helper()
	if d := describe(f.prefix, got); !slices.Equal(d, want) {
		f.Errorf("changes\n%q, want\n%q", d, want)
	}
}

// write makes changes of all kinds and returns what a watch of "k/" must tell.
func (f *fixture) write() (first int64, want []string) {
	f.Helper()
	first = f.put("k/a", "1")
	want = append(want, fmt.Sprintf("%d +k/a=1", first))
	f.put("other", "x")
	r := f.put("k/a", "2")
	want = append(want, fmt.Sprintf("%d +k/a=2", r))
	// One transaction: its changes have one revision and come together.
	r, _ = f.txn(nil, store.Op{Key: f.key("k/b"), Value: []byte("3")}, store.Op{Key: f.key("other")}, store.Op{Key: f.key("k/a")})
	want = append(want, fmt.Sprintf("%d +k/b=3", r), fmt.Sprintf("%d -k/a", r))
	f.txn([]store.Cmp{{Key: f.key("k/b")}}, store.Op{Key: f.key("k/b"), Value: []byte("not done")})
	f.del("k/none")
	r = f.put("k/a", "")
	want = append(want, fmt.Sprintf("%d +k/a=", r))
	return first, want
}

func checkWatch(f *fixture) {
	_, rev := f.list("")
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	w := f.s.Watch(ctx, f.key("k/"), rev+1)
	_, want := f.write()
	got := f.collect(w, len(want))
	f.wantChanges(got, want)
	for _, c := range got {
		if c.Deleted && (c.KV.Value != nil || c.KV.CreateRev != 0) {
			f.Errorf("deletion tells more than key and revision: %+v", c.KV)
		}
		if !c.Deleted && c.KV.Value == nil {
			f.Errorf("value of a write is nil: %+v", c.KV)
		}
	}
	if c := got[len(got)-1]; c.KV.CreateRev != c.KV.ModRev {
		f.Errorf("key created again has create revision %d, want %d", c.KV.CreateRev, c.KV.ModRev)
	}
	if c := got[1]; c.KV.CreateRev != got[0].KV.ModRev {
		f.Errorf("changed key has create revision %d, want %d", c.KV.CreateRev, got[0].KV.ModRev)
	}
}

func checkWatchPast(f *fixture) {
	first, want := f.write()
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	f.wantChanges(f.collect(f.s.Watch(ctx, f.key("k/"), first), len(want)), want)
	f.wantChanges(f.collect(f.s.Watch(ctx, f.key("k/"), first+1), len(want)-1), want[1:])
	// A revision to come: nothing before it is told.
	_, rev := f.list("")
	later := f.s.Watch(ctx, f.prefix, rev+2)
	var wantLater []string
	for _, value := range []string{"early", "late"} {
		if r := f.put("k/a", value); r >= rev+2 {
			wantLater = append(wantLater, fmt.Sprintf("%d +k/a=%s", r, value))
		}
	}
	f.wantChanges(f.collect(later, len(wantLater)), wantLater)
}

func checkSlowReader(f *fixture) {
	const n = 2500
	_, rev := f.list("")
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	// Nobody reads while all is written.
	w := f.s.Watch(ctx, f.prefix, rev+1)
	const perTxn = 50
	var want []string
	for i := 0; i < n; i += perTxn {
		var ops []store.Op
		for j := range perTxn {
			ops = append(ops, store.Op{Key: f.key(fmt.Sprintf("%04d", i+j)), Value: []byte("v")})
		}
		r, ok := f.txn(nil, ops...)
		if !ok {
			f.Fatal("transaction without conditions was not done")
		}
		for j := range perTxn {
			want = append(want, fmt.Sprintf("%d +%04d=v", r, i+j))
		}
	}
	got := describe(f.prefix, f.collect(w, n))
	// The order within one transaction is free.
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.Errorf("%d changes came, not those %d written", len(got), len(want))
	}
}

func checkWatchEnds(f *fixture) {
	rev := f.put("a", "1")
	ctx, cancel := context.WithCancel(f.Context())
	w := f.s.Watch(ctx, f.prefix, rev)
	unread := f.s.Watch(ctx, f.prefix, rev)
	f.collect(w, 1)
	cancel()
	for name, w := range map[string]store.Watcher{"read": w, "unread": unread} {
		timeout := time.After(patience)
		for open := true; open; {
			select {
			case _, open = <-w.C():
			case <-timeout:
				f.Fatalf("%s watch does not end with its context", name)
			}
		}
		if err := w.Err(); err != nil {
			f.Errorf("%s watch ended by its context: %v", name, err)
		}
	}
}

func checkCompacted(f *fixture) {
	c, ok := f.s.(Compacter)
	if !ok {
		f.Skip("this store is never told to forget")
	}
	first := f.put("a", "1")
	f.put("a", "2")
	last := f.put("a", "3")
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	if err := c.Compact(ctx, last); err != nil {
		f.Fatalf("compact: %v", err)
	}
	w := f.s.Watch(ctx, f.prefix, first)
	for b := range w.C() {
		if len(b.Changes) > 0 {
			f.Errorf("watch from a forgotten revision delivers %+v", b)
		}
	}
	if err := w.Err(); !errors.Is(err, store.ErrCompacted) {
		f.Errorf("watch from a forgotten revision: %v", err)
	}
	if errors.Is(w.Err(), store.ErrRetry) {
		f.Error("the error says two things")
	}
	// What is kept can be watched, and read.
	f.wantChanges(f.collect(f.s.Watch(ctx, f.prefix, last), 1), []string{fmt.Sprintf("%d +a=3", last)})
	f.want("a", "3", first, last)
}
