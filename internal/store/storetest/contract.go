package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"holdfast/internal/store"
)

// Compacter is a store that can be told to forget old changes.
type Compacter interface {
	Compact(ctx context.Context, rev int64) error
}

// patience bounds each call of the suite; a call that needs it has hung.
const patience = 5 * time.Minute

// Contract checks that a store does what the package store promises. open makes
// a new connection; all may be to the same store, as each check uses keys of its
// own. The suite closes what it opens.
func Contract(t *testing.T, open func(t *testing.T) store.Store) {
	checks := []struct {
		name string
		run  func(*fixture)
	}{
		{"get", checkGet},
		{"list", checkList},
		{"stale reads", checkStale},
		{"conditions", checkConditions},
		{"all or nothing", checkAllOrNothing},
		{"create again", checkCreateAgain},
		{"no change", checkNoChange},
		{"bad requests", checkBadRequests},
		{"values", checkValues},
		{"many writers", checkManyWriters},
		{"watch", checkWatch},
		{"watch from the past", checkWatchPast},
		{"watch with a slow reader", checkSlowReader},
		{"watch ends", checkWatchEnds},
		{"watch of forgotten changes", checkCompacted},
		{"deadline", checkDeadline},
		{"close", checkClose},
	}
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			f := &fixture{T: t, s: s, prefix: fmt.Sprintf("contract/%s/%d/", c.name, time.Now().UnixNano())}
			t.Cleanup(func() {
				if err := s.Close(); err != nil && !errors.Is(err, store.ErrDefinite) {
					t.Errorf("close: %v", err)
				}
			})
			c.run(f)
		})
	}
}

// checkStale: what a read gives that may be old was there, and comes; nothing is written by it.
func checkStale(f *fixture) {
	ctx, cancel := context.WithTimeout(store.Stale(f.Context()), patience)
	defer cancel()
	f.put("a", "1")
	for {
		kv, ok, err := f.s.Get(ctx, f.key("a"))
		all, _, lerr := f.s.List(ctx, f.prefix)
		if err := errors.Join(err, lerr); err != nil {
			f.Fatal(err)
		}
		if ok && len(all) == 1 && string(kv.Value) == "1" && string(all[0].Value) == "1" {
			break
		}
	}
	if _, _, err := f.s.Txn(ctx, nil, []store.Op{{Key: f.key("a"), Value: []byte("2")}}); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("a transaction by what may be old: %v", err)
	}
	if kv, _ := f.get("a"); string(kv.Value) != "1" {
		f.Errorf("it was written: %s", kv.Value)
	}
}

// fixture is one check's store and keys.
type fixture struct {
	*testing.T
	s      store.Store
	prefix string
}

func (f *fixture) key(name string) string { return f.prefix + name }

func (f *fixture) get(name string) (store.KV, bool) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	kv, ok, err := f.s.Get(ctx, f.key(name))
	if err != nil {
		f.Fatalf("get %s: %v", name, err)
	}
	return kv, ok
}

func (f *fixture) txn(conds []store.Cmp, ops ...store.Op) (rev int64, ok bool) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	rev, ok, err := f.s.Txn(ctx, conds, ops)
	if err != nil {
		f.Fatalf("transaction: %v", err)
	}
	return rev, ok
}

func (f *fixture) put(name, value string) int64 {
	f.Helper()
	rev, ok := f.txn(nil, store.Op{Key: f.key(name), Value: []byte(value)})
	if !ok {
		f.Fatalf("put %s without a condition was not done", name)
	}
	return rev
}

func (f *fixture) del(name string) int64 {
	f.Helper()
	rev, ok := f.txn(nil, store.Op{Key: f.key(name)})
	if !ok {
		f.Fatalf("deletion of %s without a condition was not done", name)
	}
	return rev
}

func (f *fixture) list(prefix string) ([]store.KV, int64) {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	kvs, rev, err := f.s.List(ctx, f.key(prefix))
	if err != nil {
		f.Fatalf("list: %v", err)
	}
	return kvs, rev
}

// want checks one key against what it must be; value "" with rev 0 is absent.
func (f *fixture) want(name, value string, createRev, modRev int64) {
	f.Helper()
	kv, ok := f.get(name)
	if !ok {
		if modRev != 0 {
			f.Errorf("%s is absent, want %q at %d", name, value, modRev)
		}
		return
	}
	if kv.Key != f.key(name) || string(kv.Value) != value || kv.CreateRev != createRev || kv.ModRev != modRev {
		f.Errorf("%s is %+v, want %q created %d changed %d", name, kv, value, createRev, modRev)
	}
}

func checkGet(f *fixture) {
	f.want("a", "", 0, 0)
	r1 := f.put("a", "1")
	if r1 <= 0 {
		f.Errorf("revision %d", r1)
	}
	f.want("a", "1", r1, r1)
	r2 := f.put("a", "2")
	if r2 <= r1 {
		f.Errorf("revision %d after %d", r2, r1)
	}
	f.want("a", "2", r1, r2)
	f.want("a/b", "", 0, 0)
}

