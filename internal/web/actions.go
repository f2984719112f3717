package web

import (
	"maps"
	"net/http"

	"holdfast/internal/api"
	"holdfast/internal/web/layout"
)

// orders are what changes something, by path. Who may do what is decided by the API.
func (c *Console) orders() map[string]func(http.ResponseWriter, *http.Request, *view) {
	all := map[string]func(http.ResponseWriter, *http.Request, *view){
		"/hosts/{host}/maintenance":  c.maintenance,
		"/hosts/{host}/certificates": c.renewCertificates,
		"/hosts/{host}/fence":        c.testFence,
		"/store/backups":             c.backUpStore,
		"/support":                   c.makeArchives,
		"/users":                     c.setUser,
		"/users/{name}/remove":       c.removeUser,
		"/tokens":                    c.createToken,
		"/tokens/{id}/revoke":        c.revokeToken,
		noticesPath + "/{name}/test": c.testReceiver,
	}
	maps.Copy(all, c.vmOrders())
	maps.Copy(all, c.pairOrders())
	maps.Copy(all, c.screenOrders())
	return all
}

// done answers an order: by the page where its effect is seen, or by what prevented it.
func (c *Console) done(w http.ResponseWriter, r *http.Request, err error, to string) {
	if err != nil {
		c.fails(w, r, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// maintenance begins or ends the maintenance of a host.
func (c *Console) maintenance(w http.ResponseWriter, r *http.Request, v *view) {
	on := r.FormValue("on") == "true"
	c.done(w, r, v.api.SetMaintenance(r.Context(), r.PathValue("host"), on, api.NewKey()), layout.Local(r.FormValue("back")))
}
