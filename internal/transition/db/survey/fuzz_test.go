package survey

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
)

// spoilt are errors of statements that no mapping explains: their form, a column or a table
// that is not there, or that several have, an alias that is given twice.
var spoilt = []uint16{1051, 1052, 1054, 1064, 1066, 1109, 1146, 1149, 1222, 1241, 1248, 1305}

// FuzzPlan: mappings of the real tables by chance, as those who write them err: columns
// that are not there, of other types, keys that are not kept, joins of anything. Whatever
// they say, the server understands each statement that a plan of them asks, and those of
// a plan without errors.
func FuzzPlan(f *testing.F) {
	r := aligntest.MariaDB(f)
	aligntest.Fill(f, r, 1, 12)
	r.Load("zed-schema.sql", "zed_", "zed_")
	source, target := r.Server("source"), r.Server("target")
	real := func(prefix string) map[string]string {
		out := map[string]string{}
		for _, db := range []string{"nova", "nova_api", "glance", "cinder", "neutron"} {
			out[db] = prefix + db
		}
		return out
	}
	old, made := real("liberty_"), real("zed_")
	from, err := source.Side(aligntest.Deadline(f), old)
	if err != nil {
		f.Fatal(err)
	}
	to, err := target.Side(aligntest.Deadline(f), made)
	if err != nil {
		f.Fatal(err)
	}
	sets := map[string]ids.Set{"project": {Pairs: map[string]string{"it's": `a \ "b"`}},
		"user": {Pairs: map[string]string{}, Default: new(string)}}
	numbers := regexp.MustCompile(`(?i)error (\d+)`)
	for seed := range uint64(25) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		text := byChance(rand.New(rand.NewPCG(seed, 7)), from, to)
		m, err := mapping.ParseMapping("m.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		found, p, err := Plan(aligntest.Deadline(t), m, source, target, old, made, sets)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		for _, x := range slices.Concat(found.Errors, found.Warnings) {
			for _, n := range numbers.FindAllStringSubmatch(x.Text, -1) {
				if slices.ContainsFunc(spoilt, func(s uint16) bool { return fmt.Sprint(s) == n[1] }) {
					t.Errorf("%s %s: %s\n%s", x.Table, x.Column, x.Text, text)
				}
			}
		}
		for i := range p.Tables {
			if len(found.Errors) > 0 || len(p.Tables[i].Lookups)+len(p.Tables[i].Others) > 0 { // whose IDs are not staged
				break
			}
			x := &p.Tables[i]
			list := []string{x.Select("") + " LIMIT 1", x.SourceSum(""), x.TargetSum(""), x.Export("").Select + " LIMIT 1"}
			if x.Kept != nil { // rows are compared by their keys
				list = append(list, x.SourceRows("")+" LIMIT 1", x.TargetRows("")+" LIMIT 1")
			}
			for _, s := range list {
				rows, err := source.DB.QueryContext(aligntest.Deadline(t), s)
				if err == nil {
					for rows.Next() {
					}
					err = errors.Join(rows.Err(), rows.Close())
				}
				if told := (*mysql.MySQLError)(nil); errors.As(err, &told) && slices.Contains(spoilt, told.Number) {
					t.Errorf("%s: %v: %s\n%s", x.Target, err, s, text)
				}
			}
		}
	})
}

// chance makes a mapping.
type chance struct {
	*rand.Rand
	source, target mapping.Side
	from           []string // tables whose columns may be named, the main one first
	as             []string // their names
	find           bool     // there is one, j1
}

// byChance is a mapping of one to three tables.
func byChance(r *rand.Rand, source, target mapping.Side) string {
	c := &chance{Rand: r, source: source, target: target}
	var b strings.Builder
	b.WriteString("format: 1\nname: by chance\nids: [{kind: project}, {kind: user}]\ntables:\n")
	names := slices.Sorted(maps.Keys(target.Tables))
	c.Shuffle(len(names), func(i, k int) { names[i], names[k] = names[k], names[i] })
	for i, name := range names[:1+c.IntN(3)] {
		b.WriteString(c.table(name))
		if i > 0 && c.IntN(2) == 0 {
			fmt.Fprintf(&b, "  after: [%s]\n", names[0])
		}
	}
	return b.String()
}

func (c *chance) any(s mapping.Side) string { return c.one(slices.Sorted(maps.Keys(s.Tables))) }

func (c *chance) one(list []string) string { return list[c.IntN(len(list))] }

