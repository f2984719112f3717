package path

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster/version"
)

// Environment is what rules ask about besides versions.
type Environment struct {
	Components []string // installed beside, of Spec.Components
	Mode       Mode     // empty: Rolling
	Confirmed  []string // rules whose condition an operator has confirmed
}

// Result is a path, or what is in the way of one. Its JSON is
//
//	{"hops":[{"to":"E0535","reboot":true,"notes":["…"]}],"blocked":null}
//	{"hops":[],"blocked":{"rule":"…","reason":"…"}}
//
// No hops and nothing in the way: the version is installed already.
type Result struct {
	Hops    []Hop    `json:"hops"`
	Blocked *Blocked `json:"blocked"`
}

// Hop is one upgrade.
type Hop struct {
	To     string   `json:"to"`
	Reboot bool     `json:"reboot"` // reboot the hosts before the next hop, or at the end
	Notes  []string `json:"notes"`  // "RULE: text", in the order of the catalogue
}

// Blocked says why there is no path.
type Blocked struct {
	Rule   string `json:"rule"`
	Reason string `json:"reason"` // what and why, then what can be done
}

// Confirmable are the rules whose condition an operator can confirm. A nil catalogue has none.
func (c *Catalogue) Confirmable() (out []string) {
	if c == nil {
		return nil
	}
	for _, r := range c.rules {
		if r.Confirm {
			out = append(out, r.Name)
		}
	}
	return out
}

// Plan finds the path from the version from to the version to. from may be a
// family that the catalogue lists, and, in scheme cas, the banner that the
// product prints. Errors are wrong input: a version that can not be read or is
// not allowed, an unknown component, mode or rule, by its flag, a nil catalogue; or a
// catalogue whose rules and attributes tell more than MaxKinds kinds of versions
// apart, for which the work would not be bounded.
func Plan(c *Catalogue, from, to string, env Environment) (Result, error) {
	none := Result{Hops: []Hop{}}
	if c == nil || len(c.known) == 0 {
		return none, errors.New("plan an upgrade: the catalogue is empty")
	}
	if err := c.checkEnvironment(&env); err != nil {
		return none, err
	}
	start, notes, err := c.start(from)
	if err != nil {
		return none, err
	}
	end, err := c.end(to)
	if err != nil {
		return none, err
	}
	switch d := compare(start, end); {
	case d == 0:
		return none, nil
	case d > 0:
		return blocked(RuleDowngrade, fmt.Sprintf("%s is before %s, and upgrades only go up; "+
			"an upgrade that is not committed yet can be rolled back", end, start)), nil
	}
	p, err := newProblem(c, start, end, env)
	if err != nil {
		return none, err
	}
	if way := p.search(relax{}); way != nil {
		return Result{Hops: p.hops(way, notes)}, nil
	}
	return p.blame(), nil
}

func blocked(rule, reason string) Result {
	return Result{Hops: []Hop{}, Blocked: &Blocked{rule, reason}}
}

// checkEnvironment refuses names that the catalogue does not know: a mistyped
// one would switch rules off in silence.
func (c *Catalogue) checkEnvironment(env *Environment) error {
	for _, n := range env.Components {
		if !slices.Contains(c.spec.Components, n) {
			return fmt.Errorf("--component %q: catalogue %s knows %s", n, c.spec.Name, or(strings.Join(c.spec.Components, ", "), "none"))
		}
	}
	can := c.Confirmable()
	for _, n := range env.Confirmed {
		if !slices.Contains(can, n) {
			return fmt.Errorf("--confirmed %q: the rules of catalogue %s that can be confirmed are %s", n, c.spec.Name,
				or(strings.Join(can, ", "), "none"))
		}
	}
	switch env.Mode {
	case "":
		env.Mode = Rolling
	case Rolling, Offline:
	default:
		return fmt.Errorf("--mode %q: want rolling or offline", env.Mode)
	}
	return nil
}

