// Package reason says why something is as it is, for programs and for people: a code
// with named arguments, which is stored and compared, and its sentence, which is
// rendered where people read it. codes.go has all codes and their sentences.
//
// Records have codes only. Answers of the API have the English sentence beside them, which is
// shown when a code is not known here: one of a later version.
package reason

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Reason is a code with its arguments. The zero value is none.
type Reason struct {
	Code string            `json:"code"`
	Args map[string]string `json:"args,omitempty"`
}

// Code is a code that this program knows.
type Code struct {
	name string
	text string   // English, with its arguments as {name}
	args []string // names, in the order of the text
}

var (
	codes    = map[string]*Code{}
	argument = regexp.MustCompile(`\{([a-z]+)\}`)
)

func code(name, text string) *Code {
	c := &Code{name: name, text: text}
	for _, m := range argument.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(c.args, m[1]) {
			c.args = append(c.args, m[1])
		}
	}
	codes[name] = c
	return c
}

// With is a reason with these arguments, in the order in which the text names them. What
// comes from outside, such as an error's text, is an argument.
func (c *Code) With(values ...any) Reason {
	r := Reason{Code: c.name}
	for i, name := range c.args[:min(len(c.args), len(values))] {
		if r.Args == nil {
			r.Args = make(map[string]string, len(c.args)+1) // one more for At
		}
		r.Args[name] = fmt.Sprint(values[i])
	}
	return r
}

// At says which step of a job a reason is about, whose code does not name one: the text
// begins with it. It changes the arguments of r.
func (r Reason) At(step string) Reason {
	if r.Args == nil {
		r.Args = map[string]string{}
	}
	r.Args["step"] = step
	return r
}

// Is reports whether a reason has this code.
func (r Reason) Is(c *Code) bool { return r.Code == c.name }

// IsZero reports whether there is no reason.
func (r Reason) IsZero() bool { return r.Code == "" }

// text renders a reason; ok is false when its code is not known.
func (r Reason) text() (s string, ok bool) {
	c := codes[r.Code]
	if c == nil {
		return "", false
	}
	s = argument.ReplaceAllStringFunc(c.text, func(arg string) string { return r.Args[arg[1:len(arg)-1]] })
	if step := r.Args["step"]; step != "" && !slices.Contains(c.args, "step") {
		s = step + ": " + s
	}
	return strings.TrimSuffix(s, ": "), true // the last argument was empty
}

// Text renders reasons one after the other. One whose code is not known, as a later version has
// written it, is told as it is: its code and what it is about.
func Text(reasons ...Reason) string {
	var out []string
	for _, r := range reasons {
		s, ok := r.text()
		if !ok && r.IsZero() {
			continue
		}
		if !ok {
			s = r.Code
			for _, name := range slices.Sorted(maps.Keys(r.Args)) {
				s += fmt.Sprintf(" %s=%s", name, r.Args[name])
			}
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// Equal reports whether two lists have the same reasons in the same order.
func Equal(a, b []Reason) bool {
	return slices.EqualFunc(a, b, func(a, b Reason) bool { return a.Code == b.Code && maps.Equal(a.Args, b.Args) })
}

// Said renders what an answer says: its reasons, or its text when it has none, or one whose code
// is not known here.
func Said(text string, reasons ...Reason) string {
	unknown := func(r Reason) bool { return codes[r.Code] == nil }
	if len(reasons) == 0 || slices.ContainsFunc(reasons, unknown) {
		return text
	}
	return Text(reasons...)
}
