package profile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/mapping"
)

// broken are statements that break a check of the target, for each one or more of them.
var broken = map[string][]string{
	"live guests have a mapping with a cell and a user": {
		"DELETE FROM {nova_api}.instance_mappings WHERE instance_uuid = " + web,
		"UPDATE {nova_api}.instance_mappings SET cell_id = NULL WHERE instance_uuid = " + web,
		"UPDATE {nova_api}.instance_mappings SET user_id = NULL WHERE instance_uuid = " + web,
	},
	"mappings name the project and the user of their guests": {
		"UPDATE {nova_api}.instance_mappings SET project_id = 'x' WHERE instance_uuid = " + web,
		"UPDATE {nova}.instances SET user_id = 'x' WHERE uuid = " + lost,
	},
	"mappings say whether their guests are deleted": {
		"UPDATE {nova_api}.instance_mappings SET queued_for_delete = 1 WHERE instance_uuid = " + web,
		"UPDATE {nova_api}.instance_mappings SET queued_for_delete = 0 WHERE instance_uuid = " + lost,
		"UPDATE {nova_api}.instance_mappings SET queued_for_delete = NULL WHERE instance_uuid = " + soft,
	},
	"live guests have a request spec": {"DELETE FROM {nova_api}.request_specs WHERE instance_uuid = " + db},
	"request specs are JSON with a flavor and real booleans": {
		"UPDATE {nova_api}.request_specs SET spec = LEFT(spec, 100) WHERE instance_uuid = " + db,
		`UPDATE {nova_api}.request_specs SET spec = REPLACE(spec, '"is_bfv": true', '"is_bfv": "0"') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = REPLACE(spec, '"is_bfv": true', '"is_bfv": 1') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = REPLACE(spec, '"flavor"', '"flavour"') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.data".flavor', NULL) WHERE instance_uuid = ` + db,
	},
	"request specs have NUMA topologies that are objects, or none": {
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.data".numa_topology', JSON_OBJECT('cells', JSON_ARRAY())) WHERE instance_uuid = ` + win,
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.data".numa_topology', 'x') WHERE instance_uuid = ` + win,
	},
	"volumes are at a service": {
		"UPDATE {cinder}.volumes SET service_uuid = NULL WHERE id = " + disk,
		"UPDATE {cinder}.volumes SET host = 'new@other#fast' WHERE id = " + disk,
		"UPDATE {cinder}.services SET uuid = 'of another'",
		"UPDATE {cinder}.services SET deleted = 1",
	},
	"backups have a time, and parents that there are": {
		"UPDATE {cinder}.backups SET data_timestamp = NULL WHERE deleted = 0",
		"UPDATE {cinder}.backups SET parent_id = 'gone' WHERE deleted = 0",
		"UPDATE {cinder}.backups SET deleted = 1 WHERE parent_id IS NULL",
	},
	"transfers are of volumes that wait for them": {
		"UPDATE {cinder}.transfers SET source_project_id = 'x'",
		"UPDATE {cinder}.volumes SET status = 'available' WHERE status = 'awaiting-transfer'",
		"UPDATE {cinder}.volumes SET deleted = 1 WHERE status = 'awaiting-transfer'",
	},
	"request specs have images with properties": {
		`UPDATE {nova_api}.request_specs SET spec = JSON_REMOVE(spec, '$."nova_object.data".image') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.data".image."nova_object.data".properties."nova_object.data"', 'x') WHERE instance_uuid = ` + db,
		"UPDATE {nova_api}.request_specs SET spec = LEFT(spec, 100) WHERE instance_uuid = " + db,
	},
	"request specs keep the pinning and the NUMA nodes that images asked for": {
		`UPDATE {nova_api}.request_specs SET spec = JSON_REMOVE(spec, '$."nova_object.data".image."nova_object.data".properties."nova_object.data".hw_cpu_policy') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.data".image."nova_object.data".properties."nova_object.data".hw_numa_nodes', 1) WHERE instance_uuid = ` + db,
		"UPDATE {nova}.instance_system_metadata SET value = 'shared' WHERE `key` = 'image_hw_cpu_policy'",
	},
	"encrypted volumes are of encrypted types": {
		"UPDATE {cinder}.encryption SET deleted = 1",
		"UPDATE {cinder}.encryption SET volume_type_id = 'new-default'",
		"UPDATE {cinder}.volumes SET volume_type_id = 'new-default' WHERE encryption_key_id IS NOT NULL",
	},
	"live guests have one row of extra data, with a flavor": {
		"DELETE FROM {nova}.instance_extra WHERE instance_uuid = " + web,
		"UPDATE {nova}.instance_extra SET flavor = NULL WHERE instance_uuid = " + web,
		"UPDATE {nova}.instance_extra SET flavor = '{\"cur\": ' WHERE instance_uuid = " + web,
		"INSERT INTO {nova}.instance_extra (instance_uuid, deleted, flavor) SELECT instance_uuid, deleted, flavor " +
			"FROM {nova}.instance_extra WHERE instance_uuid = " + web,
	},
	"live guests have a list of key pairs": {
		"UPDATE {nova}.instance_extra SET keypairs = NULL WHERE instance_uuid = " + web,
		"UPDATE {nova}.instance_extra SET keypairs = 'x' WHERE instance_uuid = " + web,
	},
	"live guests have an info cache that is a JSON list": {
		"DELETE FROM {nova}.instance_info_caches WHERE instance_uuid = " + web,
		"UPDATE {nova}.instance_info_caches SET network_info = NULL WHERE instance_uuid = " + web,
		"UPDATE {nova}.instance_info_caches SET network_info = '[{' WHERE instance_uuid = " + web,
		"UPDATE {nova}.instance_info_caches SET network_info = '{}' WHERE instance_uuid = " + web,
		`UPDATE {nova}.instance_info_caches SET network_info = '[{"id": "x"}]' WHERE instance_uuid = ` + web,
		`UPDATE {nova}.instance_info_caches SET network_info = '[{"id": "x", "network": null}]' WHERE instance_uuid = ` + web,
		`UPDATE {nova}.instance_info_caches SET network_info = '["x"]' WHERE instance_uuid = ` + web,
	},
	"block devices have a uuid":           {"UPDATE {nova}.block_device_mapping SET uuid = NULL WHERE id = 22"},
	"hosts of live guests have a mapping": {"DELETE FROM {nova_api}.host_mappings WHERE host = 'new02'"},
	"no live guest is hidden": {"UPDATE {nova}.instances SET hidden = 1 WHERE uuid = " + win,
		"UPDATE {nova}.instances SET hidden = NULL WHERE uuid = " + win},
	"volumes count against quotas or not": {"UPDATE {cinder}.volumes SET use_quota = NULL LIMIT 1",
		"UPDATE {cinder}.snapshots SET use_quota = NULL LIMIT 1"},
	"locations of images are JSON": {"UPDATE {glance}.image_locations SET meta_data = " +
		"'{' WHERE id = 4", "UPDATE {glance}.image_locations SET meta_data = NULL WHERE id = 1",
		"UPDATE {glance}.image_locations SET meta_data = 'null' WHERE id = 1"},
	"groups of guests have one policy": {"INSERT INTO {nova_api}.instance_group_policy " +
		"(group_id, policy) VALUES (1, 'affinity')"},
	"compute services and nodes have uuids": {"UPDATE {nova}.services SET uuid = NULL WHERE id = 3",
		"UPDATE {nova}.compute_nodes SET uuid = NULL WHERE id = 1", "UPDATE {nova}.compute_nodes SET mapped = 0 WHERE id = 1"},
	"compute services are not older than this release accepts": {"UPDATE {nova}.services SET version = 2 WHERE id = 3",
		"UPDATE {nova}.services SET version = NULL WHERE id = 3"},
	"live guests are on a compute node that is known": {
		"UPDATE {nova}.compute_nodes SET hypervisor_hostname = 'new01' WHERE id = 1",
		"UPDATE {nova}.compute_nodes SET deleted = id WHERE id = 1",
		"UPDATE {nova}.instances SET node = NULL WHERE uuid = " + web,
	},
	"live guests of Windows have a network card": {
		"DELETE FROM {nova}.instance_system_metadata WHERE `key` = 'image_hw_vif_model'",
		"UPDATE {nova}.instances SET os_type = 'windows' WHERE uuid = " + web,
		"INSERT INTO {nova}.instance_system_metadata (instance_uuid, `key`, value, deleted) VALUES (" +
			web + ", 'image_os_distro', 'win2k16', 0)",
	},
	"volumes and snapshots are of types that there are": {"UPDATE {cinder}.volumes SET volume_type_id = 'old' WHERE " +
		"deleted = 0 LIMIT 1", "UPDATE {cinder}.snapshots SET volume_type_id = 'old'"},
	"extra specs of flavors have values, and aggregates names": {
		"UPDATE {nova_api}.flavor_extra_specs SET value = NULL LIMIT 1",
		"UPDATE {nova_api}.aggregates SET name = NULL LIMIT 1",
	},
	"flavors say whether they are disabled and public": {"UPDATE {nova_api}.flavors SET is_public = NULL WHERE id = 3",
		"UPDATE {nova_api}.flavors SET disabled = NULL WHERE id = 4"},
	"request specs are of versions that can be read": {
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.version"', '1.15') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.data".flavor."nova_object.version"', '1.9') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = JSON_SET(spec, '$."nova_object.data".image."nova_object.version"', '1.9') WHERE instance_uuid = ` + db,
		`UPDATE {nova_api}.request_specs SET spec = REPLACE(spec, '"1.20"', '"1.35"') WHERE instance_uuid = ` + db,
	},
	"guests are in the cell of their host": {
		"UPDATE {nova_api}.instance_mappings SET cell_id = 1 WHERE instance_uuid = " + lost,
		"UPDATE {nova_api}.instance_mappings SET cell_id = 8 WHERE instance_uuid = " + web,
		"UPDATE {nova_api}.host_mappings SET cell_id = 8 WHERE host = 'new01'",
	},
	"flavors of live guests are there, if the old platform still has them": {"DELETE FROM {nova_api}.flavors WHERE id = 3"},
	"metadata of live guests have keys and values": {"UPDATE {nova}.instance_metadata SET " +
		"value = NULL WHERE deleted = 0 LIMIT 1", "UPDATE {nova}.instance_metadata SET `key` = NULL WHERE deleted = 0 LIMIT 1"},
}

