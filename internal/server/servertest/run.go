package servertest

import (
	"context"
	"maps"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// run is a fake run of a plan.
type run struct {
	plan              upgrade.Plan
	job               job.View
	stage             int // that is under way
	steps             map[string]*job.StepView
	approved, dropped map[cluster.HostID]string
}

func newRun(p upgrade.Plan, j job.View) *run {
	r := &run{plan: p, job: j, steps: map[string]*job.StepView{}, approved: map[cluster.HostID]string{}, dropped: map[cluster.HostID]string{}}
	for _, s := range p.Steps() {
		r.steps[s.ID] = &job.StepView{ID: s.ID, Host: s.Host, Kind: s.Kind, State: "pending"}
	}
	return r
}

// stand says how the job stands, and why.
func (r *run) stand(state string, whys ...reason.Reason) {
	r.job.State, r.job.Why, r.job.WhyCodes = state, reason.Text(whys...), whys
}

// begin lets the steps of the stage run, as far as their hosts are approved.
func (r *run) begin() {
	r.job.Waits, r.job.WaitCodes = nil, nil
	if r.job.State != "active" || r.stage == len(r.plan.Stages) {
		return
	}
	st := &r.plan.Stages[r.stage]
	for _, c := range st.Chains {
		if r.dropped[c.Host] != "" {
			continue
		}
		if st.Kind == upgrade.Turn && r.plan.Options.ApprovePerHost && r.approved[c.Host] == "" {
			why := reason.NotApproved.With(c.Host).At(c.Steps[0].ID)
			r.job.Waits, r.job.WaitCodes = append(r.job.Waits, reason.Text(why)), append(r.job.WaitCodes, why)
			continue
		}
		for _, s := range c.Steps {
			if rec := r.steps[s.ID]; rec.State == "pending" {
				rec.State, rec.Attempt, rec.Percent, rec.Note = "running", rec.Attempt+1, 50, "half of it is done"
			}
		}
	}
}

// goOn ends what runs, and begins the next stage when all of this one is over.
func (r *run) goOn(fails string) (failed bool) {
	if r.job.State != "active" {
		return false
	}
	over := true
	for _, c := range r.plan.Stages[r.stage].Chains {
		for _, s := range c.Steps {
			rec := r.steps[s.ID]
			switch {
			case rec.State == "running" && rec.ID == fails:
				rec.State, rec.Why, rec.Exit, rec.Note = "failed", "exit code 7", 7, ""
				rec.Tail = "unpack the files\nno space left on device\n"
				r.stand("paused", reason.StepFailed.With(rec.ID, rec.Why))
				failed = true
			case rec.State == "running":
				rec.State, rec.Percent, rec.Note = "done", 100, ""
			}
			over = over && (rec.State == "done" || rec.State == "skipped" || r.dropped[c.Host] != "")
		}
	}
	if !over || failed {
		return failed
	}
	if r.stage++; r.stage == len(r.plan.Stages) {
		r.job.State, r.job.Result = "ended", "done"
	}
	r.begin()
	return false
}

// shown is the job, with all of its steps or those that run or are stuck.
func (r *run) shown(all bool) job.View {
	j := r.job
	for _, s := range r.plan.Steps() {
		rec := *r.steps[s.ID]
		if all || rec.State == "running" || rec.State == "failed" {
			j.Steps = append(j.Steps, rec)
		}
	}
	return j
}

// hosts tells how far the hosts of the run are.
func (r *run) hosts() map[cluster.HostID]upgrade.HostState {
	doing, done := upgrade.HostRollup, upgrade.HostRollupDone
	if r.plan.Purpose == upgrade.ForRollback {
		doing, done = upgrade.HostRolldown, upgrade.HostRolldownDone
	}
	begun, open := map[cluster.HostID]bool{}, map[cluster.HostID]bool{}
	for _, st := range r.plan.Stages {
		for _, c := range st.Chains {
			for _, s := range c.Steps {
				state := r.steps[s.ID].State
				begun[c.Host] = begun[c.Host] || state != "pending" && st.Kind != upgrade.Quiet
				open[c.Host] = open[c.Host] || state != "done" && state != "skipped" && st.Kind != upgrade.Quiet
			}
		}
	}
	out := map[cluster.HostID]upgrade.HostState{}
	for h := range begun {
		switch {
		case !begun[h] || h == "":
		case open[h]:
			out[h] = doing
		default:
			out[h] = done
		}
	}
	return out
}

// describe fills in how the run stands.
func (r *run) describe(u *request.Standing, touched map[cluster.HostID]upgrade.HostState) {
	j := r.shown(false)
	u.To, u.Purpose, u.Mode, u.Job, u.Left = r.plan.To, r.plan.Purpose, r.plan.Options.Mode, &j, r.plan.Left
	if r.stage < len(r.plan.Stages) {
		u.Stage = r.plan.Stages[r.stage].Name
	}
	for _, s := range r.steps {
		u.Steps.Total++
		switch s.State {
		case "done", "skipped":
			u.Steps.Over++
		case "failed":
			u.Steps.Failed++
		}
	}
	for _, h := range r.plan.Hosts {
		u.Hosts = append(u.Hosts, request.HostStanding{Name: h.Name, State: touched[h.Name], Wave: h.Wave,
			Approved: r.approved[h.Name], Dropped: r.dropped[h.Name]})
	}
}

// look lets the run go on a little. The caller holds mu.
func (f *Upgrades) look() {
	if f.run.goOn(f.fails) {
		f.fails = ""
	}
	f.mark()
}

// mark brings the cluster's state up to the run. The caller holds mu.
func (f *Upgrades) mark() {
	r := f.run
	hosts := r.hosts()
	done := r.job.Result == "done"
	switch r.plan.Purpose {
	case upgrade.ForCommit:
		if f.cluster = upgrade.Committing; done {
			f.cluster, f.version, f.last.run = upgrade.Normal, r.plan.To, ""
			clear(f.touched)
		}
		return
	case upgrade.ForRollback:
		if f.cluster = upgrade.Rolldown; done {
			f.cluster = upgrade.Normal
		}
	default:
		if len(hosts) > 0 {
			f.cluster = upgrade.Rollup
		}
		if done {
			f.cluster = upgrade.Prepared
		}
	}
	maps.Copy(f.touched, hosts)
}

// List is as server.Jobs wants it.
func (f *Upgrades) List(ctx context.Context) ([]job.View, error) {
	jobs, err := f.Jobs.List(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.shown != nil && f.shown.Job != nil {
		return append([]job.View{*f.shown.Job}, jobs...), nil
	}
	if f.run == nil || err != nil {
		return jobs, err
	}
	return append([]job.View{f.run.job}, jobs...), nil
}

// Get is as server.Jobs wants it.
func (f *Upgrades) Get(ctx context.Context, id string) (job.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.shown != nil && f.shown.Job != nil && f.shown.Job.ID == id {
		return *f.shown.Job, nil
	}
	if f.run == nil || f.run.job.ID != id {
		return f.Jobs.Get(ctx, id)
	}
	f.look()
	return f.run.shown(true), nil
}

// StepOutput is as server.Jobs wants it.
func (f *Upgrades) StepOutput(ctx context.Context, id, step string) (job.Output, error) {
	j, err := f.Get(ctx, id)
	if err != nil {
		return job.Output{}, err
	}
	return outputOf(j, step)
}

// Order is as server.Jobs wants it.
func (f *Upgrades) Order(ctx context.Context, user, id, command, step, why string) (job.View, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.run == nil || f.run.job.ID != id {
		return f.Jobs.Order(ctx, user, id, command, step, why)
	}
	r := f.run
	rec := r.steps[step]
	switch {
	case r.job.State == "ended":
		return job.View{}, fail.Errorf(fail.Refused, "%s: %s has ended (%s)", command, id, r.job.Result)
	case command == "pause":
		r.stand("paused", reason.PausedBy.With(user))
	case command == "resume":
		r.stand("active")
	case command == "abort":
		r.stand("ended", reason.AbortedBy.With(user))
		r.job.Result = "aborted"
	case rec == nil:
		return job.View{}, fail.Errorf(fail.Invalid, "step %q: no such step", step)
	case rec.State != "failed":
		return job.View{}, fail.Errorf(fail.Refused, "%s %s (%s): the step is not stuck", command, step, why)
	case command == "retry":
		rec.State, rec.By, rec.Why, rec.Tail = "pending", user, "", ""
	default:
		rec.State, rec.By, rec.Why = "skipped", user, why
	}
	r.begin()
	return r.shown(true), nil
}
