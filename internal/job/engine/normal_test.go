package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/job"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
)

// normal are the states that undisturbed courses are in.
//
// Of the store it is compared which steps are pending, granted, running or over.
// Not compared is by what revision, when, in which attempt and by which process what
// is over was done: nothing decides by it. What is granted or running has to be in
// its first attempt, by a process that is there: nobody probes it, and nobody comes
// back to it.
//
// Of the agents nothing has to be compared, for what they know is what the store has:
// each has seen all that was written before calm has passed, and has nothing under
// way but what is granted to it or running there. What is left of the past are the
// phases of their tickers, which pace what they do and decide nothing.
//
// Of the platform each part is compared by itself, with what it was in an undisturbed
// course when the steps that alter this part were as they are now. So a state is
// normal, too, in which one host has come farther than another, as it happens when
// steps take longer. Planner and workers take nothing else into account than those
// states and which hosts are up.
type normal struct {
	seen map[string]map[string]bool
}

func newNormal() normal { return normal{map[string]map[string]bool{}} }

// stepTrace is what is known of a step's record.
type stepTrace struct{ state, attempt, instance string }

// traced is a store that tells a course what is written.
type traced struct {
	store.Store
	c *course
}

func (s traced) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	rev, ok, err := s.Store.Txn(ctx, conds, ops)
	if err == nil && ok {
		s.c.wrote(ops)
	}
	return rev, ok, err
}

func (c *course) wrote(ops []store.Op) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, op := range ops {
		switch {
		case strings.HasPrefix(op.Key, keyStep):
			c.recs[op.Key] = stepTrace{field(op.Value, "state"), field(op.Value, "attempt"), field(op.Value, "instance")}
		case strings.HasPrefix(op.Key, keyRun):
			c.state[op.Key], c.unsure = field(op.Value, "state"), false
		}
	}
}

// part is a part of the platform, and the steps that alter it.
type part struct {
	name  string
	steps []string
}

func partsOf(p *upgrade.Plan) []part {
	guests, platform := part{name: "guests"}, part{name: "platform"}
	hosts := map[cluster.HostID][]string{}
	for _, s := range p.Steps() {
		hosts[s.Host] = append(hosts[s.Host], s.ID)
		switch s.Kind {
		case evacuate.KindDrain, evacuate.KindUndrain, upgrade.KindVMStop, upgrade.KindVMStart:
			guests.steps = append(guests.steps, s.ID)
		case upgrade.KindHAOff, upgrade.KindHAOn, upgrade.KindPairSwitch, upgrade.KindCommit:
			platform.steps = append(platform.steps, s.ID)
		default:
			if s.Host == "" || strings.HasSuffix(s.ID, "/schema") {
				platform.steps = append(platform.steps, s.ID)
			}
		}
	}
	out := []part{guests, platform}
	for _, h := range plantHosts() {
		out = append(out, part{string(h), hosts[h]})
	}
	return out
}

// now is the state of a part: a key and what is there. w.plant.mu and c.mu are held.
func (c *course) now(p part) (key, value string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", c.w.plant.job, p.name)
	for _, s := range p.steps {
		switch r := c.recs[stepKey(c.w.plant.job, s)]; job.StepState(r.state) {
		case job.Granted, job.Running:
			b.WriteString(" " + s + " " + r.state)
		case job.Pending:
		default:
			b.WriteString(" " + s)
		}
	}
	return b.String(), c.w.plant.part(p.name)
}

