package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/lib/clock"
	"holdfast/internal/upgrade"
)

// Hands that move guests, pools and whole hosts.

// leaving are the guests that have to go. A guest that is on its way has not gone.
func (p *plant) leaving(t Task, a evacuate.DrainArgs) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(p.Guests)), func(name string) bool {
		g := p.Guests[name]
		return g.Host != t.Host || !g.Runs && p.moving[name] == nil || slices.Contains(a.Stay, name)
	})
}

func (d hand) drain(ctx context.Context, t Task) error {
	a, err := argsOf[evacuate.DrainArgs](t)
	if err != nil {
		return err
	}
	err = d.do(ctx, t, "rest", func(p *plant) {
		p.withoutHA(t.Step.ID)
		p.Hosts[t.Host].Rests = true
	})
	if err != nil {
		return err
	}
	for {
		left := peek(d, func(p *plant) []string { return p.leaving(t, a) })
		if len(left) == 0 {
			return nil
		}
		t.Note(fmt.Sprintf("%d guests have to leave", len(left)), -1)
		m := evacuate.Move{VM: left[0], How: evacuate.Live}
		if i := slices.IndexFunc(a.Moves, func(m evacuate.Move) bool { return slices.Contains(left, m.VM) }); i >= 0 {
			m = a.Moves[i]
		}
		if peek(d, func(p *plant) bool { return p.Guests[m.VM].VM.Protected }) {
			m.To = peek(d, func(p *plant) cluster.HostID { return p.chooses(t.Host) }) // whatever the plan says
		}
		if m.To == "" {
			return fmt.Errorf("%s: nothing is said of guest %s", t.Step.ID, m.VM)
		}
		if err := d.carry(ctx, t, m, m.To); err != nil {
			return err
		}
	}
}

// chooses is where the management VM goes: to the host with the fewest guests.
func (p *plant) chooses(from cluster.HostID) (to cluster.HostID) {
	guests := map[cluster.HostID]int{}
	for name, g := range p.Guests {
		guests[g.Host]++
		if t := p.moving[name]; t != nil {
			guests[t.to]++
		}
	}
	for _, name := range plantHosts() {
		h := p.Hosts[name]
		if name != from && !h.Rests && h.Pools[shared] && h.Pools[template] && (to == "" || guests[name] < guests[to]) {
			to = name
		}
	}
	return to
}

// carry lets a guest move, or follows one that an earlier process has sent.
func (d hand) carry(ctx context.Context, t Task, m evacuate.Move, to cluster.HostID) error {
	find := func(p *plant) *trip { return p.moving[m.VM] }
	trip := peek(d, find)
	if trip == nil {
		if !d.point(t, "send "+m.VM, func(p *plant) { p.send(m.VM, to, m.How == evacuate.Cold) }) {
			return errGone
		}
		if trip = peek(d, find); trip == nil {
			return nil
		}
	}
	select {
	case <-trip.over:
		return nil
	case <-ctx.Done():
	}
	if !errors.Is(context.Cause(ctx), ErrStopping) {
		peek(d, func(p *plant) bool { p.stay(m.VM); return true })
	}
	return context.Cause(ctx)
}

func (d hand) undrain(ctx context.Context, t Task) error {
	a, err := argsOf[evacuate.UndrainArgs](t)
	if err != nil || a.Maintenance {
		return err
	}
	if len(a.Back) == 0 {
		return d.do(ctx, t, "open", func(p *plant) { p.Hosts[t.Host].Rests = false })
	}
	for _, m := range a.Back {
		if m.How == evacuate.Protected || peek(d, func(p *plant) bool { return p.Guests[m.VM].Host == t.Host && p.moving[m.VM] == nil }) {
			continue
		}
		if err := d.carry(ctx, t, m, t.Host); err != nil {
			return err
		}
	}
	return nil
}

func (d hand) storage(ctx context.Context, t Task) error {
	a, err := argsOf[upgrade.StorageArgs](t)
	if err != nil {
		return err
	}
	on := d.kind == upgrade.KindStorageAttach
	for _, pool := range a.Pools {
		err := d.do(ctx, t, pool.Name, func(p *plant) {
			h := p.Hosts[t.Host]
			if busy := p.running(t.Host); !on && len(busy) > 0 {
				p.fault("%s while %v run there", t.Step.ID, busy)
			}
			h.Pools[pool.Name] = on
			h.Multipath[pool.Name] = h.Multipath[pool.Name] || on && pool.Multipath
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// power stops and starts guests.
func (d hand) power(ctx context.Context, t Task) error {
	a, err := argsOf[upgrade.VMArgs](t)
	if err != nil {
		return err
	}
	run := d.kind == upgrade.KindVMStart
	for _, x := range a.Guests {
		err := d.do(ctx, t, x.Name, func(p *plant) {
			g := p.Guests[x.Name]
			h := p.Hosts[t.Host]
			switch {
			case g.Host != t.Host:
				p.fault("%s: guest %s is on %s", t.Step.ID, x.Name, g.Host)
			case run && (!h.Pools[shared] || !h.Pools[template]):
				p.fault("%s: guest %s has no storage", t.Step.ID, x.Name)
			case !run && g.Runs:
				g.Stops++
			}
			g.Runs = run
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reboot marks that it orders the reboot, and orders it: no line of this process is
// reached any more then.
func (d hand) reboot(ctx context.Context, t Task) error {
	a, err := argsOf[upgrade.RebootArgs](t)
	if err != nil {
		return err
	}
	if !clock.Sleep(ctx, handTakes(t)) {
		return context.Cause(ctx)
	}
	next, busy := "", []string(nil)
	peek(d, func(p *plant) bool { next, busy = p.Hosts[t.Host].Next, p.running(t.Host); return true })
	if a.Kernel != "" && a.Kernel != next || len(busy) > 0 {
		return fmt.Errorf("%s: kernel %s would start, want %s; guests that run: %v", t.Step.ID, next, a.Kernel, busy)
	}
	mark := func(p *plant) {
		p.Hosts[t.Host].Mark = rebootOrder{t.Job, t.Step.ID, t.Boot, t.Attempt, time.Now()}
	}
	if !d.point(t, "mark", mark) {
		return errGone
	}
	ordered := d.point(t, "reboot", func(p *plant) {
		p.effects[t.Step.ID]++
		p.restarts(t.Host)
		d.w.down(d.p)
	})
	if !ordered {
		return errGone
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// verify looks how a host has come back.
func (d hand) verify(ctx context.Context, t Task) error {
	a, err := argsOf[upgrade.VerifyArgs](t)
	if err != nil {
		return err
	}
	if !clock.Sleep(ctx, handTakes(t)) {
		return context.Cause(ctx)
	}
	r, err := Record(ctx, mortal{d.p}, t.Job, a.Reboot)
	if err != nil {
		return err
	}
	return peek(d, func(p *plant) error {
		h := p.Hosts[t.Host]
		for _, pool := range a.Pools {
			if !h.Pools[pool] {
				err = errors.Join(err, fmt.Errorf("pool %s is not active", pool))
			}
		}
		if r.Boot == d.p.boot || cmp.Or(a.Kernel, h.Kernel) != h.Kernel {
			err = errors.Join(err, fmt.Errorf("boot %s, as before: %s; kernel %s, want %s", d.p.boot, r.Boot, h.Kernel, a.Kernel))
		}
		return err
	})
}
