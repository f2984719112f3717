package mapping

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/sqlexpr"
)

// This file is about tables of the target whose rows come from several of the source: a
// table's parts. Each has keys of its own: those of its source's rows, shifted.

// maxShift leaves room above it in a BIGINT.
const maxShift = 1 << 62

// maxPart is how long the name of a part may be: with its table's it is a key of the journal.
const maxPart = 21

// Name tells parts of a table apart: DATABASE.TABLE, or DATABASE.TABLE#PART.
func (t *Table) Name() string {
	if t.Part == "" {
		return t.Target
	}
	return t.Target + "#" + t.Part
}

// parts checks those of a mapping.
func (r *reader) parts() {
	for i := range r.m.Tables {
		t, at := &r.m.Tables[i], fmt.Sprintf("tables[%d]", i)
		if t.Part == "" {
			if t.Shift != 0 {
				r.fault(at+".shift", fmt.Sprint(t.Shift), "want it with part only")
			}
			continue
		}
		if !word().MatchString(t.Part) || len(t.Part) > maxPart {
			r.fault(at+".part", t.Part, fmt.Sprintf("want a word of small letters, digits and _, of at most %d", maxPart))
		}
		if t.Shift < 1 || t.Shift > maxShift {
			r.fault(at+".shift", fmt.Sprint(t.Shift), fmt.Sprintf("want a number from 1 to %d, larger than all keys below it", int64(maxShift)))
		}
		if !slices.ContainsFunc(r.m.Tables, func(o Table) bool { return o.Target == t.Target && o.Part == "" }) {
			r.fault(at+".part", t.Part, "want a table "+t.Target+" without part, too")
		}
		if slices.ContainsFunc(r.m.Tables[:i], func(o Table) bool { return o.Target == t.Target && o.Shift == t.Shift && o.Part != "" }) {
			r.fault(at+".shift", fmt.Sprint(t.Shift), "is that of another part of "+t.Target)
		}
	}
}

// window is where in the target the keys of a part are: after its shift, up to the next
// part's. Without parts it is all of the table.
type window struct {
	key         string // column of the target
	shift, upTo int64  // upTo 0: there is no next part
}

// windowed finds out where a table's keys are, and gives those of a part their values.
func (x *planner) windowed(all []Table) {
	w := window{shift: x.t.Shift}
	several := false
	for _, o := range all {
		if o.Target != x.t.Target || o.Part == x.t.Part {
			continue
		}
		if several = true; o.Shift > w.shift && (w.upTo == 0 || o.Shift < w.upTo) {
			w.upTo = o.Shift
		}
	}
	if !several {
		return
	}
	from, to, why := x.numbered()
	if why != "" {
		x.error("", "has parts, whose keys are told apart by their numbers: %s", why)
		return
	}
	w.key = to.Name
	key := own(from.Name)
	if x.t.Part != "" {
		x.used[from.Name] = true
		x.put(to.Name, "("+key+" + "+strconv.FormatInt(w.shift, 10)+")")
	}
	x.out.window = w
	if w.upTo > 0 {
		x.check(&to, fmt.Sprintf("a number above %d, from which on the keys of another part are", w.upTo-w.shift),
			fmt.Sprintf("%s > %d", key, w.upTo-w.shift), key)
	} else {
		limit := uint64(1)<<(to.Type.Bits-1) - 1
		if to.Type.Unsigned {
			limit = 2*limit + 1
		}
		x.check(&to, "a number that is too large for "+to.Type.Text+" when it is shifted",
			fmt.Sprintf("%s > %d", key, limit-min(limit, uint64(w.shift))), key)
	}
	if w.shift > 0 {
		x.check(&to, "a number below 1, which shifted is among the keys of another part", key+" < 1", key)
	}
}

