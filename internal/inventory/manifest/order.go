package manifest

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// InPhase returns the modules in the order of a phase. The manifest must have
// passed Check.
func (m *Manifest) InPhase(p Phase) []*Module {
	names := m.Order.of(p)
	if names == nil {
		names = m.installOrder()
		if p == Stop || p == Rollback {
			slices.Reverse(names)
		}
	}
	out := make([]*Module, 0, len(names))
	for _, n := range names {
		out = append(out, m.Module(n))
	}
	return out
}

// of returns the order of a phase that the manifest gives, or nil.
func (o *Order) of(p Phase) []string {
	return map[Phase][]string{
		PreCheck: o.PreCheck, Stop: o.Stop, Start: o.Start, PostCheck: o.PostCheck, Rollback: o.Rollback,
	}[p]
}

// installOrder returns the names as listed, each after those that it waits for.
// What waits for itself is left out.
func (m *Manifest) installOrder() []string {
	var out []string
	for len(out) < len(m.Modules) {
		next := slices.IndexFunc(m.Modules, func(mod Module) bool {
			return !slices.Contains(out, mod.Name) &&
				!slices.ContainsFunc(mod.After, func(dep string) bool { return !slices.Contains(out, dep) })
		})
		if next < 0 {
			break
		}
		out = append(out, m.Modules[next].Name)
	}
	return out
}

// checkOrder checks who comes after whom.
func (c *checker) checkOrder(m *Manifest) {
	for i, mod := range m.Modules {
		for j, dep := range mod.After {
			if m.Module(dep) == nil {
				c.add(fmt.Sprintf("modules[%d].after[%d]", i, j), dep, m.someModule())
			}
		}
	}
	if cycle := m.Cycle(); cycle != nil {
		i := slices.IndexFunc(m.Modules, func(mod Module) bool { return mod.Name == cycle[0] })
		c.add(fmt.Sprintf("modules[%d].after", i), strings.Join(cycle, " -> "), "want no cycle: each of these modules waits for the next")
	}
	for _, p := range Phases() {
		if names := m.Order.of(p); names != nil {
			c.permutation("order."+string(p), names, m)
		}
	}
}

// someModule says what the name of a module may be, as far as it fits in a line.
func (m *Manifest) someModule() string {
	var names []string
	for _, mod := range m.Modules {
		names = append(names, mod.Name)
	}
	return "want the name of a module of this bundle: " + strictyaml.Shorten(strings.Join(names, ", "))
}

// permutation checks that names are all modules, each once.
func (c *checker) permutation(path string, names []string, m *Manifest) {
	seen := map[string]bool{}
	for i, n := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case m.Module(n) == nil:
			c.add(at, n, m.someModule())
		case seen[n]:
			c.add(at, n, "want each module once")
		}
		seen[n] = true
	}
	for _, mod := range m.Modules {
		if !seen[mod.Name] {
			c.add(path, strings.Join(names, ", "), fmt.Sprintf("want all modules, %q is missing", mod.Name))
		}
	}
}

// Cycle returns modules that wait for one another, the first one again at the
// end, or nil.
func (m *Manifest) Cycle() []string {
	const onWay, done = 1, 2
	state := map[string]int{}
	var way, found []string
	var visit func(name string)
	visit = func(name string) {
		mod := m.Module(name)
		if mod == nil || found != nil || state[name] == done {
			return
		}
		if state[name] == onWay {
			found = append(slices.Clone(way[slices.Index(way, name):]), name)
			return
		}
		state[name] = onWay
		way = append(way, name)
		for _, dep := range mod.After {
			visit(dep)
		}
		way = way[:len(way)-1]
		state[name] = done
	}
	for _, mod := range m.Modules {
		visit(mod.Name)
	}
	return found
}
