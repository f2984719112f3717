package path

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/cluster/version"
	"holdfast/internal/lib/strictyaml"
)

// Fault is one thing that is wrong in a Spec.
type Fault = strictyaml.Fault

// checker collects faults.
type checker struct {
	c      *Catalogue
	faults []Fault
}

func (k *checker) fault(path, value, want string) {
	const shown = 80
	if len(value) > shown {
		value = strings.ToValidUTF8(value[:shown], "") + "..."
	}
	k.faults = append(k.faults, Fault{Path: path, Value: value, Want: want})
}

// New checks a Spec; the Catalogue is nil when there are faults.
func New(s Spec) (*Catalogue, []Fault) {
	k := &checker{c: &Catalogue{spec: s, scheme: version.Scheme(s.Scheme)}}
	k.head()
	if len(k.faults) > 0 {
		return nil, k.faults // nothing can be read in an unknown scheme
	}
	k.versions()
	k.families()
	k.edges()
	k.rules()
	if len(k.faults) > 0 {
		return nil, k.faults
	}
	return k.c, nil
}

func (k *checker) head() {
	s := k.c.spec
	if s.Format != Format {
		k.fault("format", strconv.Itoa(s.Format), fmt.Sprintf("want %d, the format that this program knows", Format))
	}
	if !isName(s.Name) {
		k.fault("name", s.Name, wantName)
	}
	var schemes []string
	for _, x := range version.Schemes() {
		schemes = append(schemes, string(x))
	}
	if !slices.Contains(schemes, s.Scheme) {
		k.fault("scheme", s.Scheme, "want "+strings.Join(schemes, ", "))
	}
	if u := s.Unlisted; u != "" && u != UnlistedAllow && u != UnlistedRefuse {
		k.fault("unlisted", u, "want allow or refuse")
	}
	for i, c := range s.Components {
		path := fmt.Sprintf("components[%d]", i)
		if !isName(c) {
			k.fault(path, c, wantName)
		} else if slices.Contains(s.Components[:i], c) {
			k.fault(path, c, "is given twice")
		}
	}
	k.limit("versions", len(s.Versions), 1, MaxVersions)
	k.limit("hops", len(s.Hops), 0, MaxHops)
	k.limit("rules", len(s.Rules), 0, MaxRules)
}

func (k *checker) limit(path string, n, least, most int) {
	if n < least || n > most {
		k.fault(path, strconv.Itoa(n), fmt.Sprintf("want %d to %d of them", least, most))
	}
}

const wantName = "want 1 to 64 lower case letters, digits, . and -"

func isName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
}

// version reads a version that is no family.
func (k *checker) version(path, text string) (version.Version, bool) {
	v, err := version.Parse(k.c.scheme, text)
	if err != nil {
		k.fault(path, text, err.Error())
		return v, false
	}
	if v.IsFamily() {
		k.fault(path, text, "want a version, not a family")
		return v, false
	}
	return v, true
}

func (k *checker) pattern(path, text string) version.Pattern {
	p, err := version.ParsePattern(k.c.scheme, text)
	if err != nil {
		k.fault(path, text, err.Error())
	}
	return p
}

func (k *checker) versions() {
	at := map[string]string{} // version to path
	for i, e := range k.c.spec.Versions {
		path := fmt.Sprintf("versions[%d]", i)
		k.components(path+".excludes", e.Excludes)
		v, ok := k.version(path+".version", e.Version)
		if !ok {
			continue
		}
		at[e.Version] = path
		k.c.known = append(k.c.known, knownFields{e, v})
	}
	slices.SortStableFunc(k.c.known, func(a, b knownFields) int { return compare(a.v, b.v) })
	for i := 1; i < len(k.c.known); i++ {
		if a, b := k.c.known[i-1], k.c.known[i]; compare(a.v, b.v) == 0 {
			k.fault(at[b.Version]+".version", b.Version, "is given twice, also as "+a.Version)
		}
	}
}

