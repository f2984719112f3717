package web

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// upgradePage is how the last upgrade stands.
func upgradePage(ctx context.Context, v *view) (templ.Component, error) {
	u, err := v.api.Upgrade(ctx)
	if err != nil {
		return nil, err
	}
	s := standing{view: v, Standing: u, Now: time.Now()}
	if u.Job == nil {
		return neverUpgraded(&s), nil
	}
	s.whole = *u.Job
	if u.Steps.Total <= gridSteps {
		if s.whole, err = v.api.Job(ctx, u.Job.ID); err != nil {
			return nil, err
		}
	}
	s.Grid = gridOf(u, s.whole, s.Now)
	s.Orders = ordersOf(u)
	return upgradeNow(&s), nil
}

// standing is how an upgrade stands on the page.
type standing struct {
	*view
	request.Standing
	Now    time.Time // by this host's clock
	Grid   grid
	Orders []order
	whole  job.View // with all of its steps, or, of very many, with those that run or are stuck
}

// order is a command that would be accepted, or looks so by what is known here: the API decides.
type order struct {
	Verb  request.Verb
	What  string // step or host; "": the whole upgrade
	Href  string // that does it, or says first what it does
	Asks  bool   // there is a page before it
	First bool   // it is what people do next
}

// grave are the commands before which a page says what they do.
var grave = []request.Verb{request.Abort, request.Skip, request.Drop, request.Commit, request.Rollback}

// ordersOf are the commands that make sense as an upgrade stands: those to its job by the rule of jobs, the others as the
// agent offers them.
func ordersOf(u request.Standing) []order {
	if u.NoQuorum || u.Job == nil {
		return nil
	}
	var out []order
	add := func(v request.Verb, what, href string, first bool) {
		out = append(out, order{v, what, href, slices.Contains(grave, v), first})
	}
	hosts, _ := request.Offered(u.Next, request.Approve)
	for i, h := range hosts {
		add(request.Approve, h, hostHref(h, request.Approve), i == 0)
	}
	out = append(out, stepOrders(*u.Job)...)
	hosts, _ = request.Offered(u.Next, request.Drop)
	for _, h := range hosts {
		add(request.Drop, h, hostHref(h, request.Drop), false)
	}
	out = append(out, runOrders(*u.Job)...)
	for _, v := range []request.Verb{request.Commit, request.Run, request.Rollback} {
		if _, is := request.Offered(u.Next, v); is && v == request.Run {
			add(v, "", "/upgrade/begin", false)
		} else if is {
			add(v, "", "/upgrade/"+string(v), false)
		}
	}
	add(request.Report, "", "/upgrade/report", false) // it changes nothing, and is there at any time
	return out
}

// stepOrders are the commands that the rule of jobs takes for steps that are stuck.
func stepOrders(v job.View) (out []order) {
	j := ofView(v)
	for _, s := range told.StuckSteps(v) {
		rec := job.Record{Step: s.ID, State: job.StepState(s.State)}
		for _, verb := range []request.Verb{request.Retry, request.Skip} {
			if _, err := job.ObeyStep(j, rec, job.Command(verb), "", "why"); err == nil {
				out = append(out, order{verb, s.ID, orderHref(v.ID, verb, s.ID), slices.Contains(grave, verb), verb == request.Retry})
			}
		}
	}
	return out
}

// runOrders are those that it takes for a whole job.
func runOrders(v job.View) (out []order) {
	j := ofView(v)
	for _, verb := range []request.Verb{request.Resume, request.Pause, request.Abort} {
		if _, err := job.Obey(j, job.Command(verb), ""); err == nil && !(verb == request.Abort && j.State == job.Aborting) {
			out = append(out, order{verb, "", orderHref(v.ID, verb, ""), slices.Contains(grave, verb), false})
		}
	}
	return out
}

// ofView is what the rule of jobs asks of one.
func ofView(v job.View) job.Job {
	return job.Job{Kind: job.Kind(v.Kind), ID: v.ID, State: job.State(v.State), Result: v.Result}
}

// ofHost are the orders that are about a host.
func (s *standing) ofHost(h cluster.HostID) (out []order) {
	for _, o := range s.Orders {
		if (o.Verb == request.Approve || o.Verb == request.Drop) && o.What == string(h) {
			o.First = false // it is so above the table
			out = append(out, o)
		}
	}
	return out
}

// ofStep are the orders that are about a step.
func ofStep(all []order, id string) (out []order) {
	for _, o := range all {
		if (o.Verb == request.Retry || o.Verb == request.Skip) && o.What == id {
			out = append(out, o)
		}
	}
	return out
}

// ofAll are the orders about the whole upgrade, and the approval of the next host.
func (s *standing) ofAll() (out []order) {
	for _, o := range s.Orders {
		if o.What == "" || o.Verb == request.Approve && o.First {
			out = append(out, o)
		}
	}
	return out
}

