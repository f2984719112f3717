package path

import "holdfast/internal/cluster/version"

// Format is the format of a Spec that this package knows.
const Format = 1

// Bounds of a Spec, so that planning is bounded work.
const (
	MaxVersions = 20000
	MaxRules    = 64
	MaxHops     = 64
	MaxThrough  = 4   // rules of kind through
	MaxKinds    = 512 // versions that the rules tell apart, see Plan
)

// Spec is a catalogue as it is written. Patterns are those of package version.
type Spec struct {
	Format     int      `json:"format"`     // 1
	Name       string   `json:"name"`       // for people
	Scheme     string   `json:"scheme"`     // of all versions
	Reboot     bool     `json:"reboot"`     // a hop needs a reboot of the hosts, unless its version says otherwise
	Unlisted   string   `json:"unlisted"`   // UnlistedAllow (also when empty) or UnlistedRefuse: ends that are not listed
	Components []string `json:"components"` // what may be installed beside; others are refused
	Versions   []Known  `json:"versions"`
	Families   []Family `json:"families"`
	Hops       []Edge   `json:"hops"` // none: from every version to every later one
	Rules      []Rule   `json:"rules"`
}

// Values of Spec.Unlisted.
const (
	UnlistedAllow  = "allow"
	UnlistedRefuse = "refuse"
)

// Known is a version that was released.
type Known struct {
	Version  string   `json:"version"`
	Kernel   string   `json:"kernel"`   // series; a hop between two that differ needs a reboot; empty: not known
	Reboot   *bool    `json:"reboot"`   // a hop to it needs a reboot; nil: as Spec.Reboot says
	Excludes []string `json:"excludes"` // components that it does not run with
}

// FromText reads the short form: a version without attributes.
func (k *Known) FromText(s string) error {
	k.Version = s
	return nil
}

// Family is a family of scheme cas that may be given in place of the version
// that is installed.
type Family struct {
	Name string `json:"name"` // 2.0
	As   string `json:"as"`   // the version of it that is planned with
	Text string `json:"text"` // what the operator should know of it
}

// Edge allows hops.
type Edge struct {
	From string `json:"from"` // pattern
	To   string `json:"to"`   // pattern
}

// Kind says what a rule does. Each applies when From and To match.
type Kind string

// Kinds of rules.
const (
	Block   Kind = "block"   // no such hop
	Through Kind = "through" // between two versions of a path, both ends included, one must match Rule.Through
	Reboot  Kind = "reboot"  // the hop needs a reboot, and has Text as a note
	Note    Kind = "note"    // the hop has Text as a note
)

// Rule is one rule about hops.
type Rule struct {
	Name       string   `json:"name"` // lower case letters, digits, . and -
	Kind       Kind     `json:"kind"`
	From       string   `json:"from"`       // pattern; empty: *
	To         string   `json:"to"`         // pattern; empty: *
	Through    string   `json:"through"`    // pattern, kind through only
	Components []string `json:"components"` // applies when all of them are installed
	Modes      []Mode   `json:"modes"`      // applies in these; empty: in all
	Confirm    bool     `json:"confirm"`    // kind block: an operator may confirm that its condition is met
	Text       string   `json:"text"`       // what, and why
	Remedy     string   `json:"remedy"`     // kind block and through: what to do
}

// Mode is how an upgrade is done.
type Mode string

// Modes.
const (
	Rolling Mode = "rolling" // guests go on, host by host
	Offline Mode = "offline" // guests are stopped
)

// Names of what may be in the way besides the rules of a catalogue.
const (
	RuleDowngrade = "downgrade" // to is before from
	RuleHops      = "hops"      // the catalogue lists hops, and they lead not there
	RuleExcludes  = "excludes"  // a version does not run with an installed component
)

// Catalogue is a checked Spec.
type Catalogue struct {
	spec     Spec
	scheme   version.Scheme
	known    []knownFields // ascending
	families []family
	edges    []edge
	rules    []rule
}

type knownFields struct {
	Known
	v version.Version
}

type family struct {
	Family
	name, as version.Version
}

type edge struct{ from, to version.Pattern }

type rule struct {
	Rule
	from, to, through version.Pattern
}

// Scheme returns the scheme of all versions.
func (c *Catalogue) Scheme() version.Scheme { return c.scheme }

// Spec returns what the catalogue was made of; the caller must not change it.
func (c *Catalogue) Spec() Spec { return c.spec }

// compare orders versions that New or Plan have parsed in one scheme.
func compare(a, b version.Version) int {
	c, err := version.Compare(a, b)
	if err != nil {
		panic("path: " + err.Error()) // a mistake in this package
	}
	return c
}

// matches is Match for versions that were parsed in the scheme of the pattern.
func matches(p version.Pattern, v version.Version) bool {
	ok, err := p.Match(v)
	if err != nil {
		panic("path: " + err.Error()) // a mistake in this package
	}
	return ok
}
