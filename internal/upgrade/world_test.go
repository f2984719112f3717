package upgrade

import (
	"cmp"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/job"
)

// world carries a plan out in virtual time, as the engine would, and looks
// whether what the planner grants keeps its promises. It keeps books of its own.
type world struct {
	t       *testing.T
	plan    *Plan
	planner *Planner
	inv     inventory.Inventory
	job     job.Job
	recs    map[string]job.Record
	hosts   map[cluster.HostID]job.HostState
	now     time.Time
	ends    map[string]time.Time // of running steps
	undo    map[string]bool      // granted while aborting
	grants  map[string]int
	order   []string // steps as granted
	events  int
	idle    int // ticks at which nothing ended

	takes   func(s *Step) time.Duration
	outcome func(s *Step, attempt int) job.StepState // at the end of a step
	oper    func(w *world)                           // called when the run is paused

	at      map[string]cluster.HostID // running guests, by UUID if they have one, else by name
	coming  map[string]cluster.HostID // where guests are on their way to
	used    map[cluster.HostID]int64
	offPlan bool // an operator skipped or dropped something, or guests did not move: books of guests are off
	waits   []string
	steps   map[string]*Step
	chainOf map[string]*Chain
	stageOf map[string]int

	meanwhile func(w *world) // called before each decision
}

func newWorld(t *testing.T, p *Plan, inv inventory.Inventory) *world {
	t.Helper()
	text, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	planner, err := NewPlanner(text)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, plan: planner.Plan(), planner: planner, inv: inv, job: job.Job{ID: "j1", Kind: job.Upgrade, State: job.Active},
		recs: map[string]job.Record{}, hosts: map[cluster.HostID]job.HostState{}, now: time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC),
		ends: map[string]time.Time{}, undo: map[string]bool{}, grants: map[string]int{},
		takes:   func(s *Step) time.Duration { return guess(s) },
		outcome: func(*Step, int) job.StepState { return job.Done },
		oper:    func(w *world) { w.t.Fatalf("the run pauses: %s", reason.Text(w.job.Why...)) },
		at:      map[string]cluster.HostID{}, coming: map[string]cluster.HostID{}, used: map[cluster.HostID]int64{},
		steps: map[string]*Step{}, chainOf: map[string]*Chain{}, stageOf: map[string]int{},
	}
	for _, h := range inv.Hosts {
		w.hosts[h.Name] = job.HostState{Up: !h.Down, Boot: "boot0"}
	}
	for _, v := range inv.VMs {
		if v.Running {
			w.at[guestID(v.UUID, v.Name)] = v.Host
			w.used[v.Host] += v.MemoryMiB
		}
	}
	for i := range w.plan.Stages {
		for j := range w.plan.Stages[i].Chains {
			c := &w.plan.Stages[i].Chains[j]
			for k := range c.Steps {
				w.steps[c.Steps[k].ID], w.chainOf[c.Steps[k].ID], w.stageOf[c.Steps[k].ID] = &c.Steps[k], c, i
			}
		}
	}
	return w
}

// run goes on until the job has ended or nothing more happens by itself.
func (w *world) run() {
	w.t.Helper()
	for limit := 60*len(w.planner.Steps()) + 5000; ; {
		if w.events++; w.events > limit {
			w.t.Fatalf("the run does not end: %s %s, waits %v", w.job.State, reason.Text(w.job.Why...), w.waits)
		}
		if w.meanwhile != nil {
			w.meanwhile(w)
		}
		w.cancel()
		again := w.decide()
		if w.job.State == job.Ended {
			w.checkEnd()
			return
		}
		switch {
		case again:
		case w.job.State == job.Paused && len(w.ends) == 0:
			w.oper(w)
			if w.job.State == job.Paused {
				return
			}
		case !w.tick():
			if len(w.waits) == 0 {
				w.t.Fatalf("nothing goes on and nobody says why: %s %s", w.job.State, reason.Text(w.job.Why...))
			}
			return
		}
	}
}

// cancel ends what runs when the job is aborted, as the engine does.
func (w *world) cancel() {
	if w.job.State != job.Aborting {
		return
	}
	for id := range w.ends {
		if !w.undo[id] && w.hosts[w.steps[id].Host].Up {
			w.end(id, job.Failed, "cancelled")
		}
	}
}

