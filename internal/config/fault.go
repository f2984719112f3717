package config

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// Options changes what Parse accepts.
type Options struct {
	// AllowUndersized accepts test guests: less than 8 GB and 4 CPUs,
	// MemorySizeInMB, no ChronyServers or DNS.
	AllowUndersized bool
	// ReadFile reads a file that the configuration names (DomainXML); nil: none can be
	// read, and its text must be in the configuration.
	ReadFile func(path string) ([]byte, error)
}

// Fault is one thing that is wrong in a file.
type Fault struct {
	File string
	strictyaml.Fault
}

// Error gives the fault in one line.
func (f Fault) Error() string { return f.In(f.File) }

// Faults is everything that is wrong in one file, in document order.
type Faults []Fault

// mostFaults and mostText bound what is told of many faults: their number, and about the bytes of their lines.
const (
	mostFaults = 20
	mostText   = 3000
)

// Error gives one line for each fault, of many the first.
func (fs Faults) Error() string {
	var lines []string
	size := 0
	for i, f := range fs {
		if i == mostFaults || size > mostText {
			lines = append(lines, fmt.Sprintf("and %d more faults", len(fs)-i))
			break
		}
		lines = append(lines, f.Error())
		size += len(lines[i])
	}
	return strings.Join(lines, "\n")
}

// Warning is something that is allowed but that the operator should know.
type Warning struct {
	File  string
	Place strictyaml.Place
	Path  string // as in Fault
	Text  string
}

// String gives the warning in one line.
func (w Warning) String() string { return strictyaml.At(w.File, w.Place, w.Path) + w.Text }

// Where is the field, or the place of what is odd in the text.
func (w Warning) Where() string { return strictyaml.Fault{Place: w.Place, Path: w.Path}.Where() }

// maxFile is how long a configuration file may be, bytes.
const maxFile = 1 << 20

// checker collects what is wrong in one document.
type checker struct {
	file     string
	doc      *strictyaml.Decoded
	found    []strictyaml.Fault
	warnings []Warning
}

func newChecker(file string) *checker { return &checker{file: file} }

// fault records a fault of the value at path, unless the decoder has refused
// that value or one around it already.
func (c *checker) fault(path, value, want string) {
	for i, f := range c.found { // a number that is none of those that can be read: say which are allowed
		if f.Path == path && f.Want == strictyaml.WantWhole {
			c.found[i].Want += "; " + want
		}
	}
	if !c.doc.Refused(path) {
		c.found = append(c.found, strictyaml.Fault{Place: c.doc.Place(path), Path: path, Value: strictyaml.Shorten(value), Want: want})
	}
}

func (c *checker) warn(path, text string) {
	c.warnings = append(c.warnings, Warning{c.file, c.doc.Place(path), path, text})
}

// faults returns all faults in document order.
func (c *checker) faults() []Fault {
	slices.SortStableFunc(c.found, func(a, b strictyaml.Fault) int { return a.Place.Compare(b.Place) })
	var out []Fault
	for _, f := range c.found {
		out = append(out, Fault{c.file, f})
	}
	return out
}

// field returns the path of a key below path.
func field(path, key string) string { return strictyaml.Field(path, key) }

// index returns the path of the i-th element of the list at path.
func index(path string, i int) string { return strictyaml.Index(path, i) }
