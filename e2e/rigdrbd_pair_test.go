package e2e

import (
	"testing"
	"time"
)

// deviceDrill is a fault of laboratory B.
type deviceDrill struct {
	name   string
	fault  func(r *drbdRig, t *testing.T, active, standby int)
	repair func(r *drbdRig, active, standby int) // nil: it mends itself
	moves  bool                                  // the standby serves afterwards
}

var deviceDrills = []deviceDrill{
	{name: "power loss of the active", moves: true,
		fault:  func(r *drbdRig, _ *testing.T, active, _ int) { r.node[active].Crash() },
		repair: func(r *drbdRig, active, _ int) { r.boot(active) }},
	{name: "power loss of the standby",
		fault:  func(r *drbdRig, _ *testing.T, _, standby int) { r.node[standby].Crash() },
		repair: func(r *drbdRig, _, standby int) { r.boot(standby) }},
	{name: "database killed",
		fault: func(r *drbdRig, _ *testing.T, active, _ int) { r.node[active].Run("killall", "-9", "mariadbd") }},
	{name: "agent stands still: the watchdog resets the active", moves: true,
		fault: func(r *drbdRig, t *testing.T, active, _ int) {
			n := r.node[active]
			n.Run("sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline | grep -q "^/usr/bin/holdfast agent " && kill -STOP ${p#/proc/}; done; true`)
			r.until(t, "the reset of "+n.Name(), func() (string, bool) { return "it is on", !n.On() })
		},
		repair: func(r *drbdRig, active, _ int) { r.boot(active) }},
	{name: "active cut off", moves: true,
		fault: func(r *drbdRig, _ *testing.T, active, _ int) { r.node[active].Cut(true) },
		repair: func(r *drbdRig, active, _ int) {
			if !r.node[active].On() {
				r.boot(active)
				return
			}
			r.node[active].Cut(false)
		}},
	{name: "planned switch", moves: true,
		fault: func(r *drbdRig, _ *testing.T, active, standby int) {
			r.node[active].Run(drbdExe, "pair", "switch", r.node[standby].Name(), "--timeout", "120s")
		}},
}

// TestPairOnDRBD is laboratory B: on two emulated hosts with the real DRBD and a watchdog of the
// kernel, agents and a database on the device, with clients that write numbered rows through the
// virtual address. No acknowledged row is lost, no two databases run at once, and the pair is
// healthy again without a person.
func TestPairOnDRBD(t *testing.T) {
	r := newDRBD(t)
	r.begin()
	for _, d := range deviceDrills {
		if !t.Run(d.name, func(t *testing.T) {
			t.Logf("no write was acknowledged for %s", r.drill(t, d).Round(10*time.Millisecond))
		}) {
			break // what follows would fail for its reasons
		}
	}
	t.Logf("%d rows were acknowledged, none is lost; %d looks, never two databases", r.clients.acknowledged(), r.clients.looks.Load())
}

// drill runs one fault and returns for how long no write was acknowledged.
func (r *drbdRig) drill(t *testing.T, d deviceDrill) time.Duration {
	active, standby := r.healthy(t)
	c := r.clients
	stop := c.write(t)
	c.more(t, 20)
	at := time.Now()
	d.fault(r, t, active, standby)
	c.more(t, 20)
	if d.moves && c.gap(at) > time.Minute {
		t.Log(r.node[standby].Run("sh", "-c", "tail -n 80 /srv/agent.log; tail -n 30 /srv/data/pair/database.log"))
	}
	if d.repair != nil {
		d.repair(r, active, standby)
	}
	serves, _ := r.healthy(t)
	if (serves == standby) != d.moves {
		t.Errorf("%s serves, %s did before", r.node[serves].Name(), r.node[active].Name())
	}
	c.more(t, 5)
	stop()
	c.check(t, []string{"h1", "h2"}[serves])
	return c.gap(at)
}
