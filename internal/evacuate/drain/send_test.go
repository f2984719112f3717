package drain

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/fail"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/store/storetest"
)

// sentGuests move at once.
type sentGuests struct {
	fakeGuests
	sent string
}

func (g *sentGuests) Migrate(_ context.Context, uuid, target string, o libvirt.MigrateOptions) (libvirt.Place, error) {
	if err := ready(o); err != nil {
		return libvirt.Here, err
	}
	g.sent = uuid + " to " + target + " over " + o.Data
	return libvirt.Left, nil
}

// TestGuestsAreSent: what can be refused, and over which network they go.
func TestGuestsAreSent(t *testing.T) {
	auto := vm("vm1", 100)
	auto.Autostart = true
	guests := &sentGuests{fakeGuests: fakeGuests{vms: []libvirt.VM{auto, vm("mgmt", 100)}}}
	guests.vms[1].Protected = true
	for name, change := range map[string]func(*libvirt.VM){
		"busy": func(v *libvirt.VM) { v.Busy = "snapshot" }, "still": func(v *libvirt.VM) { v.State, v.Busy = libvirt.VMPaused, "paused" }, "off": func(v *libvirt.VM) { v.State = libvirt.VMOff },
	} {
		v := vm(name, 100)
		change(&v)
		guests.vms = append(guests.vms, v)
	}
	client := storetest.NewMem().NewClient("h1")
	seen := func() (map[cluster.HostID]report.Seen, bool) {
		return map[cluster.HostID]report.Seen{"h2": {Record: report.Record{
			Host: inventory.Host{Name: "h2"}, Addr: "192.0.2.2", Addrs: []string{"192.0.2.2", "10.0.0.2"}, CarriesLive: true,
		}}}, true
	}
	d := &Drain{Host: "h1", Store: client, Guests: guests, Seen: seen}
	d.Sender = NewSender(&Sender{Store: client, Host: "h1", Guests: guests, Seen: seen, Log: slog.New(slog.DiscardHandler)})
	for name, why := range map[string]string{"busy": "it can not move just now: snapshot", "still": "it can not move just now: paused", "off": "it is off", "mgmt": "it is the management VM"} {
		var e *fail.Error
		if err := d.SendGuest(t.Context(), "uuid-"+name, name, "h2", ""); !errors.As(err, &e) || e.Kind != fail.Refused || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := d.SendGuest(t.Context(), "uuid-vm1", "vm1", "h2", "10.0.0.0/24"); err != nil || guests.sent != "uuid-vm1 to 192.0.2.2 over 10.0.0.2" {
		t.Errorf("sent %s: %v", guests.sent, err)
	}
	if _, found, err := client.Get(t.Context(), "fleet-carry/h2/uuid-vm1"); err != nil || !found {
		t.Errorf("what it carries is not there: %v", err)
	}
}