// part tells what there is of a part.
func (p *plant) part(name string) string {
	below := func(m map[string]string) map[string]string {
		out := map[string]string{}
		for key, v := range m {
			if host, _, _ := strings.Cut(key, "/"); host == name || host == "" && name == "platform" {
				out[key] = v
			}
		}
		return out
	}
	modules := map[string]plantModule{}
	for key, m := range p.Modules {
		if host, _, _ := strings.Cut(key, "/"); host == name || host == "" && name == "platform" {
			modules[key] = *m
		}
	}
	var v []any
	switch name {
	case "guests":
		for _, g := range slices.Sorted(maps.Keys(p.Guests)) {
			to := "stays"
			if t := p.moving[g]; t != nil {
				to = string(t.to)
			}
			v = append(v, g, p.Guests[g].Host, p.Guests[g].Runs, p.Guests[g].Stops, to)
		}
	case "platform":
		v = append(v, p.Version, p.Committed, p.HA, p.Active)
	default:
		h := *p.Hosts[cluster.HostID(name)]
		h.Mark = rebootOrder{}
		v = append(v, h)
	}
	text, err := json.Marshal(append(v, modules, below(p.Backups), below(p.Restored)))
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (c *course) shape() []part {
	id := c.w.plant.job
	if c.parts[id] == nil && c.w.plant.plan != nil {
		c.parts[id] = partsOf(c.w.plant.plan)
	}
	return c.parts[id]
}

// learn keeps a state of an undisturbed course.
func (n normal) learn(c *course) {
	_, key, leader, _ := c.w.agents()
	c.w.plant.mu.Lock()
	defer c.w.plant.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	n.keep(key, leader)
	for _, p := range c.shape() {
		n.keep(c.now(p))
	}
}

func (n normal) keep(key, value string) {
	if n.seen[key] == nil {
		n.seen[key] = map[string]bool{}
	}
	n.seen[key][value] = true
}

// is reports whether the world is in a state of an undisturbed course.
func (n normal) is(c *course) bool {
	instances, key, leader, quiet := c.w.agents()
	c.w.plant.mu.Lock()
	defer c.w.plant.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !quiet || c.unsure || !n.seen[key][leader] {
		return false
	}
	for key, state := range c.state {
		if strings.HasPrefix(key, keyRun) && state != string(job.Active) {
			return false
		}
	}
	for _, p := range c.shape() {
		for _, s := range p.steps {
			r, exists := c.recs[stepKey(c.w.plant.job, s)]
			switch job.StepState(r.state) {
			case job.Granted, job.Running:
				if r.attempt != "1" || r.instance != "" && !instances[r.instance] {
					return false
				}
			case job.Pending, job.Failed, job.Unknown:
				if exists {
					return false
				}
			}
		}
		if key, value := c.now(p); !n.seen[key][value] {
			return false
		}
	}
	clear(c.second) // from here on it would be the end of an agent that ends once
	return true
}

// agents tells which processes there are, which hosts have been rebooted, and who
// coordinates. quiet is false when an agent is missing, but for the time of a reboot,
// or has just begun.
func (w *upWorld) agents() (instances map[string]bool, key, leader string, quiet bool) {
	w.plant.mu.Lock()
	id := w.plant.job
	w.plant.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	instances, key, quiet = map[string]bool{}, id+" boots", time.Since(w.touched) >= calm
	for _, h := range plantHosts() {
		m := w.machine[h]
		key += fmt.Sprintf(" %d", m.boot)
		switch {
		case m.proc != nil:
			instances[fmt.Sprintf("%s-%d", h, m.proc.serial)] = true
		case !m.reboots:
			quiet = false
		}
	}
	if w.machine[w.leader].proc != nil {
		leader = string(w.leader)
	}
	return instances, key, leader, quiet
}

// touch notes that a host has begun to coordinate.
func (w *upWorld) touch() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.touched = time.Now()
}

func (w *upWorld) leads(h cluster.HostID) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.leader == h
}

// home elects the host that would coordinate in an undisturbed course, when the one
// that does has taken over, again and again until it is so.
func (w *upWorld) home() {
	_, key, leader, quiet := w.agents()
	c := w.course
	c.mu.Lock()
	normal := c.normal.seen[key]
	c.mu.Unlock()
	if len(normal) == 0 || normal[leader] && leader != "" {
		return
	}
	if want := slices.DeleteFunc(slices.Sorted(maps.Keys(normal)), func(h string) bool { return h == "" }); quiet && len(want) > 0 {
		w.elect(cluster.HostID(want[0]))
	}
	w.after(calm/2, w.home)
}