// table takes the source's table of that name, if there is one and chance will.
func (c *chance) table(target string) string {
	from := target
	if c.source.Tables[from] == nil || c.IntN(8) == 0 {
		from = c.any(c.source)
	}
	c.from, c.as, c.find = []string{from}, []string{mapping.Main}, false
	var b strings.Builder
	fmt.Fprintf(&b, "- target: %s\n  from: %s\n", target, from)
	for i, kind := range []string{"join", "find"} {
		if c.IntN(3) > 0 {
			continue
		}
		as, table := fmt.Sprintf("j%d", i), c.any(c.source)
		match := as + ".`" + c.source.Tables[table].Columns[0].Name + "` = s.`" + c.source.Tables[from].Columns[0].Name + "`"
		if has(c.source.Tables[table], "instance_uuid") && has(c.source.Tables[from], "uuid") {
			match = as + ".instance_uuid = s.uuid"
		}
		fmt.Fprintf(&b, "  %s: [{as: %s, table: %s, match: %s}]\n", kind, as, table, match)
		if c.find = c.find || kind == "find"; kind == "join" {
			c.from, c.as = append(c.from, table), append(c.as, as)
		}
	}
	if c.IntN(3) == 0 {
		fmt.Fprintf(&b, "  where: %s\n", quoted(c.condition(2)))
	}
	return b.String() + c.columns(target)
}

func has(s *mapping.Schema, name string) bool {
	return slices.ContainsFunc(s.Columns, func(c column.Column) bool { return c.Name == name })
}

// columns copies what both have, makes the rest by expressions, and drops what is left.
func (c *chance) columns(target string) string {
	var copied, dropped []string
	var made strings.Builder
	for _, x := range c.target.Tables[target].Columns {
		switch {
		case has(c.source.Tables[c.from[0]], x.Name) && c.IntN(8) > 0:
			copied = append(copied, x.Name)
		case !x.Nullable && x.Default == nil && !x.Auto || c.IntN(4) > 0:
			fmt.Fprintf(&made, "  - {to: %s, value: %s%s}\n", quoted(x.Name), quoted(c.value(3)),
				c.one([]string{"", "", ", map: project", ", map: user", ", maybe: true"}))
		}
	}
	for _, x := range c.source.Tables[c.from[0]].Columns {
		if !slices.Contains(copied, x.Name) && c.IntN(20) > 0 {
			dropped = append(dropped, x.Name)
		}
	}
	text := "  columns:\n" + made.String()
	if len(copied) > 0 {
		text += fmt.Sprintf("  - copy: [%s]\n", strings.Join(copied, ", "))
	}
	if made.Len() == 0 && len(copied) == 0 {
		text += "  - {to: id, value: '1'}\n"
	}
	if len(dropped) > 0 {
		text += fmt.Sprintf("  drop: [%s]\n", strings.Join(dropped, ", "))
	}
	if len(copied) > 0 && c.IntN(3) == 0 {
		text += fmt.Sprintf("  measure: [%s]\n", c.one(copied))
	}
	return text
}

// quoted is a text of YAML.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func (c *chance) column() string {
	i := c.IntN(len(c.from))
	return c.as[i] + ".`" + c.source.Tables[c.from[i]].Columns[c.IntN(len(c.source.Tables[c.from[i]].Columns))].Name + "`"
}

func (c *chance) value(deep int) string {
	if deep == 0 || c.IntN(3) == 0 {
		return c.one([]string{c.column(), c.column(), "NULL", "7", "'it''s \\ \"x\"'", "0.50"})
	}
	a, b := c.value(deep-1), c.value(deep-1)
	return c.one([]string{
		"coalesce(" + a + ", " + b + ")", "concat(" + a + ", '-', " + b + ")",
		"if(" + c.condition(deep-1) + ", " + a + ", " + b + ")", "named_uuid(" + a + ")", "mapped('project', " + a + ")",
		"json_object('a', " + a + ", 'b', bool(" + c.condition(deep-1) + "))", "substring_index(" + a + ", '@', 1)",
		a + " + " + b, "case when " + c.condition(deep-1) + " then " + a + " else " + b + " end",
		"cast(" + a + " as char)", "(" + a + ") collate utf8mb3_bin",
	})
}

func (c *chance) condition(deep int) string {
	a, b := c.value(deep-min(deep, 1)), c.value(0)
	if c.find && c.IntN(3) == 0 {
		return "found('j1')"
	}
	return c.one([]string{a + " = " + b, a + " IS NULL", "NOT (" + a + " <=> " + b + ")", a + " IN (1, 'x', " + b + ")",
		a + " BETWEEN 0 AND " + b, a + " LIKE 'a%'", a + " <> 0 AND " + b + " > 3 OR " + a + " < 2"})
}
