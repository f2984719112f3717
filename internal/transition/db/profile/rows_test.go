package profile

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// platforms are an old platform with rows and a new one without, of one server.
type platforms struct {
	*aligntest.Rig
	mapping        *mapping.Mapping
	prefix         string // of the new one's databases
	source, target *server.Server
	from, to       mapping.Side
}

// releases are the profiles by the prefixes of their schema files.
var releases = map[string]string{"stein_": "openstack-liberty-stein", "zed_": "openstack-liberty-zed"}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// start makes an old platform, with the rows of testdata/rows.sql.
func start(t testing.TB) *aligntest.Rig {
	t.Helper()
	r := aligntest.MariaDB(t)
	rows, err := os.ReadFile("testdata/rows.sql")
	if err != nil {
		t.Fatal(err)
	}
	r.Load("liberty-schema.sql", "liberty_", "liberty_")
	r.SQL(string(rows))
	// What no Nova can read is an error of the plan, and no statement's.
	r.SQL("UPDATE liberty_nova.instance_extra SET pci_requests = '[{', numa_topology = '' WHERE instance_uuid = " + soft)
	r.SQL("UPDATE liberty_cinder.volumes SET encryption_key_id = 'key' WHERE volume_type_id IS NOT NULL")
	return r
}

// mended takes out of the rows what no Nova can read, of which there are as many rows as unread says.
const mended = `USE liberty_nova; UPDATE instance_extra SET pci_requests = '[]', numa_topology = NULL WHERE instance_uuid = ` + soft + `;
	DELETE FROM instance_system_metadata WHERE value IN ('2.5', 'of glass'); UPDATE pci_devices SET extra_info = '{}' WHERE id IN (3, 4)`

var unread = map[string]int{
	"PCI devices can be read":                                             2,
	"live guests have a NUMA topology that can be read, or none":          1,
	"live guests have requests for PCI devices that can be read, or none": 1,
	"image properties of live guests are values of theirs":                2,
}

// fresh loads the schema of a release.
func fresh(t testing.TB, r *aligntest.Rig, prefix string) *platforms {
	t.Helper()
	r.Load(strings.TrimSuffix(prefix, "_")+"-schema.sql", prefix, prefix)
	// What cell_v2 create_cell and Cinder's own migrations put there.
	r.SQL("INSERT INTO " + prefix + "nova_api.cell_mappings (id, uuid, name) VALUES (1, " +
		"'00000000-0000-0000-0000-000000000000', 'cell0'), (7, '11111111-0000-4000-8000-000000000000', 'cell1')")
	r.SQL("INSERT INTO " + prefix + "cinder.volume_types (id, name, deleted) VALUES ('new-default', '__DEFAULT__', " +
		"0), ('new-fast', 'fast', 0)")
	r.SQL("INSERT INTO " + prefix + "cinder.encryption (control_location, provider, volume_type_id, encryption_id, " +
		"deleted) VALUES ('front-end', 'luks', 'new-fast', 'of-fast', 0)")
	r.SQL("INSERT INTO " + prefix + "cinder.services (host, `binary`, report_count, deleted, uuid) VALUES " +
		"('new@rbd', 'cinder-volume', 0, 0, 'service-of-ceph')")
	return between(t, r, prefix)
}

func between(t testing.TB, r *aligntest.Rig, prefix string) *platforms {
	t.Helper()
	m, _, err := Mapping(releases[prefix])
	if err != nil {
		t.Fatal(err)
	}
	p := &platforms{Rig: r, mapping: m, prefix: prefix, source: r.Server("source"), target: r.Server("target")}
	from, to := server.Databases(m)
	p.from, p.to = side(t, p.source, "liberty_", from), side(t, p.target, prefix, to)
	return p
}

