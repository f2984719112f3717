package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/clock"
)

// toyStep is a step with what has to be over before it.
type toyStep struct {
	job.Step
	After []string `json:"after,omitempty"`
	Undo  bool     `json:"toy_undo,omitempty"` // done when the job is aborted, and only then
}

func plain(steps []toyStep) []job.Step {
	var out []job.Step
	for _, s := range steps {
		out = append(out, s.Step)
	}
	return out
}

// toyPlanner grants what has nothing left before it. When the job is aborted it
// waits for what runs, and then does the steps that undo.
type toyPlanner struct{ steps []toyStep }

func newToyPlanner(plan []byte) (job.Planner, error) {
	var p toyPlanner
	if err := json.Unmarshal(plan, &p.steps); err != nil {
		return nil, err
	}
	return p, nil
}

func (p toyPlanner) Steps() []job.Step { return plain(p.steps) }

func (p toyPlanner) Next(j job.Job, recs map[string]job.Record, hosts map[cluster.HostID]job.HostState, _ time.Time) job.Decision {
	var d job.Decision
	aborting := j.State == job.Aborting
	open, all := 0, true
	for _, s := range p.steps {
		r := recs[s.ID]
		if isOpen(r.State) {
			open++
		}
		if s.Undo == aborting && !r.State.Over() {
			all = false
		}
		free := !slices.ContainsFunc(s.After, func(a string) bool { return !recs[a].State.Over() })
		if s.Undo == aborting && r.State == job.Pending && j.State != job.Paused && free {
			if s.Host != "" && !hosts[s.Host].Up {
				d.Waits = append(d.Waits, reason.Error.With(fmt.Sprintf("%s waits for %s", s.ID, s.Host)))
				continue
			}
			d.Grant = append(d.Grant, s.ID)
		}
	}
	if all && open == 0 && (j.State == job.Active || aborting) {
		j.State, j.Result = job.Ended, "done"
		if aborting {
			j.Result = "aborted"
		}
		d.Job = &j
	}
	return d
}

// Toy Executors.

// toy does a step of one kind on a host.
type toy struct {
	w    *world
	p    *process
	kind string
}

func (w *world) executors(p *process) map[string]Executor {
	out := map[string]Executor{}
	for _, k := range []string{"idem", "once", "blind", "child", "reboot", "free"} {
		out[k] = toy{w, p, k}
	}
	out["stoppable"] = stoppable{toy{w, p, "child"}}
	return out
}

// length is how long a step takes, different for each so that little happens at
// the same moment.
func length(step string) time.Duration {
	n := 0
	for i, c := range []byte(step) {
		n += int(c) * (i + 7)
	}
	return time.Second + time.Duration(n%997)*time.Millisecond
}

func (d toy) effect(step string) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.w.effects[step]++
}

func (d toy) Do(ctx context.Context, t Task) error {
	id := t.Step.ID
	d.w.mu.Lock()
	d.w.ran = append(d.w.ran, fmt.Sprintf("%s %d", id, t.Attempt))
	body := d.w.bodies[id]
	d.w.mu.Unlock()
	if body != nil {
		return body(ctx, t)
	}
	if !d.p.point("do "+id, func() {}) || !clock.Sleep(ctx, length(id)/2/d.w.faster) {
		return context.Cause(ctx)
	}
	fmt.Fprintf(t.Log, "doing %s\n", id)
	t.Note("half", 50)
	switch d.kind {
	case "reboot":
		d.p.point("reboot "+id, func() {
			d.effect(id)
			d.w.mu.Lock()
			d.p.m.boot++
			d.w.mu.Unlock()
			d.p.mu.Lock()
			d.p.dead = true
			d.p.mu.Unlock()
			d.w.crash(t.Host)
		})
		<-ctx.Done()
		return context.Cause(ctx)
	case "child":
		d.p.point("child "+id, func() {
			d.effect(id)
			d.w.mu.Lock()
			d.p.m.kids[id] = time.Now().Add(4 * time.Second / d.w.faster)
			d.w.mu.Unlock()
		})
		if !clock.Sleep(ctx, 4*time.Second/d.w.faster) {
			return context.Cause(ctx)
		}
	default:
		d.p.point("effect "+id, func() { d.effect(id) })
		if !clock.Sleep(ctx, length(id)/2/d.w.faster) {
			return context.Cause(ctx)
		}
	}
	if !d.p.point("did "+id, func() {}) {
		return errors.New("process is dead")
	}
	return nil
}

func (d toy) Probe(ctx context.Context, t Task) (Probed, error) {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	switch d.kind {
	case "once":
		if d.w.effects[t.Step.ID] > 0 {
			return ProbedDone, nil
		}
		return NotDone, nil
	case "child":
		end, begun := d.p.m.kids[t.Step.ID]
		switch {
		case !begun:
			return NotDone, nil
		case time.Now().Before(end):
			return StillRunning, nil
		}
		return ProbedDone, nil
	case "reboot":
		if d.p.boot != t.Boot {
			return ProbedDone, nil
		}
		return NotDone, nil
	}
	return CanNotTell, nil
}

// stoppable is a child that can be stopped by another process.
type stoppable struct{ toy }

func (d stoppable) Stop(_ context.Context, t Task) error {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	delete(d.p.m.kids, t.Step.ID)
	return nil
}