// numbered gives the primary keys of both sides, each one column of whole numbers.
func (x *planner) numbered() (from, to column.Column, why string) {
	if len(x.from.Key) != 1 || len(x.to.Key) != 1 {
		return from, to, "want a primary key of one column on both sides"
	}
	from, _ = x.from.column(x.from.Key[0])
	to, _ = x.to.column(x.to.Key[0])
	switch {
	case from.Type.Kind != column.Integer || to.Type.Kind != column.Integer:
		why = fmt.Sprintf("want whole numbers, not %s and %s", from.Type.Text, to.Type.Text)
	case x.t.Part != "" && slices.Contains(x.out.Columns, to.Name):
		why = "want no value for column " + to.Name + " of a part: it gets one by shift"
	case x.t.Part == "" && !slices.Equal(x.kept(), x.to.Key):
		why = "want column " + to.Name + " copied from the source's key"
	}
	return from, to, why
}

// inWindow are the conditions that a row of the target is of this part.
func (p *Planned) inWindow() (out []string) {
	key := sqlexpr.Quote(p.window.key)
	if p.window.shift > 0 {
		out = append(out, fmt.Sprintf("%s > %d", key, p.window.shift))
	}
	if p.window.upTo > 0 {
		out = append(out, fmt.Sprintf("%s <= %d", key, p.window.upTo))
	}
	return out
}

// There gives the key that a row has in the target (its columns Kept), of the SQL of the
// source's key (Key).
func (p *Planned) There(values []string) []string {
	if p.window.shift == 0 || values == nil {
		return values
	}
	return []string{fmt.Sprintf("(%s + %d)", values[0], p.window.shift)}
}

// here writes the columns Kept of the target as the source's key.
func (p *Planned) here() []string {
	out := make([]string, 0, len(p.Kept))
	for _, k := range p.Kept {
		k = sqlexpr.Quote(k)
		if p.window.shift > 0 {
			k = fmt.Sprintf("(%s - %d)", k, p.window.shift)
		}
		out = append(out, k)
	}
	return out
}

// parts are the tables of the plan whose rows come into one table of the target.
func (p *Plan) parts(table string) (out []*Planned) {
	for i := range p.Tables {
		if p.Tables[i].Table == table {
			out = append(out, &p.Tables[i])
		}
	}
	return out
}

// amongParts looks at the unique keys of tables of several parts: what no part has twice, two
// of them may have. The primary key is told apart by numbers.
func (p *Plan) amongParts() {
	for i := range p.Tables {
		first := &p.Tables[i]
		parts := p.parts(first.Table)
		if len(parts) == 1 || parts[0] != first {
			continue
		}
		for _, k := range first.planner.to.Unique {
			all, unknown := among(parts, k)
			switch {
			case unknown != "":
				p.Warnings = append(p.Warnings, Finding{Table: first.Target,
					Text: fmt.Sprintf("unique key %s (%s) is not looked at among the parts of the table: %s", k.Name,
						strings.Join(k.parts(), ", "), unknown)})
			case len(all) > 1:
				for _, x := range all { // it is looked at here
					x.Collisions = slices.DeleteFunc(x.Collisions, func(c Collision) bool { return c.Index == k.Name })
				}
				first.Collisions = append(first.Collisions,
					Collision{Index: k.Name, Columns: k.parts(), Rough: first.planner.rough(k.Columns), list: func(m Merged) string {
						var selects []string
						for _, x := range all {
							selects = append(selects, x.planner.keyed(x, k, m))
						}
						return twice(k, strings.Join(selects, " UNION ALL "))
					}})
			}
		}
	}
}

// among are the parts that give all columns of a key a value, and why it is not known.
func among(parts []*Planned, k Unique) (out []*Planned, unknown string) {
	kinds := map[string]string{}
	for _, p := range parts {
		filled := true
		for i, c := range k.Columns {
			sql, kind, why := p.planner.gets(c)
			was, other := kinds[c]
			switch {
			case why != "":
				return nil, why
			case sql == "":
				filled = false // NULL, or a number that the server counts
			case kind != "" && k.length(i) > 0, other && was != kind:
				return nil, "the values of " + c + " are looked up"
			default:
				kinds[c] = kind
			}
		}
		if filled {
			out = append(out, p)
		}
	}
	return out, ""
}
