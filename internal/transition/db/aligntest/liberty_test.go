package aligntest

import (
	"database/sql"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
)

var libertyDatabases = []string{"liberty_nova", "liberty_glance", "liberty_cinder", "liberty_neutron"}

const libertyInstances = 800 // enough for a huge one of each kind

// number asks for one.
func number(t *testing.T, db *sql.DB, query string) int64 {
	t.Helper()
	var n int64
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func libertyRig(t *testing.T, opt ...string) *Rig {
	t.Helper()
	return MariaDB(t, opt...)
}

func TestFillIsConsistentAndOdd(t *testing.T) {
	need.More(t)
	r := libertyRig(t)
	p, db := Fill(t, r, 1, libertyInstances), r.Server("source").DB
	if n := len(p.Servers); n != libertyInstances || p.Rows["liberty_nova.instances"] != libertyInstances ||
		p.Rows["liberty_nova.instance_system_metadata"] < 10*libertyInstances {
		t.Errorf("%d servers, rows %v", n, p.Rows)
	}
	for table, n := range p.Rows {
		if n == 0 {
			t.Errorf("%s has no rows", table)
		}
	}
	for name, n := range broken(t, db) {
		if n != 0 {
			t.Errorf("foreign key %s: %d rows without their parent", name, n)
		}
	}
	within := func(what string, low, high int64, query string) {
		t.Helper()
		if n := number(t, db, query); n < low || n > high {
			t.Errorf("%s: %d: want %d to %d", what, n, low, high)
		}
	}
	within("deleted instances", libertyInstances*2/100, libertyInstances*9/100,
		"SELECT COUNT(*) FROM liberty_nova.instances WHERE deleted = id AND deleted_at IS NOT NULL")
	within("zero dates", 1, 100, "SELECT COUNT(*) FROM liberty_nova.instances WHERE updated_at = '0000-00-00 00:00:00'")
	windows := func(what, kind, distro, card string) {
		t.Helper()
		has := " EXISTS (SELECT 1 FROM liberty_nova.instance_system_metadata m WHERE m.instance_uuid = i.uuid AND m.`key` = "
		within("guests of Windows "+what, 1, libertyInstances/2,
			"SELECT COUNT(*) FROM liberty_nova.instances i WHERE i.deleted = 0 AND i.os_type "+kind+
				" AND "+distro+has+"'image_os_distro' AND m.value LIKE 'win%') AND "+card+has+"'image_hw_vif_model')")
	}
	windows("that say nothing of their card", "= 'windows'", "", "NOT")
	windows("that say what card they have", "= 'windows'", "NOT", "")
	windows("of which the image alone tells it", "IS NULL", "", "NOT")
	within("images that ask for CPUs", libertyInstances/20, libertyInstances/20,
		"SELECT COUNT(*) FROM liberty_nova.instance_system_metadata WHERE `key` = 'image_hw_cpu_policy'")
	within("greatest user data", 65536, 65536, "SELECT MAX(LENGTH(user_data)) FROM liberty_nova.instances")
	within("most interfaces", 60, 60, "SELECT MAX(JSON_LENGTH(network_info)) FROM liberty_nova.instance_info_caches")
	within("broken JSON", 0, 0, "SELECT SUM(NOT JSON_VALID(flavor)) FROM liberty_nova.instance_extra")
	within("broken caches", 0, 0, "SELECT SUM(NOT JSON_VALID(network_info)) FROM liberty_nova.instance_info_caches")
	within("characters of four bytes in JSON", 1, 1e6,
		`SELECT COUNT(*) FROM liberty_nova.instance_info_caches WHERE network_info LIKE '%\\\\ud83d\\\\ude00%'`)
	within("what the column made of them", 1, 1, "SELECT COUNT(*) FROM liberty_neutron.networks WHERE name = 'prod ?'")
	within("interfaces that Neutron does not know", 0, 0, `SELECT COUNT(*) FROM liberty_nova.instance_info_caches c
		WHERE network_info <> '[]' AND NOT EXISTS (SELECT 1 FROM liberty_neutron.ports p WHERE p.device_id = c.instance_uuid AND p.id = JSON_VALUE(c.network_info, '$[0].id') AND p.mac_address = JSON_VALUE(c.network_info, '$[0].address'))`)
	within("volumes that Cinder does not know", 1, 100,
		"SELECT COUNT(*) FROM liberty_nova.block_device_mapping b LEFT JOIN liberty_cinder.volumes v ON v.id = "+
			"b.volume_id WHERE b.volume_id IS NOT NULL AND v.id IS NULL")
	// \N was read as NULL, or lost its backslash
	within("names that are not as written", 0, 0, "SELECT COUNT(*) FROM liberty_nova.instances WHERE display_name = 'N'")
	all := names(t, db)
	for _, name := range oddTexts {
		if !slices.Contains(all, name) {
			t.Errorf("no instance has the name %q", name)
		}
	}
	for _, o := range [][2]string{{"aggregates", "name"}, {"instance_types", "name"}, {"instance_types", "flavorid"},
		{"key_pairs", "CONCAT(user_id, name)"}} {
		within("live "+o[0]+" of the same "+o[1], 0, 0, "SELECT COUNT(*) - COUNT(DISTINCT "+o[1]+") FROM liberty_nova."+o[0]+" WHERE deleted = 0")
	}
}

// broken counts the rows of each foreign key that have no parent.
func broken(t *testing.T, db *sql.DB) map[string]int64 {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME
		FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA LIKE 'liberty%' AND REFERENCED_TABLE_NAME IS NOT NULL`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]int64{}
	var queries []string
	for rows.Next() {
		var in, table, column, parent, to string
		if err := rows.Scan(&in, &table, &column, &parent, &to); err != nil {
			t.Fatal(err)
		}
		queries = append(queries, "SELECT COUNT(*) FROM `"+in+"`.`"+table+"` c LEFT JOIN `"+in+"`.`"+
			parent+"` p ON p.`"+to+"` = c.`"+column+"` WHERE c.`"+column+"` IS NOT NULL AND p.`"+to+"` IS NULL")
	}
	if err := rows.Err(); err != nil || len(queries) < 50 {
		t.Fatalf("%d foreign keys: %v", len(queries), err)
	}
	for _, q := range queries {
		out[q] = number(t, db, q)
	}
	return out
}

