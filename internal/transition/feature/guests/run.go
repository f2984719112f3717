// Package guests tries on a test guest, by libvirt, what a platform must be able to do with guests, reads each
// back, and puts everything back as it was. What is tried, and in which order, is in package feature.
package guests

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/feature"
	"holdfast/internal/transition/feature/attempt"
)

// backLimit bounds putting things back, beside the time that the guest has to obey.
const backLimit = 5 * time.Minute

// run is one run on one guest.
type run struct {
	order       feature.Order
	here, there *guests.Fleet // there: nil without a target
	was         guests.VM     // the guest before the run
	def         string        // its definition before, with secrets
	facts       feature.Facts
	agent       bool // its guest agent was connected while it ran: it is when its system is up
	disk        string
	folder      folder

	attempt.Stack
}

// Run tries all features on the guest of an order and tells when each begins. Everything is put back, also after a
// failure or when ctx ends; what could not be is in Report.Left. Errors come before anything is done: Invalid, the
// guest or the target's address is not known; Refused, the guest can not be tried on; Unavailable, a libvirtd is not reached.
func Run(ctx context.Context, o feature.Order, tell func(feature.Progress)) (*feature.Report, error) {
	r := newRun(o)
	defer r.close()
	rep, err := r.begin(ctx)
	if err != nil {
		return nil, err
	}
	attempt.Run(ctx, rep, feature.All(), r, tell)
	return rep, nil
}

func newRun(o feature.Order) *run {
	return &run{order: o, Stack: attempt.Stack{Limit: backLimit + 2*o.Wait}}
}

// Skip tells why a feature can not be tried; "": it can.
func (r *run) Skip(n feature.Name) string { return r.facts.Skip(n) }

func (r *run) close() {
	for _, f := range []*guests.Fleet{r.here, r.there} {
		if f != nil {
			_ = f.Close() // it only ends calls, and returns nothing
		}
	}
}

// begin looks at everything and changes nothing.
func (r *run) begin(ctx context.Context) (*feature.Report, error) {
	var err error
	opt := guests.Options{MigrateURI: r.order.URI, Shared: r.order.Shared}
	if r.here, err = guests.New(opt); err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err)
	}
	var node guests.Node
	if slow := attempt.Persist(ctx, func(ctx context.Context) error {
		if node, err = r.here.Node(ctx); errors.Is(err, context.DeadlineExceeded) {
			return err // a libvirtd whose QEMU is new looks at that before it answers
		}
		return nil
	}); slow != nil {
		err = slow
	}
	if err != nil {
		return nil, fail.Errorf(fail.Unavailable, "this host's libvirtd: %w", err)
	}
	if r.order.Target != "" {
		if err := r.meet(ctx, opt); err != nil {
			return nil, err
		}
	}
	if err := r.find(ctx); err != nil {
		return nil, err
	}
	return &feature.Report{
		Guest: feature.Guest{Name: r.was.Name, UUID: r.was.UUID}, Libvirt: node.Libvirt, QEMU: node.Hypervisor,
		At: time.Now().UTC().Truncate(time.Second),
	}, nil
}

// meet asks the other host, and finds out by which address it reaches this one.
func (r *run) meet(ctx context.Context, opt guests.Options) error {
	at := r.order.Target
	if strings.Count(at, ":") > 1 && !strings.HasPrefix(at, "[") { // IPv6
		at = "[" + at + "]"
	}
	opt.URI = strings.Replace(r.order.URI, "%s", at, 1)
	var err error
	if r.there, err = guests.New(opt); err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	own, err := r.there.OwnAddress(ctx)
	if err != nil {
		return fail.Errorf(fail.Unavailable, "the target's libvirtd: %w", err)
	}
	r.order.Here = cmp.Or(r.order.Here, own)
	return nil
}

// find finds the guest, and refuses one that can not be tried on.
func (r *run) find(ctx context.Context) error {
	vms, err := r.here.List(ctx)
	if err != nil {
		return fail.Errorf(fail.Unavailable, "this host's libvirtd: %w", err)
	}
	found := false
	for _, v := range vms {
		if v.Name == r.order.Guest || v.UUID == strings.ToLower(r.order.Guest) {
			r.was, found = v, true
		}
	}
	if !found {
		return fail.Errorf(fail.Invalid, "--guest %s: this host's libvirtd does not know a guest of this name or UUID",
			r.order.Guest).With("virsh list --all")
	}
	if why := r.unfit(vms); why != "" {
		return fail.Errorf(fail.Refused, "guest %s: %s", r.was.Name, why)
	}
	if r.def, err = r.here.Definition(ctx, r.was.UUID); err != nil {
		return fail.Errorf(fail.Unavailable, "this host's libvirtd: %w", err)
	}
	if libvirt.OfHoldfast(r.def) {
		return fail.Errorf(fail.Refused, "guest %s is the one that Holdfast keeps running: it is no test guest", r.was.Name)
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(r.def); err != nil {
		return fail.Errorf(fail.Refused, "guest %s: its definition can not be read: %w", r.was.Name, err)
	}
	return r.lookAt(&def)
}

// unfit says why a guest can not be tried on.
func (r *run) unfit(vms []guests.VM) string {
	switch v := r.was; {
	case v.State == guests.VMPaused:
		return "it stands still (" + v.Busy + "): want one that runs or is off"
	case v.Busy != "":
		return v.Busy + ": want one with which nothing is under way"
	case v.Saved:
		return "its memory is saved on this host: start it first, or drop what was saved"
	}
	for _, v := range vms {
		if v.Name == newName(r.was.Name) {
			return "there is a guest " + v.Name + ", which an earlier run has left: remove it first (virsh destroy, virsh undefine --nvram)"
		}
	}
	return ""
}

// lookAt fills in what the definition tells.
func (r *run) lookAt(def *libvirtxml.Domain) error {
	r.agent = r.was.Agent
	r.facts = feature.Facts{Persistent: r.was.Persistent, Cells: def.CPU != nil && def.CPU.Numa != nil, Target: r.there != nil}
	if def.Devices != nil {
		r.facts.Card = len(def.Devices.Interfaces) > 0
		if d := mainDisk(def.Devices.Disks); d != nil {
			r.facts.Disk, r.disk = true, d.Target.Dev
		}
		var err error
		if r.folder, err = folderOf(r.order.Dir, r.was.UUID, def.Devices.Disks); err != nil {
			return err
		}
	}
	r.facts.Folder = r.folder.dir != ""
	return nil
}

// Ready puts back what was done before, and sees that the guest runs here.
func (r *run) Ready(ctx context.Context) error {
	if err := r.Unwind(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if err := attempt.Persist(ctx, r.power); err != nil {
		return fmt.Errorf("it must run and does not: %w", err)
	}
	if r.agent {
		r.agent = r.up(ctx) == nil // the feature that has lost it has said so
	}
	return nil
}

// Restore puts back all that is left to be, and says what it could not.
func (r *run) Restore(ctx context.Context) (left []string) {
	return r.Drain(ctx,
		attempt.Undo{What: "its definition is another one", Do: r.redefine},
		attempt.Undo{What: "it does not run, or is not off, as before", Do: r.stand},
		attempt.Undo{What: "it starts with the host, or does not, unlike before", Do: r.autostart},
		attempt.Undo{What: "it is not as before", Do: r.same},
	)
}

// stand makes the guest run if it ran, and be off if it was.
func (r *run) stand(ctx context.Context) error {
	if r.was.State == guests.VMRunning {
		return r.start(ctx)
	}
	return r.off(ctx)
}

// redefine gives the guest back the definition that it had.
func (r *run) redefine(ctx context.Context) error {
	if !r.was.Persistent {
		return nil
	}
	now, err := r.here.Definition(ctx, r.was.UUID)
	if err != nil || now == r.def {
		return err
	}
	return r.here.Define(ctx, r.def)
}

func (r *run) autostart(ctx context.Context) error {
	now, err := r.look(ctx)
	if err != nil || now.Autostart == r.was.Autostart {
		return err
	}
	return r.here.SetAutostart(ctx, r.was.UUID, r.was.Autostart)
}

// same reads back that the guest is as it was.
func (r *run) same(ctx context.Context) error {
	now, err := r.look(ctx)
	if err != nil {
		return err
	}
	var bad []error
	for _, f := range []struct {
		what     string
		was, now any
	}{
		{"state", r.was.State, now.State},
		{"persistent", r.was.Persistent, now.Persistent},
		{"autostart", r.was.Autostart, now.Autostart},
		{"disks", len(r.was.Disks), len(now.Disks)},
		{"memory in MiB", r.was.MemoryMiB, now.MemoryMiB},
		{"under way", r.was.Busy, now.Busy},
	} {
		if f.was != f.now {
			bad = append(bad, fmt.Errorf("%s: was %v, is %v", f.what, f.was, f.now))
		}
	}
	if r.was.Persistent {
		def, err := r.here.Definition(ctx, r.was.UUID)
		if err == nil && def != r.def {
			err = errors.New("its definition is not as before: virsh dumpxml --inactive shows it")
		}
		bad = append(bad, err)
	}
	return errors.Join(bad...)
}

// look lists the guest as it is now.
func (r *run) look(ctx context.Context) (guests.VM, error) {
	vms, err := r.here.List(ctx)
	if err != nil {
		return guests.VM{}, err
	}
	for _, v := range vms {
		if v.UUID == r.was.UUID {
			return v, nil
		}
	}
	return guests.VM{}, errors.New("this host's libvirtd does not know it any more")
}