func side(t testing.TB, s *server.Server, prefix string, names []string) mapping.Side {
	t.Helper()
	real := map[string]string{}
	for _, n := range names {
		real[n] = prefix + n
	}
	out, err := s.Side(within(t, time.Minute), real)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kinds are the files of IDs.
var kinds = map[string]string{
	"project":           "c0000000000040008000000000000001,shop\nc0000000000040008000000000000002,bank\n*,others\n",
	"user":              "a0000000000040008000000000000001,ada\nb0000000000040008000000000000002,bob\n",
	"host":              "cmp01,new01\ncmp02,new02\nctl01,ctl01\n*,gone\n",
	"node":              "cmp01.example,new01.example\ncmp02.example,new02.example\n",
	"availability_zone": "az-a,zone-1\nnova,nova\n",
	"pool":              "ctl01@ceph#ssd,new@rbd#fast\nctl01@ceph#hdd,new@rbd#slow\n",
	"service":           "ctl01@ceph,service-of-ceph\n",
	"volume_type":       "95000000-0000-4000-8000-000000000001,new-fast\n",
	"backend":           "rbd://0a0b0c/images,ceph\nfile:///var,-\n",
}

// copied plans with these IDs and copies all tables.
func (p *platforms) copied(t testing.TB, kinds map[string]string) mapping.Plan {
	t.Helper()
	ctx := within(t, 2*time.Minute)
	dir := t.TempDir()
	for kind, lines := range kinds {
		if err := os.WriteFile(filepath.Join(dir, kind+".csv"), []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sets, err := ids.Load(dir, p.mapping.IDs)
	if err != nil {
		t.Fatal(err)
	}
	if err := ids.Ask(ctx, p.mapping, sets, p.target, p.to); err != nil {
		t.Fatal(err)
	}
	if err := ids.Stage(ctx, p.source, p.mapping, sets); err != nil {
		t.Fatal(err)
	}
	plan := mapping.MakePlan(p.mapping, p.from, p.to, ids.Known(sets))
	if len(plan.Errors) > 0 {
		t.Fatalf("errors %+v", plan.Errors)
	}
	for i := range plan.Tables {
		x := &plan.Tables[i]
		if _, err := p.target.DB.ExecContext(ctx, x.Statement("")); err != nil {
			t.Fatalf("%s: %v", x.Target, err)
		}
		p.same(t, x)
	}
	return plan
}

// same compares what the source's rows make with what the target has.
func (p *platforms) same(t testing.TB, x *mapping.Planned) {
	t.Helper()
	var sums [2][3]string
	for i, q := range []string{x.SourceSum(""), x.TargetSum("")} {
		if err := p.target.DB.QueryRowContext(within(t, time.Minute), q).Scan(&sums[i][0], &sums[i][1], &sums[i][2]); err != nil {
			t.Fatalf("%s: %v", x.Target, err)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("%s: made %v, stored %v", x.Target, sums[0], sums[1])
	}
	if sums[0][0] == "0" {
		t.Errorf("%s: no row, so that nothing is tried", x.Target)
	}
}

// TestReleases aligns odd rows with the schemas of both releases.
func TestReleases(t *testing.T) {
	need.More(t)
	r := start(t)
	before := r.SQL(sourceSum)
	for prefix, name := range releases {
		p := fresh(t, r, prefix)
		t.Run(name+" plan", p.plans)
		var plan mapping.Plan
		t.Run(name+" rows", func(t *testing.T) {
			plan = p.copied(t, kinds)
			p.looksRight(t)
		})
		t.Run(name+" images", p.imagesAreRead)
		t.Run(name+" checks", p.checksFind)
		t.Run(name+" again", func(t *testing.T) { p.uuidsStay(t, plan) })
		t.Run(name+" advice", p.adviceRuns)
	}
	if after := r.SQL(sourceSum); after != before {
		t.Errorf("the source changed: %s, %s", before, after)
	}
	t.Run("collisions", func(t *testing.T) { collisionsAreFound(t, r) })
}

const sourceSum = "SELECT SUM(id), COUNT(*), BIT_XOR(CRC32(CONCAT_WS(',', uuid, display_name, user_data))) FROM liberty_nova.instances"

// plans: without any IDs nothing is wrong but their lack, and every table keeps its key,
// as following and verifying need it.
func (p *platforms) plans(t *testing.T) {
	plan := mapping.MakePlan(p.mapping, p.from, p.to, nil)
	if len(plan.Errors) > 0 || len(plan.Tables) != len(p.mapping.Tables) {
		t.Errorf("%d tables, errors %+v", len(plan.Tables), plan.Errors)
	}
	for _, w := range plan.Warnings {
		if w.Table != "nova_api.flavor_extra_specs" || !strings.Contains(w.Text, "utf8mb3_bin becomes utf8mb3_general_ci") {
			t.Errorf("warning %+v", w)
		}
	}
	hidden := false
	for _, x := range plan.Tables {
		if x.Kept == nil {
			t.Errorf("%s does not keep its key", x.Target)
		}
		hidden = hidden || x.Target == "nova.instances" && slices.Contains(x.Columns, "hidden")
	}
	if hidden != (p.prefix == "zed_") {
		t.Errorf("instances have hidden: %v", hidden)
	}
}

func (p *platforms) looksRight(t *testing.T) {
	for _, c := range slices.Concat(looks, images, own[p.prefix]) {
		if got := p.SQL(p.to.Fill(c[0])); got != c[1] {
			t.Errorf("%s\ngot  %q\nwant %q", c[0], got, c[1])
		}
	}
	for _, c := range p.mapping.Checks {
		if n := p.breaks(t, p.target.DB, c); n != unread[c.Name] {
			t.Errorf("%s: %d rows break it, want %d", c.Name, n, unread[c.Name])
		}
	}
}

// breaks is how many rows of the target break a check that it is asked.
func (p *platforms) breaks(t *testing.T, q server.Querier, c mapping.Check) int {
	t.Helper()
	if !c.OfTarget() {
		return 0
	}
	if c.Source != "" { // of one server
		c.Rows = "SELECT * FROM (" + p.from.Fill(c.Source) + ") AS want WHERE NOT EXISTS (SELECT 1 FROM (" +
			c.Target + ") AS has WHERE has.flavorid = want.flavorid)"
	}
	n := -1
	err := server.Walk(within(t, time.Minute), q, p.to.Fill("SELECT COUNT(*) FROM ("+c.Rows+") AS r"), func(row []sql.RawBytes) (err error) {
		n, err = strconv.Atoi(string(row[0]))
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	return n
}

// uuidsStay: copied twice, rows have the same ones.
func (p *platforms) uuidsStay(t *testing.T, plan mapping.Plan) {
	all := p.to.Fill("SELECT uuid FROM {nova}.block_device_mapping UNION ALL SELECT uuid FROM {nova}.services UNION " +
		"ALL SELECT uuid FROM {nova}.compute_nodes UNION ALL " +
		"SELECT uuid FROM {nova_api}.aggregates UNION ALL SELECT uuid FROM {nova}.migrations UNION ALL SELECT uuid " +
		"FROM {nova}.pci_devices ORDER BY 1")
	first := p.SQL(all)
	var empty strings.Builder
	empty.WriteString("SET foreign_key_checks = 0;")
	for i := range plan.Tables {
		db, table := plan.Tables[i].OnTarget()
		fmt.Fprintf(&empty, "DELETE FROM `%s`.`%s`;", db, table)
	}
	p.SQL(empty.String())
	p.copied(t, kinds)
	if second := p.SQL(all); second != first {
		t.Errorf("first\n%s\nthen\n%s", first, second)
	}
	list := strings.Fields(first)
	if n := len(slices.Compact(slices.Clone(list))); n != 17 || len(list) != 17 {
		t.Errorf("%d uuids of %d rows:\n%s", n, len(list), first)
	}
	version3 := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-3[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, u := range list {
		if !version3.MatchString(u) {
			t.Errorf("%s is no UUID of version 3", u)
		}
	}
}
