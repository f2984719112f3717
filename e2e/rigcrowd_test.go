package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/lab"
)

// crowded is a laboratory with business guests beside the management VM.
const crowded kind = "crowded"

// TestHostsAreEmptiedUnderPing empties each host in turn, the second while its
// agent is killed in the middle: every guest leaves, none is restarted, and what
// the moves cost in pings is told.
func TestHostsAreEmptiedUnderPing(t *testing.T) {
	r := readyOn(t, crowded)
	before, err := r.lab.WaitVMs(t.Context(), 90*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	watch, stop := context.WithCancel(t.Context())
	defer stop()
	pinged := make(chan []lab.GuestPings, 1)
	go func() {
		p, err := r.lab.WatchGuests(watch, 20*time.Millisecond)
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
	after, err := r.lab.AskVMs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.sameBoots(t, before, after)
	var jobs []api.Job
	if err := json.Unmarshal([]byte(r.command(t, r.lab.Hosts()[0], "jobs", "list", "-o", "json")), &jobs); err != nil {
		t.Fatal(err)
	}
	if len(jobs) != len(r.lab.Hosts()) {
		t.Errorf("%d jobs: %+v", len(jobs), jobs)
	}
	for _, j := range jobs {
		if j.State != "ended" || j.Result != "done" {
			t.Errorf("job %+v", j)
		}
	}
}

// empty checks by the process table that a host runs no guest.
func (r *rig) empty(t *testing.T, h string) {
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
func (r *rig) answered(t *testing.T, pings []lab.GuestPings) {
	t.Helper()
	damaged := r.damaged(t)
	for _, p := range pings {
		t.Logf("%s: %d of %d pings of 20 ms lost, longest gap %s", p.Name, p.Lost, p.Sent, p.Gap)
		if p.Sent == 0 || p.Gap > 5*time.Second && p.Name != damaged {
			t.Errorf("%s did not answer for %s", p.Name, p.Gap)
		}
	}
}

// sameBoots wants the guests to be those that they were.
func (r *rig) sameBoots(t *testing.T, before, after map[string]lab.Answer) {
	t.Helper()
	damaged := r.damaged(t)
	for name, b := range before {
		if a := after[name]; (a.Boot != b.Boot || a.Up < b.Up) && name != damaged {
			t.Errorf("%s was restarted: before %+v, after %+v", name, b, a)
		}
	}
}

// damaged is the guest whose kernel found its memory damaged and restarted itself, ""
// for none. Without KVM, QEMU may lose the last write to a page that it is just sending (its
// commit 9458a9a1df1a narrows that race, and does not close it): seen once in more than a
// thousand moves. A guest that was started anew, or twice, says no such thing. More than one is
// not the emulator's chance any more.
func (r *rig) damaged(t *testing.T) string {
	t.Helper()
	var names []string
	for _, h := range r.lab.Hosts() {
		logs, err := filepath.Glob(filepath.Join(r.lab.HostPath(h, "log"), "vm*.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range logs {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			name := strings.TrimSuffix(filepath.Base(path), ".log")
			if bytes.Contains(text, []byte("Kernel panic - not syncing")) && !slices.Contains(names, name) {
				names = append(names, name)
				t.Logf("the kernel of %s panicked, on %s", name, h)
			}
		}
	}
	if len(names) != 1 {
		if len(names) > 1 {
			t.Errorf("the kernels of %v panicked: want at most one", names)
		}
		return ""
	}
	return names[0]
}
