package web

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// Where the pages of transitions are.
const (
	transitionPath = "/transition"
	describePath   = transitionPath + "/edit"
	formPath       = transitionPath + "/form"
	sitesPath      = transitionPath + "/sites"
)

// Pages of transitions, and of what a step of a job says.
var (
	transitionPage = &page{path: transitionPath, title: "Transition", help: "transition", works: true, part: transitionPart}
	stepPage       = &page{path: "/jobs/{id}/step", title: "Step", in: ofUpgrade, least: cluster.Operator, works: true, help: "upgrade",
		part: stepPart}
)

// carried is a transition that was begun.
type carried struct {
	*view
	Job     job.View
	Stages  []stage
	Now     *job.StepView     // that runs, is stuck or comes next; nil: there is none
	Output  job.Output        // of it
	Silent  error             // why that is not known
	Orders  []order           // about its steps
	Upgrade *request.Standing // of the hosts, which this transition has begun; nil: it has not
	At      time.Time         // by this host's clock
}

// stage has the steps of a stage.
type stage struct {
	Name  string
	Steps []job.StepView
	Over  int
}

// transitionPart is how the last transition stands.
func transitionPart(ctx context.Context, v *view) (templ.Component, error) {
	jobs, err := v.api.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	last, is := transition.Last(jobs)
	if !is {
		return neverCarried(v), nil
	}
	x := carried{view: v, At: time.Now()}
	if x.Job, err = v.api.Job(ctx, last.ID); err != nil {
		return nil, err
	}
	x.Stages = stagesOf(x.Job)
	x.Orders = stepOrders(x.Job)
	for i, s := range x.Job.Steps {
		if !s.Over() {
			x.Now = &x.Job.Steps[i]
			break
		}
	}
	if x.Now != nil && x.Now.Attempt > 0 && v.May(cluster.Operator) {
		x.Output, x.Silent = v.api.StepOutput(ctx, x.Job.ID, x.Now.ID)
	}
	return carriedNow(&x), x.upgrade(ctx)
}

// upgrade asks for the upgrade of the hosts, once the transition has come to it.
func (x *carried) upgrade(ctx context.Context) error {
	if !slices.ContainsFunc(x.Job.Steps, func(s job.StepView) bool { return s.ID == "hosts/upgrade" && s.Attempt > 0 }) {
		return nil
	}
	u, err := x.api.Upgrade(ctx)
	if err == nil && u.Job != nil && u.Purpose == upgrade.ForUpgrade && !u.Job.Began.Before(x.Job.Began) {
		x.Upgrade = &u
	}
	return err
}

// stagesOf are the stages of a transition, in their order.
func stagesOf(j job.View) (out []stage) {
	nameOf := func(s job.StepView) string { name, _, _ := strings.Cut(s.ID, "/"); return name }
	for _, steps := range byStage(j.Steps, nameOf) {
		g := stage{Name: nameOf(steps[0]), Steps: steps}
		for _, s := range steps {
			if s.Over() {
				g.Over++
			}
		}
		out = append(out, g)
	}
	return out
}

// byStage are steps in their order, those of a stage together.
func byStage[S any](steps []S, stage func(S) string) (out [][]S) {
	for i, s := range steps {
		if i == 0 || stage(steps[i-1]) != stage(s) {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], s)
	}
	return out
}

// headline is the sentence on how it stands.
func (x *carried) headline() string {
	name := told.Clean(strings.TrimPrefix(x.Job.Title, "transition of "))
	done := 0
	for _, s := range x.Stages {
		done += s.Over
	}
	switch {
	case x.Job.State != string(job.Ended):
		return x.T("Transition of " + name + ": " + count(done) + " of " + count(len(x.Job.Steps)) + " steps are done.")
	case x.Job.Result == "done":
		return x.T("The transition of " + name + " is done.")
	}
	return x.T("The transition of " + name + " has not been done to its end.")
}

// stageTitle is what a stage is called for people.
func stageTitle(v *view, name string) string {
	switch name {
	case "collect":
		return v.T("What the old platform has")
	case "ready":
		return v.T("What stands in the way")
	case "align":
		return v.T("Databases")
	case "network":
		return v.T("Network")
	case "cutover":
		return v.T("Cut-over")
	case "hosts":
		return v.T("Hosts")
	case "restart":
		return v.T("Services")
	case "features":
		return v.T("What guests can do")
	case "cleanup":
		return v.T("Clean-up")
	}
	return told.Clean(name)
}

// nameOf is a step's name within its stage.
func nameOf(s job.StepView) string {
	_, name, _ := strings.Cut(s.ID, "/")
	return told.Clean(name)
}

// tookOf is how long a step has taken, or takes so far.
func tookOf(v *view, s job.StepView, now time.Time) string {
	switch {
	case s.Began.IsZero():
		return ""
	case s.Ended.After(s.Began):
		return span(v, s.Ended.Sub(s.Began))
	case s.State == string(job.Running):
		return span(v, now.Sub(s.Began))
	}
	return ""
}

// carriedDone counts the hosts that an upgrade has changed.
func (x *carried) carriedDone() (done, all int) {
	s := standing{view: x.view, Standing: *x.Upgrade}
	return s.done()
}

// stepView is a step with what it has said.
type stepView struct {
	*view
	Job    job.View
	Step   job.StepView
	Output job.Output
	At     time.Time
}

// stepPart is a step of a job, with its log.
func stepPart(ctx context.Context, v *view) (templ.Component, error) {
	x := stepView{view: v, At: time.Now()}
	var err error
	if x.Job, err = v.api.Job(ctx, v.arg("id")); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(x.Job.Steps, func(s job.StepView) bool { return s.ID == v.query("step") })
	if at < 0 {
		return nil, fail.Errorf(fail.Invalid, "step: value %q: %s has no step of that name", told.Clean(v.query("step")), x.Job.ID)
	}
	x.Step = x.Job.Steps[at]
	v.Title = told.Clean(x.Step.ID)
	x.Output, err = v.api.StepOutput(ctx, x.Job.ID, x.Step.ID)
	return oneStep(&x, err), nil
}

// partsShown bounds the parts of a step on a page.
const partsShown = 200

// partsOf are the parts of a step, those first at which it is or in which something was found, and how many are not shown.
func partsOf(o job.Output) (shown []job.Part, more int) {
	return first(job.Ranked(o.Parts), partsShown), max(0, len(o.Parts)-partsShown) + o.More
}

// partDone is how much of a part is through, 0 to 100; -1: nobody knows.
func partDone(p job.Part) int {
	switch {
	case p.State == job.PartDone:
		return 100
	case p.Total <= 0:
		return -1
	}
	return int(min(100, max(0, p.Done)*100/p.Total))
}

// partState is the state of a part.
func partState(p job.Part) told.Cell {
	switch {
	case p.State == job.PartFailed || p.Differences > 0:
		return told.Cell{Text: p.State, Tone: told.Bad}
	case p.State == job.PartRunning:
		return told.Cell{Text: p.State, Tone: told.Warn}
	case p.State == job.PartDone:
		return told.Cell{Text: p.State, Tone: told.Good}
	}
	return told.Cell{Text: told.Clean(p.State)}
}

// unitName is what parts are counted in.
func unitName(v *view, unit string) string {
	switch unit {
	case "rows":
		return v.T("rows")
	case "events":
		return v.T("events")
	case "objects":
		return v.T("objects")
	case "transactions":
		return v.T("transactions")
	}
	return told.Clean(unit)
}
