// Package pattern has regular expressions that are compiled when they are first used. Each
// start of the program would compile all of them otherwise, and most commands use none.
package pattern

import (
	"regexp"
	"sync"
)

// New gives a regular expression of package regexp. The function that it returns may be called
// from anywhere; it panics when the expression is none, so a test should use each.
func New(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
