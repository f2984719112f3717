package copier

import (
	"errors"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestValuesWithoutAnID: a row with a value without an ID that has come since the plan was
// made stops the run at its chunk, where the column would take NULL.
func TestValuesWithoutAnID(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	first := newWorld(t, one, two, 300)
	for _, rt := range []*aligntest.Rig{one, two} {
		w := &world{t: t, rs: one, rt: rt, source: first.source, target: rt.Server("target")}
		if rt == one {
			rt.SQL(newSchema)
		}
		rt.SQL("ALTER TABLE new.items MODIFY project_id VARCHAR(64) NULL")
		var err error
		if w.plan, err = makePlan(w.source, w.target, mappingText); err != nil {
			t.Fatal(err)
		}
		one.SQL("INSERT INTO old.items VALUES ('Beta-late', 5001, 1, 'new ''one''', ''), ('beta-late', 5007, 1, 'not mapped', '')")
		_, err = Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{ChunkRows: 20})
		want := `column project_id: the project "new 'one'" of the row with key Beta-late, 5001 has no ID: want a line for it among the IDs of project, then the same run again`
		if !errors.Is(err, ErrNoID) || !strings.HasPrefix(err.Error(), "table new.items, chunk ") || !strings.HasSuffix(err.Error(), want) {
			t.Fatalf("%v\nwant %s", err, want)
		}
		if n := rt.SQL("SELECT COUNT(*) FROM new.items WHERE project_id IS NULL OR grp = 'Beta-late'"); n != "0" {
			t.Errorf("%s rows of the chunk are there", n)
		}
		one.SQL("INSERT INTO migrate_ids.ids_project VALUES ('new ''one''', 'late')")
		if res := w.run(Options{ChunkRows: 20}); !res.Resumed {
			t.Errorf("%+v", res)
		}
		w.check()
		if id := rt.SQL("SELECT project_id FROM new.items WHERE num = 5001"); id != "late" {
			t.Errorf("the row has project %q", id)
		}
		one.SQL("DELETE FROM old.items WHERE num > 5000; DELETE FROM migrate_ids.ids_project WHERE new = 'late'")
	}
}