func names(t *testing.T, db *sql.DB) (out []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT display_name FROM liberty_nova.instances WHERE display_name IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFillIsTheSameEachTime(t *testing.T) {
	need.More(t)
	r := libertyRig(t)
	drop := func() {
		for _, db := range append([]string{"liberty_nova_api"}, libertyDatabases...) {
			r.SQL("DROP DATABASE " + db)
		}
	}
	Fill(t, r, 7, 60)
	first := Checksums(t, r, libertyDatabases...)
	if first["liberty_nova.instances"] == 0 || len(first) < 140 {
		t.Fatalf("checksums %v", first)
	}
	drop()
	Fill(t, r, 7, 60)
	if again := Checksums(t, r, libertyDatabases...); !maps.Equal(first, again) {
		t.Errorf("the same seed: %v, then %v", first, again)
	}
	drop()
	Fill(t, r, 8, 60)
	if other := Checksums(t, r, libertyDatabases...); first["liberty_nova.instances"] == other["liberty_nova.instances"] {
		t.Error("another seed makes the same instances")
	}
}

func TestFillWithOddities(t *testing.T) {
	need.More(t)
	r := libertyRig(t)
	db := r.Server("source").DB
	p := Fill(t, r, 3, 20, DuplicateAggregates, CaseKeys, NullOwners, Orphans, FourByte, Unmapped, LongKeys, Untyped)
	for _, c := range []struct {
		odd   Odd
		query string
		want  int64
	}{
		{DuplicateAggregates, "SELECT COUNT(*) FROM liberty_nova.aggregates WHERE name = 'rack-a' AND deleted = 0", 2},
		{CaseKeys, "SELECT COUNT(*) FROM liberty_nova.instance_type_extra_specs WHERE `key` COLLATE " +
			"utf8mb3_general_ci = 'hw:numa_nodes' AND deleted = 0", 2},
		{NullOwners, "SELECT COUNT(*) FROM liberty_nova.key_pairs WHERE user_id IS NULL AND deleted = 0", 1},
		{Orphans, "SELECT COUNT(*) FROM liberty_nova.instance_system_metadata m LEFT JOIN liberty_nova.instances i " +
			"ON i.uuid = m.instance_uuid WHERE i.id IS NULL", 1},
		{FourByte, "SELECT COUNT(*) FROM liberty_nova.instance_metadata WHERE HEX(`value`) = 'F09F9880'", 1},
		{LongKeys, "SELECT COUNT(*) FROM liberty_nova.key_pairs WHERE LENGTH(public_key) > 65535", 1},
		{Untyped, "SELECT COUNT(*) FROM liberty_cinder.volumes WHERE volume_type_id IS NULL", 1},
	} {
		if n := number(t, db, c.query); n != c.want {
			t.Errorf("%s: %d: want %d", c.odd, n, c.want)
		}
	}
	dir := p.IDs(t, map[string]map[string]string{"project": nil, "user": nil, "volume_type": nil, "pool": nil, "backend": {"a": "b"}})
	for file, lines := range map[string]int{"project.csv": len(p.Projects), "user.csv": 1 + len(p.Users),
		"volume_type.csv": 4, "pool.csv": 4, "backend.csv": 2} {
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(data), "\n"); n != lines || !strings.HasPrefix(string(data), "old,new\n") {
			t.Errorf("%s has %d lines: want %d, old,new first: %s", file, n, lines, data)
		}
	}
}

// TestFillOfMany: the generator of old platforms makes as many rows as it says of 100,000 instances, too.
func TestFillOfMany(t *testing.T) {
	need.Drill(t, "360, databases: an old platform of 100,000 instances can be made to align")
	r, began := libertyRig(t, "--innodb-buffer-pool-size=1G", "--innodb-log-file-size=512M"), time.Now()
	p, rows := Fill(t, r, 1, 100_000), int64(0)
	for _, n := range p.Rows {
		rows += n
	}
	t.Logf("%d rows in %s", rows, time.Since(began))
	if n := len(p.Servers); n != 100_000 || rows < 1_000_000 {
		t.Errorf("%d servers with %d rows", n, rows)
	}
}
