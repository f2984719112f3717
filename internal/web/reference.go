package web

import (
	"net/http"

	"holdfast/internal/web/rest"
)

// referencePage shows the API for programs.
func (c *Console) referencePage(w http.ResponseWriter, r *http.Request, v *view) {
	v.Title = v.T("API for programs")
	c.show(w, r, http.StatusOK, reference(v, rest.Resources()))
}
