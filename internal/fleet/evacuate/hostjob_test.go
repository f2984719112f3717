package evacuate

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
)

func TestHostJobEndsInEveryWay(t *testing.T) {
	plan, steps, err := HostPlan("h1", 2)
	if err != nil {
		t.Fatal(err)
	}
	p, err := HostPlanner(plan)
	if err != nil || len(p.Steps()) != 1 || p.Steps()[0].ID != steps[0].ID {
		t.Fatalf("%v, %+v", err, p)
	}
	up := map[cluster.HostID]job.HostState{"h1": {Up: true}}
	for _, c := range []struct {
		name   string
		state  job.State
		step   job.StepState
		hosts  map[cluster.HostID]job.HostState
		grants int
		waits  int
		result string
	}{
		{"begins", job.Active, job.Pending, up, 1, 0, ""},
		{"the host is silent", job.Active, job.Pending, nil, 0, 1, ""},
		{"paused", job.Paused, job.Pending, up, 0, 0, ""},
		{"runs", job.Active, job.Running, up, 0, 0, ""},
		{"was granted", job.Active, job.Granted, nil, 0, 0, ""},
		{"done", job.Active, job.Done, up, 0, 0, "done"},
		{"skipped", job.Active, job.Skipped, up, 0, 0, "done"},
		{"failed", job.Active, job.Failed, up, 0, 0, "failed"},
		{"unknown", job.Paused, job.Unknown, up, 0, 0, "failed"},
		{"aborted before it began", job.Aborting, job.Pending, up, 0, 0, "aborted"},
		{"aborted, still running", job.Aborting, job.Running, up, 0, 0, ""},
		{"aborted, the host is silent", job.Aborting, job.Running, nil, 0, 0, "aborted"},
		{"aborted, cancelled", job.Aborting, job.Failed, up, 0, 0, "aborted"},
		{"aborted too late", job.Aborting, job.Done, up, 0, 0, "done"},
	} {
		d := p.Next(job.Job{ID: "j", State: c.state}, map[string]job.Record{steps[0].ID: {State: c.step, Why: "because"}}, c.hosts, time.Time{})
		result := ""
		if d.Job != nil {
			result = d.Job.Result
			if d.Job.State != job.Ended {
				t.Errorf("%s: the job is %s", c.name, d.Job.State)
			}
		}
		if len(d.Grant) != c.grants || len(d.Waits) != c.waits || result != c.result {
			t.Errorf("%s: %+v, result %q", c.name, d, result)
		}
	}
	for _, bad := range []string{"", "{", `{"steps":[{"id":"","kind":"drain"}]}`} {
		if _, err := HostPlanner([]byte(bad)); err == nil {
			t.Errorf("plan %q is accepted", bad)
		}
	}
}
