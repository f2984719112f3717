// Package bridge pins bridges of this host's Open vSwitch and ends pins: look, plan, apply in one
// bundle, and read back. (docs/adr/0059)
package bridge

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/ovs"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/pin"
)

// versions of OpenFlow that have bundles, the best one first: 1.5 also tells how groups select.
var versions = []string{"OpenFlow15", "OpenFlow14"}

// Looks before a pin is ended: between the first and the last no flow may come or go.
const (
	looks     = 3
	lookEvery = time.Second
)

// speak chooses how a bridge is spoken to.
func speak(ctx context.Context, bridge string, f ovs.Facts) (string, error) {
	for _, v := range versions {
		if slices.Contains(f.Protocols, v) {
			return v, nil
		}
		if len(f.Protocols) == 0 {
			if speaks, err := ovs.Speaks(ctx, bridge, v); err != nil || speaks {
				return v, err
			}
		}
	}
	has, want := strings.Join(f.Protocols, ", "), strings.Join(append(f.Protocols, "OpenFlow14"), ",")
	if has == "" {
		has, want = "the default ones of this Open vSwitch", "OpenFlow10,OpenFlow13,OpenFlow14"
	}
	return "", fail.Errorf(fail.Refused, "bridge %s has the OpenFlow versions %s: a pin needs %s, or all of it could "+
		"not come at once", bridge, has, strings.Join(versions, " or ")).
		With(fmt.Sprintf("ovs-vsctl set bridge %s protocols=%s", bridge, want))
}

// Has reports whether Open vSwitch has a bridge here: false as well where there is no Open vSwitch.
func Has(ctx context.Context, name string) (bool, error) {
	_, err := ovs.Bridge(ctx, name)
	var e *fail.Error
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, exec.ErrNotFound), errors.As(err, &e) && e.Kind == fail.Invalid:
		return false, nil
	}
	return false, err
}

// look dumps a bridge. It refuses one that does not answer, and one that is unknown.
func look(ctx context.Context, bridge string) (version string, f ovs.Facts, d pin.Dump, err error) {
	if f, err = ovs.Bridge(ctx, bridge); err != nil {
		return "", f, d, err
	}
	if version, err = speak(ctx, bridge, f); err != nil {
		return "", f, d, err
	}
	d, err = dump(ctx, bridge, version)
	return version, f, d, err
}

func dump(ctx context.Context, bridge, version string) (pin.Dump, error) {
	text, err := ovs.Look(ctx, bridge, version)
	if err != nil {
		return pin.Dump{}, err
	}
	d, err := pin.Read(text.Flows, text.Groups, text.Ports)
	if err != nil {
		return d, fail.Errorf(fail.Refused, "bridge %s: read what ovs-ofctl prints: %w", bridge, err)
	}
	return d, nil
}

// Pin pins a bridge, or says with DryRun what it would do. It is Refused where the bridge can not be
// pinned, and nothing is changed then; Unknown where it may be pinned and could not be looked at: that pin
// ends by itself.
func Pin(ctx context.Context, o pin.Order) (*pin.Result, error) {
	version, facts, d, err := look(ctx, o.Bridge)
	if err != nil {
		return nil, err
	}
	record, unread := pin.ReadRecord(facts.Other[pin.RecordKey])
	pinned := alreadyPinned(o.Bridge, d, record, unread)
	if pinned != nil && !o.DryRun {
		return nil, pinned
	}
	if err := fit(o.Bridge, facts, d); err != nil {
		return nil, err
	}
	if err := keepsFlows(o.Bridge, agentFiles); err != nil {
		return nil, err
	}
	p, err := pin.New(d, o.For)
	if err != nil {
		return nil, fail.Errorf(fail.Refused, "bridge %s can not be pinned: %w", o.Bridge, err)
	}
	r := &pin.Result{Bridge: o.Bridge, Ports: len(p.Entries), Flows: len(p.Copy), Groups: len(p.Groups), Notes: p.Notes}
	if o.DryRun {
		r.Plan = p.Lines()
		if pinned != nil {
			r.Pinned, r.Left = d.Entries() > 0, int(d.Left()/time.Second)
			r.Notes = append(r.Notes, pinned.Error())
		}
		return r, nil
	}
	disarmed, err := cleanupService.disarm(ctx)
	if err != nil {
		return nil, fail.Errorf(fail.Refused, "bridge %s is not pinned: %w", o.Bridge, err)
	}
	if disarmed {
		r.Notes = append(r.Notes, cleanupUnit+" does nothing until no bridge is pinned any more, or until the next boot")
	}
	begun := time.Now()
	applied := ovs.Apply(ctx, o.Bridge, version, p.Lines())
	after, err := dump(ctx, o.Bridge, version)
	if err != nil {
		return nil, fail.Errorf(fail.Unknown, "bridge %s may be pinned, and could not be looked at: %w", o.Bridge, errors.Join(applied, err)).
			With(fmt.Sprintf("a pin ends by itself after %s; holdfast transition unpin %s --force ends it at once", o.For, o.Bridge))
	}
	if applied != nil && after.Entries() == 0 {
		return nil, fail.Errorf(fail.Failed, "bridge %s is not pinned: %w", o.Bridge, errors.Join(applied, rearm(ctx, o.Bridge)))
	}
	err = whole(o.Bridge, p, after)
	if err == nil {
		err = ovs.Note(ctx, o.Bridge, pin.RecordKey, p.Record(begun).String())
	}
	if err != nil {
		return nil, errors.Join(undo(ctx, o.Bridge, version, after, err), rearm(ctx, o.Bridge))
	}
	r.Pinned, r.Left = true, int(after.Left()/time.Second)
	return r, nil
}

