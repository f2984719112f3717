package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha"
	"holdfast/internal/store"
)

// capped is a store with etcd's limit of one request.
type capped struct{ store.Store }

const maxRequest = 3 << 19

func (c capped) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	n := 0
	for _, op := range ops {
		n += len(op.Key) + len(op.Value)
	}
	if n > maxRequest {
		return 0, false, fmt.Errorf("%d bytes: %w", n, store.ErrDefinite)
	}
	return c.Store.Txn(ctx, conds, ops)
}

// errLong is more than the store takes in one request.
var errLong = errors.New(strings.Repeat("x", 2<<20))

// TestALongErrorOfAFenceDeviceDelaysNothing: the deadline proves the loss.
func TestALongErrorOfAFenceDeviceDelaysNothing(t *testing.T) {
	sceneWith(t, devices, func(w *world) {
		w.locked(func() { w.refuse = errLong })
		w.home().crash()
		w.await("another", 12*time.Second)
	})
}

// TestALongErrorOnAHostCostsNoGuest: it is in the record of a host, whose renewals
// the store must take all the same.
func TestALongErrorOnAHostCostsNoGuest(t *testing.T) {
	sceneWith(t, devices, func(w *world) {
		home, epoch := w.on(), w.status().Owner.Epoch
		w.locked(func() { w.refuse = errLong })
		for _, h := range w.hosts {
			h.tell(errLong.Error())
		}
		time.Sleep(2 * time.Minute)
		if s := w.status(); w.on() != home || s.Owner.Epoch != epoch {
			t.Errorf("the guest runs on %s in epoch %s, it was on %s in %s", w.on(), s.Owner.Epoch, home, epoch)
		}
	})
}

// TestAHostThatCanNotSeeItsGuestGivesItUp: another host runs it then, and never
// two do.
func TestAHostThatCanNotSeeItsGuestGivesItUp(t *testing.T) {
	scene(t, func(w *world) {
		home := w.home()
		w.locked(func() { home.blind = true })
		time.Sleep(20 * time.Second)
		if s := w.status().Waiting; !strings.Contains(s, string(home.id)) || !strings.Contains(s, "can not be observed") {
			t.Errorf("status waits for %q", s)
		}
		time.Sleep(60 * time.Second)
		if on := w.on(); on == "nowhere" || on == string(home.id) {
			t.Errorf("the guest runs on %s", on)
		}
		if home.resets != 1 {
			t.Errorf("%s was reset %d times, want once", home.id, home.resets)
		}
	})
}

func TestAReleaseLooksAfterTheKill(t *testing.T) {
	scene(t, func(w *world) {
		home := w.home()
		w.locked(func() { home.liar = true })
		if err := home.agent.prove(context.Background()); !errors.Is(err, cluster.ErrNotProved) {
			t.Errorf("a kill that says it is done, and is not: %v, want that it is not proved", err)
		}
		w.locked(func() { home.liar = false })
	})
}

// recorder keeps the last transaction.
type recorder struct {
	store.Store
	conds []store.Cmp
	ops   []store.Op
}

func (r *recorder) Txn(_ context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	r.conds, r.ops = conds, ops
	return 77, true, nil
}

func TestATransactionIsTheCoresWordForWord(t *testing.T) {
	r := &recorder{}
	a := New(Parts{Host: "h1", Store: r, Clock: func() cluster.Instant { return 1 }, Log: slog.New(slog.DiscardHandler)})
	txn := ha.Txn{
		For: ha.WorkWrite,
		If: []ha.Cond{{Key: ha.Key{Kind: ha.KindOwner}, Mod: 5}, {Key: ha.Key{Kind: ha.KindCoordinator}, Mod: 6},
			{Key: ha.Key{Kind: ha.KindWant}, Mod: 7}, {Key: ha.Key{Kind: ha.KindHost, Name: "h2"}, Mod: 8}},
		Put: []ha.Put{
			{Key: ha.Key{Kind: ha.KindOwner}, Owner: &cluster.Owner{Host: "h3"}},
			{Key: ha.Key{Kind: ha.KindWant}, Want: &cluster.Want{Run: true}},
			{Key: ha.Key{Kind: ha.KindHost, Name: "h2"}, Host: &cluster.Host{Name: "h2"}},
			{Key: ha.Key{Kind: ha.KindCoordinator}, Coord: cluster.Coordinator{Host: "h1"}},
		},
		Event: cluster.Event{Kind: cluster.EvTakeover},
	}
	o := a.txn(txn).do(t.Context())
	if !o.OK || o.Mod != 77 || o.Proved {
		t.Errorf("outcome %+v", o)
	}
	if got, want := fmt.Sprint(r.conds), "[{state/owner/mnvm 5 false} {state/coordinator 6 false} {state/want/mnvm 7 "+
		"false} {state/hosts/h2 8 false}]"; got != want {
		t.Errorf("compares %s, want %s", got, want)
	}
	var keys []string
	for _, op := range r.ops {
		keys = append(keys, op.Key)
	}
	if got := strings.Join(keys, " "); !strings.HasPrefix(got, "state/owner/mnvm state/want/mnvm state/hosts/h2 state/coordinator log/") {
		t.Errorf("writes %s", got)
	}
}
