package web

import (
	"net/http"
	"strings"

	"holdfast/internal/lib/traces"
)

// traced tells a collector of requests for pages, where one is set, by the pattern of what answers and not by what was asked
// for. Streams, which last for hours, and files that never change are left out; requests to the API tell of themselves.
func traced(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path := r.URL.Path; !traces.On() || strings.HasPrefix(path, "/live/") || strings.HasPrefix(path, "/static/") {
			next.ServeHTTP(w, r)
			return
		}
		ctx, end := traces.Request(r.Context(), "console")
		r = r.WithContext(ctx)
		s := &answered{ResponseWriter: w, code: http.StatusOK}
		defer func() {
			why := ""
			if s.code >= http.StatusInternalServerError {
				why = http.StatusText(s.code)
			}
			end(why, traces.Pair{Name: "http.route", Value: r.Pattern}, traces.Number("http.response.status_code", s.code))
		}()
		next.ServeHTTP(s, r)
	})
}

// answered notes the code of an answer.
type answered struct {
	http.ResponseWriter
	code int
}

// WriteHeader notes it.
func (a *answered) WriteHeader(code int) {
	a.code = code
	a.ResponseWriter.WriteHeader(code)
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }
