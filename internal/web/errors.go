package web

import (
	"errors"
	"net/http"

	"holdfast/internal/api"
	"holdfast/internal/lib/fail"
)

// fail shows an error on the page.
func (v *view) fail(err error) {
	v.Failed, v.Message, v.Remedy = true, v.T(err.Error()), v.T(remedy(err))
}

// remedy is what to do about an error, "" where it does not say.
func remedy(err error) string {
	var e *fail.Error
	if errors.As(err, &e) {
		return e.Remedy
	}
	return ""
}

// httpCode is the status of HTTP for an error.
func httpCode(err error) int {
	var e *fail.Error
	switch {
	case errors.Is(err, errNoPage):
		return http.StatusNotFound
	case !errors.As(err, &e):
		return http.StatusInternalServerError
	}
	return api.StatusOf(e.Kind)
}

// fails answers with a page that says what has failed.
func (c *Console) fails(w http.ResponseWriter, r *http.Request, err error) {
	v := c.view(r)
	v.Title = v.T("It failed")
	v.fail(err)
	c.show(w, r, httpCode(err), message(v))
}

// notFound answers what there is no page for.
func (c *Console) notFound(w http.ResponseWriter, r *http.Request, v *view) {
	v.Title, v.Message = v.T("No such page"), v.T("There is no such page.")
	c.show(w, r, http.StatusNotFound, message(v))
}
