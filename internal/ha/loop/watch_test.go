package loop

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// outsider begins an agent that only watches, on a host that the configuration
// does not name, cut off from the store or not.
func (w *world) outsider(name cluster.HostID, cut bool) *host {
	h := &host{w: w, id: name, store: w.mem.NewClient(string(name)), ended: make(chan error, 1)}
	limited := storetest.Limited{
		Store: h.store, Host: string(name), Permits: func(a store.Attempt) error {
			if known, err := Permits(a); known {
				return err
			}
			return store.ErrNotYours
		},
		Refused: func(a store.Attempt, err error) { w.t.Errorf("%s may not write %s: %v", name, a.Key, err) },
	}
	h.agent = New(Parts{Host: name, Addr: string(name), Cluster: "test", Identity: "id-" + string(name), Boot: "1",
		Store: limited, Clock: w.now, Log: slog.New(slog.DiscardHandler)})
	h.store.Partition(cut)
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() { h.ended <- h.agent.Watch(ctx) }()
	return h
}

// TestAHostThatRunsGuestsOnlyWatches: it knows what the members know, asks for
// changes, and writes nothing of its own.
func TestAHostThatRunsGuestsOnlyWatches(t *testing.T) {
	scene(t, func(w *world) {
		home := w.home()
		o := w.outsider("plain", true)
		defer o.store.Close()
		defer o.kill()
		if !o.agent.InMaintenance() {
			t.Error("it takes guests before it knows what is asked for")
		}
		o.store.Partition(false)
		time.Sleep(pollEvery + listWithin + time.Second)
		if o.agent.InMaintenance() {
			t.Error("it takes no guests, though nobody has asked for that")
		}
		st := o.agent.Status()
		if !st.Connected || st.Self != "plain" || st.Owner.Host != home.id || len(st.Hosts) != 3 || st.StoreError != "" {
			t.Errorf("status %+v", st)
		}
		for _, h := range st.Hosts {
			if !h.Alive {
				t.Errorf("%s does not live, as it seems: %+v", h.Name, h)
			}
		}
		if _, _, ok := o.agent.Coordinator(); ok {
			t.Error("it coordinates")
		}
		if err := o.agent.SetMaintenance(context.Background(), "me", "plain", true); err != nil {
			t.Fatal(err)
		}
		if !o.agent.InMaintenance() {
			t.Error("what it has asked for itself is not known at once")
		}
		for _, on := range []bool{false, true, true} {
			if err := o.agent.SetMaintenance(context.Background(), "me", "plain", on); err != nil || o.agent.InMaintenance() != on {
				t.Errorf("maintenance %t: %v", on, err)
			}
		}
		home.crash()
		time.Sleep(20 * time.Second)
		alive := map[cluster.HostID]bool{}
		for _, h := range o.agent.Status().Hosts {
			alive[h.Name] = h.Alive
		}
		if alive[home.id] || len(alive) != 3 {
			t.Errorf("after the loss of %s: %v", home.id, alive)
		}
		o.store.Partition(true)
		time.Sleep(pollEvery + listWithin + time.Second)
		if st := o.agent.Status(); st.Connected || st.StoreError == "" || !strings.Contains(st.Waiting, "quorum") {
			t.Errorf("without the store: %+v", st)
		}
		kvs, _, err := w.mem.NewClient("look").List(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, kv := range kvs {
			if strings.HasPrefix(kv.Key, records.KeyState) && strings.Contains(kv.Key, "plain") {
				t.Errorf("it has written %s", kv.Key)
			}
		}
	})
}

// TestAMemberDoesNotOnlyWatch: settings that say so of a host that the members
// count on are refused, loudly.
func TestAMemberDoesNotOnlyWatch(t *testing.T) {
	scene(t, func(w *world) {
		w.home()
		h := w.outsider("h2", false)
		defer h.store.Close()
		select {
		case err := <-h.ended:
			if err == nil || !strings.Contains(err.Error(), "guests_only") || !strings.Contains(err.Error(), "h2 is in Node") {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("it watches")
		}
	})
}

// TestAWatcherOfARestoredStoreBeginsAnew, as every agent does.
func TestAWatcherOfARestoredStoreBeginsAnew(t *testing.T) {
	scene(t, func(w *world) {
		w.home()
		h := w.outsider("plain", false)
		defer h.store.Close()
		time.Sleep(pollEvery + time.Second)
		if _, _, err := h.store.Txn(context.Background(), nil,
			[]store.Op{{Key: records.KeyGeneration, Value: records.Encode(uint64(2))}}); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-h.ended:
			if err == nil || !strings.Contains(err.Error(), ErrRestored.Error()) {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("it goes on")
		}
		for _, m := range w.hosts { // the members do so, too
			<-m.ended
			m.stop = nil
		}
	})
}
