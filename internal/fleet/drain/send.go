package drain

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
)

// SendGuest moves a guest of this host to another one, over the network (a CIDR, ""
// for any) when that host has an address in it.
func (d *Drain) SendGuest(ctx context.Context, uuid, name string, to cluster.HostID, network string) error {
	seen, ok := d.Seen()
	if !ok {
		return fail.Errorf(fail.Unavailable, "send %s: the other hosts' reports are not read yet", name)
	}
	target, known := seen[to]
	if !known {
		return fail.Errorf(fail.Invalid, "send %s to %s: no host of that name reports", name, to)
	}
	vms, err := d.Guests.List(ctx)
	if err != nil {
		return fmt.Errorf("send %s: %w", name, err)
	}
	i := slices.IndexFunc(vms, func(vm guests.VM) bool { return vm.UUID == uuid })
	switch {
	case i < 0:
		return fail.Errorf(fail.Invalid, "send %s: it is not on %s", name, d.Host)
	case vms[i].Protected:
		return fail.Errorf(fail.Refused, "send %s: it is the management VM", name).With("move it by: holdfast migrate")
	case vms[i].State == guests.VMOff:
		return fail.Errorf(fail.Refused, "send %s: it is off", name)
	case vms[i].State == guests.VMPaused || vms[i].Busy != "":
		return fail.Errorf(fail.Refused, "send %s: it can not move just now: %s", name, cmp.Or(d.why(uuid), vms[i].Busy, string(vms[i].State)))
	}
	if err := d.live(ctx, vms[i], target, network, nil); err != nil {
		return fmt.Errorf("send %s to %s: %w", name, to, err)
	}
	return nil
}

// Awaits refuses a guest that no job has host to bring back to itself: to bring guests is what a job tells
// a host, and who has its certificate only could have all of them, with their memory.
func (d *Drain) Awaits(ctx context.Context, to cluster.HostID, uuid string) error {
	open, err := engine.OpenWork(ctx, d.Store, to, evacuate.KindUndrain)
	if err != nil {
		return err
	}
	brings, err := brings(open, uuid)
	if err != nil || brings {
		return err
	}
	return fail.Errorf(fail.Denied, "not allowed: no job has host %s bring guest %s back", to, uuid)
}

// brings reports whether one of these steps brings a guest back.
func brings(undrains []job.Step, uuid string) (bool, error) {
	for _, step := range undrains {
		args, err := engine.Args[evacuate.UndrainArgs](engine.Task{Step: step})
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(args.Back, func(m evacuate.Move) bool { return m.UUID == uuid }) {
			return true, nil
		}
	}
	return false, nil
}

// why tells why a guest of this host stands still that has come here.
func (d *Drain) why(uuid string) string {
	if d.Waits == nil {
		return ""
	}
	return d.Waits(uuid)
}