func checkList(f *fixture) {
	if kvs, _ := f.list("x/"); len(kvs) != 0 {
		f.Errorf("list of nothing: %v", kvs)
	}
	revs := map[string]int64{}
	for _, name := range []string{"x/b", "x/a", "x/a/1", "x/\xff", "x0", "w", "x/c"} {
		revs[name] = f.put(name, "v"+name)
	}
	last := f.del("x/c")
	kvs, rev := f.list("x/")
	if rev < last {
		f.Errorf("list at revision %d, last change was %d", rev, last)
	}
	want := []string{"x/a", "x/a/1", "x/b", "x/\xff"}
	if len(kvs) != len(want) {
		f.Fatalf("got %d keys, want %d: %v", len(kvs), len(want), kvs)
	}
	for i, name := range want {
		kv := kvs[i]
		if kv.Key != f.key(name) || string(kv.Value) != "v"+name || kv.ModRev != revs[name] || kv.CreateRev != revs[name] {
			f.Errorf("at %d: %+v, want %s at %d", i, kv, name, revs[name])
		}
	}
}

func checkConditions(f *fixture) {
	r1 := f.put("a", "1")
	r2 := f.put("a", "2")
	tests := []struct {
		name string
		cond store.Cmp
		want bool
	}{
		{"last change", store.Cmp{Key: f.key("a"), Rev: r2}, true},
		{"earlier change", store.Cmp{Key: f.key("a"), Rev: r1}, false},
		{"created", store.Cmp{Key: f.key("a"), Rev: r1, Create: true}, true},
		{"not created then", store.Cmp{Key: f.key("a"), Rev: r2, Create: true}, false},
		{"exists, wanted absent", store.Cmp{Key: f.key("a")}, false},
		{"exists, wanted never created", store.Cmp{Key: f.key("a"), Create: true}, false},
		{"absent", store.Cmp{Key: f.key("none")}, true},
		{"never created", store.Cmp{Key: f.key("none"), Create: true}, true},
		{"absent, wanted present", store.Cmp{Key: f.key("none"), Rev: r1}, false},
	}
	for _, tt := range tests {
		target := "t/" + tt.name
		rev, ok := f.txn([]store.Cmp{tt.cond}, store.Op{Key: f.key(target), Value: []byte("x")})
		if ok != tt.want {
			f.Errorf("%s: ok is %v", tt.name, ok)
		}
		if ok {
			f.want(target, "x", rev, rev)
		} else {
			f.want(target, "", 0, 0)
		}
	}
	// Conditions alone are a question.
	if _, ok := f.txn([]store.Cmp{{Key: f.key("a"), Rev: r2}, {Key: f.key("none")}}); !ok {
		f.Error("conditions that hold were denied")
	}
	if _, ok := f.txn([]store.Cmp{{Key: f.key("a"), Rev: r2}, {Key: f.key("a")}}); ok {
		f.Error("one condition of two does not hold, but ok")
	}
}

func checkAllOrNothing(f *fixture) {
	ra := f.put("a", "1")
	rb := f.put("b", "1")
	ops := []store.Op{
		{Key: f.key("a"), Value: []byte("2")},
		{Key: f.key("b")},
		{Key: f.key("c"), Value: []byte("3")},
	}
	_, before := f.list("")
	rev, ok := f.txn([]store.Cmp{{Key: f.key("a"), Rev: ra}, {Key: f.key("b"), Rev: rb + 1}}, ops...)
	if ok {
		f.Error("a condition did not hold, but ok")
	}
	if rev < before {
		f.Errorf("revision %d is behind %d", rev, before)
	}
	f.want("a", "1", ra, ra)
	f.want("b", "1", rb, rb)
	f.want("c", "", 0, 0)

	rev, ok = f.txn([]store.Cmp{{Key: f.key("a"), Rev: ra}, {Key: f.key("b"), Rev: rb}}, ops...)
	if !ok {
		f.Error("conditions held, but not ok")
	}
	f.want("a", "2", ra, rev)
	f.want("b", "", 0, 0)
	f.want("c", "3", rev, rev)
}

func checkCreateAgain(f *fixture) {
	first := f.put("a", "1")
	gone := f.del("a")
	f.want("a", "", 0, 0)
	second := f.put("a", "2")
	if !(first < gone && gone < second) {
		f.Errorf("revisions %d, %d, %d", first, gone, second)
	}
	f.want("a", "2", second, second)
	if _, ok := f.txn([]store.Cmp{{Key: f.key("a"), Rev: first, Create: true}}); ok {
		f.Error("the key is taken for the one before its deletion")
	}
}

func checkNoChange(f *fixture) {
	r := f.put("a", "1")
	if rev := f.del("none"); rev < r {
		f.Errorf("deletion of nothing at revision %d, was %d", rev, r)
	}
	f.want("a", "1", r, r)
	// The same value again is a change.
	again := f.put("a", "1")
	if again <= r {
		f.Errorf("same value written at %d, before %d", again, r)
	}
	f.want("a", "1", r, again)
}