// start reads the version that is installed; notes are for the first hop.
func (c *Catalogue) start(text string) (version.Version, []string, error) {
	v, err := version.Find(c.scheme, text)
	if err != nil {
		return v, nil, fmt.Errorf("--from: %w", err)
	}
	if !v.IsFamily() {
		notes, err := c.listed(v)
		if err != nil {
			return v, nil, fmt.Errorf("--from: %w", err)
		}
		return v, notes, nil
	}
	var names []string
	for _, f := range c.families {
		if compare(f.name, v) == 0 {
			return f.as, []string{fmt.Sprintf("family: %s is planned as %s. %s", v, f.as, f.Text)}, nil
		}
		names = append(names, f.Name)
	}
	return v, nil, fmt.Errorf("--from: family %s: catalogue %s knows the families %s; or give the version itself, such as %s",
		v, c.spec.Name, or(strings.Join(names, ", "), "(none)"), c.known[0].Version)
}

// end reads the version that is wanted.
func (c *Catalogue) end(text string) (version.Version, error) {
	v, err := version.Parse(c.scheme, strings.TrimSpace(text))
	if err != nil {
		return v, fmt.Errorf("--to: %w", err)
	}
	if v.IsFamily() {
		return v, fmt.Errorf("--to: %s is a family: want one version, such as %s", v, c.known[len(c.known)-1].Version)
	}
	if _, err := c.listed(v); err != nil {
		return v, fmt.Errorf("--to: %w", err)
	}
	return v, nil
}

// find returns the entry of a version, or nil.
func (c *Catalogue) find(v version.Version) *knownFields {
	i, found := slices.BinarySearchFunc(c.known, v, func(k knownFields, v version.Version) int { return compare(k.v, v) })
	if !found {
		return nil
	}
	return &c.known[i]
}

// listed gives the note of a version that the catalogue does not list, or the error
// if it must.
func (c *Catalogue) listed(v version.Version) ([]string, error) {
	switch {
	case c.find(v) != nil:
		return nil, nil
	case c.spec.Unlisted == UnlistedRefuse:
		return nil, fmt.Errorf("version %s: catalogue %s does not list it, and takes listed ones only", v, c.spec.Name)
	}
	return []string{fmt.Sprintf("unlisted: catalogue %s does not list %s; the rules go by its order", c.spec.Name, v)}, nil
}

// active reports whether the conditions of a rule besides versions are met.
func (r rule) active(env Environment) bool {
	for _, c := range r.Components {
		if !slices.Contains(env.Components, c) {
			return false
		}
	}
	return len(r.Modes) == 0 || slices.Contains(r.Modes, env.Mode)
}

// hops describes the hops of a way, the indexes of its versions in the problem.
func (p *problem) hops(way []int, notes []string) []Hop {
	out := []Hop{}
	u := 0
	for i, v := range way {
		h := Hop{To: p.nodes[v].String(), Reboot: p.reboots(p.class(u), p.class(v)), Notes: []string{}}
		if i == 0 {
			h.Notes = append(h.Notes, notes...)
		}
		h.Notes = append(h.Notes, p.notes(u, v, i < len(way)-1)...)
		out = append(out, h)
		u = v
	}
	return out
}

// notes are those of the hop from u to v; on is set when v is not the end.
func (p *problem) notes(u, v int, on bool) []string {
	var out []string
	if p.cat.find(p.nodes[v]) == nil {
		out = append(out, fmt.Sprintf("unlisted: catalogue %s does not list %s; the rules go by its order", p.cat.spec.Name, p.nodes[v]))
	}
	if a, b := p.class(u).kernel, p.class(v).kernel; changes(a, b) {
		out = append(out, fmt.Sprintf("kernel: changes from %s to %s", a, b))
	}
	from, to := p.nodes[u], p.nodes[v]
	for _, r := range p.cat.rules {
		if !r.active(p.env) {
			continue
		}
		hop := matches(r.from, from) && matches(r.to, to)
		switch {
		case r.Kind == Through:
			// Said where the path goes through.
			if on && matches(r.through, to) && matches(r.from, p.nodes[0]) && matches(r.to, p.nodes[len(p.nodes)-1]) {
				out = append(out, r.Name+": "+r.Text)
			}
		case r.Kind == Block && hop:
			out = append(out, r.Name+": confirmed by the operator. "+r.Text)
		case hop:
			out = append(out, r.Name+": "+r.Text)
		}
	}
	return out
}
