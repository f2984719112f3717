package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/column"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// TestSchemasOfOpenStack: rows of all tables of real schemas, whole databases at once.
func TestSchemasOfOpenStack(t *testing.T) {
	need.More(t)
	r := aligntest.MariaDB(t)
	s := r.Server("source")
	for _, release := range []string{"liberty", "stein", "zed"} {
		r.Load(release+"-schema.sql", release+"_", "a_")
		r.Load(release+"-schema.sql", release+"_", "b_")
		m, p, to := all(t, s)
		if len(p.Errors) > 0 {
			t.Fatalf("%s: %+v", release, p.Errors)
		}
		statements := fill(p, to)
		for i := range p.Tables {
			statements += p.Tables[i].Statement("") + ";\n"
		}
		r.SQL(statements)
		x := run(t, m, p, s, s, to, Options{})
		for _, tab := range x.Tables {
			if tab.SourceRows == 0 || tab.SourceRows != tab.TargetRows || !tab.ChecksumEqual {
				t.Errorf("%s: %+v", release, tab)
			}
		}
		if len(x.Tables) < 100 {
			t.Errorf("%s: %d tables", release, len(x.Tables))
		}
		for _, db := range strings.Fields(r.SQL("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME REGEXP '^[ab]_'")) {
			r.SQL("DROP DATABASE " + db)
		}
	}
}

// all maps each table of the databases a_X, which has a key, to the same of b_X.
func all(t *testing.T, s *server.Server) (*mapping.Mapping, *mapping.Plan, mapping.Side) {
	t.Helper()
	here, there := map[string]string{}, map[string]string{}
	for _, db := range []string{"nova", "nova_api", "glance", "cinder", "neutron"} {
		here[db], there[db] = "a_"+db, "b_"+db
	}
	from, err := s.Side(aligntest.Deadline(t), here)
	if err != nil {
		t.Fatal(err)
	}
	to, err := s.Side(aligntest.Deadline(t), there)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("format: 1\nname: all\ntables:\n")
	for name, schema := range from.Tables {
		var cols []string
		for _, c := range schema.Columns {
			if !c.Generated {
				cols = append(cols, c.Name)
			}
		}
		if len(schema.Key) > 0 && !slices.ContainsFunc(schema.Columns,
			func(c column.Column) bool { return slices.Contains(schema.Key, c.Name) && c.Type.Kind == "enum" }) {
			fmt.Fprintf(&b, "- {target: %s, from: %s, columns: [{copy: [%s]}]}\n", name, name, strings.Join(cols, ", "))
		}
	}
	m := aligntest.Mapping(t, b.String())
	p := mapping.MakePlan(m, from, to, nil)
	return m, &p, to
}

// fill makes three rows for each table.
func fill(p *mapping.Plan, side mapping.Side) string {
	var b strings.Builder
	b.WriteString("SET foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00';\n")
	for i := range p.Tables {
		t := &p.Tables[i]
		schema := side.Tables[t.Target]
		for n := range 3 {
			var list []string
			for _, name := range t.Columns {
				c := schema.Columns[slices.IndexFunc(schema.Columns, func(c column.Column) bool { return c.Name == name })]
				list = append(list, sample(c, n))
			}
			fmt.Fprintf(&b, "INSERT IGNORE INTO a_%s (`%s`) VALUES (%s);\n", t.Source, strings.Join(t.Columns, "`, `"), strings.Join(list, ", "))
		}
	}
	return b.String()
}

// sample is a value of a column, another one for each n.
func sample(c column.Column, n int) string {
	if n == 2 && c.Nullable {
		return "NULL"
	}
	switch c.Type.Kind {
	case "integer":
		return fmt.Sprint(n)
	case "float", "decimal":
		return []string{"0.1", "-16777217", "0"}[n]
	case "datetime", "timestamp", "date":
		return []string{"'2015-10-15 12:13:14.123456'", "'0000-00-00 00:00:00'", "'2019-04-10'"}[n]
	case "enum":
		return fmt.Sprint(1 + n%len(c.Type.Words))
	}
	return []string{"'a'", "'漢 '", "'é\\\\'"}[n]
}
