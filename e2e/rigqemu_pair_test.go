package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// deviceDrill is a fault of laboratory B.
type deviceDrill struct {
	name   string
	fault  func(r *drbdRig, t *testing.T, active, standby int)
	repair func(r *drbdRig, active, standby int) // nil: it mends itself
	after  string                                // who serves afterwards: "active", as before; "standby"; "": either
	down   time.Duration                         // for which nobody serves, though it is not repaired: longer than a takeover takes
	halts  bool                                  // writes may be refused until it is repaired
}

const (
	stays = "active"
	moves = "standby"
)

var deviceDrills = []deviceDrill{
	{name: "power loss of the active", after: moves,
		fault:  func(r *drbdRig, _ *testing.T, active, _ int) { r.node[active].Crash() },
		repair: func(r *drbdRig, active, _ int) { r.boot(active) }},
	{name: "power loss of the standby", after: stays,
		fault:  func(r *drbdRig, _ *testing.T, _, standby int) { r.node[standby].Crash() },
		repair: func(r *drbdRig, _, standby int) { r.boot(standby) }},
	{name: "database killed", after: stays,
		fault: func(r *drbdRig, _ *testing.T, active, _ int) { r.node[active].Run("killall", "-9", "mariadbd") }},
	// It starts again while all writes wait for the standby, and its start with them.
	{name: "standby lost, and the database killed", after: stays,
		fault: func(r *drbdRig, _ *testing.T, active, standby int) {
			r.node[standby].Crash()
			r.node[active].Run("killall", "-9", "mariadbd")
		},
		repair: func(r *drbdRig, _, standby int) { r.boot(standby) }},
	{name: "agent of the active killed", after: stays,
		fault: func(r *drbdRig, _ *testing.T, active, _ int) {
			r.agent(active, "-9")
			r.agentAgain(active)
		}},
	{name: "agent stands still: the watchdog resets the active", after: moves,
		fault: func(r *drbdRig, t *testing.T, active, _ int) {
			r.agent(active, "-STOP")
			r.until(t, "the reset of "+r.node[active].Name(), func() (string, bool) { return "it is on", !r.node[active].On() })
		},
		repair: func(r *drbdRig, active, _ int) { r.boot(active) }},
	{name: "active cut off", after: moves,
		fault: func(r *drbdRig, _ *testing.T, active, _ int) { r.node[active].Cut(true) },
		repair: func(r *drbdRig, active, _ int) {
			if !r.node[active].On() {
				r.boot(active)
				return
			}
			r.node[active].Cut(false)
		}},
	// It stays unless the store's leader was on the standby.
	{name: "cut between the nodes",
		fault: func(r *drbdRig, _ *testing.T, active, standby int) { r.cutPeer(active, standby, "add") },
		repair: func(r *drbdRig, active, standby int) {
			if !r.node[active].On() {
				r.boot(active)
				return
			}
			r.cutPeer(active, standby, "del")
		}},
	{name: "standby is slow", after: stays, fault: func(r *drbdRig, _ *testing.T, _, standby int) {
		for range 5 {
			r.node[standby].Stand(true)
			time.Sleep(2 * time.Second)
			r.node[standby].Stand(false)
			time.Sleep(time.Second)
		}
	}},
	{name: "arbiter lost", after: stays,
		fault:  func(r *drbdRig, _ *testing.T, _, _ int) { r.noVoter() },
		repair: func(r *drbdRig, _, _ int) { r.voter() }},
	{name: "arbiter and then the active lost", down: longDown,
		fault: func(r *drbdRig, _ *testing.T, active, _ int) {
			r.noVoter()
			r.node[active].Crash()
		},
		repair: func(r *drbdRig, active, _ int) {
			r.voter()
			r.boot(active)
		}},
	// Both copies have the same full file system. MariaDB refuses what it has no room for, or ends.
	{name: "disk full", halts: true,
		fault: func(r *drbdRig, _ *testing.T, active, _ int) {
			r.node[active].Run("sh", "-c", "dd if=/dev/zero of=/mnt/pair/fill bs=1M 2>/dev/null; true")
			r.until(r.t, "the status to tell of it", func() (string, bool) {
				st, err := r.status()
				return fmt.Sprint(st.Health, st.Why, err), err == nil && strings.Contains(fmt.Sprint(st.Why), "the file system of /mnt/pair is full")
			})
		},
		repair: func(r *drbdRig, _, _ int) {
			r.until(r.t, "room on the device", func() (string, bool) {
				for _, n := range r.node {
					if _, code := n.Try("sh", "-c", "grep -q ' /mnt/pair ' /proc/mounts && rm /mnt/pair/fill"); code == 0 {
						return "", true
					}
				}
				return "it is mounted nowhere", false
			})
		}},
	{name: "planned switch", after: moves, fault: switchDevice},
}

