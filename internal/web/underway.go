package web

import (
	"context"
	"io"
	"net/url"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/job"
	"holdfast/internal/transition"
)

// underway is a section of the overview: the jobs that have not ended, which it asks for when it is made.
func underway(v *view) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		jobs, err := openJobs(ctx, v)
		return underwaySection(v, jobs, err).Render(ctx, w)
	})
}

// openJobs are the jobs that have not ended, with their steps; there is one of a kind at most.
func openJobs(ctx context.Context, v *view) ([]job.View, error) {
	all, err := v.api.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	var out []job.View
	for _, j := range all {
		if j.State == string(job.Ended) {
			continue
		}
		whole, err := v.api.Job(ctx, j.ID)
		if err != nil {
			return nil, err
		}
		if whole.State != string(job.Ended) {
			out = append(out, whole)
		}
	}
	return out, nil
}

// jobHref is the page of a job.
func jobHref(j job.View) string {
	switch j.Kind {
	case string(job.Upgrade):
		return "/upgrade"
	case string(transition.Job):
		return transitionPath
	}
	return stepsHref(j.ID, "")
}

// stepsHref is the page with the steps of a job, or of one host in it.
func stepsHref(id, host string) string {
	to := "/jobs/" + url.PathEscape(id)
	if host != "" {
		to += "?host=" + url.QueryEscape(host)
	}
	return to
}

// jobLine says how a job stands.
func jobLine(v *view, j job.View) told.Cell {
	c := told.JobState(j)
	text := v.T(c.Text)
	if why := j.Because(); why != "" {
		text += colon(v) + v.T(told.Clean(why))
	}
	return told.Cell{Text: text, Tone: c.Tone}
}

// percent is how much of a job is done, by its steps.
func percent(j job.View) int {
	done := 0
	for _, s := range j.Steps {
		switch {
		case s.Over():
			done += 100
		case s.State == "running":
			done += min(max(s.Percent, 0), 100)
		}
	}
	return done / max(1, len(j.Steps))
}