// alreadyPinned refuses a bridge that has a pin, or what others have left of one whose time is not over.
func alreadyPinned(bridge string, d pin.Dump, record *pin.Record, unread error) error {
	remedy := "end that pin first: holdfast transition unpin " + bridge
	damage := record.Damage(d, time.Now())
	switch {
	case d.Entries() == 0 && damage != nil && damage.Left > 0:
		return fail.Errorf(fail.Refused, "bridge %s is not pinned any more: %s: somebody has deleted the others, and "+
			"packets may get lost", bridge, damage).With(remedy)
	case d.Entries() == 0:
		return nil
	case damage != nil:
		return fail.Errorf(fail.Refused, "bridge %s is pinned already, for %s more, and its pin is damaged: %s: "+
			"packets get lost", bridge, d.Left(), damage).
			With("have its network agent write the bridge's own flows: restart that; then: holdfast transition unpin " + bridge)
	case unread != nil:
		return fail.Errorf(fail.Refused, "bridge %s is pinned already, for %s more: %w", bridge, d.Left(), unread).With(remedy)
	}
	return fail.Errorf(fail.Refused, "bridge %s is pinned already, for %s more", bridge, d.Left()).With(remedy)
}

// fit looks whether a bridge can have a pin at all.
func fit(bridge string, f ovs.Facts, d pin.Dump) error {
	cards := slices.DeleteFunc(slices.Clone(d.Ports), func(p pin.Port) bool { return p.Number == "LOCAL" })
	switch {
	case len(cards) == 0:
		return fail.Errorf(fail.Invalid, "bridge %s has no ports: there is nothing to pin", bridge)
	case f.Restoring:
		return fail.Errorf(fail.Refused, "Open vSwitch restores flows (flow-restore-wait is true): what is set now would be thrown away").
			With("when all flows are there: ovs-vsctl remove Open_vSwitch . other_config flow-restore-wait")
	case f.FailMode != "secure" && f.Controllers > 0:
		return fail.Errorf(fail.Refused, "bridge %s has a controller and the fail mode standalone: without its "+
			"controller it deletes all flows, also a pin, and forwards between all ports", bridge).
			With("ovs-vsctl set-fail-mode " + bridge + " secure")
	case len(d.Theirs()) == 0:
		return fail.Errorf(fail.Refused, "bridge %s has no flows: a pin would keep it so", bridge)
	}
	return nil
}

// whole looks whether a bridge is pinned as planned, with flows that nobody changed meanwhile.
func whole(bridge string, p *pin.Plan, d pin.Dump) error {
	wrong, err := p.Differences(d)
	if err != nil {
		return fail.Errorf(fail.Failed, "read the pin of bridge %s back: %w", bridge, err)
	}
	if n := len(wrong); n > 0 {
		return fail.Errorf(fail.Failed, "bridge %s was not as planned when it was read back, in %d flows or groups; "+
			"the first: %s", bridge, n, wrong[0])
	}
	if moved := p.Changed(d); len(moved) > 0 {
		return fail.Errorf(fail.Refused, "bridge %s: %d flows changed while they were copied: somebody is writing "+
			"them; the first: %s", bridge, len(moved), moved[0]).
			With("pin before the agent is stopped or restarted")
	}
	return nil
}

// undo takes a pin away that is not as it should be.
func undo(ctx context.Context, bridge, version string, d pin.Dump, because error) error {
	if _, err := remove(context.WithoutCancel(ctx), bridge, version, d); err != nil {
		return fail.Errorf(fail.Unknown, "%w; and the pin could not be taken away, and ends by itself", errors.Join(because, err)).
			With("holdfast transition unpin " + bridge + " --force ends it at once")
	}
	return because
}

// remove takes away all that a pin has on a bridge, and looks.
func remove(ctx context.Context, bridge, version string, d pin.Dump) (int, error) {
	n := len(d.Ours())
	applied := ovs.Apply(ctx, bridge, version, pin.Removal(d.Groups))
	after, err := dump(ctx, bridge, version)
	if err != nil {
		return 0, errors.Join(applied, err)
	}
	if left := len(after.Ours()); left > 0 {
		still := fail.Errorf(fail.Failed, "bridge %s still has %d flows of the pin after they were deleted", bridge, left)
		return 0, errors.Join(still, applied)
	}
	return n, applied
}

