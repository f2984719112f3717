package etcdstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func change1(rev int64, key string, size int) *mvccpb.Event {
	return &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key), Value: make([]byte, size), ModRevision: rev}}
}

// revisions are those of changes.
func revisions(events []*mvccpb.Event) (out []int64) {
	for _, e := range events {
		out = append(out, e.Kv.ModRevision)
	}
	return out
}

// TestFeedGivesAllOnce: whatever is written, and whenever a watch looks, it gets each change of its range once and in order, or is
// told that some are not kept.
func TestFeedGivesAllOnce(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		f, wake := newFeed(), make(chan struct{}, 1)
		f.begin(10)
		type watch struct {
			*place
			from      int64
			got       []int64
			compacted bool
		}
		var all []*mvccpb.Event
		var open []*watch
		large := 100
		if r.IntN(4) == 0 {
			large = 2 << 20 // some are forgotten soon
		}
		read := func(w *watch) {
			events, _, compacted := f.read(w.place, 1+r.IntN(large))
			w.got, w.compacted = append(w.got, revisions(events)...), w.compacted || compacted != 0
		}
		rev := int64(10)
		for range 60 {
			switch r.IntN(4) {
			case 0:
				c := &pb.WatchCreateRequest{Key: []byte(string(rune('a' + r.IntN(4)))), StartRevision: int64(r.IntN(int(rev) + 5))}
				if r.IntN(2) == 0 {
					c.RangeEnd = []byte{c.Key[0] + 2}
				}
				w := &watch{place: f.enter(c, wake), from: c.StartRevision}
				if w.from == 0 {
					w.from = rev + 1
				}
				open = append(open, w)
			case 1:
				if len(open) > 0 {
					read(open[r.IntN(len(open))])
				}
			case 2:
				rev += int64(r.IntN(3)) // of another cluster
				f.add(rev, nil)
			default:
				rev++
				var events []*mvccpb.Event
				for range 1 + r.IntN(3) {
					events = append(events, change1(rev, string(rune('a'+r.IntN(5))), r.IntN(large)))
				}
				all = append(all, events...)
				f.add(rev, events)
			}
		}
		for i, w := range open {
			for !w.compacted {
				events, whole, compacted := f.read(w.place, 1+r.IntN(large))
				w.got, w.compacted = append(w.got, revisions(events)...), compacted != 0
				if whole {
					break
				}
			}
			var want []int64
			for _, e := range all {
				if e.Kv.ModRevision >= w.from && w.span.has(e) {
					want = append(want, e.Kv.ModRevision)
				}
			}
			missed := len(want) > len(w.got) || w.from <= 10
			if !slices.Equal(w.got, want[:min(len(w.got), len(want))]) || w.compacted && !missed || !w.compacted && len(w.got) != len(want) {
				t.Fatalf("seed %d, watch %d from %d on: got %v (compacted: %t), want %v", seed, i, w.from, w.got, w.compacted, want)
			}
			f.leave(w.place)
		}
		if len(f.topics) != 0 {
			t.Fatalf("seed %d: %d topics are left", seed, len(f.topics))
		}
		if f.bytes > feedBytes {
			t.Fatalf("seed %d: %d bytes", seed, f.bytes)
		}
	}
}

// TestFeedForgets: a watch that has fallen behind is told so, and not one to whose range nothing has happened.
func TestFeedForgets(t *testing.T) {
	f, wake := newFeed(), make(chan struct{}, 1)
	f.begin(10)
	slow := f.enter(&pb.WatchCreateRequest{Key: []byte("a")}, wake)
	quiet := f.enter(&pb.WatchCreateRequest{Key: []byte("b")}, wake)
	rev := int64(10)
	for range 2 * feedBytes >> 20 {
		rev++
		f.add(rev, []*mvccpb.Event{change1(rev, "a", 1<<20)})
	}
	if _, _, compacted := f.read(slow, 1); compacted != f.from || compacted <= 11 {
		t.Errorf("the slow one: compacted %d, want %d", compacted, f.from)
	}
	if events, whole, compacted := f.read(quiet, 1); len(events) != 0 || !whole || compacted != 0 {
		t.Errorf("the quiet one: %d changes, %t, compacted %d", len(events), whole, compacted)
	}
	late := f.enter(&pb.WatchCreateRequest{Key: []byte("b"), StartRevision: 11}, wake)
	if _, _, compacted := f.read(late, 1); compacted != 0 {
		t.Error("one that begins in the past of a range that has been watched since: that is known")
	}
	f.begin(rev + 5) // another's database: what was in between nobody knows
	for what, p := range map[string]*place{"slow": slow, "quiet": quiet} {
		if _, _, compacted := f.read(p, 1); compacted != rev+6 {
			t.Errorf("the %s one after a new begin: compacted %d", what, compacted)
		}
	}
}

// TestFeedWakes those only to whose ranges something has happened.
func TestFeedWakes(t *testing.T) {
	f := newFeed()
	f.begin(10)
	a, b := make(chan struct{}, 1), make(chan struct{}, 1)
	f.enter(&pb.WatchCreateRequest{Key: []byte("a")}, a)
	again := f.enter(&pb.WatchCreateRequest{Key: []byte("a")}, a)
	f.enter(&pb.WatchCreateRequest{Key: []byte("b"), RangeEnd: []byte("c")}, b)
	f.leave(again)
	for i, key := range []string{"a", "a", "b", "bb", "c", "aa"} {
		f.add(int64(11+i), []*mvccpb.Event{change1(int64(11+i), key, 1)})
		woken := fmt.Sprint(len(a), len(b))
		if want := map[string]string{"a": "1 0", "b": "0 1", "bb": "0 1"}[key]; want != "" && woken != want || want == "" && woken != "0 0" {
			t.Errorf("%s: woken %s, want %s", key, woken, want)
		}
		for _, c := range []chan struct{}{a, b} {
			if len(c) > 0 {
				<-c
			}
		}
	}
}
