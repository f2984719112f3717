// Package faults knows faults of upgrades by what logs say of them. Its catalogue
// is YAML: one is built in, others may be added. A log is read line by line, with
// expressions that take linear time, so a hostile log costs no more than its size.
package faults

import (
	_ "embed" // faults.yaml
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

//go:embed faults.yaml
var builtin []byte

// Format is the version of the form of catalogues.
const Format = 1

const (
	maxFile    = 1 << 20 // bytes of a catalogue
	maxFaults  = 1000    // of a catalogue
	maxPattern = 1 << 10 // bytes of an expression
	maxText    = 4 << 10 // bytes of a text
	// MaxLine bounds how much of a line is looked at, bytes.
	MaxLine = 4 << 10
	// MaxLog bounds how much of a log is looked at, bytes.
	MaxLog = 64 << 20
)

// Level says what a line of a log means.
type Level string

// Levels.
const (
	Fail Level = "fail" // a reason for a failure
	Warn Level = "warn" // something is left to do
	Info Level = "info" // harmless, although it may not look so
)

// Fault is an entry of the catalogue.
type Fault struct {
	ID     string   `json:"id"`
	Match  []string `json:"match"`           // regular expressions (RE2); a line that one of them finds
	Where  Where    `json:"where,omitempty"` // empty: anywhere
	Level  Level    `json:"level,omitempty"` // empty: fail
	Cause  string   `json:"cause,omitempty"` // with Remedy; or Causes
	Remedy string   `json:"remedy,omitempty"`
	Causes []Cause  `json:"causes,omitempty"` // several, in the order in which to look for them
	// Report is where the program leaves a report when it says this, a pattern of path.Match: that is
	// read, too. Whatever its directory is, the report's name in what was said fits the last part.
	Report string `json:"report,omitempty"`
}

// Cause is one reason of a fault.
type Cause struct {
	Cause  string `json:"cause"`
	Remedy string `json:"remedy"`
}

// Where bounds a fault to steps, by patterns of path.Match; empty: any. A Source
// without a value fits every pattern: a fault is rather shown than missed.
type Where struct {
	Module string `json:"module,omitempty"`
	Phase  string `json:"phase,omitempty"`
	Log    string `json:"log,omitempty"` // base name of the log
}

// Source says whose log it is. Empty fields are not known.
type Source struct {
	Module string
	Phase  string
	Log    string // path or name
}

// Hit is a known fault in a log.
type Hit struct {
	ID     string  `json:"id"`
	Level  Level   `json:"level"`
	Causes []Cause `json:"causes"`         // one at least, in the order in which to look for them
	Line   int     `json:"line"`           // where it was found first, from 1
	Text   string  `json:"text"`           // of that line, at most MaxLine bytes
	File   string  `json:"file,omitempty"` // report in which it was found; empty: what was looked at
}

// Catalogue is what is known.
type Catalogue struct{ entries []entry }

type entry struct {
	Fault
	match []*regexp.Regexp
}

type file struct {
	Format int     `json:"format"`
	Faults []Fault `json:"faults"`
}

// Builtin returns the catalogue that is built in.
func Builtin() (*Catalogue, error) { return Parse("builtin", builtin) }

// Parse reads a catalogue strictly; name is for errors, which give all faults, a
// line for each.
func Parse(name string, data []byte) (*Catalogue, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: want at most %d bytes", name, maxFile)
	}
	var f file
	p := &parser{name: name, read: strictyaml.Decode(data, &f)}
	if faults := p.read.Faults; len(faults) > 0 {
		return nil, errors.New(strictyaml.Lines(name, faults))
	}
	if f.Format != Format {
		p.fault("format", fmt.Sprint(f.Format), fmt.Sprintf("want %d, the format that this program knows", Format))
	}
	if len(f.Faults) > maxFaults {
		p.fault("faults", fmt.Sprint(len(f.Faults)), fmt.Sprintf("want at most %d", maxFaults))
	}
	c := &Catalogue{}
	ids := map[string]bool{}
	for i, x := range f.Faults {
		at := fmt.Sprintf("faults[%d]", i)
		if ids[x.ID] {
			p.fault(at+".id", x.ID, "is given twice")
		}
		ids[x.ID] = true
		c.entries = append(c.entries, p.entry(at, x))
	}
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return c, nil
}

