package loop

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
)

func TestPowerLossIsAnsweredByATakeover(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.crash()
		took := w.await("another", 20*time.Second)
		if low, high := 6*time.Second, 9200*time.Millisecond; took < low || took > high {
			t.Errorf("it took %s, want %s to %s: T + G + margin less what had passed of the lease, and the start", took, low, high)
		}
		w.settle()
		o := w.status().Owner
		if o.Proof.Kind != cluster.ProofDeadline || o.Proof.Host != h.id || o.Epoch.Seq != 2 || o.State != cluster.Running {
			t.Errorf("owner %+v", o)
		}
		for id, x := range w.hosts { // the one that has written the record, too
			if got := x.agent.Status().Owner; x != h && !got.Time.Equal(o.Time) {
				t.Errorf("%s says that it runs since %s, others since %s", id, got.Time, o.Time)
			}
		}
		h.power()
		time.Sleep(15 * time.Second)
		for _, hs := range w.status().Hosts {
			if hs.Name == h.id && !hs.Alive {
				t.Errorf("the host has not joined again: %+v", hs)
			}
		}
	})
}

func TestAnIsolatedHolderStopsBeforeAnotherStarts(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.store.Partition(true)
		gone := w.await("nowhere", 8*time.Second)
		if gone > 6100*time.Millisecond {
			t.Errorf("stopped after %s, want within the lease", gone)
		}
		w.await("another", 10*time.Second)
		if w.on() == string(h.id) {
			t.Error("it runs on the isolated host")
		}
		h.store.Partition(false)
		w.settle()
		w.settle()
		w.mu.Lock()
		defer w.mu.Unlock()
		if h.resets != 0 || h.armed {
			t.Errorf("resets %d, armed %v: a host that holds nothing is never reset", h.resets, h.armed)
		}
	})
}

func TestAHolderThatCanNotKillIsResetInTime(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		w.mu.Lock()
		h.stuck = true
		w.mu.Unlock()
		h.store.Partition(true)
		gone := w.await("nowhere", 12*time.Second)
		if gone > 8100*time.Millisecond || h.resets != 1 {
			t.Errorf("gone after %s with %d resets, want one within T + G", gone, h.resets)
		}
		w.await("another", 10*time.Second)
	})
}

func TestARestartedAgentAdoptsTheGuest(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.kill()
		time.Sleep(500 * time.Millisecond)
		h.begin()
		for range 200 {
			time.Sleep(100 * time.Millisecond)
			if w.on() != string(h.id) {
				t.Fatalf("the guest is on %s", w.on())
			}
		}
		if o := h.agent.Status().Owner; o.Epoch.Seq != 1 || o.State != cluster.Running {
			t.Errorf("owner %+v", o)
		}
	})
}

func TestWhereNothingHappensNothingIsLogged(t *testing.T) {
	scene(t, func(w *world) {
		w.home()
		time.Sleep(20 * time.Second)
		before := map[cluster.HostID]int{}
		for id, h := range w.hosts {
			before[id], _ = h.said.count()
		}
		time.Sleep(30 * time.Second)
		for id, h := range w.hosts {
			if n, last := h.said.count(); n != before[id] || n == 0 {
				t.Errorf("%s wrote %d lines in 30 s, %d before; the last one: %s", id, n-before[id], before[id], last)
			}
		}
	})
}

func TestAGuestThatEndsIsStartedAgain(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		w.mu.Lock()
		h.set(cluster.Guest{State: cluster.GuestAbsent})
		w.mu.Unlock()
		if took := w.await(string(h.id), 5*time.Second); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestStartsThatFailMoveTheGuest(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		w.mu.Lock()
		h.failing = fmt.Errorf("%w: no image", cluster.ErrNotStarted)
		h.set(cluster.Guest{State: cluster.GuestAbsent})
		w.mu.Unlock()
		w.await("another", 20*time.Second)
		if w.on() == string(h.id) {
			t.Error("it did not move")
		}
	})
}

func TestMigrationThereAndBack(t *testing.T) {
	scene(t, func(w *world) {
		from := w.home()
		to := w.hosts["h2"]
		if from == to {
			to = w.hosts["h3"]
		}
		for _, s := range []*host{to, from} {
			w.request("h1", func(want *cluster.Want) { want.MoveTo = s.id })
			w.await(string(s.id), 10*time.Second)
			w.settle()
			if o := w.status().Owner; o.State != cluster.Running || o.Host != s.id || o.Epoch.Seq != 1 {
				t.Fatalf("owner %+v", o)
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if to.armed {
			t.Error("the host that has nothing any more is still armed")
		}
	})
}

func TestAMigrationThatFailsLeavesTheGuestWhereItWas(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		w.mu.Lock()
		h.failing = errors.New("no convergence")
		w.mu.Unlock()
		w.request("h1", func(want *cluster.Want) {
			want.MoveTo = map[bool]cluster.HostID{true: "h3", false: "h2"}[h.id == "h2"]
		})
		time.Sleep(5 * time.Second)
		o := w.status().Owner
		if o.State != cluster.Running || o.Host != h.id || !strings.Contains(o.Reason, "no convergence") || w.on() != string(h.id) {
			t.Errorf("owner %+v, guest on %s", o, w.on())
		}
	})
}

func TestStopStaysStoppedUntilStart(t *testing.T) {
	scene(t, func(w *world) {
		w.request("h2", func(want *cluster.Want) { want.Run = false })
		w.await("nowhere", 5*time.Second)
		time.Sleep(time.Minute)
		if w.on() != "nowhere" {
			t.Fatalf("it runs on %s", w.on())
		}
		w.request("h3", func(want *cluster.Want) { want.Run = true })
		w.await("another", 5*time.Second)
	})
}

func TestHandsOffOutlivesALossOfTheWholeNetwork(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		w.request("h2", func(want *cluster.Want) { want.HandsOff = true })
		w.settle()
		for _, x := range w.hosts {
			x.store.Partition(true)
		}
		for range 60 {
			time.Sleep(time.Second)
			if w.on() != string(h.id) {
				t.Fatalf("the guest is on %s", w.on())
			}
		}
		for _, x := range w.hosts {
			x.store.Partition(false)
		}
		// At once: the holder learns of it before it has renewed its lease.
		w.request("h2", func(want *cluster.Want) { want.HandsOff = false })
		w.settle()
		if w.on() != string(h.id) {
			t.Errorf("after hands on the guest is on %s", w.on())
		}
		if !w.status().Takeover.Possible {
			t.Errorf("takeover %+v", w.status().Takeover)
		}
		h.crash()
		w.await("another", 10*time.Second)
	})
}

func TestLossOfTheWholeNetworkStopsTheGuestAndResetsNobody(t *testing.T) {
	scene(t, func(w *world) {
		for _, x := range w.hosts {
			x.store.Partition(true)
		}
		w.await("nowhere", 7*time.Second)
		time.Sleep(30 * time.Second)
		for _, x := range w.hosts {
			x.store.Partition(false)
		}
		w.await("another", 10*time.Second)
		for _, x := range w.hosts {
			if x.resets != 0 {
				t.Errorf("%s was reset", x.id)
			}
		}
	})
}

func TestLostRepliesAreNotTakenForSuccess(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		h.store.LoseReplies(true)
		w.await("nowhere", 10*time.Second)
		h.store.LoseReplies(false)
		w.await("another", 20*time.Second)
	})
}

func TestTheLogIsKeptShort(t *testing.T) {
	scene(t, func(w *world) {
		c := w.hosts["h1"].store
		for i := range keepEvents + 250 {
			e := cluster.Event{Time: w.began.Add(time.Duration(i)), Kind: cluster.EvWant, By: "h1"}
			if _, _, err := c.Txn(w.t.Context(), nil, []store.Op{{Key: records.LogKey(e, uint64(i)), Value: records.Encode(e)}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range keepGuests + 250 { // of a host that is no member, and newer: they push out none of a member's
			e := cluster.Event{Time: w.began.Add(time.Duration(i)), Kind: cluster.EvWant, By: "g1"}
			if _, _, err := c.Txn(w.t.Context(), nil, []store.Op{{Key: records.LogKey(e, uint64(i)), Value: records.Encode(e)}}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range keepRequests + 250 {
			if _, _, err := c.Txn(w.t.Context(), nil, []store.Op{{Key: fmt.Sprint(records.KeyRequests, i),
				Value: []byte("2026-01-02T03:04:05Z")}}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * trimEvery)
		if kvs, _, err := c.List(w.t.Context(), records.KeyRequests); err != nil || len(kvs) != keepRequests {
			t.Errorf("%d requests, %v", len(kvs), err)
		}
		kvs, _, err := c.List(w.t.Context(), records.KeyLog)
		by := map[bool]int{}
		for _, kv := range kvs {
			by[writerOf(kv.Key) == "g1"]++
		}
		if err != nil || by[false] > keepEvents+10 || by[false] < keepEvents || by[true] != keepGuests {
			t.Errorf("%d events of members, %d of a host that is none, %v", by[false], by[true], err)
		}
	})
}

func TestARequestWhoseReplyIsLostIsCarriedOutOnce(t *testing.T) {
	scene(t, func(w *world) {
		h := w.home()
		other := w.hosts["h1"]
		if h == other {
			other = w.hosts["h2"]
		}
		other.store.HoldWrites(true) // on their way: the sender never learns of them
		go func() { time.Sleep(3 * time.Second); other.store.HoldWrites(false) }()
		err := other.agent.Request(w.t.Context(), "tester", "", func(want *cluster.Want, _ cluster.Status) error {
			want.Run = false
			return nil
		})
		kvs, _, lerr := h.store.List(w.t.Context(), records.KeyRequests)
		if err != nil || lerr != nil || len(kvs) != 1 {
			t.Errorf("%v, %v: %d requests on record: want one", err, lerr, len(kvs))
		}
		w.await("nowhere", 5*time.Second)
	})
}