// decide asks the planner, checks what it says, and begins what it grants.
// It reports whether anything has changed.
func (w *world) decide() bool {
	before := w.job
	d := w.planner.Next(w.job, w.recs, w.hosts, w.now)
	if again := w.planner.Next(w.job, w.recs, w.hosts, w.now); !same(d, again) {
		w.t.Fatalf("two answers to one question:\n%+v\n%+v", d, again)
	}
	w.waits = nil
	for _, why := range d.Waits {
		w.waits = append(w.waits, reason.Text(why))
	}
	if d.Job != nil {
		w.job = *d.Job
	}
	for _, id := range d.Grant {
		w.checkGrant(id)
		w.grants[id]++
		w.order = append(w.order, id)
		w.undo[id] = w.job.State == job.Aborting
		granted := job.Grant(w.recs[id], id, 1, job.Generation)
		granted.Undo = w.undo[id]
		w.recs[id] = job.Claim(granted, "i", "b", w.now)
		w.ends[id] = w.now.Add(w.takes(w.steps[id]))
		w.checkMembers(id)
		w.beginEffects(w.steps[id])
	}
	w.checkUnavailable()
	return len(d.Grant) > 0 || w.job.State != before.State
}

func same(a, b job.Decision) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// tick goes to the next thing that happens by itself.
func (w *world) tick() bool {
	next, when := "", time.Time{}
	for id, end := range w.ends {
		if next == "" || end.Before(when) || end.Equal(when) && id < next {
			next, when = id, end
		}
	}
	switch {
	case next != "":
		w.now = maxTime(w.now, when)
		state := w.outcome(w.steps[next], w.recs[next].Attempt)
		w.end(next, state, "it went wrong")
		return true
	case w.job.State == job.Aborting || !w.plan.Options.Window.Open(w.now):
		w.now = w.now.Add(7 * time.Minute) // steps are tried again, windows open
		w.idle++
		return w.idle%500 != 0
	}
	return false
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *world) end(id string, state job.StepState, why string) {
	r := w.recs[id]
	r.State, r.Ended = state, w.now
	if state != job.Done {
		r.Why = why
	}
	w.recs[id] = r
	delete(w.ends, id)
	w.idle = 0
	w.endEffects(w.steps[id], state)
}

// args reads the arguments of a step.
func args[A any](t *testing.T, s *Step) A {
	t.Helper()
	var a A
	if err := json.Unmarshal(s.Args, &a); err != nil {
		t.Fatalf("arguments of %s: %v", s.ID, err)
	}
	return a
}

func (w *world) moves(s *Step) []evacuate.Move {
	switch s.Kind {
	case evacuate.KindDrain:
		return args[evacuate.DrainArgs](w.t, s).Moves
	case evacuate.KindUndrain:
		return args[evacuate.UndrainArgs](w.t, s).Back
	}
	return nil
}

// beginEffects books the memory of guests at both hosts while they move.
func (w *world) beginEffects(s *Step) {
	for _, m := range w.moves(s) {
		w.used[m.To] += m.MemoryMiB
		w.coming[idOf(m)] = m.To
		if from := cmp.Or(m.From, s.Host); !w.offPlan && w.at[idOf(m)] != from {
			w.t.Fatalf("%s: guest %s is on %s, not on %s", s.ID, m.VM, w.at[idOf(m)], from)
		}
		w.checkTarget(s, m)
	}
	if s.Kind == KindReboot {
		for vm, h := range w.at {
			if h == s.Host && !w.offPlan && w.plan.Options.Mode != manifest.Offline {
				w.t.Fatalf("%s while guest %s runs there", s.ID, vm)
			}
		}
		w.hosts[s.Host] = job.HostState{Boot: "boot0"}
	}
}

func (w *world) endEffects(s *Step, state job.StepState) {
	for _, m := range w.moves(s) {
		delete(w.coming, idOf(m))
		if state != job.Done {
			w.offPlan = true
			w.used[m.To] -= m.MemoryMiB
			continue
		}
		w.used[w.at[idOf(m)]] -= m.MemoryMiB
		w.at[idOf(m)] = m.To
	}
	switch s.Kind {
	case KindVMStop:
		for _, g := range args[VMArgs](w.t, s).Guests {
			delete(w.at, guestID(g.UUID, g.Name)) // its memory stays booked: it comes back
		}
	case KindVMStart:
		for _, g := range args[VMArgs](w.t, s).Guests {
			w.at[guestID(g.UUID, g.Name)] = s.Host
		}
	case KindReboot:
		w.hosts[s.Host] = job.HostState{Up: true, Boot: "boot1"}
	}
}

