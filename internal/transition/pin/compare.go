package pin

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Differences compares a bridge after the plan was applied with the plan, flow by flow and
// group by group; none: it is pinned as planned. Flows with time-outs of their own may have ended,
// and there may be more where learn() adds some.
func (p *Plan) Differences(d Dump) ([]string, error) {
	have, err := byPlace(d.Ours())
	if err != nil {
		return nil, err
	}
	var out []string
	planned := map[string]bool{}
	for i, want := range slices.Concat(p.Copy, p.Entries) {
		place := want.place()
		planned[place] = true
		got, ok := have[place]
		if want.Actions, err = sorted(want.Actions); err != nil {
			return nil, err
		}
		mayChange := p.timed[i] || p.learns[want.Table]
		switch {
		case !ok && !mayChange:
			out = append(out, fmt.Sprintf("not there: %.300s", want))
		case ok && !mayChange && got.String() != want.String():
			out = append(out, fmt.Sprintf("other than planned: %.300s: want %.300s", got, want))
		}
	}
	for place, f := range have {
		if !planned[place] && !p.learns[f.Table] {
			out = append(out, fmt.Sprintf("not planned: %.300s", f))
		}
	}
	return append(out, p.groupDifferences(d)...), nil
}

func (p *Plan) groupDifferences(d Dump) (out []string) {
	have := map[uint32]string{}
	for _, g := range d.Groups {
		if g.ours() {
			have[g.ID] = g.Rest
		}
	}
	for _, g := range p.Groups {
		if have[g.ID] != g.Rest {
			out = append(out, fmt.Sprintf("group %d: is %.300q: want %.300q", g.ID, have[g.ID], g.Rest))
		}
		delete(have, g.ID)
	}
	for id := range have {
		out = append(out, fmt.Sprintf("group %d: not planned", id))
	}
	return out
}

func byPlace(flows []Flow) (map[string]Flow, error) {
	out := map[string]Flow{}
	for _, f := range flows {
		var err error
		if f.Actions, err = sorted(f.Actions); err != nil {
			return nil, err
		}
		out[f.place()] = f
	}
	return out, nil
}

// Changed are the flows of others that were added, removed or changed since the plan was made: its
// copy is then of something half written, perhaps. Flows that end by themselves do not count.
func (p *Plan) Changed(d Dump) []string { return moved(p.theirs, d.Theirs()) }

// Moved are the flows of others that were added, removed or changed from one dump to another, those
// left out that end by themselves.
func Moved(from, to Dump) []string { return moved(from.Theirs(), to.Theirs()) }

// moved are the flows that are there since, then those that are not there any more.
func moved(from, to []Flow) (out []string) {
	was := map[string]bool{}
	for _, f := range lasting(from) {
		was[f.String()] = true
	}
	for _, f := range lasting(to) {
		if !was[f.String()] {
			out = append(out, fmt.Sprintf("%.300s", f))
		}
		delete(was, f.String())
	}
	for _, f := range slices.Sorted(maps.Keys(was)) {
		out = append(out, fmt.Sprintf("%.300s, which is gone", f))
	}
	return out
}

func lasting(flows []Flow) (out []Flow) {
	for _, f := range flows {
		if f.Idle == 0 && f.Hard == 0 {
			out = append(out, f)
		}
	}
	return out
}

// Missing says what the bridge's own flows lack of those that the pin has copied: ports that fewer flows
// name than before, and flows on the whole. None: whoever programs the bridge is done.
// A copied flow with a time-out of its own does not count.
//
// A port that is removed and added again has another number, which the pin does not have: it takes the place of one
// that went, and no flow of that one counts. Where ports went and none came, nobody can tell how many flows were theirs
// that do not name them: each table must have flows again.
func (d Dump) Missing() (out []string) {
	limit := 0 // of the flows of the copy that had no time-out of their own
	var ours []Flow
	pinned := map[string]bool{} // numbers of ports
	for _, f := range d.Ours() {
		if f.entry() {
			limit = f.Hard + copyLonger
			pinned[strings.TrimPrefix(f.Match, "in_port=")] = true
		} else {
			ours = append(ours, f)
		}
	}
	ours = slices.DeleteFunc(ours, func(f Flow) bool { return f.Idle > 0 || f.Hard < limit })
	theirs := lasting(d.Theirs())
	var came []Port
	for _, p := range d.Ports {
		if !pinned[p.Number] {
			came = append(came, p)
		}
		delete(pinned, p.Number)
	}
	went := slices.Sorted(maps.Keys(pinned)) // the others are on the bridge
	all := len(ours)
	if len(went) > len(came) {
		ours = slices.DeleteFunc(ours, func(f Flow) bool { return slices.ContainsFunc(went, f.from) })
	}
	for _, p := range d.Ports {
		before, now := naming(ours, p.Number), naming(theirs, p.Number)
		if now < before {
			out = append(out, fmt.Sprintf("port %s (%s): %d flows name it, %d did when it was pinned", p.Number, p.Name, now, before))
		}
	}
	theirs = slices.DeleteFunc(theirs, func(f Flow) bool { return slices.ContainsFunc(went, f.names) })
	if len(went) > 0 {
		old := slices.MinFunc(went, func(a, b string) int { return naming(ours, a) - naming(ours, b) })
		for _, p := range came {
			if now, before := naming(theirs, p.Number), naming(ours, old); now < before {
				out = append(out, fmt.Sprintf("port %s (%s), which came when port %s went: %d flows name it, %d "+
					"named that one when it was pinned", p.Number, p.Name, old, now, before))
			}
		}
	}
	if len(went) > len(came) {
		if now, before := tables(theirs), tables(ours); now < before {
			out = append(out, fmt.Sprintf("flows in %d tables, they were in %d when it was pinned", now, before))
		}
	} else if len(theirs) < all {
		out = append(out, fmt.Sprintf("%d flows, %d were there when it was pinned", len(theirs), all))
	}
	return out
}

// tables counts those that flows are in.
func tables(flows []Flow) int {
	in := map[int]bool{}
	for _, f := range flows {
		in[f.Table] = true
	}
	return len(in)
}

// naming counts the flows that match a port or send to it.
func naming(flows []Flow, port string) (n int) {
	for _, f := range flows {
		if f.names(port) {
			n++
		}
	}
	return n
}

func (f Flow) names(port string) bool {
	return f.from(port) || strings.Contains(strings.ReplaceAll(f.Actions, ")", ",")+",", "output:"+port+",")
}

// from reports whether a flow matches a port.
func (f Flow) from(port string) bool {
	return strings.Contains(","+f.Match+",", ",in_port="+port+",")
}
