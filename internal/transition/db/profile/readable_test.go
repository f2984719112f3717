package profile

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
	"holdfast/internal/transition/db/sqlexpr"
	"holdfast/internal/transition/db/survey"
	"holdfast/testbed/need"
)

// spoiled are statements that spoil a row of the old platform, by the check of the plan that
// names it, and what it is named by.
var spoiled = map[string][][2]string{
	"rows of guests and hosts say whether they are deleted": {
		{"UPDATE {nova}.instances SET deleted = NULL WHERE id = 101", "instances, 101, " + bare(web)},
		{"UPDATE {nova}.block_device_mapping SET deleted = NULL WHERE id = 22", "block_device_mapping, 22, " + bare(db)},
		{"UPDATE {nova}.compute_nodes SET deleted = NULL WHERE id = 1", "compute_nodes, 1, cmp01.example"},
	},
	"services say whether they are deleted, disabled and forced down": {
		{"UPDATE {nova}.services SET forced_down = NULL WHERE id = 3", "3, cmp01"},
		{"UPDATE {nova}.services SET disabled = NULL WHERE id = 4", "4, cmp02"},
		{"UPDATE {nova}.services SET deleted = NULL WHERE id = 3", "3, cmp01"},
	},
	"compute nodes can be read": {
		{"UPDATE {nova}.compute_nodes SET stats = '{bad' WHERE id = 1", "1, cmp01.example"},
		{"UPDATE {nova}.compute_nodes SET supported_instances = '{bad' WHERE id = 2", "2, cmp02.example"},
		{"UPDATE {nova}.compute_nodes SET numa_topology = '{bad' WHERE id = 2", "2, cmp02.example"},
		{"UPDATE {nova}.compute_nodes SET host_ip = 'abc' WHERE id = 2", "2, cmp02.example"},
	},
	"PCI devices can be read": {
		{"UPDATE {nova}.pci_devices SET extra_info = '{bad' WHERE id = 1", "1, 1, 0000:81:10.1"},
		{"UPDATE {nova}.pci_devices SET extra_info = NULL WHERE id = 1", "1, 1, 0000:81:10.1"},
		{`UPDATE {nova}.pci_devices SET extra_info = '{"phys_function": null}' WHERE id = 1`, "1, 1, 0000:81:10.1"},
		{"UPDATE {nova}.pci_devices SET status = 'lost' WHERE id = 2", "2, 1, 0000:82:00.0"},
		{"UPDATE {nova}.pci_devices SET dev_type = 'type-XY' WHERE id = 2", "2, 1, 0000:82:00.0"},
	},
	"live guests have a flavor that can be read": {
		{flavor(`"nova_object.version": "1.1"`, `"nova_object.version": "1.9"`), "101, " + bare(web) + `, "1.9"`},
		{flavor(`"memory_mb": 2048`, `"memory_mb": null`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`, "old": null, "new": null`, ""), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"memory_mb": 2048`, `"memory_mb": "2 GB"`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"vcpus": 1`, `"vcpus": 1.5`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"vcpus": 1`, `"vcpus": [1]`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"root_gb": 20`, `"root_gb": 30000000000`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"swap": 0`, `"swap": true`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"vcpu_weight": 0`, `"vcpu_weight": "none"`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"disabled": false`, `"disabled": "false"`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"extra_specs": {}`, `"extra_specs": {"a": {"b": "c"}}`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"extra_specs": {}`, `"extra_specs": {"a": ["b"]}`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"old": null`, `"old": {"nova_object.version": "1.1", "nova_object.name": "Flavor", "nova_object.namespace": "nova", "nova_object.data": {"vcpus": "one"}}`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"nova_object.namespace": "nova", `, ""), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"old": null`, `"old": {"nova_object.version": "1.1", "nova_object.name": "Flavor"}`), "101, " + bare(web) + `, "1.1"`},
		{flavor(`"old": null`, `"old": {"nova_object.version": "1.9"}`), "101, " + bare(web) + `, "1.1"`},
		{"UPDATE {nova}.instance_extra SET flavor = '{bad' WHERE instance_uuid = " + web, "101, " + bare(web) + ", NULL"},
		{"UPDATE {nova}.instance_extra SET flavor = NULL WHERE instance_uuid = " + web, "101, " + bare(web) + ", NULL"},
		{"DELETE FROM {nova}.instance_extra WHERE instance_uuid = " + web, "101, " + bare(web) + ", NULL"},
	},
	"live guests have a NUMA topology that can be read, or none": {
		{"UPDATE {nova}.instance_extra SET numa_topology = '{bad' WHERE instance_uuid = " + web, "1, " + bare(web)},
		{"UPDATE {nova}.instance_extra SET numa_topology = '' WHERE instance_uuid = " + web, "1, " + bare(web)},
		{"UPDATE {nova}.instance_extra SET numa_topology = '[]' WHERE instance_uuid = " + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET numa_topology = REPLACE(numa_topology, '"1.2"', '"1.9"') WHERE instance_uuid = ` + web,
			"1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET numa_topology = '{"nova_object.name": "InstanceNUMATopology"}' WHERE instance_uuid = ` + web,
			"1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET numa_topology = JSON_REMOVE(numa_topology, '$."nova_object.namespace"') WHERE instance_uuid = ` +
			web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET numa_topology = JSON_REMOVE(numa_topology, '$."nova_object.data".cells[0]."nova_object.namespace"') WHERE instance_uuid = ` + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET numa_topology = JSON_SET(numa_topology, '$."nova_object.data".cells[0]."nova_object.data".memory', '2 GB') WHERE instance_uuid = ` + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET numa_topology = JSON_SET(numa_topology, '$."nova_object.data".cells[0]."nova_object.data".cpuset[0]', 'a') WHERE instance_uuid = ` + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET numa_topology = '{"cells": null}' WHERE instance_uuid = ` + win, "4, " + bare(win)},
	},
	"live guests have requests for PCI devices that can be read, or none": {
		{"UPDATE {nova}.instance_extra SET pci_requests = '[{' WHERE instance_uuid = " + web, "1, " + bare(web)},
		{"UPDATE {nova}.instance_extra SET pci_requests = 'null' WHERE instance_uuid = " + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET pci_requests = '[{"count": "one", "spec": [], "alias_name": null, "request_id": null}]' WHERE instance_uuid = ` + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET pci_requests = '[{"count": 1, "spec": [], "alias_name": null}]' WHERE instance_uuid = ` + web,
			"1, " + bare(web)},
	},
	"live guests have a CPU model and a migration context that can be read, or none": {
		{"UPDATE {nova}.instance_extra SET vcpu_model = '{bad' WHERE instance_uuid = " + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET vcpu_model = '{"nova_object.version": "1.0", "nova_object.name": "VirtCPUModel"}' WHERE instance_uuid = ` + web, "1, " + bare(web)},
		{`UPDATE {nova}.instance_extra SET migration_context = '{"nova_object.version": "1.0", "nova_object.name": "MigrationContext", "nova_object.data": {}}' WHERE instance_uuid = ` + web, "1, " + bare(web)},
		{"UPDATE {nova}.instance_extra SET migration_context = '{}' WHERE instance_uuid = " + web, "1, " + bare(web)},
	},
	"live guests have addresses that are some, or none": {
		{"UPDATE {nova}.instances SET access_ip_v4 = '' WHERE id = 101", "101, " + bare(web) + ", , NULL"},
		{"UPDATE {nova}.instances SET access_ip_v6 = '10.0.0.1' WHERE id = 101", "101, " + bare(web) + ", NULL, 10.0.0.1"},
	},
	"live guests are in states that there are": {
		{"UPDATE {nova}.instances SET vm_state = 'Active' WHERE uuid = " + web, "101, " + bare(web) + ", Active, NULL, 1"},
		{"UPDATE {nova}.instances SET task_state = 'x' WHERE uuid = " + web, "101, " + bare(web) + ", active, x, 1"},
		{"UPDATE {nova}.instances SET power_state = 2 WHERE uuid = " + win, "104, " + bare(win) + ", active, NULL, 2"},
	},
	"volumes, attachments, snapshots and backups are in states that there are": {
		{"UPDATE {cinder}.volumes SET attach_status = 'Detached' WHERE id = " + disk, "volumes, " + bare(disk) + ", Detached"},
		{"UPDATE {cinder}.volume_attachment SET attach_status = 'x' WHERE deleted = 0 LIMIT 1", ", x"},
		{"UPDATE {cinder}.snapshots SET status = '' WHERE deleted = 0 LIMIT 1", ", "},
		{"UPDATE {cinder}.backups SET status = 'in-use' WHERE deleted = 0 LIMIT 1", ", in-use"},
	},
	"block devices of live guests can be read": {
		{"UPDATE {nova}.block_device_mapping SET connection_info = '{bad' WHERE id = 22", "22, " + bare(db) + ", /dev/vda"},
		{"UPDATE {nova}.block_device_mapping SET source_type = 'x' WHERE id = 22", "22, " + bare(db) + ", /dev/vda"},
		{"UPDATE {nova}.block_device_mapping SET destination_type = '' WHERE id = 22", "22, " + bare(db) + ", /dev/vda"},
		{"UPDATE {nova}.block_device_mapping SET device_type = 'DISK' WHERE id = 22", "22, " + bare(db) + ", /dev/vda"},
	},
	"image properties of live guests are values of theirs": {
		{"UPDATE {nova}.instance_system_metadata SET value = 'abc' WHERE `key` = 'image_hw_numa_nodes'", bare(db) + ", image_hw_numa_nodes, abc"},
		{"UPDATE {nova}.instance_system_metadata SET value = 'of glass' WHERE `key` = 'image_hw_disk_bus' AND " +
			"instance_uuid = " + win, bare(win) + ", image_hw_disk_bus, of glass"},
		{"UPDATE {nova}.instance_system_metadata SET value = 'two' WHERE `key` = 'image_min_ram' AND instance_uuid = " +
			win, bare(win) + ", image_min_ram, two"},
	},
}

// flavor is the statement that changes the text of a guest's flavor.
func flavor(from, to string) string {
	return "UPDATE {nova}.instance_extra SET flavor = REPLACE(flavor, '" + from + "', '" + to + "') WHERE instance_uuid = " + web
}

// TestPlanNamesWhatNovaCanNotRead: each such row of the source is an error of the plan with
// its key and what to do, and those of a table that is left out are none.
func TestPlanNamesWhatNovaCanNotRead(t *testing.T) {
	need.More(t)
	r := start(t)
	r.SQL(mended)
	p := fresh(t, r, "zed_")
	checks := map[string]mapping.Check{}
	for _, c := range p.mapping.OfSource() {
		if checks[c.Name] = c; spoiled[c.Name] == nil || c.Remedy == "" {
			t.Errorf("check %q: nothing is spoiled for it, or it has no remedy", c.Name)
		}
	}
	if told := p.told(t); len(told) > 0 {
		t.Fatalf("of good rows: %+v", told)
	}
	for name, list := range spoiled {
		c, ok := checks[name]
		if !ok {
			t.Errorf("there is no check %q", name)
			continue
		}
		for _, s := range list {
			if before := r.SQL(p.from.Fill("BEGIN; " + s[0] + "; SELECT ROW_COUNT(); " +
				c.Rows + "; ROLLBACK")); !strings.HasPrefix(before, "1\n") || !strings.HasSuffix(strings.ReplaceAll(before, "\t", ", "), s[1]) {
				t.Errorf("%s: %s: want 1 and %q", s[0], before, s[1])
			}
		}
	}
	r.SQL(p.from.Fill(spoiled["live guests have a NUMA topology that can be read, or none"][0][0] + "; " +
		spoiled["services say whether they are deleted, disabled and forced down"][0][0]))
	told := p.told(t)
	if len(told) != 2 || told[0].Table != "nova.services" || !slices.Equal(told[0].Keys, []string{"3, cmp01"}) ||
		!slices.Equal(told[1].Keys, []string{"1, " + bare(web)}) ||
		!strings.Contains(told[1].Text, "1 rows of the source break it (id, instance_uuid of the first: 1, "+
			bare(web)+"): want a JSON object") || !strings.Contains(told[0].Text, "UPDATE `liberty_nova`.services SET") {
		t.Errorf("%+v", told)
	}
	if err := p.mapping.Skip([]string{"nova.services"}); err != nil {
		t.Fatal(err)
	}
	if told := p.told(t); len(told) != 1 || told[0].Table != "nova.instance_extra" {
		t.Errorf("without the services: %+v", told)
	}
}

// told are the findings of a plan that checks have made.
func (p *platforms) told(t *testing.T) (out []survey.Finding) {
	t.Helper()
	sets := map[string]ids.Set{}
	if err := ids.Ask(within(t, time.Minute), p.mapping, sets, p.target, p.to); err != nil {
		t.Fatal(err)
	}
	found, _, err := survey.Plan(within(t, time.Minute), p.mapping, p.source, p.target, p.from.Databases, p.to.Databases, sets)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found.Errors {
		if strings.Contains(f.Text, "of the source break it") || strings.Contains(f.Text, "of this check") {
			out = append(out, f)
		}
	}
	return out
}

// TestImagePropertiesAreNovas compares the check of image properties with Nova's own code,
// for all properties and many values of each.
func TestImagePropertiesAreNovas(t *testing.T) {
	need.More(t)
	out, err := exec.CommandContext(within(t, time.Minute), python, "testdata/property_values.py").Output()
	if err != nil {
		t.Skipf("%s has no Nova: %v", python, err)
	}
	var values [][3]any
	if err := json.Unmarshal(out, &values); err != nil || len(values) < 10_000 {
		t.Fatalf("%d values, %v", len(values), err)
	}
	r := start(t)
	var sql strings.Builder
	sql.WriteString("SET NAMES utf8mb4; USE liberty_nova; DELETE FROM instance_system_metadata; ")
	for part := range slices.Chunk(values, 1000) {
		sep := "INSERT INTO instance_system_metadata (instance_uuid, deleted, `key`, value) VALUES "
		for _, v := range part {
			fmt.Fprintf(&sql, "%s(%s, 0, %s, %s)", sep, web, sqlexpr.Literal(v[0].(string)), sqlexpr.Literal(v[1].(string)))
			sep = ", "
		}
		sql.WriteString("; ")
	}
	r.SQL(sql.String())
	p := fresh(t, r, "zed_")
	refused := map[[2]string]bool{}
	for _, c := range p.mapping.OfSource() {
		if strings.HasPrefix(c.Name, "image properties") {
			rows, err := p.source.DB.QueryContext(within(t, time.Minute), p.from.Fill(c.Rows))
			if err != nil {
				t.Fatal(err)
			}
			for rows.Next() {
				var id, uuid, key, value string
				if err := rows.Scan(&id, &uuid, &key, &value); err != nil {
					t.Fatal(err)
				}
				refused[[2]string{key, value}] = true
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	wrong := 0
	for _, v := range values {
		key, value, read := v[0].(string), v[1].(string), v[2].(bool)
		if refused[[2]string{key, value}] == read && wrong < 20 {
			wrong++
			t.Errorf("%s = %q: Nova reads it: %v", key, value, read)
		}
	}
}
