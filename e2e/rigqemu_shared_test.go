package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	helper "holdfast/internal/testbed/try"

	"holdfast/internal/testbed/need"
)

// sharedDrills are the faults of laboratory B on a disk that both nodes see.
var sharedDrills = []deviceDrill{
	{name: "power loss of the active", after: moves,
		fault:  func(r *drbdRig, _ *testing.T, active, _ int) { r.node[active].Crash() },
		repair: func(r *drbdRig, active, _ int) { r.boot(active) }},
	// What waits for the disk does not end by SIGKILL, so its node is reset.
	{name: "active loses its path to the disk", after: moves,
		fault: func(r *drbdRig, t *testing.T, active, _ int) {
			r.lun.Silence(active, true)
			r.says(t, "has not answered for 20s")
		},
		repair: func(r *drbdRig, active, _ int) {
			r.lun.Silence(active, false) // QEMU ends when its disk has answered
			r.until(r.t, "the reset of "+r.node[active].Name(), func() (string, bool) { return "it is on", !r.node[active].On() })
			r.boot(active)
		}},
	// What uses the disk is told so, and ends: no reset is needed.
	{name: "active's disk ends every command with an error", after: moves,
		fault: func(r *drbdRig, t *testing.T, active, _ int) {
			r.node[active].Run("sh", "-c", "echo >/run/no-reset; echo offline >/sys/block/sda/device/state")
			r.more(t, 20)
			r.node[active].Run("test", "-e", "/run/no-reset")
		},
		repair: func(r *drbdRig, active, _ int) {
			r.node[active].Run("sh", "-c", "echo running >/sys/block/sda/device/state")
		}},
	{name: "standby loses its path to the disk", after: stays,
		fault: func(r *drbdRig, t *testing.T, _, standby int) {
			r.lun.Silence(standby, true)
			r.says(t, "no path to the device")
		},
		repair: func(r *drbdRig, _, standby int) { r.lun.Silence(standby, false) }},
	// Its watchdog and its lease are of no use: what refuses its writes is the reservation.
	{name: "active is paused, its clocks too, and goes on after the takeover", after: moves,
		fault: func(r *drbdRig, t *testing.T, active, standby int) {
			r.clients.both.Store(true) // it believes for a moment that it serves, and answers
			r.wakes(t, active, standby)
		},
		repair: func(r *drbdRig, active, _ int) {
			r.until(r.t, "the end of the database on "+r.node[active].Name(), func() (string, bool) {
				out, code := r.node[active].Try("pidof", "mariadbd")
				return out, code != 0
			})
			r.clients.both.Store(false)
		}},
	{name: "planned switch", after: moves, fault: switchDevice},
	{name: "active stands still, and wakes up after the takeover", after: moves,
		fault: func(r *drbdRig, t *testing.T, active, _ int) {
			r.node[active].Stand(true)
			r.more(t, 20)
			r.node[active].Stand(false)
			r.until(t, "the reset of "+r.node[active].Name(), func() (string, bool) { return "it is on", !r.node[active].On() })
		},
		repair: func(r *drbdRig, active, _ int) { r.boot(active) }},
}

// TestPairOnASharedDisk is laboratory B on one disk that both nodes see, with the persistent
// reservations of an iSCSI target: no acknowledged row is lost, what a node sends that has lost the
// disk is refused, and the pair is healthy again without a person.
func TestPairOnASharedDisk(t *testing.T) {
	need.Drill(t, "P1: faults of two emulated hosts on one disk: what a node writes that has lost the reservation is refused")
	r := newDevice(t, deviceOptions{lun: 128 << 20})
	r.begin()
	r.drills(t, sharedDrills)
}

// says waits until the status tells of something that is wrong.
func (r *drbdRig) says(t *testing.T, what string) {
	t.Helper()
	r.until(t, "the status to say: "+what, func() (string, bool) {
		st, err := r.status()
		return fmt.Sprint(st.Health, st.Why, err), err == nil && strings.Contains(fmt.Sprint(st.Why), what)
	})
}

// wakes has the active node stand still with all its clocks, in the middle of writes, until the
// other one serves. What it writes then is refused, and nobody is told that it is there.
func (r *drbdRig) wakes(t *testing.T, active, standby int) {
	ctx, cancel := waiting(t)
	defer cancel()
	const file = "/mnt/pair/blocks"
	blocks := r.node[active].Stream(ctx, "sh", "-c",
		`i=0; while dd if=/dev/zero of=`+file+` bs=4096 count=1 seek=$i conv=notrunc,fsync 2>/dev/null; do i=$((i+1)); echo $i; done; echo ended`)
	written := 0
	for written < 3 {
		line, ok := <-blocks
		if !ok {
			t.Fatal("no block was written")
		}
		written = block(t, line)
	}
	r.node[active].Pause(true)
	r.more(t, 20)
	r.node[active].Pause(false)
	for line := range blocks { // it ends by itself
		if line == "ended" {
			break
		}
		written = block(t, line)
	}
	if ctx.Err() != nil {
		t.Errorf("%s goes on writing, %d blocks", r.node[active].Name(), written)
	}
	r.until(t, "a refused write in the kernel's log", func() (string, bool) {
		said := r.node[active].Run("dmesg")
		return said[max(0, len(said)-1000):], strings.Contains(said, "reservation conflict")
	})
	size, err := strconv.Atoi(r.node[standby].Run("stat", "-c", "%s", file))
	helper.Must(t, err)
	t.Logf("%d blocks were synced, and %d are there", written, size/4096)
	if size/4096 < written {
		t.Errorf("%d blocks were synced, and %d are there", written, size/4096)
	}
	r.node[standby].Run("rm", file)
}

func block(t *testing.T, line string) int {
	t.Helper()
	n, err := strconv.Atoi(line)
	helper.Must(t, err)
	return n
}

// switchDevice changes the nodes as people do: what an agent without a quorum refuses is tried again.
func switchDevice(r *drbdRig, t *testing.T, active, standby int) {
	r.until(t, "the switch to "+r.node[standby].Name(), func() (string, bool) {
		out, code := r.node[active].Try(drbdExe, "pair", "switch", r.node[standby].Name(), "--timeout", "5m")
		return out, code == 0
	})
}
