package web

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
	"holdfast/internal/upgrade/request"
)

// beginning is an upgrade, a rollback or a commit before it begins.
type beginning struct {
	*view
	Purpose upgrade.Purpose
	Version string // that is installed; "": nobody knows it yet
	Bundle  string // SHA-256 of its file; "": none was chosen
	Content *content
	Form    url.Values
	Plan    *upgrade.Plan
	Report  *check.Report
	Refused bool // it was to begin, and something stands in the way
}

// beginPage takes a bundle, then how the upgrade is to go, and shows the plan for it.
func (c *Console) beginPage(w http.ResponseWriter, r *http.Request, v *view) {
	b, err := c.beginning(w, r, v)
	if err == nil && b.Bundle != "" && r.FormValue("mode") != "" {
		var q request.Request
		if q, err = b.request(); err == nil {
			var p upgrade.Plan
			if p, err = v.api.PlanUpgrade(r.Context(), q); err == nil {
				b.Plan = &p
			}
		}
	}
	c.showBeginning(w, r, b, err)
}

// beginning reads what was chosen so far.
func (c *Console) beginning(w http.ResponseWriter, r *http.Request, v *view) (*beginning, error) {
	b := &beginning{view: v, Purpose: upgrade.ForUpgrade}
	if err := long(w, r); err != nil {
		return b, err
	}
	b.Form, b.Bundle = r.Form, r.FormValue("bundle")
	if p := upgrade.Purpose(r.FormValue("purpose")); p != "" {
		if p != upgrade.ForUpgrade && p != upgrade.ForCommit && p != upgrade.ForRollback {
			return b, fail.Errorf(fail.Invalid, "purpose %.70q: want upgrade, commit or rollback", p)
		}
		b.Purpose = p
	}
	if b.Bundle != "" {
		b.Content = c.contents.get(b.Bundle)
	}
	u, err := v.api.Upgrade(r.Context())
	b.Version = u.Version
	return b, err
}

// showBeginning shows the page, with what has failed.
func (c *Console) showBeginning(w http.ResponseWriter, r *http.Request, b *beginning, err error) {
	code := http.StatusOK
	if err != nil {
		b.view.Fail(err)
		code = httpCode(err)
	} else if b.Refused {
		code = http.StatusConflict
	}
	body := beginUpgrade(b)
	if b.Purpose != upgrade.ForUpgrade {
		body = beginBack(b)
	}
	c.show(w, r, code, whole(b.view, body))
}

// backPage shows what a commit or a rollback would do.
func (c *Console) backPage(w http.ResponseWriter, r *http.Request, v *view) {
	b, err := c.beginning(w, r, v)
	b.Purpose = upgrade.Purpose(strings.TrimPrefix(r.URL.Path, "/upgrade/"))
	if err == nil {
		var q request.Request
		if q, err = b.request(); err == nil {
			var p upgrade.Plan
			if p, err = v.api.PlanUpgrade(r.Context(), q); err == nil {
				b.Plan = &p
			}
		}
	}
	c.showBeginning(w, r, b, err)
}

// checkPage has all hosts checked.
func (c *Console) checkPage(w http.ResponseWriter, r *http.Request, v *view) {
	b, err := c.beginning(w, r, v)
	if err == nil {
		var q request.Request
		if q, err = b.request(); err == nil {
			var rep check.Report
			if rep, err = v.api.CheckUpgrade(r.Context(), q); err == nil {
				b.Report = &rep
			}
		}
	}
	c.showBeginning(w, r, b, err)
}

// runUpgrade begins an upgrade, a commit or a rollback.
func (c *Console) runUpgrade(w http.ResponseWriter, r *http.Request, v *view) {
	b, err := c.beginning(w, r, v)
	if err == nil && r.FormValue("sure") != "yes" {
		err = fail.Errorf(fail.Invalid, "sure: want yes: nothing begins without it").With("look at the plan first")
	}
	if err == nil {
		var q request.Request
		if q, err = b.request(); err == nil {
			var begun request.Begun
			if begun, err = v.api.RunUpgrade(r.Context(), q); err == nil && begun.Job != nil {
				http.Redirect(w, r, "/upgrade", http.StatusSeeOther)
				return
			}
			b.Plan, b.Report, b.Refused = &begun.Plan, begun.Report, true
		}
	}
	if err != nil {
		b.Plan, b.Report = nil, nil
	}
	c.showBeginning(w, r, b, err)
}

// reportPage is the report of the last upgrade, to print.
func (c *Console) reportPage(w http.ResponseWriter, r *http.Request, v *view) {
	err := long(w, r)
	var rep check.Report
	if err == nil {
		rep, err = v.api.ReportUpgrade(r.Context())
	}
	if err != nil {
		c.trouble(w, r, v, err)
		return
	}
	v.Title = v.T("Report on the last upgrade")
	c.show(w, r, http.StatusOK, whole(v, upgradeReport(v, rep)))
}

