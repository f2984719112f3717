package profile

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/survey"
	"holdfast/internal/transition/db/verify"
	"holdfast/testbed/need"
)

// orphans are rows of the old platform whose parents are gone, by the table and the key that the
// plan tells. The last refers to a row that is itself left out.
var orphans = []struct{ statement, table, key string }{
	{"INSERT INTO liberty_nova.instance_metadata (id, instance_uuid, `key`, value, deleted) VALUES (901, 'gone', " +
		"'a', 'b', 0)", "nova.instance_metadata", "901"},
	{"INSERT INTO liberty_nova.instance_system_metadata (id, instance_uuid, `key`, value, deleted) VALUES (902, " +
		"'gone', 'a', 'b', 0)", "nova.instance_system_metadata", "902"},
	{"INSERT INTO liberty_nova.block_device_mapping (id, instance_uuid, source_type, destination_type, deleted) " +
		"VALUES (903, 'gone', 'volume', 'volume', 0)", "nova.block_device_mapping", "903"},
	{"INSERT INTO liberty_glance.image_locations (id, image_id, value, created_at, deleted, meta_data, status) " +
		"VALUES (904, 'gone', 'rbd://0a0b0c/images/gone/snap', NOW(), 0, '{}', 'active')", "glance.image_locations", "904"},
	{"INSERT INTO liberty_cinder.snapshots (id, volume_id, status, deleted) VALUES ('snap-905', 'gone', 'available', 0)",
		"cinder.snapshots", "snap-905"},
	{"INSERT INTO liberty_cinder.volume_attachment (id, volume_id, attach_status, deleted) VALUES ('att-906', " +
		"'gone', 'attached', 0)", "cinder.volume_attachment", "att-906"},
	{"INSERT INTO liberty_cinder.snapshot_metadata (id, snapshot_id, `key`, value, deleted) VALUES (907, 'snap-905', " +
		"'a', 'b', 0)", "cinder.snapshot_metadata", "907"},
}

// TestOrphansAreLeftOut: rows that refer to nothing are errors of the plan, or on demand left out
// and told, with those that refer to them; then the copy has all others, and equals the source.
func TestOrphansAreLeftOut(t *testing.T) {
	need.Drill(t, "P5: rows that refer to nothing are refused, or left out and told; the copy has all others")
	need.Real(t)
	r := start(t)
	r.SQL(mended)
	for _, o := range orphans {
		r.SQL("SET foreign_key_checks = 0; " + o.statement)
	}
	p := fresh(t, r, "zed_")
	tells := func(list []survey.Finding, table, key string) bool {
		return slices.ContainsFunc(list, func(f survey.Finding) bool {
			return f.Table == table && strings.Contains(f.Text, "that will not be there") && len(f.Columns) == 1 && slices.Contains(f.Keys, key)
		})
	}
	found := p.survey(t)
	for _, o := range orphans[:len(orphans)-1] {
		if !tells(found.Errors, o.table, o.key) {
			t.Errorf("%s: no error of the plan", o.statement)
		}
	}
	p.mapping.LeaveOrphans()
	found = p.survey(t)
	for _, o := range orphans {
		if tells(found.Errors, o.table, o.key) || !tells(found.Warnings, o.table, o.key) {
			t.Errorf("%s: an error of the plan, or not told", o.statement)
		}
	}
	for _, f := range found.Errors {
		t.Errorf("%s", f.Line())
	}
	plan := p.copied(t, kinds)
	for _, o := range orphans {
		if n := p.SQL("SELECT COUNT(*) FROM zed_" + o.table + " WHERE id = '" + o.key + "'"); n != "0" {
			t.Errorf("%s: it was copied", o.statement)
		}
	}
	for _, table := range []string{"nova.instance_metadata", "nova.block_device_mapping", "cinder.snapshots",
		"glance.image_locations", "cinder.volume_attachment"} {
		if n := p.SQL("SELECT COUNT(*) FROM zed_" + table); n == "0" {
			t.Errorf("%s: all rows are left out", table)
		}
	}
	x, err := verify.Run(within(t, time.Minute), p.mapping, &plan, p.source, p.target, p.to, verify.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, y := range x.Tables {
		if !y.ChecksumEqual {
			t.Errorf("%+v", y)
		}
	}
	for _, c := range x.Checks {
		if !c.Holds {
			t.Errorf("%+v", c)
		}
	}
}

// survey is a plan with all IDs.
func (p *platforms) survey(t *testing.T) *survey.Result {
	t.Helper()
	sets, err := ids.Load(p.idsDir(t), p.mapping.IDs)
	if err != nil {
		t.Fatal(err)
	}
	if err := ids.Ask(within(t, time.Minute), p.mapping, sets, p.target, p.to); err != nil {
		t.Fatal(err)
	}
	found, _, err := survey.Plan(within(t, 2*time.Minute), p.mapping, p.source, p.target, p.from.Databases, p.to.Databases, sets)
	if err != nil {
		t.Fatal(err)
	}
	return found
}
