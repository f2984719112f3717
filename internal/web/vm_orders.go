package web

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/a-h/templ"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
)

// Pages that ask before something is done to the management VM or to a host.
var (
	vmStopPage = &page{path: "/vm/stop", title: "Stop the management VM", least: cluster.Operator, guests: true, still: true,
		in: overviewPage, help: "operations#mgmt-vm", part: vmStopPart}
	vmSuspendPage = &page{path: "/vm/suspend", title: "Suspend HA", least: cluster.Operator, guests: true, still: true,
		in: overviewPage, help: "operations#hands-off-switches-storage-networks-agents", part: vmSuspendPart}
	vmMovePage = &page{path: "/vm/move", title: "Move the management VM", least: cluster.Operator, guests: true, still: true,
		in: overviewPage, help: "operations#one-host", part: vmMovePart}
	drainPage = &page{path: "/hosts/{host}/drain", title: "Empty a host", least: cluster.Operator, guests: true, works: true, still: true,
		in: hostsPage, help: "operations#one-host", part: drainPart}
	offPage = &page{path: "/hosts/{host}/off", title: "Confirm that a host is off", least: cluster.Operator, still: true,
		in: hostsPage, help: "operations#waiting", part: offPart}
	forgetPage = &page{path: "/hosts/{host}/forget", title: "Forget a host", least: cluster.Operator, guests: true, works: true, still: true,
		in: hostsPage, help: "operations#host-table", part: forgetPart}

	orderPages = []*page{vmStopPage, vmSuspendPage, vmMovePage, drainPage, offPage, forgetPage}
)

// vmOrders are what is done about the management VM and about hosts, by path.
func (c *Console) vmOrders() map[string]func(http.ResponseWriter, *http.Request, *view) {
	return map[string]func(http.ResponseWriter, *http.Request, *view){
		"/vm/start":            c.order(vmStopPage, startVM),
		"/vm/stop":             c.order(vmStopPage, stopVM(false)),
		"/vm/suspend":          c.order(vmSuspendPage, stopVM(true)),
		"/vm/move":             c.order(vmMovePage, moveVM),
		"/vm/move/cancel":      c.order(vmMovePage, cancelMove),
		"/hosts/{host}/drain":  c.order(drainPage, drainHost),
		"/hosts/{host}/off":    c.order(offPage, confirmOff),
		"/hosts/{host}/forget": c.order(forgetPage, forgetHost),
	}
}

// errNotSure sends to the page that asks.
var errNotSure = errors.New("nobody has confirmed it")

// order carries out what a page has asked for. do returns where its effect is seen.
func (c *Console) order(p *page, do func(r *http.Request, v *view) (to string, err error)) func(http.ResponseWriter, *http.Request, *view) {
	return func(w http.ResponseWriter, r *http.Request, v *view) {
		c.live.fill(v)
		v.page, v.Title = p, v.T(p.title)
		err := p.may(v)
		if err == nil {
			err = long(w, r)
		}
		to := ""
		if err == nil {
			to, err = do(r, v)
		}
		switch {
		case errors.Is(err, errNotSure):
			http.Redirect(w, r, r.URL.Path, http.StatusSeeOther)
		case err != nil:
			c.trouble(w, r, v, err)
		default:
			http.Redirect(w, r, to, http.StatusSeeOther)
		}
	}
}

// sure returns errNotSure when a page has not asked yet.
func sure(r *http.Request) error {
	if r.FormValue("sure") != "yes" {
		return errNotSure
	}
	return nil
}

// startVM starts the management VM, and ends the suspension of HA.
func startVM(r *http.Request, v *view) (string, error) {
	return "/", v.api.Start(r.Context(), api.NewKey())
}

// stopVM shuts the management VM down, or leaves it alone with all decisions frozen.
func stopVM(handsOff bool) func(*http.Request, *view) (string, error) {
	return func(r *http.Request, v *view) (string, error) {
		if err := sure(r); err != nil {
			return "", err
		}
		return "/", v.api.Stop(r.Context(), handsOff, api.NewKey())
	}
}

// moveVM asks for a live migration. The answer comes once that is recorded; the overview shows how it goes on.
func moveVM(r *http.Request, v *view) (string, error) {
	if err := sure(r); err != nil {
		return "", err
	}
	for _, err := range v.api.Migrate(r.Context(), r.FormValue("host"), api.NewKey()) {
		return "/", err
	}
	return "/", nil
}

// cancelMove ends a migration that is under way.
func cancelMove(r *http.Request, v *view) (string, error) {
	_, err := v.api.CancelMigration(r.Context(), api.NewKey())
	return "/", err
}

