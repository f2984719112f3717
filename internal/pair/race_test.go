//go:build race

package pair

// A sample is enough for the race detector: nothing here is concurrent.
const (
	limit   = 20_000 // states
	courses = 200
)