// TestPairOnDRBD is laboratory B: on two emulated hosts with the real DRBD and a watchdog of the
// kernel, agents and a database on the device, with clients that write numbered rows through the
// virtual address. No acknowledged row is lost, no two databases run at once, and the pair is
// healthy again without a person. Here nodes lose their power, and processes are killed.
func TestPairOnDRBD(t *testing.T) {
	need.Drill(t, "P1: losses of power and kills on two emulated hosts with a real DRBD: no acknowledged row is lost, no two databases run")
	onDRBD(t, deviceDrills[:5])
}

// TestPairApartOnDRBD is the same for hosts that stand still, are slow, or do not reach each other.
func TestPairApartOnDRBD(t *testing.T) {
	need.Drill(t, "P1: cuts and hosts that stand still, with a real DRBD: no acknowledged row is lost, no two databases run")
	onDRBD(t, deviceDrills[5:9])
}

// TestPairWithoutItsArbiterOnDRBD is the same for the third voter, a full disk and a planned switch.
func TestPairWithoutItsArbiterOnDRBD(t *testing.T) {
	need.Drill(t, "P1: the arbiter is lost, alone and with the active node, and the disk is full, with a real DRBD: "+
		"no acknowledged row is lost")
	onDRBD(t, deviceDrills[9:])
}

func onDRBD(t *testing.T, all []deviceDrill) {
	t.Helper()
	r := newDevice(t, deviceOptions{})
	r.begin()
	r.drills(t, all)
}

// drills runs one fault after the other.
func (r *drbdRig) drills(t *testing.T, all []deviceDrill) {
	for _, d := range all {
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
	if d.down > 0 {
		n := c.begun() // answers to earlier writes may be read late
		time.Sleep(d.down)
		if more := c.since(n); more > 0 {
			t.Errorf("%d writes were acknowledged: nothing could prove that %s does not serve", more, r.node[active].Name())
		}
	} else if !d.halts {
		c.more(t, 20)
	}
	if d.after == moves && c.gap(at) > time.Minute {
		t.Log(r.node[standby].Run("sh", "-c", "tail -n 80 /srv/agent.log; tail -n 30 /srv/data/pair/database.log"))
	}
	if d.repair != nil {
		d.repair(r, active, standby)
	}
	serves, _ := r.healthy(t)
	if d.after == moves && serves != standby || d.after == stays && serves != active {
		t.Errorf("%s serves, %s did before", r.node[serves].Name(), r.node[active].Name())
	}
	c.more(t, 5)
	stop()
	c.check(t, []string{"h1", "h2"}[serves])
	return c.gap(at)
}

// agent sends a signal to the agent of a node.
func (r *drbdRig) agent(node int, signal string) {
	r.node[node].Run("sh", "-c", `for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline | grep -q "^/usr/bin/holdfast agent " && kill "$1" ${p#/proc/}; done; true`, "sh", signal)
}

// cutPeer cuts what one node sends to the other one, or heals it: nothing that both have to
// take part in works.
func (r *drbdRig) cutPeer(node, peer int, do string) {
	r.node[node].Run("sh", "-c", fmt.Sprintf("ip route %s blackhole %s/32", do, drbdAddr[peer]))
}

// switchDevice changes the nodes as people do: what an agent without a quorum refuses is tried again.
func switchDevice(r *drbdRig, t *testing.T, active, standby int) {
	r.until(t, "the switch to "+r.node[standby].Name(), func() (string, bool) {
		out, code := r.node[active].Try(drbdExe, "pair", "switch", r.node[standby].Name(), "--timeout", "5m")
		return out, code == 0
	})
}
