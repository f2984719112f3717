package path

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster/version"
)

// oracle is the rules again, as plainly as they can be written: it shares no
// code with the search.
type oracle struct {
	t    *testing.T
	spec Spec
	env  Environment
}

func (o oracle) parse(text string) version.Version {
	o.t.Helper()
	v, err := version.Parse(version.Scheme(o.spec.Scheme), text)
	if err != nil {
		o.t.Fatal(err)
	}
	return v
}

func (o oracle) match(pattern, text string) bool {
	o.t.Helper()
	p, err := version.ParsePattern(version.Scheme(o.spec.Scheme), or(pattern, "*"))
	if err != nil {
		o.t.Fatal(err)
	}
	ok, err := p.Match(o.parse(text))
	if err != nil {
		o.t.Fatal(err)
	}
	return ok
}

func (o oracle) entry(text string) Known {
	for _, k := range o.spec.Versions {
		if k.Version == text {
			return k
		}
	}
	return Known{}
}

func (o oracle) applies(r Rule) bool {
	for _, c := range r.Components {
		if !slices.Contains(o.env.Components, c) {
			return false
		}
	}
	return !slices.Contains(o.env.Confirmed, r.Name) && (len(r.Modes) == 0 || slices.Contains(r.Modes, o.env.Mode))
}

func (o oracle) reboot(from, to string) bool {
	a, b := o.entry(from), o.entry(to)
	if a.Kernel != "" && b.Kernel != "" && a.Kernel != b.Kernel {
		return true
	}
	for _, r := range o.spec.Rules {
		if r.Kind == Reboot && o.applies(r) && o.match(r.From, from) && o.match(r.To, to) {
			return true
		}
	}
	if b.Reboot != nil {
		return *b.Reboot
	}
	return o.spec.Reboot
}

// broken names what a path breaks, "" for nothing.
func (o oracle) broken(path []string) string {
	for i := 1; i < len(path); i++ {
		from, to := path[i-1], path[i]
		if compare(o.parse(from), o.parse(to)) >= 0 {
			return "order"
		}
		edge := len(o.spec.Hops) == 0
		for _, e := range o.spec.Hops {
			edge = edge || o.match(e.From, from) && o.match(e.To, to)
		}
		if !edge {
			return RuleHops
		}
		for _, c := range o.entry(to).Excludes {
			if slices.Contains(o.env.Components, c) {
				return RuleExcludes
			}
		}
	}
	for _, r := range o.spec.Rules {
		if o.applies(r) && o.breaks(r, path) {
			return r.Name
		}
	}
	return ""
}

func (o oracle) breaks(r Rule, path []string) bool {
	for i := range path {
		for j := i + 1; j < len(path); j++ {
			if !o.match(r.From, path[i]) || !o.match(r.To, path[j]) {
				continue
			}
			if r.Kind == Block && j == i+1 {
				return true
			}
			passes := func(v string) bool { return o.match(r.Through, v) }
			if r.Kind == Through && !slices.ContainsFunc(path[i:j+1], passes) {
				return true
			}
		}
	}
	return false
}

// best tries every choice of versions on the way.
func (o oracle) best(from, to string) (path []string) {
	var between []string
	for _, k := range o.spec.Versions {
		if v := o.parse(k.Version); compare(v, o.parse(from)) > 0 && compare(v, o.parse(to)) < 0 {
			between = append(between, k.Version)
		}
	}
	slices.SortFunc(between, func(a, b string) int { return compare(o.parse(a), o.parse(b)) })
	for choice := range 1 << len(between) {
		try := []string{from}
		for i, v := range between {
			if choice&(1<<i) != 0 {
				try = append(try, v)
			}
		}
		try = append(try, to)
		if o.broken(try) == "" && (path == nil || o.better(try, path)) {
			path = try
		}
	}
	return path
}

func (o oracle) reboots(path []string) (n int) {
	for i := 1; i < len(path); i++ {
		if o.reboot(path[i-1], path[i]) {
			n++
		}
	}
	return n
}

func (o oracle) better(a, b []string) bool {
	if c := cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(o.reboots(a), o.reboots(b))); c != 0 {
		return c < 0
	}
	for i := range a {
		if c := compare(o.parse(a[i]), o.parse(b[i])); c != 0 {
			return c > 0
		}
	}
	return false
}

