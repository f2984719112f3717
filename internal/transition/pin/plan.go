package pin

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Plan is a pin of a bridge.
type Plan struct {
	Entries []Flow   // in table 0, one per port
	Copy    []Flow   // in spare tables
	Groups  []Group  // the groups of the copy
	Notes   []string // what an operator should know of it

	theirs []Flow       // as they were when it was planned
	timed  map[int]bool // by index into Copy: those that may end by themselves
	learns map[int]bool // tables of the copy that learn() adds flows to
	old    []Group      // groups that an earlier pin has left
}

// New plans a pin that holds for a time, which is counted in whole seconds from the moment that the
// bridge takes it. What an earlier pin has left on the bridge is replaced. Errors say what of
// the bridge can not be copied.
func New(d Dump, hold time.Duration) (*Plan, error) {
	seconds := int(hold / time.Second)
	p := &Plan{theirs: d.Theirs(), timed: map[int]bool{}, learns: map[int]bool{}}
	for _, f := range p.theirs {
		// One that drops is there in the copy, too: a packet that it matches ends by either. Neutron's agent has one for the
		// VLAN of ports that it has cut off (setup_default_table of br_int.py).
		if f.Table == 0 && f.Priority == EntryPriority && f.Actions != "drop" {
			return nil, fmt.Errorf("table 0 has a flow of priority %d, which the entries of a pin need: %.200s", EntryPriority, f)
		}
	}
	var theirs []Group
	ids := map[uint32]uint32{}
	for _, g := range d.Groups {
		if g.ours() {
			p.old = append(p.old, g)
			continue
		}
		ids[g.ID] = FirstGroup + uint32(len(theirs))
		theirs = append(theirs, g)
	}
	if most := int(LastGroup-FirstGroup) + 1; len(theirs) > most {
		return nil, fmt.Errorf("the bridge has %d groups: want at most %d", len(theirs), most)
	}
	tables, err := spareTables(p.theirs, theirs)
	if err != nil {
		return nil, err
	}
	if err := p.copy(theirs, tables, ids, seconds+copyLonger); err != nil {
		return nil, err
	}
	for _, port := range d.Ports {
		p.Entries = append(p.Entries, Flow{Cookie: Cookie, Priority: EntryPriority, Hard: seconds,
			Match: "in_port=" + port.Number, Actions: fmt.Sprintf("goto_table:%d", tables[0])})
	}
	if n := p.asks(); n > 0 {
		p.Notes = append(p.Notes, fmt.Sprintf("%d flows send packets to the controller, which does not answer while it restarts", n))
	}
	return p, nil
}

// spareTables says for each table that is used, or led to, which one its copy is: the
// highest spare ones, in the same order, as goto_table leads to higher numbers only.
func spareTables(flows []Flow, groups []Group) (map[int]int, error) {
	used := map[int]bool{0: true}
	see := rewriter{
		table:  func(n int) (int, error) { used[n] = true; return n, nil },
		group:  func(n uint32) (uint32, error) { return n, nil },
		learnt: func(args []string) ([]string, error) { return args, nil },
	}
	for _, f := range flows {
		used[f.Table] = true
		if _, err := see.actions(f.Actions); err != nil {
			return nil, fmt.Errorf("flow %.300s: %w", f, err)
		}
	}
	for _, g := range groups {
		if _, err := see.buckets(g.Rest); err != nil {
			return nil, fmt.Errorf("group %d: %w", g.ID, err)
		}
	}
	var from, to []int
	for n := LastTable; n >= 0; n-- {
		if used[n] {
			from = append(from, n)
		} else {
			to = append(to, n)
		}
	}
	if len(to) < len(from) {
		return nil, fmt.Errorf("the bridge uses %d of its %d tables: the copy needs as many spare ones", len(from), LastTable+1)
	}
	out := map[int]int{}
	for i, n := range from {
		out[n] = to[i]
	}
	return out, nil
}