// With returns a catalogue with more entries, which come first; one with the id of
// an older entry takes its place.
func (c *Catalogue) With(more *Catalogue) *Catalogue {
	out := &Catalogue{entries: slices.Clone(more.entries)}
	for _, e := range c.entries {
		if !slices.ContainsFunc(more.entries, func(m entry) bool { return m.ID == e.ID }) {
			out.entries = append(out.entries, e)
		}
	}
	return out
}

// Faults returns the entries.
func (c *Catalogue) Faults() []Fault {
	var out []Fault
	for _, e := range c.entries {
		out = append(out, e.Fault)
	}
	return out
}

type parser struct {
	name string
	read *strictyaml.Decoded
	errs []error
}

func (p *parser) fault(at, value, want string) {
	p.errs = append(p.errs, errors.New(strictyaml.Fault{Place: p.read.Place(at), Path: at,
		Value: strictyaml.Shorten(value), Want: want}.In(p.name)))
}

// id is the form of an entry's id.
func isID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func (p *parser) entry(at string, f Fault) entry {
	e := entry{Fault: f}
	if !isID(f.ID) {
		p.fault(at+".id", f.ID, "want 1 to 64 lower case letters, digits and -")
	}
	if len(f.Match) == 0 {
		p.fault(at+".match", "", "want one regular expression at least")
	}
	for i, m := range f.Match {
		e.match = append(e.match, p.expression(fmt.Sprintf("%s.match[%d]", at, i), m))
	}
	switch f.Level {
	case "":
		e.Level = Fail
	case Fail, Warn, Info:
	default:
		p.fault(at+".level", string(f.Level), "want fail, warn or info")
	}
	for _, g := range [][2]string{{"module", f.Where.Module}, {"phase", f.Where.Phase}, {"log", f.Where.Log}} {
		if _, err := path.Match(g[1], ""); err != nil {
			p.fault(at+".where."+g[0], g[1], "want a pattern such as *.log")
		}
	}
	if _, err := path.Match(f.Report, ""); err != nil || f.Report != "" && !path.IsAbs(f.Report) {
		p.fault(at+".report", f.Report, "want the pattern of an absolute path such as /var/log/*.txt")
	}
	p.causes(at, &e)
	return e
}

// causes wants either one cause with its remedy, or a list of them.
func (p *parser) causes(at string, e *entry) {
	if (e.Cause != "" || e.Remedy != "") == (len(e.Causes) > 0) {
		p.fault(at, e.ID, "want cause and remedy, or causes")
		return
	}
	if len(e.Causes) == 0 {
		p.texts(at, Cause{e.Cause, e.Remedy})
	}
	for i, c := range e.Causes {
		p.texts(fmt.Sprintf("%s.causes[%d]", at, i), c)
	}
}

func (p *parser) texts(at string, c Cause) {
	for _, t := range [][2]string{{"cause", c.Cause}, {"remedy", c.Remedy}} {
		if t[1] == "" || len(t[1]) > maxText {
			p.fault(at+"."+t[0], t[1], fmt.Sprintf("want a text of 1 to %d bytes", maxText))
		}
	}
}

// expression refuses one that finds an empty text: it would find every line.
func (p *parser) expression(at, text string) *regexp.Regexp {
	if len(text) > maxPattern {
		p.fault(at, text, fmt.Sprintf("want at most %d bytes", maxPattern))
		return nil
	}
	re, err := regexp.Compile(text)
	switch {
	case err != nil:
		p.fault(at, text, "want a regular expression: "+err.Error())
	case re.MatchString(""):
		p.fault(at, text, "want one that does not find an empty line")
	}
	return re
}