// apart reports whether two guests must not share a host.
func (w *world) apart(a, b string) bool {
	return slices.ContainsFunc(apartOf(&w.inv, &w.plan.Options), func(g []*inventory.VM) bool {
		in := func(id string) bool {
			return slices.ContainsFunc(g, func(v *inventory.VM) bool { return guestID(v.UUID, v.Name) == id })
		}
		return in(a) && in(b)
	})
}

func idOf(m evacuate.Move) string { return guestID(m.UUID, m.VM) }

func guestID(uuid, name string) string { return cmp.Or(uuid, name) }

// checkTarget: a guest goes to a host that serves guests, has room, and no other guest
// of its name.
func (w *world) checkTarget(s *Step, m evacuate.Move) {
	if w.offPlan {
		return
	}
	i := slices.IndexFunc(w.inv.Hosts, func(h inventory.Host) bool { return h.Name == m.To })
	if h := w.inv.Hosts[i]; w.used[m.To] > h.MemoryMiB {
		w.t.Fatalf("%s: guest %s goes to %s, which then has %d of %d MiB", s.ID, m.VM, m.To, w.used[m.To], h.MemoryMiB)
	}
	for _, v := range w.inv.VMs {
		id := guestID(v.UUID, v.Name)
		at, runs := w.at[id]
		if !runs {
			at = v.Host
		}
		if id != idOf(m) && (runs && at == m.To || w.coming[id] == m.To) && w.apart(id, idOf(m)) {
			w.t.Fatalf("%s: guest %s goes to %s, where %s is, from which it is kept apart", s.ID, m.VM, m.To, v.Name)
		}
		if v.Name == m.VM && id != idOf(m) && at == m.To {
			w.t.Fatalf("%s: guest %s goes to %s, where another one has its name", s.ID, m.VM, m.To)
		}
	}
	if m.To != s.Host && (w.out(m.To) || w.emptied(m.To)) {
		w.t.Fatalf("%s: guest %s goes to %s, which is out of service", s.ID, m.VM, m.To)
	}
}

// emptied reports whether a host was emptied, and takes no guests for now.
func (w *world) emptied(h cluster.HostID) bool {
	return begun(w.recs[drainID(h)]) && !w.recs[readyID(h)].State.Over()
}

// out reports whether a host's turn has begun and is not over.
func (w *world) out(h cluster.HostID) bool {
	for _, s := range w.plan.Stages {
		for _, c := range s.Chains {
			if s.Kind == Turn && c.Host == h && begun(w.recs[c.Steps[0].ID]) && !w.chainOver(&c) {
				return !w.recs[readyID(h)].State.Over()
			}
		}
	}
	return false
}

func (w *world) chainOver(c *Chain) bool {
	if c.OneOf {
		return slices.ContainsFunc(c.Steps, func(s Step) bool { return w.recs[s.ID].State.Over() })
	}
	if c.Host != "" && strings.Contains(string(w.job.Data), `"dropped":{`) {
		st, _ := StatusOf(w.plan, w.job)
		if st.Dropped[c.Host] != "" {
			return true
		}
	}
	return !slices.ContainsFunc(c.Steps, func(s Step) bool {
		r := w.recs[s.ID]
		away := s.Kind == KindTidy && (!w.hosts[s.Host].Up || w.skippedBack(s.Host))
		return !r.State.Over() && !(s.Soft && (r.State.Stuck() || away))
	})
}

// skippedBack reports whether a rollback has skipped something that shows or makes that
// a host, or the cluster, is what it was.
func (w *world) skippedBack(h cluster.HostID) bool {
	return w.plan.Purpose == ForRollback && slices.ContainsFunc(w.planner.Steps(), func(s job.Step) bool {
		kinds := []string{KindRestore, KindAction, KindReboot, KindVerify, KindCheck}
		return (s.Host == h || s.Host == "") && w.recs[s.ID].State == job.Skipped && slices.Contains(kinds, s.Kind)
	})
}

// checkGrant checks one grant against the order of the plan.
func (w *world) checkGrant(id string) {
	r, c := w.recs[id], w.chainOf[id]
	if r.State == job.Granted || r.State == job.Running || r.State.Over() || r.State == job.Unknown {
		w.t.Fatalf("%s is granted while it is %s", id, r.State)
	}
	if w.job.State == job.Aborting {
		if len(w.steps[id].Restores) == 0 {
			w.t.Fatalf("%s is granted in an abort, and restores nothing", id)
		}
		return
	}
	if w.job.State != job.Active || r.State != job.Pending {
		w.t.Fatalf("%s (%s) is granted while the job is %s", id, r.State, w.job.State)
	}
	for i := 0; !c.OneOf && c.Steps[i].ID != id; i++ {
		if s := &c.Steps[i]; !w.recs[s.ID].State.Over() && !(s.Soft && w.recs[s.ID].State.Stuck()) {
			w.t.Fatalf("%s is granted before %s is over", id, s.ID)
		}
	}
	for i := range w.stageOf[id] {
		for j := range w.plan.Stages[i].Chains {
			if c := &w.plan.Stages[i].Chains[j]; !w.chainOver(c) {
				w.t.Fatalf("%s is granted before stage %q is over: %s", id, w.plan.Stages[i].Name, c.Steps[0].ID)
			}
		}
	}
	if s := w.plan.Stages[w.stageOf[id]]; s.Kind == Turn && w.plan.Options.Mode != manifest.Offline && !begun(r) &&
		c.Steps[0].ID == id && !w.plan.Options.Window.Open(w.now) {
		w.t.Fatalf("%s is begun at %s, outside of the window", id, w.now)
	}
}

// checkUnavailable counts hosts whose turn has begun and is not over.
func (w *world) checkUnavailable() {
	if w.job.State == job.Aborting {
		return // turns that are cut short are not over, and nothing is begun but what restores
	}
	n := 0
	for _, s := range w.plan.Stages {
		for i := range s.Chains {
			if c := &s.Chains[i]; s.Kind == Turn && begun(w.recs[c.Steps[0].ID]) && !w.chainOver(c) {
				n++
			}
		}
	}
	if limit := w.plan.Options.MaxUnavailable.Of(len(w.plan.Hosts)); n > limit {
		w.t.Fatalf("%d hosts are out of service, at most %d may be", n, limit)
	}
}

// checkEnd: HA is on again, and came after all that changes anything.
func (w *world) checkEnd() {
	var off, on, last int = -1, -1, -1
	for i, id := range w.order {
		switch k := w.steps[id].Kind; {
		case k == KindHAOff:
			off = i
		case k == KindHAOn:
			on = i
		case k != KindCheck && k != KindTidy && (w.job.State != job.Ended || !w.undo[id] || len(w.steps[id].Restores) > 0):
			last = i
		}
	}
	switch {
	case off < 0:
	case on < 0 && w.job.Result != resultFailed:
		w.t.Fatalf("the run ended (%s, %s), and HA is still off", w.job.Result, reason.Text(w.job.Why...))
	case on >= 0 && on < last:
		w.t.Fatalf("HA was switched on before %s", w.order[last])
	}
	if w.job.Result == resultDone {
		for _, s := range w.plan.Stages {
			for i := range s.Chains {
				if !w.chainOver(&s.Chains[i]) {
					w.t.Fatalf("the run is done without %s", s.Chains[i].Steps[0].ID)
				}
			}
		}
	}
}

// command does what an operator asks.
func (w *world) command(c job.Command) {
	j, err := job.Obey(w.job, c, "ann")
	if err != nil {
		w.t.Fatal(err)
	}
	w.job = j
}

// stepCommand does what an operator asks of a step.
func (w *world) stepCommand(id string, c job.Command) {
	r, err := job.ObeyStep(w.job, w.recs[id], c, "ann", "why not")
	if err != nil {
		w.t.Fatal(err)
	}
	w.recs[id] = r
}

func (w *world) status() Status {
	st, err := StatusOf(w.plan, w.job)
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// stuck returns the steps that need an operator, in order.
func (w *world) stuck() []string {
	var out []string
	for _, s := range w.planner.Steps() {
		if w.recs[s.ID].State.Stuck() && !w.steps[s.ID].Soft {
			out = append(out, s.ID)
		}
	}
	return out
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }
