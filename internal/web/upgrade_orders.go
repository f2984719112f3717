package web

import (
	"net/http"
	"slices"
	"time"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/internal/upgrade/request"
)

// upgradeRoutes are what is done about upgrades. All of it is for operators.
func (c *Console) upgradeRoutes(mux *http.ServeMux) {
	for _, x := range []struct {
		pattern string
		answer  func(http.ResponseWriter, *http.Request, *view)
	}{
		{"GET /jobs/{id}/{command}", c.askOrder}, {"POST /jobs/{id}/{command}", c.giveOrder},
		{"GET /upgrade/hosts/{host}/{command}", c.askHost}, {"POST /upgrade/hosts/{host}/{command}", c.admitHost},
		{"GET /upgrade/begin", c.beginPage}, {"POST " + bundlePath, c.takeBundle},
		{"GET /upgrade/commit", c.backPage}, {"GET /upgrade/rollback", c.backPage},
		{"POST /upgrade/check", c.checkPage}, {"POST /upgrade/run", c.runUpgrade}, {"GET /upgrade/report", c.reportPage},
	} {
		mux.Handle(x.pattern, c.operator(x.answer))
	}
}

// upgradeOrder is what all pages are that ask or answer about one.
var upgradeOrder = &page{in: ofUpgrade, help: "upgrade", works: true, still: true, least: cluster.Operator}

// operator has operators only come to a page, which does not change by itself.
func (c *Console) operator(page func(http.ResponseWriter, *http.Request, *view)) http.Handler {
	return c.loggedIn(func(w http.ResponseWriter, r *http.Request, v *view) {
		c.live.fill(v)
		v.page, v.Title = upgradeOrder, v.T("Upgrade")
		if err := v.page.may(v); err != nil {
			c.fails(w, r, err)
			return
		}
		page(w, r, v)
	})
}

// longest is how long an answer may take that asks all hosts, ends a large bundle, or waits for a file system.
const longest = 16 * time.Minute

// long gives a request the time for an answer that takes long. Its form is read before: what comes late of a request ends it.
func long(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return fail.Errorf(fail.Invalid, "the form: %w", err)
	}
	return longAnswer(w)
}

func longAnswer(w http.ResponseWriter) error {
	rc := http.NewResponseController(w)
	if err := rc.SetReadDeadline(time.Time{}); err != nil {
		return fail.Errorf(fail.Unavailable, "the connection has ended: %w", err)
	}
	if err := rc.SetWriteDeadline(time.Now().Add(longest)); err != nil {
		return fail.Errorf(fail.Unavailable, "the connection has ended: %w", err)
	}
	return nil
}

// trouble answers with what has failed, and a way back.
func (c *Console) trouble(w http.ResponseWriter, r *http.Request, v *view, err error) {
	v.Fail(err)
	c.show(w, r, httpCode(err), whole(v, failedPage(v)))
}

// question is a page before a command.
type question struct {
	Title, Meaning string   // what it does
	About          []string // what else is to be known
	Warns          []string // and to be minded
	Action         string   // where the answer goes
	Back           string   // where who does not want it goes
	Button         string   // "": it can not be done now
	Reason         bool     // why is asked for
	Harmless       bool     // it changes nothing
}

// orders are the commands to a job.
var orders = []request.Verb{request.Pause, request.Resume, request.Retry, request.Skip, request.Abort}