// request is what is asked of the agent.
func (b *beginning) request() (request.Request, error) {
	f := b.Form
	q := request.Request{Purpose: b.Purpose, Bundle: b.Bundle, Version: strings.TrimSpace(f.Get("version"))}
	if b.Purpose != upgrade.ForUpgrade {
		q.Bundle, q.Version = "", ""
		var err error
		if q.Lost, err = hostNames(f, "lost"); err == nil && b.Purpose == upgrade.ForRollback {
			q.Hosts, err = hostNames(f, "hosts")
		}
		return q, err
	}
	if b.Bundle == "" {
		return q, fail.Errorf(fail.Invalid, "bundle: none was chosen").With("choose the file of the bundle")
	}
	o := &q.Options
	if mode := f.Get("mode"); mode != "default" {
		o.Mode = manifest.Mode(mode)
		if !slices.Contains(manifest.Modes(), o.Mode) {
			return q, fail.Errorf(fail.Invalid, "mode %.70q: want default, rolling, offline or reboot", mode)
		}
	}
	if text := f.Get("max-unavailable"); text != "" {
		if err := o.MaxUnavailable.UnmarshalText([]byte(text)); err != nil {
			return q, fail.Errorf(fail.Invalid, "max-unavailable %.70q: %w", text, err)
		}
	}
	if text := strings.TrimSpace(f.Get("window")); text != "" {
		if err := o.Window.UnmarshalText([]byte(text)); err != nil {
			return q, fail.Errorf(fail.Invalid, "window %.70q: %w", text, err)
		}
	}
	limit := 0
	for _, n := range []struct {
		name string
		to   *int
	}{{"canary", &o.Canary}, {"failure-budget", &o.FailureBudget}, {"loss-limit", &limit}} {
		text := strings.TrimSpace(f.Get(n.name))
		if text == "" {
			continue
		}
		x, err := strconv.Atoi(text)
		if err != nil || x < 0 {
			return q, fail.Errorf(fail.Invalid, "%s %.70q: want a number from 0 on", n.name, text)
		}
		*n.to = x
	}
	o.LossLimit = int64(limit)
	for name, to := range map[string]*bool{"pause-after-wave": &o.PauseAfterWave, "approve-per-host": &o.ApprovePerHost,
		"move-back": &o.MoveBack, "keep-guests": &o.KeepGuests, "probe": &o.Probe} {
		*to = f.Get(name) != ""
	}
	if o.LossLimit > 0 && !o.Probe {
		return q, fail.Errorf(fail.Invalid, "loss-limit %d: want lost packets measured with it", o.LossLimit)
	}
	var err error
	o.Drop, err = hostNames(f, "drop")
	return q, err
}

// hostNames reads names of hosts with commas or blanks between them, each once.
func hostNames(f url.Values, field string) ([]cluster.HostID, error) {
	var out []cluster.HostID
	for _, n := range strings.FieldsFunc(f.Get(field),
		func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' }) {
		if slices.Contains(out, cluster.HostID(n)) {
			return nil, fail.Errorf(fail.Invalid, "%s %.70q: want each host once", field, n)
		}
		out = append(out, cluster.HostID(n))
	}
	return out, nil
}

// wave is what happens in a wave of a plan.
type wave struct {
	Number  int
	Hosts   []string
	Guests  int
	MiB     int64
	Longest time.Duration // turn
	More    int           // hosts that are not named
}

// wavesShown bounds the waves of a plan on a page, wavesNamed the hosts named in one.
const (
	wavesShown = 60
	wavesNamed = 8
)

// wavesOf sums the hosts of a plan up by waves.
func wavesOf(p *upgrade.Plan) []wave {
	var out []wave
	for _, h := range p.Hosts {
		i := slices.IndexFunc(out, func(w wave) bool { return w.Number == h.Wave })
		if i < 0 {
			i = len(out)
			out = append(out, wave{Number: h.Wave})
		}
		w := &out[i]
		if len(w.Hosts) < wavesNamed {
			w.Hosts = append(w.Hosts, told.Clean(h.Name))
		} else {
			w.More++
		}
		w.Guests, w.MiB, w.Longest = w.Guests+h.Moves, w.MiB+h.MovedMiB, max(w.Longest, h.Turn)
	}
	return out
}

// named are the hosts of a wave.
func (w wave) named(v *view) string {
	text := strings.Join(w.Hosts, ", ")
	if w.More > 0 {
		text += ", " + v.T("and "+count(w.More)+" more")
	}
	return text
}

// worstFirst are the findings of a report that need somebody, the worst first, and how many others there are.
func worstFirst(r *check.Report) (out []check.Finding, well int) {
	all := slices.Clone(r.Findings)
	check.Sort(all)
	for _, f := range all {
		if f.Level == check.Fail || f.Level == check.Warn {
			out = append(out, f)
		} else {
			well++
		}
	}
	return out, well
}

// toneOf is how bad a finding is.
func toneOf(l check.Level) told.Tone {
	switch l {
	case check.Fail:
		return told.Bad
	case check.Warn:
		return told.Warn
	case check.OK:
		return told.Good
	}
	return told.Plain
}

// phases are what a module does in an upgrade.
func phases(m *manifest.Module) string {
	var out []string
	for _, p := range manifest.Phases() {
		if a := m.Actions.Get(p); a != nil && !a.None {
			out = append(out, string(p))
		}
	}
	return strings.Join(out, ", ")
}

// stepsOf counts the steps of a stage.
func stepsOf(s *upgrade.Stage) (n int) {
	for i := range s.Chains {
		n += len(s.Chains[i].Steps)
	}
	return n
}

// modeText is what a kind of upgrade does.
func modeText(v *view, mode string) string {
	switch mode {
	case "rolling":
		return v.T("rolling: one host after the other")
	case "offline":
		return v.T("offline: the service stops on all hosts")
	case "reboot":
		return v.T("reboot: software first, then reboots one after the other")
	}
	return v.T("as the bundle says")
}

// or is a text, or what stands for nothing.
func or(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

// moreOf says how many findings of a rule are not shown.
func moreOf(v *view) func(string, int) string {
	return func(rule string, n int) string { return rule + colon(v) + v.T("and "+count(n)+" more") }
}