// checksFind breaks each of the checks, in transactions that are rolled back.
func (p *platforms) checksFind(t *testing.T) {
	ctx := within(t, time.Minute)
	for name := range broken {
		// which has them all
		if p.prefix == "zed_" && !slices.ContainsFunc(p.mapping.Checks, func(c mapping.Check) bool { return c.Name == name }) {
			t.Errorf("there is no check %q", name)
		}
	}
	for _, c := range p.mapping.Checks {
		list := broken[c.Name]
		for _, s := range spoiled[c.Name] {
			list = append(list, s[0])
		}
		if len(list) == 0 {
			t.Errorf("nothing breaks the check %q", c.Name)
		}
		for _, b := range list {
			if !c.OfTarget() {
				continue
			}
			tx, err := p.target.DB.BeginTx(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(ctx, "SET foreign_key_checks = 0"); err != nil {
				t.Fatal(err)
			}
			if _, err := tx.ExecContext(ctx, p.to.Fill(b)); err != nil {
				t.Errorf("%s: %v", b, err)
			}
			if n := p.breaks(t, tx, c); n <= unread[c.Name] {
				t.Errorf("%s: after %s it finds %d rows", c.Name, b, n)
			}
			if _, err := tx.ExecContext(ctx, "SET foreign_key_checks = 1"); err != nil { // the connection is used again
				t.Fatal(err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// collisionsAreFound: what Liberty allows and the new schemas do not.
func collisionsAreFound(t *testing.T, r *aligntest.Rig) {
	p := between(t, r, "zed_")
	r.SQL(`USE liberty_nova;
		INSERT INTO aggregates (id, name, deleted) VALUES (8, 'RACK-A', 0);
		INSERT INTO instance_type_extra_specs (instance_type_id, ` + "`key`" + `, value, deleted) VALUES (4, 'HW:cpu_policy', 'shared', 0);
		INSERT INTO key_pairs (name, user_id, public_key, deleted) VALUES ('nobody''s', NULL, REPEAT('k', 70000), 0);
		INSERT INTO instance_types (name, id, memory_mb, vcpus, swap, flavorid, deleted) VALUES (NULL, 9, 1, 1, 0, 'nameless', 0);
		INSERT INTO instance_group_member (instance_id, group_id, deleted) VALUES (` + web + `, 1, 0);
		UPDATE instance_extra SET flavor = '{"cur": null}' WHERE instance_uuid = ` + win + `;
		DELETE FROM instance_extra WHERE instance_uuid = ` + db + ` OR instance_uuid = ` + lost)
	plan := mapping.MakePlan(p.mapping, p.from, p.to, ids.Known(map[string]ids.Set{"user": {}, "cell": {}}))
	if len(plan.Errors) > 0 {
		t.Fatalf("%+v", plan.Errors)
	}
	var got []string
	for _, x := range plan.Tables {
		for _, c := range x.Collisions {
			if rows := r.SQL(c.List(nil)); rows != "" {
				got = append(got, fmt.Sprintf("%s %s: %s", x.Target, c.Index, strings.ReplaceAll(rows, "\t", " ")))
			}
		}
		for _, c := range x.Checks {
			if n := r.SQL(c.Count); n != "0" {
				got = append(got, fmt.Sprintf("%s %s: %s rows with %s", x.Target, c.Column, n, c.Have))
			}
		}
	}
	want := []string{
		"nova_api.aggregates uniq_aggregate0name: rack-a 2",
		"nova_api.flavor_extra_specs uniq_flavor_extra_specs0flavor_id0key: 4 hw:cpu_policy 2",
		"nova_api.flavors name: 1 rows with NULL, which the target does not allow",
		"nova_api.key_pairs public_key: 1 rows with a text that is too long for text",
		"nova_api.key_pairs user_id: 1 rows with NULL, which the target does not allow",
		"nova_api.request_specs join: 101 2",
		"nova_api.request_specs spec: 2 rows with NULL, which the target does not allow", // live guests that have no flavor
	}
	slices.Sort(got)
	if !slices.EqualFunc(got, want, strings.EqualFold) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// adviceRuns: statements that advice tells people to run are tried on the new platform.
func (p *platforms) adviceRuns(t *testing.T) {
	names := regexp.MustCompile(`\b(nova|neutron|cinder)\.`)
	statement := func(from, to string) string {
		for _, a := range p.mapping.Advice {
			if _, text, ok := strings.Cut(a, from); ok {
				text, _, _ = strings.Cut(text, to)
				return names.ReplaceAllString(from+text, p.prefix+"$1.")
			}
		}
		t.Fatalf("no advice has %s", from)
		return ""
	}
	// No port has been rebuilt: of one guest one is missing.
	if got := p.SQL(statement("SELECT COUNT(*) FROM nova.instances i JOIN nova.instance_info_caches", "\"")); got != "1" {
		t.Errorf("guests whose ports are missing: %q", got)
	}
	if got := p.SQL(statement("SELECT instance_uuid FROM nova.instance_extra", ".\n")); got != "" {
		t.Errorf("guests with more than three PCI requests: %q", got)
	}
	if got := p.SQL(statement("SELECT instance_uuid FROM nova.instance_extra WHERE deleted = 0 AND JSON_VALID", "\"")); got != bare(win) {
		t.Errorf("guests of Juno: %q", got)
	}
	p.SQL(statement("UPDATE cinder.volumes SET shared_targets = 1", " for theirs"))
}
