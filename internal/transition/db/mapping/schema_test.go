package mapping

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/transition/db/column"
)

// readSchema reads a file of CREATE TABLE statements as testdata has them: a line for
// each column and key. prefix is what the databases' names begin with.
func readSchema(t testing.TB, file, prefix string) map[string]*Schema {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	use := regexp.MustCompile("^USE `" + prefix + "([a-z_]+)`;")
	create := regexp.MustCompile("^CREATE TABLE `([^`]+)`")
	col := regexp.MustCompile("^  `([^`]+)` ([A-Za-z]+(?:\\((?:[^')]|'[^']*')*\\))?(?: UNSIGNED)?)(.*?),?$")
	key := regexp.MustCompile(`^  PRIMARY KEY \((.*)\)`)
	end := regexp.MustCompile(`^\).*CHARSET=([a-z0-9]+) COLLATE=([a-z0-9_]+)`)
	own := regexp.MustCompile(`CHARACTER SET ([a-z0-9]+)(?: COLLATE ([a-z0-9_]+))?`)
	out := map[string]*Schema{}
	db, at := "", &Schema{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		switch {
		case use.MatchString(line):
			db = use.FindStringSubmatch(line)[1]
		case create.MatchString(line):
			at = &Schema{}
			out[db+"."+create.FindStringSubmatch(line)[1]] = at
		case key.MatchString(line):
			at.Key = strings.Split(strings.ReplaceAll(key.FindStringSubmatch(line)[1], "`", ""), ",")
		case end.MatchString(line):
			m := end.FindStringSubmatch(line)
			for i := range at.Columns {
				if c := &at.Columns[i]; c.Charset == "" {
					c.Charset, c.Collation = m[1], m[2]
				}
			}
		case col.MatchString(line):
			m := col.FindStringSubmatch(line)
			typ, err := column.Parse(strings.ToLower(m[2]))
			if err != nil {
				t.Fatal(err)
			}
			c := column.Column{Name: m[1], Type: typ, Nullable: !strings.Contains(m[3], "NOT NULL"), Auto: strings.Contains(m[3], "AUTO_INCREMENT")}
			if _, value, ok := strings.Cut(m[3], "DEFAULT "); ok && value != "NULL" {
				c.Default = &value
			}
			if m := own.FindStringSubmatch(m[3]); m != nil {
				c.Charset, c.Collation = m[1], m[2]
			}
			at.Columns = append(at.Columns, c)
		}
	}
	if len(out) < 100 {
		t.Fatalf("%s: %d tables", file, len(out))
	}
	return out
}

const openstack = `
format: 1
name: part of an OpenStack
ids: [{kind: project}, {kind: user}, {kind: cell}]
tables:
- target: nova.instances
  from: nova.instances
  columns:
  - copy: [created_at, updated_at, deleted_at, id, internal_id, image_ref, kernel_id, ramdisk_id, launch_index, key_name, key_data, power_state, vm_state, memory_mb, vcpus, hostname, host,
      user_data, reservation_id, launched_at, terminated_at, display_name, display_description, availability_zone, locked, os_type, launched_on, instance_type_id, vm_mode, uuid, architecture,
      root_device_name, access_ip_v4, access_ip_v6, config_drive, task_state, default_ephemeral_device, default_swap_device, progress, auto_disk_config, shutdown_terminate, disable_terminate,
      root_gb, ephemeral_gb, cell_name, node, deleted, locked_by, cleaned, ephemeral_key_uuid]
  - {to: user_id, value: user_id, map: user}
  - {to: project_id, value: project_id, map: project}
  - {to: hidden, value: "0"}
  drop: [scheduled_at]
- target: nova_api.instance_mappings
  from: nova.instances
  columns:
  - copy: [created_at, updated_at]
  - {to: instance_uuid, value: uuid}
  - {to: project_id, value: project_id, map: project}
  - {to: user_id, value: user_id, map: user}
  - {to: queued_for_delete, value: deleted <> 0}
  - {to: cell_id, value: "1", map: cell}
- target: nova_api.host_mappings
  from: nova.services
  where: deleted = 0 and ` + "`binary`" + ` = 'nova-compute' and not found('earlier')
  find:
  - {as: earlier, table: nova.services, match: "earlier.host = s.host and earlier.id < s.id and earlier.deleted = 0 and earlier.` + "`binary`" + ` = 'nova-compute'"}
  columns:
  - copy: [created_at, updated_at, host]
  - {to: cell_id, value: "1", map: cell}
  drop: [deleted_at, topic, report_count, disabled, disabled_reason, last_seen_up, forced_down, version]
- target: nova_api.key_pairs
  from: nova.key_pairs
  where: deleted = 0
  columns:
  - copy: [created_at, updated_at, id, name, user_id, fingerprint, public_key, type]
  drop: [deleted_at]
`

// TestPlanOnRealSchemas: what is told of Liberty and Zed is what is true of them.
func TestPlanOnRealSchemas(t *testing.T) {
	source := Side{Tables: readSchema(t, "testdata/liberty-schema.sql", "liberty_")}
	target := Side{Tables: readSchema(t, "testdata/zed-schema.sql", "zed_")}
	ids := map[string]IDs{"project": {Given: true}, "user": {Given: true, Default: true}, "cell": {Given: true, Default: true}}
	m := parse(t, openstack)
	p := MakePlan(m, source, target, ids)
	if len(p.Errors) != 1 || p.Errors[0].Column != "public_key" || !strings.Contains(p.Errors[0].Text, "mediumtext does not fit into text") {
		t.Errorf("errors %+v", p.Errors)
	}
	asked := func(i int) []RowCheck { // but for dates and words, which most columns have
		return slices.DeleteFunc(slices.Clone(p.Tables[i].Checks), func(c RowCheck) bool {
			return strings.HasPrefix(c.Have, "a date") || strings.HasPrefix(c.Have, "a value")
		})
	}
	if len(p.Tables) != 4 || len(asked(3)) != 1 || asked(3)[0].Column != "user_id" || len(asked(2)) != 2 || asked(2)[0].Column != "host" {
		t.Errorf("tables %+v", p.Tables)
	}
	// Its rows may be measured instead.
	m.Tables[3].Measure = []string{"public_key"}
	p = MakePlan(m, source, target, ids)
	if len(p.Errors) != 0 || len(asked(3)) != 2 || !strings.HasSuffix(asked(3)[1].Count,
		" WHERE (`s`.`deleted` = 0) AND LENGTH(CONVERT(`s`.`public_key` USING utf8mb3)) > 65535") {
		t.Errorf("measured: %+v, %+v", p.Errors, asked(3))
	}
	m.Tables[3].Measure = []string{"public_key", "id", "gone"}
	if p = MakePlan(m, source, target, ids); len(p.Errors) != 2 {
		t.Errorf("what can not be measured: %+v", p.Errors)
	}
	m.Tables[3].Measure = nil
	// Stein has no column hidden.
	stein := Side{Tables: readSchema(t, "testdata/stein-schema.sql", "stein_")}
	p = MakePlan(m, source, stein, ids)
	if len(p.Errors) != 2 || p.Errors[0].Column != "hidden" || !strings.Contains(p.Errors[0].Text, "no such column") {
		t.Errorf("errors for Stein: %+v", p.Errors)
	}
}
