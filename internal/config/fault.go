package config

import (
	"fmt"
	"sort"
	"strconv"
	"strings"

	"holdfast/internal/strictyaml"
)

// Options changes what Parse accepts.
type Options struct {
	// AllowUndersized accepts test guests: less than 8 GB and 4 CPUs,
	// MemorySizeInMB, and no ChronyServers or DNS.
	AllowUndersized bool
}

// Fault is one thing that is wrong in a file.
type Fault struct {
	File  string
	Path  string // field, such as Network[1].Gateway; LINE:COLUMN for malformed text; (file) for the whole
	Value string // what was found, shortened
	Want  string // what is allowed there
}

// Error gives the fault in one line.
func (f Fault) Error() string {
	return fmt.Sprintf("%s: %s: value %q: %s", f.File, f.Path, f.Value, f.Want)
}

// Faults is everything that is wrong in one file, in document order.
type Faults []Fault

// Error gives one line for each fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Warning is something that is allowed but that the operator should know.
type Warning struct {
	File string
	Path string // as in Fault
	Text string
}

// String gives the warning in one line.
func (w Warning) String() string { return fmt.Sprintf("%s: %s: %s", w.File, w.Path, w.Text) }

const (
	maxFile  = 1 << 20 // bytes of a configuration file
	wholeDoc = strictyaml.Whole
)

// finding is a fault with its place in the document.
type finding struct {
	Fault
	off int
}

// checker collects what is wrong in one document. It knows where each path is,
// so that faults of all stages come out in document order.
type checker struct {
	file     string
	pos      map[string]int  // offset of each value that the decoder has seen
	set      map[string]bool // values that are there and not null
	bad      map[string]bool // values that the decoder refused: later stages are silent about them
	found    []finding
	warnings []Warning
}

func newChecker(file string) *checker {
	return &checker{file: file, pos: map[string]int{}, set: map[string]bool{}, bad: map[string]bool{}}
}

// faultAt records a fault at a byte offset of the document.
func (c *checker) faultAt(off int, path, value, want string) {
	if path == "" {
		path = wholeDoc
	}
	c.found = append(c.found, finding{Fault{c.file, path, strictyaml.Shorten(value), want}, off})
}

// fault records a fault of the value at path, unless the decoder has refused
// that value or one around it already.
func (c *checker) fault(path, value, want string) {
	if c.isBad(path) {
		return
	}
	c.faultAt(c.place(path), path, value, want)
}

func (c *checker) warn(path, text string) {
	c.warnings = append(c.warnings, Warning{c.file, path, text})
}

// isBad reports whether the value at path, or one that holds it, was refused.
func (c *checker) isBad(path string) bool {
	for p := path; ; p = parent(p) {
		if c.bad[p] {
			return true
		}
		if p == "" {
			return false
		}
	}
}

// place returns the offset of path; for a missing value that of what holds it.
func (c *checker) place(path string) int {
	for p := path; ; p = parent(p) {
		if off, ok := c.pos[p]; ok {
			return off
		}
		if p == "" {
			return 0
		}
	}
}

// faults returns all faults in document order.
func (c *checker) faults() []Fault {
	sort.SliceStable(c.found, func(i, j int) bool { return c.found[i].off < c.found[j].off })
	var out []Fault
	for _, f := range c.found {
		out = append(out, f.Fault)
	}
	return out
}

// parent returns the path without its last part.
func parent(path string) string {
	i := strings.LastIndexAny(path, ".[")
	if i < 0 {
		return ""
	}
	return path[:i]
}

// field returns the path of a key below path.
func field(path, key string) string { return strictyaml.Field(path, key) }

// index returns the path of the i-th element of the list at path.
func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }
