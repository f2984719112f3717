package drain

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// sentGuests move at once.
type sentGuests struct {
	fakeGuests
	sent string
}

func (g *sentGuests) Migrate(_ context.Context, uuid, target string, o guests.MigrateOptions) (guests.Place, error) {
	if err := ready(o); err != nil {
		return guests.Here, err
	}
	g.sent = uuid + " to " + target + " over " + o.Data
	return guests.Left, nil
}

// TestGuestsAreSent: what can be refused, and over which network they go.
func TestGuestsAreSent(t *testing.T) {
	auto := vm("vm1", 100)
	auto.Autostart = true
	sent := &sentGuests{fakeGuests: fakeGuests{vms: []guests.VM{auto, vm("mgmt", 100)}}}
	sent.vms[1].Protected = true
	for name, change := range map[string]func(*guests.VM){
		"busy":  func(v *guests.VM) { v.Busy = "snapshot" },
		"still": func(v *guests.VM) { v.State, v.Busy = guests.VMPaused, "paused" }, "off": func(v *guests.VM) { v.State = guests.VMOff },
	} {
		v := vm(name, 100)
		change(&v)
		sent.vms = append(sent.vms, v)
	}
	client := storetest.NewMem().NewClient("h1")
	seen := func() (map[cluster.HostID]report.Seen, bool) {
		return map[cluster.HostID]report.Seen{"h2": {Record: report.Record{
			Host: inventory.Host{Name: "h2"}, Addr: "192.0.2.2", Addrs: []string{"192.0.2.2", "10.0.0.2"}, CarriesLive: true,
		}}}, true
	}
	d := &Drain{Host: "h1", Store: client, Guests: sent, Seen: seen}
	d.Sender = NewSender(&Sender{Store: client, Host: "h1", Guests: sent, Seen: seen, Log: slog.New(slog.DiscardHandler)})
	for name, why := range map[string]string{"busy": "it can not move just now: snapshot",
		"still": "it can not move just now: paused", "off": "it is off", "mgmt": "it is the management VM"} {
		var e *fail.Error
		if err := d.SendGuest(t.Context(), "uuid-"+name, name, "h2", ""); !errors.As(err, &e) ||
			e.Kind != fail.Refused || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.SendGuest(t.Context(), "uuid-vm1", "vm1", "h2", "10.0.0.0/24"); err != nil ||
		sent.sent != "uuid-vm1 to 192.0.2.2 over 10.0.0.2" {
		t.Errorf("sent %s: %v", sent.sent, err)
	}
	if _, found, err := client.Get(t.Context(), "fleet-carry/h2/uuid-vm1"); err != nil || !found {
		t.Errorf("what it carries is not there: %v", err)
	}
}

// TestAGuestIsAwaited: a host is sent the guests that a job has it bring back, while it has to, and no others.
func TestAGuestIsAwaited(t *testing.T) {
	client := storetest.NewMem().NewClient("h1")
	d := &Drain{Host: "h1", Store: client}
	denied := func(when, uuid string) {
		t.Helper()
		var e *fail.Error
		if err := d.Awaits(t.Context(), "g1", uuid); !errors.As(err, &e) || e.Kind != fail.Denied {
			t.Errorf("%s: %v", when, err)
		}
	}
	put := func(key string, value any) {
		t.Helper()
		b, err := json.Marshal(value)
		if err == nil {
			_, _, err = client.Txn(t.Context(), nil, []store.Op{{Key: key, Value: b}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	step := func(state job.StepState, host cluster.HostID, kind string) {
		t.Helper()
		args, err := json.Marshal(evacuate.UndrainArgs{Back: []evacuate.Move{{UUID: "u1", VM: "vm1", To: "g1"}}})
		if err != nil {
			t.Fatal(err)
		}
		put("job/step/j1/g1/back", job.Record{Step: "g1/back", State: state, Attempt: 1,
			Work: &job.Step{ID: "g1/back", Host: host, Kind: kind, Args: args, Timeout: 1e9}})
	}
	denied("no job", "u1")
	put("job/todo/g1/upgrade", map[string]any{"job": "j1", "kind": "upgrade", "state": job.Active, "steps": []string{"g1/back", "g1/gone"}})
	denied("a step that is not there", "u1")
	for _, state := range []job.StepState{job.Granted, job.Running} {
		step(state, "g1", evacuate.KindUndrain)
		if err := d.Awaits(t.Context(), "g1", "u1"); err != nil {
			t.Errorf("%s: %v", state, err)
		}
		denied("another guest", "u2")
	}
	step(job.Running, "g1", evacuate.KindDrain)
	denied("another kind of step", "u1")
	step(job.Running, "g2", evacuate.KindUndrain)
	denied("another host's step", "u1")
	step(job.Done, "g1", evacuate.KindUndrain)
	denied("it has ended", "u1")
}
