package web

import (
	"holdfast/internal/api"
	"net/http"
)

// maintenance begins or ends the maintenance of a host.
func (c *Console) maintenance(w http.ResponseWriter, r *http.Request, v *view) {
	on := r.FormValue("on") == "true"
	if err := v.api.SetMaintenance(r.Context(), r.PathValue("host"), on, api.NewKey()); err != nil {
		v.Title = v.T("Hosts")
		v.fail(err)
		c.show(w, r, httpCode(err), message(v))
		return
	}
	http.Redirect(w, r, "/hosts", http.StatusSeeOther)
}