// askOrder says what a command to a job does, before it is given.
func (c *Console) askOrder(w http.ResponseWriter, r *http.Request, v *view) {
	verb, step := request.Verb(r.PathValue("command")), r.FormValue("step")
	if !slices.Contains(orders, verb) {
		c.notFound(w, r, v)
		return
	}
	j, err := v.api.Job(r.Context(), r.PathValue("id"))
	if err != nil {
		c.trouble(w, r, v, err)
		return
	}
	q := question{Title: verbName(v, verb), Meaning: told.Meaning(verb), Action: orderHref(j.ID, verb, step),
		Button: verbName(v, verb), Reason: verb == request.Skip, Back: jobHref(j)}
	if step != "" {
		q.Title += colon(v) + told.Clean(step)
	}
	switch verb {
	case request.Abort:
		switch j.Kind {
		case string(job.Upgrade):
			q.About = []string{v.T("Hosts that have begun may be left between the two versions; a rollback brings them back.")}
		case string(transition.Job):
			q.About = []string{v.T("What was copied and made on the new platform stays there. An upgrade of hosts that it has begun goes on.")}
		}
		q.About = append(q.About, v.T("An abort can not be taken back. A pause can."))
	case request.Skip:
		q.About = []string{v.T("The run goes on as if the step were done. Nobody checks that."), v.T("The reason is kept with the step.")}
	}
	c.show(w, r, http.StatusOK, whole(v, confirm(v, q)))
}

// giveOrder gives a job a command.
func (c *Console) giveOrder(w http.ResponseWriter, r *http.Request, v *view) {
	verb, step := request.Verb(r.PathValue("command")), r.FormValue("step")
	if slices.Contains(grave, verb) && r.FormValue("sure") != "yes" {
		http.Redirect(w, r, orderHref(r.PathValue("id"), verb, step), http.StatusSeeOther)
		return
	}
	j, err := v.api.CommandJob(r.Context(), r.PathValue("id"), string(verb), step, r.FormValue("reason"))
	if err != nil {
		c.trouble(w, r, v, err)
		return
	}
	http.Redirect(w, r, jobHref(j), http.StatusSeeOther)
}

// askHost says what leaving a host out does, before it is done.
func (c *Console) askHost(w http.ResponseWriter, r *http.Request, v *view) {
	verb, host := request.Verb(r.PathValue("command")), r.PathValue("host")
	if verb != request.Drop && verb != request.Approve {
		c.notFound(w, r, v)
		return
	}
	q := question{Title: verbName(v, verb) + colon(v) + told.Clean(host), Meaning: told.Meaning(verb), Action: hostHref(host, verb),
		Button: verbName(v, verb), Back: "/upgrade"}
	if verb == request.Drop {
		q.About = []string{v.T("A host that has begun stays as it is, between the two versions. It is refused while the host's agent answers.")}
	}
	c.show(w, r, http.StatusOK, whole(v, confirm(v, q)))
}

// admitHost approves a host, or leaves one out.
func (c *Console) admitHost(w http.ResponseWriter, r *http.Request, v *view) {
	verb, host := request.Verb(r.PathValue("command")), r.PathValue("host")
	switch {
	case verb != request.Drop && verb != request.Approve:
		c.notFound(w, r, v)
		return
	case verb == request.Drop && r.FormValue("sure") != "yes":
		http.Redirect(w, r, hostHref(host, verb), http.StatusSeeOther)
		return
	}
	if err := v.api.AdmitHost(r.Context(), cluster.HostID(host), verb == request.Drop); err != nil {
		c.trouble(w, r, v, err)
		return
	}
	http.Redirect(w, r, "/upgrade", http.StatusSeeOther)
}

// verbs are those of orders, each once.
func verbs(all []order) (out []request.Verb) {
	for _, o := range all {
		if !slices.Contains(out, o.Verb) {
			out = append(out, o.Verb)
		}
	}
	return out
}

// verbName is what a command is called.
func verbName(v *view, verb request.Verb) string {
	switch verb {
	case request.Approve:
		return v.T("Approve")
	case request.Retry:
		return v.T("Retry")
	case request.Skip:
		return v.T("Skip")
	case request.Drop:
		return v.T("Leave out")
	case request.Resume:
		return v.T("Resume")
	case request.Pause:
		return v.T("Pause")
	case request.Abort:
		return v.T("Abort")
	case request.Commit:
		return v.T("Commit")
	case request.Rollback:
		return v.T("Roll back")
	case request.Run:
		return v.T("Upgrade")
	case request.Report:
		return v.T("Report")
	}
	return told.Clean(string(verb))
}
