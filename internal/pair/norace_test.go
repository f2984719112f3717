//go:build !race

package pair

const (
	limit   = 1_000_000 // states: more than there are
	courses = 3000
)
