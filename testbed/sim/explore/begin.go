package explore

import (
	"fmt"
	"slices"
	"strings"
)

// begin is a state from which the search sets out.
type begin struct {
	name  string
	world world
}

// BeginNames lists the states from which a search may set out.
func BeginNames() []string {
	return []string{"nothing", "running", "apart", "fence", "migrating", "stopping"}
}

// courseSteps bounds the way to a begin state: a mistake in the model would
// otherwise go on for ever.
const courseSteps = 500

// begins makes the begin states of these names, all when there are none. They
// are reached by the model's own ordinary course from a cold start.
func (m *mover) begins(only []string, spend world) ([]begin, error) {
	for _, n := range only {
		if !slices.Contains(BeginNames(), n) {
			return nil, fmt.Errorf("begin state %q: want one of %s", n, strings.Join(BeginNames(), ", "))
		}
	}
	var out []begin
	for _, n := range BeginNames() {
		if len(only) > 0 && !slices.Contains(only, n) {
			continue
		}
		if err := m.reach(n); err != nil {
			return nil, fmt.Errorf("make begin state %q: %w", n, err)
		}
		m.w.faults, m.w.delays, m.w.orders, m.w.skews = spend.faults, spend.delays, spend.orders, spend.skews
		if spend.backup.want.mod != 0 {
			s := &m.w.store
			m.w.backup = backup{s.coord.host, s.owner, s.want}
			m.w.backup.owner.mod, m.w.backup.want.mod = 0, 1
		}
		m.canon()
		out = append(out, begin{n, m.w})
	}
	return out, nil
}

// reach brings the world into the begin state of that name.
func (m *mover) reach(name string) error {
	m.w = world{orders: 9, devices: name == "fence"}
	m.w.store.want = wantRow{mod: 1}
	first := 0
	if name == "apart" || name == "fence" {
		first = 1 // that host will coordinate
	}
	m.apply(step{op: opPowerOn, a: uint8(first)})
	for i := range m.w.host {
		if i != first {
			m.apply(step{op: opPowerOn, a: uint8(i)})
		}
	}
	s := &m.w.store
	if err := m.course(func() bool {
		return s.coord.host != 0 && s.host[0].mod != 0 && s.host[1].mod != 0 && s.host[2].mod != 0
	}); err != nil {
		return err
	}
	if int(s.coord.host) != first+1 {
		m.w.store.coord = coordRow{uint8(first + 1), s.coord.mod + 1}
		m.tellWatchers()
	}
	m.apply(step{op: opWantRun})
	if name == "nothing" {
		return nil
	}
	isRunning := func() bool { return s.owner.state == running && len(m.dues(nil)) == 0 }
	if err := m.course(isRunning); err != nil {
		return err
	}
	m.apply(step{op: opTick})
	switch name {
	case "migrating":
		m.apply(step{op: opWantMove, a: 1})
		return m.course(func() bool { return s.owner.state == migrating })
	case "stopping":
		m.apply(step{op: opWantStop})
		return m.course(func() bool { return s.owner.state == stopping })
	}
	return m.course(isRunning)
}

// course lets the ordinary course go on until something is so.
func (m *mover) course(until func() bool) error {
	for range courseSteps {
		if until() {
			return nil
		}
		s := step{op: opTick}
		if ds := m.dues(nil); len(ds) > 0 {
			s = ds[0].step
		}
		m.apply(s)
		if len(m.broken) > 0 {
			return fmt.Errorf("%s: %s", m.broken[0].Rule, m.broken[0].Detail)
		}
	}
	return fmt.Errorf("not reached in %d steps: %s", courseSteps, m.describe())
}