func orderHref(id string, v request.Verb, step string) string {
	to := "/jobs/" + url.PathEscape(id) + "/" + string(v)
	if step != "" {
		to += "?step=" + url.QueryEscape(step)
	}
	return to
}

func hostHref(h string, v request.Verb) string {
	return "/upgrade/hosts/" + url.PathEscape(h) + "/" + string(v)
}

// verbText is what stands on the button of a command: dots where a page comes first.
func verbText(v *view, o order) string {
	text := verbName(v, o.Verb)
	switch {
	case o.Verb == request.Approve:
		return v.T("Approve " + told.Clean(o.What))
	case o.Asks || o.Verb == request.Run:
		return text + "…"
	}
	return text
}

// done counts the hosts that a run has changed.
func (s *standing) done() (done, all int) {
	for _, h := range s.Hosts {
		if h.Wave == 0 {
			continue
		}
		all++
		if h.State == upgrade.HostRollupDone && s.Purpose != upgrade.ForRollback || h.State == upgrade.HostRolldownDone {
			done++
		}
	}
	return done, all
}

// headline is the sentence on how the upgrade stands.
func (s *standing) headline() string {
	v, to := s.view, told.Or(s.To, "an unknown version")
	done, all := s.done()
	j := s.Job
	ended := j.State == string(job.Ended)
	switch {
	case s.Purpose == upgrade.ForCommit && !ended:
		return v.T("The upgrade to " + to + " is being committed.")
	case s.Purpose == upgrade.ForRollback && !ended:
		return v.T("Rollback to " + to + ": " + strconv.Itoa(done) + " of " + strconv.Itoa(all) + " hosts are done.")
	case !ended:
		return v.T("Upgrade to " + to + ": " + strconv.Itoa(done) + " of " + strconv.Itoa(all) + " hosts are done.")
	case j.Result != "done" && s.Purpose == upgrade.ForRollback:
		return v.T("The rollback to " + to + " has not been done to its end.")
	case j.Result != "done" && s.Purpose == upgrade.ForCommit:
		return v.T("The commit of " + to + " has not been done to its end.")
	case j.Result != "done":
		return v.T("The upgrade to " + to + " has not been done to its end.")
	case s.Purpose == upgrade.ForRollback:
		return v.T("The hosts are rolled back to " + to + ".")
	case s.Committed || s.Purpose == upgrade.ForCommit:
		return v.T("The cluster has version " + told.Or(s.Standing.Version, to) + ".")
	}
	return v.T("The upgrade to " + to + " is done, and not committed yet.")
}

// why says why the job is paused or ended, unless each of the steps that are stuck says so.
func (s *standing) why() string {
	for _, r := range s.Job.WhyCodes {
		if !r.Is(reason.StepFailed) {
			return s.Job.Because()
		}
	}
	if len(s.Job.WhyCodes) > 0 && len(told.StuckSteps(*s.Job)) > 0 {
		return ""
	}
	return s.Job.Because()
}

// took is how long the job runs, or has run.
func (s *standing) took() string {
	if s.Job.Began.IsZero() {
		return ""
	}
	if s.Job.State == string(job.Ended) {
		return s.view.T("took " + span(s.view, s.Job.Changed.Sub(s.Job.Began)))
	}
	return s.view.T("for " + span(s.view, s.Now.Sub(s.Job.Began)))
}

// canGoBack says what a commit takes away; "" where there is nothing of that, or something stands in the way of a rollback.
func (s *standing) canGoBack() string {
	if s.Committed || s.Purpose == upgrade.ForCommit || s.ClusterState != upgrade.Rollup && s.ClusterState != upgrade.Prepared ||
		slices.ContainsFunc(s.Blocked, func(b string) bool { return strings.HasPrefix(b, string(upgrade.ForRollback)+": ") }) {
		return ""
	}
	n := 0
	for _, h := range s.Hosts {
		if h.State == upgrade.HostRollup || h.State == upgrade.HostRollupDone {
			n++
		}
	}
	before := told.Or(s.Standing.Version, "the version before")
	return s.view.T("Hosts that can be rolled back to " + before + " until the commit: " + strconv.Itoa(n))
}

// lately says how old the last line of a step is.
func (s *standing) lately(x job.StepView) string {
	return s.view.T(told.Clean(x.ID) + ": last line " + age(s.view, x.Said, s.Now))
}

// age of what is shown where the store has no quorum.
func (s *standing) age() string {
	if !s.NoQuorum {
		return ""
	}
	if s.AsOf.IsZero() {
		return s.view.T("The store has no quorum. How old this is is not known.")
	}
	return s.view.T("The store has no quorum. This is " + span(s.view, s.Now.Sub(s.AsOf)) + " old.")
}

// count writes a number for a text.
func count(n int) string { return fmt.Sprint(n) }