// drainHost begins to empty a host, which its job shows.
func drainHost(r *http.Request, v *view) (string, error) {
	if err := sure(r); err != nil {
		return "", err
	}
	j, err := v.api.DrainHost(r.Context(), r.PathValue("host"))
	return jobHref(j), err
}

// confirmOff records somebody's word that a host is off, whose name was typed.
func confirmOff(r *http.Request, v *view) (string, error) {
	host := r.PathValue("host")
	if v.Status.Connected { // or what it knows of hosts is old, and the word is refused by that
		if err := api.MayBeOff(v.Status, cluster.HostID(host)); err != nil {
			return "", err
		}
	}
	if err := sameName(r, host); err != nil {
		return "", err
	}
	return "/", v.api.ConfirmOff(r.Context(), host, api.NewKey())
}

// forgetHost removes what is known of a host that is gone for good, whose name was typed.
func forgetHost(r *http.Request, v *view) (string, error) {
	host := r.PathValue("host")
	if err := sameName(r, host); err != nil {
		return "", err
	}
	return "/hosts", v.api.ForgetHost(r.Context(), host, r.FormValue("force") == "yes")
}

// vmStopPart asks before the management VM is shut down.
func vmStopPart(_ context.Context, v *view) (templ.Component, error) {
	return confirm(v, question{Title: v.T("Stop the management VM"), Meaning: v.T("The management VM is shut down"),
		About:  []string{v.T("It stays stopped until somebody starts it, also across reboots.")},
		Action: "/vm/stop", Button: v.T("Stop"), Back: "/"}), nil
}

// vmSuspendPart asks before all decisions are frozen.
func vmSuspendPart(_ context.Context, v *view) (templ.Component, error) {
	return confirm(v, question{Title: v.T("Suspend HA"), Meaning: v.T("All decisions are frozen and the watchdogs are disarmed"),
		About: []string{v.T("It is for work on switches or storage. The management VM is left as it is."),
			v.T("A start ends it.")},
		Warns:  []string{v.T("Until then nothing takes over when its host fails.")},
		Action: "/vm/suspend", Button: v.T("Suspend HA"), Back: "/"}), nil
}

// vmMovePart asks where the management VM is to move.
func vmMovePart(_ context.Context, v *view) (templ.Component, error) {
	return vmMove(v, targets(v)), nil
}

// target is a host to which the management VM may move, or may not.
type target struct {
	cluster.HostStatus
	Why string // it can not; "": it can
}

// targets are all hosts but the one that has the management VM. The API decides.
func targets(v *view) (out []target) {
	for _, h := range told.Hosts(v.Status) {
		t := target{HostStatus: h}
		switch {
		case h.Name == v.Status.Owner.Holder():
			continue
		case !h.Alive:
			t.Why = v.T("silent " + told.Ago(h.Silent))
		case told.InMaintenance(v.Status, h.Name):
			t.Why = v.T("in maintenance")
		case !h.Fit:
			t.Why = v.T(told.Or(h.Why, "not able to run it"))
		}
		out = append(out, t)
	}
	return out
}

// drainPart asks before a host is emptied.
func drainPart(_ context.Context, v *view) (templ.Component, error) {
	host := cluster.HostID(v.arg("host"))
	return confirm(v, question{Title: v.T("Empty a host") + colon(v) + told.Clean(string(host)),
		Meaning: v.T("It is put into maintenance, and every guest moves off it, live, the management VM among them"),
		About: []string{v.T("The other guests go to hosts that have room. The host takes no guests until its maintenance is ended."),
			v.T("If a guest can not move, the others still leave; then the job fails.")},
		Action: string(hostPath(host)) + "/drain", Button: v.T("Empty it"), Back: string(hostPath(host))}), nil
}

// offPart asks for somebody's word that a host is off.
func offPart(_ context.Context, v *view) (templ.Component, error) {
	host := cluster.HostID(v.arg("host"))
	if !slices.ContainsFunc(v.Status.Hosts, func(h cluster.HostStatus) bool { return h.Name == host }) {
		return nil, errNoPage
	}
	return wordOfOff(v, host, api.MayBeOff(v.Status, host)), nil
}

// forgetPart asks before a host is forgotten.
func forgetPart(_ context.Context, v *view) (templ.Component, error) {
	return forget(v, cluster.HostID(v.arg("host"))), nil
}

// moves reports whether a move of the management VM is under way, or was asked for.
func moves(s cluster.Status) bool {
	return s.Owner.State == cluster.Migrating || s.Want.MoveTo != "" && s.Want.MoveTo != s.Owner.Host
}

// mayBeOff reports whether somebody's word that a host is off may be of use.
func mayBeOff(v *view, h cluster.HostStatus) bool {
	return v.May(cluster.Operator) && told.HostState(v.Status, h) == told.Silent && api.MayBeOff(v.Status, h.Name) == nil
}
