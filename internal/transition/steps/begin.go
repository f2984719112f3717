package steps

import (
	"context"
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/store"
	"holdfast/internal/transition"
	"holdfast/internal/transition/hostconf"
)

// Begin begins a transition in a user's name, by the text of its file, and returns the job's ID.
func Begin(ctx context.Context, st store.Store, seen func() (map[cluster.HostID]report.Seen, bool), user string, text []byte) (string, error) {
	f, faults := transition.Parse(text)
	if len(faults) > 0 {
		return "", fail.Errorf(fail.Invalid, "%s", strictyaml.Lines("", faults))
	}
	p := transition.Build(f)
	return submit(ctx, st, seen, job.Job{Kind: transition.Job, Title: "transition of " + p.Name, User: user}, "transition", p)
}

// BeginFiles begins to write files of hosts, or to take that back, in a user's name, and returns
// the job's ID.
func BeginFiles(ctx context.Context, st store.Store, seen func() (map[cluster.HostID]report.Seen, bool), user string, o hostconf.Order) (string, error) {
	if len(o.Hosts) == 0 {
		return "", fail.Errorf(fail.Invalid, "no hosts: want those whose files are to be written")
	}
	p, err := o.Plan()
	if err != nil {
		return "", err
	}
	return submit(ctx, st, seen, job.Job{Kind: hostconf.Job, Title: o.Title, User: user}, "config", p)
}

// submit gives a plan to the engine.
func submit(ctx context.Context, st store.Store, seen func() (map[cluster.HostID]report.Seen, bool), j job.Job, name string, p *transition.Plan) (string, error) {
	hosts, ok := seen()
	if !ok {
		return "", fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	for _, s := range p.Steps {
		if _, known := hosts[s.Host]; !known {
			return "", fail.Errorf(fail.Invalid, "step %s: host %q: no host of that name reports; want one of %s", s.ID, s.Host, names(hosts))
		}
	}
	plan, err := p.Encode()
	if err != nil {
		return "", err
	}
	steps, err := p.JobSteps()
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	j.ID, j.Began = engine.NewID(name, now), now
	if err := engine.Submit(ctx, st, j, plan, steps, engine.Also{}); err != nil {
		return "", engine.Explain(err)
	}
	return j.ID, nil
}

func names(hosts map[cluster.HostID]report.Seen) string {
	var out []string
	for h := range hosts {
		out = append(out, string(h))
	}
	slices.Sort(out)
	if len(out) > 10 {
		out = append(out[:10], fmt.Sprintf("and %d more", len(out)-10))
	}
	return fmt.Sprint(out)
}