// randomPattern is about the versions 1.0 to 1.9.
func randomPattern(r *rand.Rand) string {
	a, b := r.IntN(10), r.IntN(10)
	switch r.IntN(6) {
	case 0:
		return fmt.Sprintf("1.%d", a)
	case 1:
		return fmt.Sprintf(">=1.%d", a)
	case 2:
		return fmt.Sprintf("<1.%d", a)
	case 3:
		return fmt.Sprintf("1.%d, 1.%d", a, b)
	case 4:
		return ""
	}
	return fmt.Sprintf("1.%d..1.%d", min(a, b), max(a, b))
}

func some[T any](r *rand.Rand, from ...T) (out []T) {
	for _, x := range from {
		if r.IntN(3) == 0 {
			out = append(out, x)
		}
	}
	return out
}

func randomSpec(r *rand.Rand) Spec {
	s := Spec{Format: Format, Name: "random", Scheme: "dotted", Reboot: r.IntN(2) == 0, Components: []string{"a", "b"}}
	for _, minor := range r.Perm(10)[:2+r.IntN(7)] {
		k := Known{Version: fmt.Sprintf("1.%d", minor), Kernel: []string{"", "4", "5"}[r.IntN(3)]}
		if r.IntN(3) == 0 {
			reboot := r.IntN(2) == 0
			k.Reboot = &reboot
		}
		if r.IntN(4) == 0 {
			k.Excludes = some(r, "a", "b")
		}
		s.Versions = append(s.Versions, k)
	}
	if r.IntN(3) == 0 {
		for range 2 + r.IntN(4) {
			s.Hops = append(s.Hops, Edge{or(randomPattern(r), "*"), or(randomPattern(r), "*")})
		}
	}
	through := 0
	for i := range r.IntN(6) {
		rule := Rule{Name: fmt.Sprintf("r%d", i), Kind: []Kind{Block, Block, Through, Reboot, Note}[r.IntN(5)],
			From: randomPattern(r), To: randomPattern(r), Components: some(r, "a", "b"), Modes: some(r, Rolling, Offline), Text: "text."}
		if r.IntN(3) > 0 { // a rule that keeps the low ones from the high ones
			rule.From, rule.To = fmt.Sprintf("<1.%d", 2+r.IntN(5)), fmt.Sprintf(">=1.%d", 4+r.IntN(4))
			rule.Components, rule.Modes = nil, nil
		}
		switch rule.Kind {
		case Block:
			rule.Remedy, rule.Confirm = "do it.", r.IntN(2) == 0
		case Through:
			if through++; through > MaxThrough {
				continue
			}
			rule.Remedy, rule.Through = "do it.", or(randomPattern(r), "1.5")
		}
		s.Rules = append(s.Rules, rule)
	}
	return s
}

func randomEnvironment(r *rand.Rand, s Spec) Environment {
	env := Environment{Components: some(r, "a", "b"), Mode: []Mode{Rolling, Offline}[r.IntN(2)]}
	for _, x := range s.Rules {
		if x.Confirm && r.IntN(3) == 0 {
			env.Confirmed = append(env.Confirmed, x.Name)
		}
	}
	return env
}

// without is the world in which nobody has the rule.
func (o oracle) without(names ...string) oracle {
	s := o.spec
	s.Rules = slices.DeleteFunc(slices.Clone(s.Rules), func(r Rule) bool { return slices.Contains(names, r.Name) })
	if slices.Contains(names, RuleHops) {
		s.Hops = nil
	}
	if slices.Contains(names, RuleExcludes) {
		s.Versions = slices.Clone(s.Versions)
		for i := range s.Versions {
			s.Versions[i].Excludes = nil
		}
	}
	o.spec = s
	return o
}

