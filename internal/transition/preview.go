package transition

import (
	"fmt"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/strictyaml"
)

// Preview is what a run would do with a file, or all that is wrong in it.
type Preview struct {
	Name   string        `json:"name,omitempty"`
	Steps  []PreviewStep `json:"steps"`            // in their order
	Faults []FileFault   `json:"faults,omitempty"` // with any of them there are no steps
}

// PreviewStep is a command of a transition.
type PreviewStep struct {
	ID      string         `json:"id"` // STAGE/NAME
	Stage   string         `json:"stage"`
	Host    cluster.HostID `json:"host"`
	Run     []string       `json:"run"`
	Timeout time.Duration  `json:"timeout"`           // ns
	Again   bool           `json:"again,omitempty"`   // it may be run again when nobody knows how it ended
	Confirm string         `json:"confirm,omitempty"` // what a person has to have done, or looked at, before it is run
}

// FileFault is what is wrong at a place of a file.
type FileFault struct {
	Line   int    `json:"line,omitempty"` // from 1; 0: none
	Column int    `json:"column,omitempty"`
	Path   string `json:"path,omitempty"`
	Value  string `json:"value,omitempty"` // shortened
	Want   string `json:"want"`
}

// Look reads a file, and says what a run would do with it.
func Look(text []byte, also ...func(*File) []strictyaml.Fault) Preview {
	f, faults := Parse(text, also...)
	var out Preview
	for _, x := range faults {
		out.Faults = append(out.Faults, FileFault{Line: x.Place.Line, Column: x.Place.Column, Path: x.Path, Value: x.Value, Want: x.Want})
	}
	if len(faults) > 0 {
		return out
	}
	p := Build(f)
	out.Name = p.Name
	for _, s := range p.Steps {
		out.Steps = append(out.Steps, PreviewStep{s.ID, s.Stage, s.Host, s.Run, s.Timeout, s.Again, s.Confirm})
	}
	return out
}

// Known finds hosts that a file names and that are none of these.
func Known(hosts []cluster.HostID) func(*File) []strictyaml.Fault {
	return func(f *File) (out []strictyaml.Fault) {
		look := func(path string, host cluster.HostID) {
			if host != "" && !slices.Contains(hosts, host) {
				out = append(out, strictyaml.Fault{Path: path, Value: strictyaml.Shorten(string(host)),
					Want: "no host of that name reports; want one of " + Names(hosts)})
			}
		}
		look("host", f.Host)
		for _, s := range f.Stages.All() {
			for field, all := range map[string][]Command{".before": s.Before, ".after": s.After} {
				for i, c := range all {
					look(fmt.Sprintf("stages.%s%s[%d].host", s.Name, field, i), c.Host)
				}
			}
		}
		return out
	}
}

// Names are those of hosts, sorted, of many the first ten.
func Names(hosts []cluster.HostID) string {
	var out []string
	for _, h := range slices.Sorted(slices.Values(hosts)) {
		out = append(out, string(h))
	}
	if len(out) > 10 {
		out = append(out[:10], fmt.Sprintf("and %d more", len(out)-10))
	}
	return fmt.Sprint(out)
}
