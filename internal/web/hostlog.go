package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Pages of a host for those who look for a fault.
var (
	hostLogPage = &page{path: "/hosts/{host}/log", title: "Log of a host", least: cluster.Operator, in: hostsPage,
		help: "console#the-log-of-a-host", part: hostLogPart}
	fencePage = &page{path: "/hosts/{host}/fence", title: "Test the fence devices", least: cluster.Operator, still: true, in: hostsPage,
		help: "console#a-test-of-fence-devices", part: fencePart}

	aidPages = []*page{hostLogPage, fencePage}
)

// hostLogPart is the part of the page of a host's log. A host that does not tell it is told of, and asked again.
func hostLogPart(ctx context.Context, v *view) (templ.Component, error) {
	q := cluster.LogQuery{Host: cluster.HostID(v.arg("host")), Least: v.query("least"), Text: v.query("q")}
	v.Title = v.T(v.page.title) + colon(v) + told.Clean(string(q.Host))
	l, err := v.api.HostLog(ctx, q)
	var e *fail.Error
	if errors.As(err, &e) && e.Kind == fail.Invalid { // there is no such host, or no such level
		return nil, err
	}
	return hostLog(v, q, l, err), nil
}

// logClock is when a line was logged, with parts of a second: many come at once.
func logClock(t time.Time) string { return t.Local().Format("01-02 15:04:05.000") }

// logTone is that of a line's level.
func logTone(level string) told.Tone {
	return map[string]told.Tone{"WARN": told.Warn, "ERROR": told.Bad}[level]
}

// lastOf is when the last line was logged that has a time; zero: none has.
func lastOf(all []cluster.LogLine) (at time.Time) {
	for _, l := range all {
		if !l.Time.IsZero() {
			at = l.Time
		}
	}
	return at
}

// fencePart says what a test of fence devices does, before it is done.
func fencePart(_ context.Context, v *view) (templ.Component, error) {
	host := cluster.HostID(v.arg("host"))
	return confirm(v, question{Title: v.T(v.page.title) + colon(v) + told.Clean(string(host)),
		Meaning: v.T("Each fence device of the host is asked whether the host is on, and whose device it is"),
		About: []string{v.T("Nothing is ordered: the host stays as it is, and so does all that runs on it."),
			v.T("Another member asks, as the host itself often can not reach its own device. It takes 15 s at most."),
			v.T("The members do the same by themselves each minute.")},
		Action: string(hostPath(host)) + "/fence", Button: v.T("Test"), Back: string(hostPath(host)), Harmless: true}), nil
}

// testFence asks the fence devices of a host, and shows what they have answered.
func (c *Console) testFence(w http.ResponseWriter, r *http.Request, v *view) {
	c.live.fill(v)
	host := cluster.HostID(r.PathValue("host"))
	v.page, v.Title = fencePage, v.T(fencePage.title)+colon(v)+told.Clean(string(host))
	if err := long(w, r); err != nil {
		c.trouble(w, r, v, err)
		return
	}
	t, err := v.api.TestFence(r.Context(), host)
	if err != nil {
		c.trouble(w, r, v, err)
		return
	}
	c.show(w, r, http.StatusOK, whole(v, fenceTested(v, t)))
}

// power is what a fence device shows.
func power(a cluster.FenceAnswer) (told.Tone, string) {
	switch {
	case a.Error != "":
		return told.Bad, "not to be relied on"
	case a.On:
		return told.Good, "answers: the host is on"
	}
	return told.Warn, "answers: the host is off"
}
