package rest

// Route is a route as tests see it.
type Route struct{ Procedure, Method, Path string }

// Routes are all.
func Routes() []Route {
	var out []Route
	for _, r := range routes {
		out = append(out, Route{r.procedure, r.method, root + r.path})
	}
	return out
}

// Without is the table of reasons.
func Without() map[string]string { return without }