// Unpin ends the pin of a bridge. Without Force it is Refused until the bridge's own flows are as many as when
// it was pinned, for each port and on the whole, and none of them comes or goes; where the bridge has no flows at all,
// pinned or not; and where somebody has taken the entries away before their time.
func Unpin(ctx context.Context, o pin.Order) (*pin.Result, error) {
	version, facts, d, err := look(ctx, o.Bridge)
	if err != nil {
		return nil, err
	}
	r := &pin.Result{Bridge: o.Bridge}
	record, unread := pin.ReadRecord(facts.Other[pin.RecordKey])
	if unread != nil {
		r.Notes = append(r.Notes, unread.Error())
	}
	now := time.Now()
	r.Damage = record.Damage(d, now)
	ended := d.Entries() == 0
	if !ended && !o.Force {
		if d, err = settled(ctx, o.Bridge, version, d, record, r.Damage); err != nil {
			return nil, err
		}
	}
	if r.Removed, err = remove(ctx, o.Bridge, version, d); err != nil {
		return nil, err
	}
	if err := rearm(ctx, o.Bridge); err != nil {
		return nil, fail.Errorf(fail.Failed, "bridge %s is not pinned any more: %w", o.Bridge, err)
	}
	missing := ""
	if ended {
		missing = record.Missing(d)
	}
	switch {
	case o.Force:
	case len(d.Theirs()) == 0: // a pin that was there has ended, or somebody has deleted all
		return nil, fail.Errorf(fail.Refused, "bridge %s has no flows, neither of a pin nor its own: it forwards nothing", o.Bridge).
			With("have its network agent write them: restart that")
	case missing != "" && r.Damage != nil: // the record stays until they are there, or the order is forced
		return nil, fail.Errorf(fail.Refused, "bridge %s is not pinned any more, and its own flows are not "+
			"complete: %s; %s", o.Bridge, missing, r.Damage).
			With("have its network agent write them: restart that; or, when its flows are as they shall be: holdfast " +
				"transition unpin " + o.Bridge + " --force")
	}
	if facts.Other[pin.RecordKey] != "" {
		if err := ovs.Note(ctx, o.Bridge, pin.RecordKey, ""); err != nil {
			return nil, fail.Errorf(fail.Failed, "bridge %s is not pinned any more: %w", o.Bridge, err)
		}
	}
	if r.Damage != nil && ended && r.Damage.Left > 0 && !o.Force {
		return nil, fail.Errorf(fail.Refused, "bridge %s: somebody has deleted the entries of its pin, so it was not "+
			"pinned any more: %s; it forwards by its own flows now, and packets may have been lost",
			o.Bridge, r.Damage)
	}
	if r.Damage != nil {
		r.Notes = append(r.Notes, r.Damage.String()+": somebody has deleted the others, and packets may have been lost")
	}
	if missing != "" {
		r.Notes = append(r.Notes, "the bridge's own flows are not complete: "+missing)
	}
	return r, nil
}

// settled looks several times whether all flows are there again.
func settled(ctx context.Context, bridge, version string, d pin.Dump, record *pin.Record, damage *pin.Damage) (pin.Dump, error) {
	damaged := ""
	if damage != nil {
		damaged = "; " + damage.String() + ": packets get lost"
	}
	remedy := "wait for the agent; or, when its flows are as they shall be: holdfast transition unpin " + bridge + " --force"
	first := d
	for i := 0; ; i++ {
		missing := d.Missing()
		if m := record.Missing(d); damage != nil && len(missing) == 0 && m != "" { // the copy does not tell any more
			missing = []string{m}
		}
		if len(missing) > 0 {
			return d, fail.Errorf(fail.Refused, "bridge %s stays pinned, for %s more: its own flows are not "+
				"complete: %s%s", bridge, d.Left(), few(missing), damaged).With(remedy)
		}
		if moved := pin.Moved(first, d); len(moved) > 0 {
			return d, fail.Errorf(fail.Refused, "bridge %s stays pinned, for %s more: %d of its own flows changed "+
				"within %s; the first: %s", bridge, d.Left(), len(moved), looks*lookEvery, moved[0]).With(remedy)
		}
		if i == looks {
			return d, nil
		}
		if !clock.Sleep(ctx, lookEvery) {
			return d, ctx.Err()
		}
		var err error
		if d, err = dump(ctx, bridge, version); err != nil {
			return d, err
		}
	}
}

// few are the first of many.
func few(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s; and %d more", strings.Join(list[:most], "; "), len(list)-most)
	}
	return strings.Join(list, "; ")
}
