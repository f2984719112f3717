package heartbeat

import (
	"math/rand/v2"
	"testing"

	"holdfast/internal/cluster"
)

// attacker records all that b sends to a, over several processes of b, and
// delivers it when and as often as it likes.
type attacker struct {
	a, b     *table
	now      cluster.Instant
	nextB    uint64 // instance
	recorded []message
	taken    map[[2]uint64]int // times that a took (instance, sequence number)
}

func newAttacker() *attacker {
	x := &attacker{nextB: 1, taken: map[[2]uint64]int{}}
	x.a = started(0, "b")
	x.restartB()
	return x
}

func (x *attacker) restartB() {
	x.b = newTable("b", x.nextB, step)
	x.b.start(x.now)
	x.b.setPeers(x.now, addrsOf("a"))
	x.nextB++
}

// sendB records what b sends now.
func (x *attacker) sendB() {
	x.b.beat(x.now)
	var m message
	for _, to := range x.b.turn(x.now, step, &m, nil) {
		m.to, m.echo = to.id, to.echo
		x.recorded = append(x.recorded, m)
	}
}

func (x *attacker) deliver(i int) Reason {
	m := x.recorded[i]
	why := x.a.receive(x.now, &m)
	if why == accepted {
		x.taken[[2]uint64{m.instance, m.seq}]++
	}
	return why
}

// sendA brings what a sends now to b.
func (x *attacker) sendA() {
	x.a.beat(x.now)
	var m message
	for _, to := range x.a.turn(x.now, step, &m, nil) {
		m.to, m.echo = to.id, to.echo
		x.b.receive(x.now, &m)
	}
}

// TestNothingIsTakenTwiceAndNobodyIsLockedOut: as long as a remembers all
// replaced instances, no datagram counts twice; and whatever was sent again
// before, a member that hears and is heard is back within one exchange.
func TestNothingIsTakenTwiceAndNobodyIsLockedOut(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 0))
		x := newAttacker()
		for range 80 {
			x.now = x.now.Add(step / 4)
			switch k := r.IntN(20); {
			case k == 0 && x.nextB <= remembered+1:
				x.restartB()
			case k < 7:
				x.sendB()
			case k < 11:
				x.sendA()
			case len(x.recorded) > 0:
				x.deliver(r.IntN(len(x.recorded)))
			}
		}
		for what, n := range x.taken {
			if n > 1 {
				t.Fatalf("seed %d: instance and sequence number %v taken %d times", seed, what, n)
			}
		}
		x.sendA()
		x.sendB()
		if why := x.deliver(len(x.recorded) - 1); why != accepted {
			t.Fatalf("seed %d: the living member is dropped: %s", seed, why)
		}
	}
}

// TestForgottenInstances: a capture of a process that a no longer remembers
// costs one interval at most.
func TestForgottenInstances(t *testing.T) {
	x := newAttacker()
	for range 3 * remembered {
		x.sendA()
		x.sendB()
		x.deliver(len(x.recorded) - 1)
		x.restartB()
	}
	x.sendA()
	x.sendB()
	x.deliver(len(x.recorded) - 1)
	if why := x.deliver(0); why != accepted {
		t.Fatalf("the oldest capture: %q: this test is to see what its being taken does", why)
	}
	x.sendA()
	x.sendB()
	if why := x.deliver(len(x.recorded) - 1); why != accepted {
		t.Errorf("the living member is dropped: %s", why)
	}
	if why := x.deliver(0); why != Replaced {
		t.Errorf("the oldest capture again: %q", why)
	}
	if got := x.a.peers[0].instance; got != x.b.instance {
		t.Errorf("b's instance is %d, want %d", got, x.b.instance)
	}
}
