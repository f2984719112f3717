package servertest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
)

// Jobs is a fake of this host's part in jobs. A drain goes on by one state at
// each look at it, and that of a host in Fails fails.
type Jobs struct {
	Now   time.Time
	Fails []cluster.HostID

	mu   sync.Mutex
	jobs []api.Job // newest first
}

// Drain begins a job.
func (f *Jobs) Drain(_ context.Context, user string, host cluster.HostID) (api.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if host == "node9" {
		return api.Job{}, api.Errorf(api.KindInvalid, "host %q: no host of that name reports its guests", host)
	}
	for _, j := range f.jobs {
		if j.State != "ended" {
			return api.Job{}, api.Errorf(api.KindRefused, "%s of %s is %s: only one at a time", j.ID, j.User, j.State)
		}
	}
	j := api.Job{
		ID: fmt.Sprintf("drain-%d", len(f.jobs)+1), Kind: "host", Title: "empty host " + string(host), User: "root", State: "active", Began: f.Now,
		Steps: []api.JobStep{{ID: string(host) + "/drain", Host: host, Kind: "drain", State: "pending"}},
	}
	f.jobs = append([]api.Job{j}, f.jobs...)
	return j, nil
}

// List returns the jobs without their steps.
func (f *Jobs) List(context.Context) ([]api.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := slices.Clone(f.jobs)
	for i := range out {
		out[i].Steps = nil
	}
	return out, nil
}

func (f *Jobs) find(id string) (*api.Job, error) {
	for i := range f.jobs {
		if f.jobs[i].ID == id {
			return &f.jobs[i], nil
		}
	}
	return nil, api.Errorf(api.KindInvalid, "job %q: no such job", id)
}

// Get returns a job, after it has gone on a little.
func (f *Jobs) Get(_ context.Context, id string) (api.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil {
		return api.Job{}, err
	}
	j.Steps = slices.Clone(j.Steps)
	s := &j.Steps[0]
	switch {
	case j.State != "active":
	case s.State == "pending":
		s.State, s.Attempt, s.Percent, s.Note = "running", s.Attempt+1, 50, "1 of 2 guests have left; waits: vm2: busy: snapshot"
	case slices.Contains(f.Fails, s.Host):
		s.State, s.Why, s.Note = "failed", "vm2 stays on "+string(s.Host)+": it can not move live", ""
		j.State, j.Result, j.Why = "ended", "failed", s.Why
	default:
		s.State, s.Percent, s.Note = "done", 100, ""
		j.State, j.Result = "ended", "done"
	}
	return *j, nil
}

// Order carries pause, resume and abort out.
func (f *Jobs) Order(_ context.Context, user, id, command, step, reason string) (api.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j, err := f.find(id)
	if err != nil {
		return api.Job{}, err
	}
	switch {
	case j.State == "ended":
		return api.Job{}, api.Errorf(api.KindRefused, "%s: %s has ended (%s)", command, id, j.Result)
	case command == "pause":
		j.State, j.Why = "paused", "paused by root"
	case command == "resume":
		j.State, j.Why = "active", ""
	case command == "abort":
		j.State, j.Result, j.Why = "ended", "aborted", "aborted by root"
	default:
		return api.Job{}, api.Errorf(api.KindRefused, "%s %s (%s): the step is not stuck", command, step, reason)
	}
	return *j, nil
}