// copy makes the flows and groups of the copy, none of which outlives limit seconds.
func (p *Plan) copy(groups []Group, tables map[int]int, ids map[uint32]uint32, limit int) error {
	r := rewriter{
		table: func(n int) (int, error) { return tables[n], nil },
		group: func(n uint32) (uint32, error) {
			if to, ok := ids[n]; ok {
				return to, nil
			}
			return 0, fmt.Errorf("group %d: the bridge has none", n)
		},
	}
	r.learnt = func(args []string) ([]string, error) { return learnt(args, limit) }
	for _, g := range groups {
		rest, err := r.buckets(g.Rest)
		if err != nil {
			return fmt.Errorf("group %d: %w", g.ID, err)
		}
		p.Groups = append(p.Groups, Group{ids[g.ID], rest})
	}
	for _, f := range p.theirs {
		actions, err := r.actions(f.Actions)
		if err != nil {
			return fmt.Errorf("flow %.300s: %w", f, err)
		}
		p.timed[len(p.Copy)] = f.Idle > 0 || f.Hard > 0
		c := Flow{Cookie: Cookie, Table: tables[f.Table], Priority: f.Priority, Idle: f.Idle,
			Hard: within(f.Hard, limit), Match: f.Match, Actions: actions}
		p.Copy = append(p.Copy, c)
	}
	p.seeLearns()
	return nil
}

// within bounds a time-out of a flow; 0 is none. One that had a time-out is told from one that had
// none by the second that it ends before limit.
func within(hard, limit int) int {
	if hard == 0 {
		return limit
	}
	return min(hard, limit-1)
}

// learnt are the arguments of learn() in a copy, but for its table: what it adds is the pin's,
// ends with it, and is told to nobody.
func learnt(args []string, limit int) ([]string, error) {
	var out []string
	hard := 0
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "cookie", "send_flow_rem":
		case "delete_learned":
			return nil, fmt.Errorf("delete_learned: the end of the copy would delete flows: not pinned")
		case "hard_timeout":
			var err error
			if hard, err = number(value, 65535); err != nil {
				return nil, fmt.Errorf("hard_timeout: %w", err)
			}
		default:
			out = append(out, a)
		}
	}
	return append([]string{fmt.Sprintf("hard_timeout=%d", min(within(hard, limit), limit-1)), fmt.Sprintf("cookie=0x%x", Cookie)}, out...), nil
}

// seeLearns notes the tables of the copy in which learn() adds and changes flows.
func (p *Plan) seeLearns() {
	for _, f := range p.Copy {
		for rest := f.Actions; ; {
			_, after, ok := strings.Cut(rest, "learn(table=")
			if !ok {
				break
			}
			end := strings.IndexAny(after, ",)")
			if n, err := number(after[:max(0, end)], LastTable); err == nil {
				p.learns[n] = true
			}
			rest = after
		}
	}
}

// asks counts the flows that send packets to the controller.
func (p *Plan) asks() (n int) {
	for _, f := range p.Copy {
		if strings.Contains(strings.ToUpper(f.Actions), "CONTROLLER") {
			n++
		}
	}
	return n
}

// Lines are the plan as `ovs-ofctl bundle` takes it. The bridge takes all of it, or nothing.
func (p *Plan) Lines() []string {
	out := Removal(p.old)
	for _, g := range p.Groups {
		out = append(out, "group add "+g.String())
	}
	for _, f := range slices.Concat(p.Copy, p.Entries) {
		out = append(out, "flow add "+f.String())
	}
	return out
}

// Removal are the lines that take a pin away: its flows, and those of the groups that are its own.
func Removal(groups []Group) []string {
	out := []string{fmt.Sprintf("flow delete cookie=0x%x/-1", Cookie)}
	for _, g := range groups {
		if g.ours() {
			out = append(out, fmt.Sprintf("group delete group_id=%d", g.ID))
		}
	}
	return out
}