// checkBlame checks that the blamed rules are what is in the way, and that none
// of them is too much.
func (o oracle) checkBlame(from, to string, b *Blocked) {
	o.t.Helper()
	names := []string{b.Rule}
	if _, others, found := strings.Cut(b.Reason, " Also in the way: "); found {
		names = append(names, strings.Split(others, ", ")...)
	}
	if o.without(names...).best(from, to) == nil {
		o.t.Errorf("%s to %s: also without %v there is no path", from, to, names)
	}
	for i := range names {
		rest := slices.Delete(slices.Clone(names), i, i+1)
		if way := o.without(rest...).best(from, to); way != nil {
			o.t.Errorf("%s to %s: %s is blamed, but without %v there is %v", from, to, names[i], rest, way)
		}
	}
}

// TestAgainstBruteForce compares plans over random small catalogues with the
// best of all paths.
func TestAgainstBruteForce(t *testing.T) {
	var found, several, none, both int
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 7))
		s := randomSpec(r)
		c, faults := New(s)
		if c == nil {
			t.Fatalf("seed %d: %v", seed, faults)
		}
		o := oracle{t, s, randomEnvironment(r, s)}
		a := r.IntN(6)
		b := a + 1 + r.IntN(9-a)
		from, to := fmt.Sprintf("1.%d", a), fmt.Sprintf("1.%d", b)
		got, err := Plan(c, from, to, o.env)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		want := o.best(from, to)
		way := []string{from}
		for _, h := range got.Hops {
			if h.Reboot != o.reboot(way[len(way)-1], h.To) {
				t.Errorf("seed %d: hop to %s: reboot %v", seed, h.To, h.Reboot)
			}
			way = append(way, h.To)
		}
		switch {
		case want == nil:
			none++
			if got.Blocked == nil || len(got.Hops) > 0 {
				t.Fatalf("seed %d: %s to %s: got %v, want none\n%+v", seed, from, to, way, s)
			}
			if strings.Contains(got.Blocked.Reason, "Also in the way") {
				both++
			}
			o.checkBlame(from, to, got.Blocked)
		case got.Blocked != nil || !slices.Equal(way, want):
			t.Fatalf("seed %d: %s to %s: got %v %+v, want %v\n%+v %+v", seed, from, to, way, got.Blocked, want, s, o.env)
		default:
			found++
			if len(way) > 2 {
				several++
			}
			if what := o.broken(way); what != "" {
				t.Errorf("seed %d: %v breaks %s", seed, way, what)
			}
		}
	}
	if found < 300 || several < 50 || none < 100 || both < 10 {
		t.Errorf("the catalogues are too much alike: %d paths, %d of several hops, %d blocked, %d by several rules", found, several, none, both)
	}
}

// TestWorkIsBounded plans over 10,000 versions and counts steps, not time.
func TestWorkIsBounded(t *testing.T) {
	s := Spec{Format: Format, Name: "large", Scheme: "dotted", Rules: []Rule{
		{Name: "pass-1", Kind: Through, From: "<10.0", To: ">=50.0", Through: "30.*", Text: "x", Remedy: "x"},
		{Name: "pass-2", Kind: Through, From: "<40.0", To: ">=90.0", Through: "60.50, 70.50", Text: "x", Remedy: "x"},
		{Name: "block", Kind: Block, From: "60.*", To: ">=95.0", Text: "x", Remedy: "x"},
		{Name: "reboot", Kind: Reboot, From: "30.0..30.50", Text: "x"},
	}}
	for major := range 100 {
		for minor := range 100 {
			s.Versions = append(s.Versions, Known{Version: fmt.Sprintf("%d.%d", major, minor), Kernel: fmt.Sprint(major / 10)})
		}
	}
	c, faults := New(s)
	if c == nil {
		t.Fatal(faults)
	}
	env := Environment{Mode: Rolling}
	p, err := newProblem(c, c.known[0].v, c.known[len(c.known)-1].v, env)
	if err != nil {
		t.Fatal(err)
	}
	way := p.search(relax{})
	var got []string
	for _, v := range way {
		got = append(got, p.nodes[v].String())
	}
	if want := []string{"30.99", "70.50", "99.99"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if most := len(p.nodes) * len(p.classes) * (1 + 1<<len(p.through)); p.work > most || len(p.classes) > 40 {
		t.Errorf("%d steps for %d versions of %d kinds: want at most %d", p.work, len(p.nodes), len(p.classes), most)
	}
}
