package copier

import (
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestValuesThatTheSourceCanNotMake: a server gives NULL for them and warns, and an
// INSERT ... SELECT of strict mode fails. Rows that are streamed must do the same, however
// many warnings that do no harm come before it.
func TestValuesThatTheSourceCanNotMake(t *testing.T) {
	need.More(t)
	one, two := aligntest.MariaDB(t), aligntest.MariaDB(t)
	w := newWorld(t, one, two, 1000)
	one.SQL(newSchema)
	one.SQL(`UPDATE old.wide SET t = '{bad' WHERE id > 0; UPDATE old.wide SET t = '{"a": 1}' WHERE id = 100`)
	for how, c := range map[How]struct {
		rt    *aligntest.Rig
		local string
	}{OneServer: {one, "1"}, Load: {two, "1"}, Insert: {two, "0"}} {
		w := &world{t: t, rs: one, rt: c.rt, source: w.source}
		w.rt.SQL("SET GLOBAL local_infile = " + c.local)
		w.target = w.rt.Server("target")
		for where, wants := range map[string]string{
			"id <= 100": "", // notes of json_valid, a hundred of them
			"id > 0":    "4038",
			"id > 4":    "4038",
		} {
			w.clear()
			var err error
			w.plan, err = makePlan(w.source, w.target, `
format: 1
name: broken JSON
ids: [{kind: project}]
tables:
- target: new.wide
  from: old.wide
  where: `+where+`
  columns:
  - copy: [id]
  - {to: t, value: "if(json_valid(t), 'good', 'bad')"}
  - {to: v, value: "json_extract(if(id < 100, '{}', t), '$.a')"}
  drop: [f, d, dd, nr, b, bi, vb, bl, c, v, l1, dt, dt6, da, ti, ye, en, se, ts, js]
`)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Run(try.Context(t), w.plan, "hash", w.source, w.target, Options{})
			if wants == "" {
				if got := w.rt.SQL("SELECT COUNT(*), MAX(v) FROM new.wide WHERE t = IF(id = 100, 'good', 'bad')"); err != nil || got != "99\t1" {
					t.Errorf("%s: %s: %v, rows %s", how, where, err, got)
				}
				continue
			}
			if err == nil || server.Passing(err) || !strings.Contains(err.Error(), "Error "+wants) {
				t.Errorf("%s: %s: %v", how, where, err)
			}
			if got := w.rt.SQL("SELECT COUNT(*) FROM new.wide"); got != "0" {
				t.Errorf("%s: %s: %s rows are there", how, where, got)
			}
		}
	}
}
