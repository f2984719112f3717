package web

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/upgrade/request"
	"holdfast/internal/web/layout"
)

// TestGrid: steps of a kind are one cell, of which the worst counts.
func TestGrid(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	step := func(id, state string, began, took int) job.StepView {
		s := job.StepView{ID: id, Host: "h1", State: state, Percent: 50}
		if began >= 0 {
			s.Began = at.Add(time.Duration(began) * time.Second)
		}
		if took > 0 {
			s.Ended = s.Began.Add(time.Duration(took) * time.Second)
		}
		return s
	}
	for name, c := range map[string]struct {
		steps []job.StepView
		want  gridCell
	}{
		"none": {},
		"done": {[]job.StepView{step("h1/install/a", "done", 0, 5), step("h1/install/b", "done", 5, 7)}, gridCell{"done", 2, 2,
			100, 12 * time.Second, ""}},
		"running": {[]job.StepView{step("h1/install/a", "done", 0, 5), step("h1/install/b", "running", 5, 0)}, gridCell{"running", 2,
			1, 75, 60 * time.Second, ""}},
		"failed": {[]job.StepView{step("h1/install/a", "failed", 0, 5), step("h1/install/b", "running", 1, 0)},
			gridCell{"failed", 2, 0, 25, 5 * time.Second, ""}},
		"skipped": {[]job.StepView{step("h1/x", "skipped", -1, 0), step("h1/x/b", "done", 0, 1)}, gridCell{"skipped", 2, 2,
			100, time.Second, ""}},
		"pending":           {[]job.StepView{step("h1/x", "pending", -1, 0)}, gridCell{"pending", 1, 0, 0, 0, ""}},
		"by an early clock": {[]job.StepView{step("h1/x", "running", 3600, 0)}, gridCell{"running", 1, 0, 50, 0, ""}},
		"half": {[]job.StepView{step("h1/x", "pending", -1, 0), step("h1/x/b", "done", 0, 1)}, gridCell{"pending", 2, 1,
			50, time.Second, ""}},
		"unknown is no done": {[]job.StepView{step("h1/x", "unknown", 0, 0), step("h1/x/b", "done", 0, 1)}, gridCell{"unknown", 2, 1,
			50, time.Second, ""}},
	} {
		if got := cellOf(c.steps, at.Add(time.Minute)); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestGridIsBounded: of very many hosts those with trouble are shown.
func TestGridIsBounded(t *testing.T) {
	u := request.Standing{Job: &job.View{State: "active"}}
	for i := range 500 {
		h := cluster.HostID("h" + strconv.Itoa(i))
		u.Hosts = append(u.Hosts, request.HostStanding{Name: h, Wave: i + 1})
		u.Job.Steps = append(u.Job.Steps, job.StepView{ID: string(h) + "/install", Host: h, State: "done"})
	}
	u.Job.Steps[400].State = "failed"
	g := gridOf(u, *u.Job, time.Now())
	if len(g.Rows) != gridHosts || g.More != 500-gridHosts || g.Rows[0].Host != "h400" {
		t.Errorf("%d rows, %d more, the first of %s", len(g.Rows), g.More, g.Rows[0].Host)
	}
	u.Hosts, u.Job.Steps = u.Hosts[:4], append(u.Job.Steps[:4:4], job.StepView{ID: "cluster/ha-off", State: "done"})
	g = gridOf(u, *u.Job, time.Now())
	var hosts []string
	for _, r := range g.Rows {
		hosts = append(hosts, string(r.Host))
	}
	if !slices.Equal(hosts, []string{"h0", "h1", "h2", "h3", ""}) || !slices.Equal(g.Columns, []string{"install", "ha-off"}) {
		t.Errorf("%q, %q", hosts, g.Columns)
	}
}

// TestColumnsHaveNamesOfTheirOwn: kinds of steps of one run are told apart by their heads.
func TestColumnsHaveNamesOfTheirOwn(t *testing.T) {
	v := &view{View: layout.View{T: func(s string) string { return s }}}
	of := map[string]string{}
	for _, word := range []string{"stage", "check", "preCheck", "tidy", "drain", "stop", "backup", "install", "start", "postCheck",
		"check-after", "undrain", "post-check"} {
		title := stepTitle(v, word)
		if of[title] != "" || title == word {
			t.Errorf("%s is %q, as is %q", word, title, of[title])
		}
		of[title] = word
	}
}