func (k *checker) components(path string, names []string) {
	for i, n := range names {
		if !slices.Contains(k.c.spec.Components, n) {
			k.fault(fmt.Sprintf("%s[%d]", path, i), n, "want one of components: "+or(strings.Join(k.c.spec.Components, ", "), "none"))
		}
	}
}

func or(s, none string) string {
	if s == "" {
		return none
	}
	return s
}

func (k *checker) families() {
	for i, f := range k.c.spec.Families {
		path := fmt.Sprintf("families[%d]", i)
		name, err := version.Parse(k.c.scheme, f.Name)
		if err != nil || !name.IsFamily() {
			k.fault(path+".name", f.Name, "want a family of scheme cas, such as 2.0")
			continue
		}
		if slices.ContainsFunc(k.c.families, func(o family) bool { return compare(o.name, name) == 0 }) {
			k.fault(path+".name", f.Name, "is given twice")
		}
		as, ok := k.version(path+".as", f.As)
		if !ok {
			continue
		}
		if of, ok := as.Family(); !ok || compare(of, name) != 0 {
			k.fault(path+".as", f.As, "want a version of "+f.Name)
		}
		k.c.families = append(k.c.families, family{f, name, as})
	}
}

func (k *checker) edges() {
	for i, e := range k.c.spec.Hops {
		path := fmt.Sprintf("hops[%d]", i)
		k.c.edges = append(k.c.edges, edge{k.pattern(path+".from", e.From), k.pattern(path+".to", e.To)})
	}
}

func (k *checker) rules() {
	through := 0
	for i, r := range k.c.spec.Rules {
		path := fmt.Sprintf("rules[%d]", i)
		k.ruleName(path+".name", r.Name, k.c.spec.Rules[:i])
		k.components(path+".components", r.Components)
		for j, m := range r.Modes {
			if m != Rolling && m != Offline {
				k.fault(fmt.Sprintf("%s.modes[%d]", path, j), string(m), "want rolling or offline")
			}
		}
		k.kind(path, r)
		out := rule{Rule: r, from: k.pattern(path+".from", or(r.From, "*")), to: k.pattern(path+".to", or(r.To, "*"))}
		if r.Kind == Through {
			through++
			out.through = k.pattern(path+".through", r.Through)
		}
		k.c.rules = append(k.c.rules, out)
	}
	if through > MaxThrough {
		k.fault("rules", strconv.Itoa(through), fmt.Sprintf("want at most %d rules of kind through", MaxThrough))
	}
}

func (k *checker) ruleName(path, name string, before []Rule) {
	switch {
	case !isName(name):
		k.fault(path, name, wantName)
	case name == RuleDowngrade || name == RuleHops || name == RuleExcludes:
		k.fault(path, name, "this name stands for a rule that every catalogue has")
	case slices.ContainsFunc(before, func(r Rule) bool { return r.Name == name }):
		k.fault(path, name, "is given twice")
	}
}

// kind checks which fields belong to the kind of a rule.
func (k *checker) kind(path string, r Rule) {
	if !slices.Contains([]Kind{Block, Through, Reboot, Note}, r.Kind) {
		k.fault(path+".kind", string(r.Kind), "want block, through, reboot or note")
		return
	}
	if strings.TrimSpace(r.Text) == "" {
		k.fault(path+".text", r.Text, "want what the rule says, and why")
	}
	stops := r.Kind == Block || r.Kind == Through
	if stops && strings.TrimSpace(r.Remedy) == "" {
		k.fault(path+".remedy", r.Remedy, "want what the operator can do")
	}
	if !stops && r.Remedy != "" {
		k.fault(path+".remedy", r.Remedy, "only rules of kind block and through have a remedy")
	}
	if r.Kind != Through && r.Through != "" {
		k.fault(path+".through", r.Through, "only rules of kind through have it")
	}
	if r.Kind != Block && r.Confirm {
		k.fault(path+".confirm", "true", "only rules of kind block can be confirmed")
	}
}
