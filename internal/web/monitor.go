package web

import (
	"context"
	"errors"
	"net/http"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/probe"
	"holdfast/internal/web/access"
	"holdfast/internal/web/metrics"
)

// metrics makes what answers scrapes.
func (c *Console) metrics() http.Handler {
	o := metrics.Options{Tokens: c.access.Tokens, Version: c.Version, Log: c.Log, Works: c.API.Works(),
		Losses: func(ctx context.Context, run string) (probe.Summary, error) { return probe.Sum(ctx, c.Store, run) },
		API:    c.client("metrics", cluster.Viewer)}
	if c.Member != nil {
		o.Member = metrics.NewMember(c.Member.ClientURL, c.Client)
	}
	return metrics.New(o)
}

// readers lets in programs by a token, and who is logged in; others get 401.
func (c *Console) readers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secret, is := access.Secret(r)
		if !is {
			if u, known := c.user(r.Context()); known && !u.Once {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
			http.Error(w, "a token is needed: holdfast token create NOTE --role viewer", http.StatusUnauthorized)
			return
		}
		t, err := c.access.Bearer(r.Context(), secret)
		var why *fail.Error
		switch {
		case errors.As(err, &why) && why.Kind == fail.Denied:
			w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast", error="invalid_token"`)
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case !t.Role.May(cluster.Viewer):
			http.Error(w, "the token's role may not look", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}
