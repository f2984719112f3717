package e2e

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"holdfast/internal/job"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// crowded is a laboratory with business guests beside the management VM.
const crowded kind = "crowded"

// pingEvery is how often each guest is pinged. A fifth of it made the emulator lose writes to
// the rings of the guests' network devices (lab.EmulatorFailed) in one run of five.
const pingEvery = 100 * time.Millisecond

// TestHostsAreEmptiedUnderPing empties each host in turn, the second while its
// agent is killed in the middle: every guest leaves, none is restarted, and what
// the moves cost in pings is told.
func TestHostsAreEmptiedUnderPing(t *testing.T) {
	need.Drill(t, "P4: hosts are emptied of guests one after the other under pings, and no guest is restarted")
	onLab(t, crowded, hostsAreEmptiedUnderPing)
}

func hostsAreEmptiedUnderPing(t testing.TB, r *rig) {
	before := r.guests(t)
	earlier := len(r.jobs(t)) // of a run before this one
	watch, stop := context.WithCancel(t.Context())
	defer stop()
	pinged := make(chan []lab.GuestPings, 1)
	go func() {
		p, err := r.lab.WatchGuests(watch, pingEvery)
		if err != nil {
			t.Errorf("watch the guests: %v", err)
		}
		pinged <- p
	}()
	for i, h := range r.lab.Hosts() {
		if i == 1 {
			time.AfterFunc(time.Second, func() {
				if err := r.lab.Kill(t.Context(), h, lab.AgentDaemon); err != nil {
					t.Errorf("kill the agent of %s: %v", h, err)
				}
			})
		}
		// Asked on another host: the answer must not depend on the agent that is killed.
		other := r.lab.Hosts()[(i+1)%len(r.lab.Hosts())]
		t.Logf("%s: %s", h, strings.ReplaceAll(r.command(t, other, "host", "drain", h), "\n", "; "))
		r.empty(t, h)
		r.command(t, other, "host", "enable", h)
	}
	stop()
	r.answered(t, <-pinged)
	after := r.guests(t)
	r.sameBoots(t, before, after)
	jobs := r.jobs(t)
	if len(jobs) != earlier+len(r.lab.Hosts()) {
		t.Fatalf("%d jobs, %d of an earlier run: %+v", len(jobs), earlier, jobs)
	}
	for _, j := range jobs {
		if j.State != "ended" || j.Result != "done" {
			t.Errorf("job %+v", j)
		}
	}
}

func (r *rig) jobs(t testing.TB) (all []job.View) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.command(t, r.lab.Hosts()[0], "jobs", "list", "-o", "json")), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// empty checks by the process table that a host runs no guest.
func (r *rig) empty(t testing.TB, h string) {
	t.Helper()
	vms, err := r.lab.Guests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, vm := range vms {
		if vm.Host == h || vm.Host == "" || vm.To != "" {
			t.Errorf("%s is empty, but %s is on %q, on its way to %q", h, vm.Name, vm.Host, vm.To)
		}
	}
	if st, err := r.status(t.Context()); err != nil || string(st.Owner.Host) == h {
		t.Errorf("%s is empty, but the management VM is on %q (%v)", h, st.Owner.Host, err)
	}
}

// answered wants no guest to have been silent for long.
func (r *rig) answered(t testing.TB, pings []lab.GuestPings) {
	t.Helper()
	for _, p := range pings {
		t.Logf("%s: %d of %d pings of %s lost, longest gap %s", p.Name, p.Lost, p.Sent, pingEvery, p.Gap)
		if p.Sent == 0 || p.Gap > 5*time.Second {
			t.Errorf("%s did not answer for %s", p.Name, p.Gap)
		}
	}
}

// sameBoots wants the guests to be those that they were.
func (r *rig) sameBoots(t testing.TB, before, after map[string]lab.Answer) {
	t.Helper()
	for name, b := range before {
		if a := after[name]; a.Boot != b.Boot || a.Up < b.Up {
			t.Errorf("%s was restarted: before %+v, after %+v", name, b, a)
		}
	}
}
