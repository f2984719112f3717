package loop

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// bench is a host's Fencer: the bench of devices that switch hosts off. The
// address of a device is its host's name.
type bench host

func (b *bench) Off(_ context.Context, devices []config.FenceDevice, machine string) (string, error) {
	time.Sleep(50 * time.Millisecond)
	h := b.w.hosts[cluster.HostID(devices[0].Address)]
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	b.w.orders = append(b.w.orders, string(h.id))
	if b.w.refuse != nil {
		return "", b.w.refuse
	}
	if machine != "machine-"+string(h.id) {
		return "", errors.New("another machine")
	}
	if h.guest.State != cluster.GuestAbsent {
		h.set(cluster.Guest{State: cluster.GuestAbsent})
	}
	h.armed = false
	return "bench of " + string(h.id), nil
}

func (b *bench) Look(_ context.Context, devices []config.FenceDevice, _ string) (out []cluster.FenceAnswer, _ error) {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	for _, d := range devices {
		a := cluster.FenceAnswer{Device: "bench of " + d.Address, On: true}
		if b.w.refuse != nil {
			a.Error = b.w.refuse.Error()
		}
		out = append(out, a)
	}
	return out, nil
}

func (w *world) locked(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// given are the orders that the fence devices got.
func (w *world) given() (orders []string) {
	w.locked(func() { orders = append(orders, w.orders...) })
	return orders
}

// beats are a host's heartbeats. They come through while its agent turns.
type beats host

func (b *beats) SetPeers(map[cluster.HostID]netip.AddrPort) {}
func (b *beats) Port() int                                  { return 7443 }
func (b *beats) Pulse() {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	if !b.deaf {
		b.heard = b.w.now()
	}
}

func (b *beats) Words() map[cluster.HostID]cluster.HeartbeatReport {
	b.w.mu.Lock()
	defer b.w.mu.Unlock()
	out := map[cluster.HostID]cluster.HeartbeatReport{}
	for m, member := range b.w.hosts {
		w := cluster.HeartbeatReport{At: member.heard, Heard: map[cluster.HostID]cluster.Instant{}}
		if m == b.id {
			w.At = b.w.now()
		}
		for h, other := range b.w.hosts {
			if h != m {
				w.Heard[h] = other.heard
			}
		}
		out[m] = w
	}
	return out
}

func devices(c *config.Cluster) {
	c.Fencing.Hosts = map[string]config.HostFencing{}
	for _, h := range []string{"h1", "h2", "h3"} {
		c.Fencing.Hosts[h] = config.HostFencing{Devices: []config.FenceDevice{{Type: "ipmi", Address: h}}}
	}
}

func TestALostHolderIsFencedInSeconds(t *testing.T) {
	sceneWith(t, devices, func(w *world) {
		lost := w.home()
		lost.crash()
		if took := w.await("another", 20*time.Second); took > 3500*time.Millisecond {
			t.Errorf("up again after %s, want detection and a start", took)
		}
		w.settle()
		st := w.status()
		if p := st.Owner.Proof; p.Kind != cluster.ProofFenced || p.Note != "bench of "+string(lost.id) {
			t.Errorf("proof %+v", p)
		}
		if orders := w.given(); len(orders) != 1 {
			t.Errorf("orders to fence devices: %v", orders)
		}
	})
}

func TestADeadFenceDeviceLeavesTheDeadline(t *testing.T) {
	sceneWith(t, devices, func(w *world) {
		w.locked(func() { w.refuse = errors.New("no answer") })
		w.home().crash()
		w.await("another", 20*time.Second)
		w.settle()
		if p := w.status().Owner.Proof; p.Kind != cluster.ProofDeadline {
			t.Errorf("proof %+v", p)
		}
		time.Sleep(2 * time.Minute)
		for _, h := range w.status().Hosts {
			if h.Alive && !strings.Contains(h.Why, "the fence device of host ") {
				t.Errorf("%s says %q, nothing of the dead device", h.Name, h.Why)
			}
			if !h.Alive {
				continue
			}
			if c := w.hosts[h.Name].agent.Status().FenceCheck; c.Host == "" || c.Error != "no answer" || time.Since(c.Time) > 2*deviceEvery {
				t.Errorf("the status of %s tells %+v", h.Name, c)
			}
		}
		events, _, err := w.hosts["h2"].agent.Events(t.Context(), 0, 1000)
		if err != nil && w.hosts["h2"].stop != nil {
			t.Fatal(err)
		}
		told := 0
		for _, e := range events {
			if e.Kind == cluster.EvFenceFail {
				told++
			}
		}
		if n := len(w.given()); told != 1 || n < 3 {
			t.Errorf("%d orders, %d events of failure, want several and one", n, told)
		}
	})
}

func TestAHostThatLosesOnlyItsHeartbeatsIsLeftAlone(t *testing.T) {
	sceneWith(t, devices, func(w *world) {
		h := w.home()
		w.locked(func() { h.deaf = true })
		time.Sleep(time.Minute)
		if orders := w.given(); len(orders) > 0 {
			t.Errorf("orders to fence devices: %v", orders)
		}
		if o := w.status().Owner; o.Epoch.Seq != 1 {
			t.Errorf("epoch %s", o.Epoch)
		}
	})
}

func TestARestoredStoreBeginsAnew(t *testing.T) {
	scene(t, func(w *world) {
		st := w.hosts["h1"].store
		g, err := NewGeneration(t.Context(), st, 4)
		if g <= 4 || err != nil {
			t.Fatalf("generation %d, %v", g, err)
		}
		for id, h := range w.hosts {
			if err := <-h.ended; !errors.Is(err, ErrRestored) {
				t.Fatalf("%s ended with %v", id, err)
			}
			h.stop = nil
		}
		for _, h := range w.hosts {
			h.begin()
		}
		time.Sleep(2 * time.Second)
		w.await("another", 20*time.Second)
		w.settle()
		if o := w.status().Owner; o.Epoch != (cluster.Epoch{Gen: g, Seq: 2}) {
			t.Errorf("epoch %s after the restore", o.Epoch)
		}
	})
}

func TestAnOlderStoreIsNotFollowed(t *testing.T) {
	scene(t, func(w *world) {
		h := w.hosts["h2"]
		h.kill()
		h.seen = 3
		h.begin()
		time.Sleep(2 * time.Second)
		st := h.agent.Status()
		if st.Connected || !strings.Contains(st.StoreError, "older generation") {
			t.Errorf("connected %v, %q", st.Connected, st.StoreError)
		}
	})
}

func TestAnOperatorsWordIsGoodForATakeover(t *testing.T) {
	scene(t, func(w *world) {
		lost := w.home()
		var another cluster.HostID
		for id := range w.hosts {
			if id != lost.id {
				another = id
			}
		}
		w.locked(func() { lost.noDog = true })
		time.Sleep(5 * time.Second) // it has said that it promises nothing
		lost.crash()
		time.Sleep(time.Minute)
		if w.on() != "nowhere" {
			t.Fatal("taken over without a proof")
		}
		mod := w.hosts[another].agent.HostMod(lost.id)
		w.request(another, func(want *cluster.Want) { want.Off = []cluster.Off{{Host: lost.id, Mod: mod, User: "tester"}} })
		w.await("another", 5*time.Second)
		w.settle()
		if p := w.status().Owner.Proof; p.Kind != cluster.ProofOperator || p.Note != "tester" {
			t.Errorf("proof %+v", p)
		}
	})
}
