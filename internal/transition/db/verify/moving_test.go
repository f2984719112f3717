package verify

import (
	"context"
	"fmt"
	"testing"

	"holdfast/testbed/need"

	"holdfast/internal/transition/db/aligntest"
)

// TestRowsThatMove: while a run carries over what is written, a row that is behind or in motion is no
// difference, and one that differs for good is found beside it.
func TestRowsThatMove(t *testing.T) {
	need.Drill(t, "P5: a row in motion is no difference, and one that differs for good is found beside it")
	r := rig(t)
	s := r.Server("source")
	m := aligntest.Mapping(t, kindsMapping+`
checks:
- {name: no bad row, table: d.kinds, rows: "SELECT id FROM {d}.kinds WHERE name = 'bad'"}
`)
	p, to := plan(t, m, s, s, nil)
	copied(t, s, p)
	carried := func(which string) string {
		return "DELETE FROM b_d.kinds WHERE " + which + "; INSERT INTO b_d.kinds SELECT * FROM a_d.kinds WHERE " + which
	}
	for _, c := range []struct {
		what, first string
		await       func(n int) string // what happens in the n-th wait, from 1
		want        string
		holds       bool
	}{
		{"all is carried over in the first wait", "UPDATE a_d.kinds SET big = 5 WHERE id IN (100, 300); DELETE FROM a_d.kinds WHERE id = 200",
			func(int) string { return carried("id IN (100, 200, 300)") }, "[]", true},
		{"a row changes for a while", "UPDATE a_d.kinds SET big = 6 WHERE id = 100",
			func(n int) string {
				return carried("id = 100") + fmt.Sprintf("; UPDATE a_d.kinds SET big = %d WHERE id = 100", 6+min(n, 4))
			}, "[]", true},
		{"a row changes between all looks", "UPDATE a_d.kinds SET big = 20 WHERE id = 100",
			func(n int) string {
				return carried("id = 100") + fmt.Sprintf("; UPDATE a_d.kinds SET big = %d WHERE id = 100", 20+n)
			}, "[{[100] changed between all looks at it}]", true},
		{"rows differ for good beside one that moves",
			"UPDATE a_d.kinds SET big = 40 WHERE id = 100; UPDATE b_d.kinds SET bits = 0 WHERE id = 101; DELETE FROM " +
				"b_d.kinds WHERE id = 102; INSERT INTO b_d.kinds (id) VALUES (7)",
			func(n int) string {
				return carried("id = 100") + fmt.Sprintf("; UPDATE a_d.kinds SET big = %d WHERE id = 100", 40+min(n, 3))
			}, "[{[7] extra in the target} {[101] differs} {[102] missing in the target}]", true},
		{"a check holds after a wait", "UPDATE b_d.kinds SET name = 'bad' WHERE id = 100",
			func(int) string { return carried("id = 100") }, "[]", true},
		{"a check does not", "UPDATE a_d.kinds SET name = 'bad' WHERE id = 100", func(int) string { return carried("id = 100") }, "[]", false},
	} {
		n := 0
		r.SQL(c.first)
		x, err := Run(aligntest.Deadline(t), m, p, s, s, to, Options{ChunkRows: 500, Parallel: 1, Await: func(context.Context) error {
			n++
			r.SQL(c.await(n))
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		tab := x.Tables[0]
		if got := fmt.Sprint(tab.Differences); got != c.want || tab.ChecksumEqual != (c.want == "[]") ||
			x.Checks[0].Holds != c.holds || x.Equal != (c.holds && c.want == "[]") {
			t.Errorf("%s: %+v, want %s, the check to hold: %v", c.what, x, c.want, c.holds)
		}
		if tab.ChecksumEqual && tab.SourceRows != tab.TargetRows {
			t.Errorf("%s: equal, with %d and %d rows", c.what, tab.SourceRows, tab.TargetRows)
		}
		r.SQL("UPDATE a_d.kinds SET name = 'good' WHERE name = 'bad'; " + carried("1 = 1"))
	}
}