func checkBadRequests(f *fixture) {
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	twice := []store.Op{{Key: f.key("a"), Value: []byte("1")}, {Key: f.key("a"), Value: []byte("2")}}
	if _, _, err := f.s.Txn(ctx, nil, twice); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("two writes of a key: %v", err)
	}
	f.want("a", "", 0, 0)
	if _, _, err := f.s.Txn(ctx, nil, []store.Op{{Value: []byte("1")}}); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("write of an empty key: %v", err)
	}
	if _, _, err := f.s.Txn(ctx, []store.Cmp{{}}, nil); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("condition on an empty key: %v", err)
	}
	if _, _, err := f.s.Get(ctx, ""); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("get of an empty key: %v", err)
	}
}

func checkValues(f *fixture) {
	r := f.put("empty", "")
	kv, ok := f.get("empty")
	if !ok || kv.Value == nil || len(kv.Value) != 0 || kv.ModRev != r {
		f.Errorf("empty value is %+v, %v", kv, ok)
	}
	large := bytes.Repeat([]byte{0, 1, 0xff, '\n'}, 128<<10)
	f.put("large", string(large))
	if kv, _ := f.get("large"); !bytes.Equal(kv.Value, large) {
		f.Errorf("value of %d bytes came back as %d others", len(large), len(kv.Value))
	}
	// What the caller does to its slices later is its own matter.
	mine := []byte("mine")
	f.txn(nil, store.Op{Key: f.key("copy"), Value: mine})
	mine[0] = 'X'
	kv, _ = f.get("copy")
	if string(kv.Value) != "mine" {
		f.Errorf("stored value changed to %q", kv.Value)
	}
	kv.Value[0] = 'Y'
	if kv, _ = f.get("copy"); string(kv.Value) != "mine" {
		f.Errorf("stored value changed to %q through a reader", kv.Value)
	}
}

// checkManyWriters lets writers compete for a counter: for each revision exactly
// one wins, so no increment is lost or done twice.
func checkManyWriters(f *fixture) {
	const writers, each = 8, 15
	f.put("n", "0")
	var mu sync.Mutex
	var winners []int64
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for done := 0; done < each; {
				rev, ok, err := f.increment()
				if err != nil {
					f.Errorf("increment: %v", err)
					return
				}
				if ok {
					done++
					mu.Lock()
					winners = append(winners, rev)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if kv, _ := f.get("n"); string(kv.Value) != strconv.Itoa(writers*each) {
		f.Errorf("counter is %s after %d increments", kv.Value, writers*each)
	}
	slices.Sort(winners)
	if n := len(slices.Compact(winners)); n != writers*each {
		f.Errorf("%d different revisions for %d increments", n, writers*each)
	}
}

func (f *fixture) increment() (rev int64, ok bool, err error) {
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	kv, _, err := f.s.Get(ctx, f.key("n"))
	if err != nil {
		return 0, false, err
	}
	n, err := strconv.Atoi(string(kv.Value))
	if err != nil {
		return 0, false, err
	}
	return f.s.Txn(ctx, []store.Cmp{{Key: kv.Key, Rev: kv.ModRev}}, []store.Op{{Key: kv.Key, Value: []byte(strconv.Itoa(n + 1))}})
}

// checkDeadline cannot make a store hang; the tests of each store do that.
func checkDeadline(f *fixture) {
	r := f.put("a", "1")
	over, cancel := context.WithCancel(f.Context())
	cancel()
	if _, _, err := f.s.Get(over, f.key("a")); !errors.Is(err, store.ErrRetry) {
		f.Errorf("get with a context that is over: %v", err)
	}
	if _, _, err := f.s.List(over, f.prefix); !errors.Is(err, store.ErrRetry) {
		f.Errorf("list with a context that is over: %v", err)
	}
	_, _, err := f.s.Txn(over, nil, []store.Op{{Key: f.key("a"), Value: []byte("2")}})
	switch {
	case errors.Is(err, store.ErrRetry):
		f.want("a", "1", r, r) // certainly not applied
	case !errors.Is(err, store.ErrUnknown):
		f.Errorf("transaction with a context that is over: %v", err)
	}
}

func checkClose(f *fixture) {
	rev := f.put("a", "1")
	if err := f.s.Close(); err != nil {
		f.Fatalf("close: %v", err)
	}
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	if _, _, err := f.s.Get(ctx, f.key("a")); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("get after close: %v", err)
	}
	if _, _, err := f.s.List(ctx, f.prefix); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("list after close: %v", err)
	}
	if _, _, err := f.s.Txn(ctx, nil, []store.Op{{Key: f.key("a")}}); !errors.Is(err, store.ErrDefinite) {
		f.Errorf("transaction after close: %v", err)
	}
	w := f.s.Watch(ctx, f.prefix, rev)
	if b, open := <-w.C(); open {
		f.Errorf("watch after close delivers %+v", b)
	} else if !errors.Is(w.Err(), store.ErrDefinite) {
		f.Errorf("watch after close: %v", w.Err())
	}
}
