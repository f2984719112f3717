package text

import (
	"regexp"
	"sync"
)

// Pattern gives a regular expression of package regexp, compiled when it is first used: each start of
// the program would compile all of them otherwise, and most commands use none. The function that it returns may be called
// from anywhere; it panics when the expression is none, so a test should use each.
func Pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}
