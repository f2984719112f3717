package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/transition/db/profile"
)

// unreadable are values that Nova's own objects refuse, a column of one of four guests each:
// web, db, win and soft. readable are odd ones that they take.
var (
	unreadable = [][4]string{
		{`instance_extra.flavor = REPLACE(flavor, '"nova_object.version": "1.1"', '"nova_object.version": "1.9"')`,
			`instance_extra.flavor = REPLACE(flavor, '"memory_mb": ', '"memory_mb": null, "was": ')`,
			`instance_extra.flavor = REPLACE(flavor, ', "old": null, "new": null', '')`,
			`instance_extra.flavor = REPLACE(flavor, '"old": null', '"old": {"nova_object.version": "1.9"}')`},
		{"instance_extra.flavor = '{bad'", "instance_extra.flavor = NULL",
			"instance_extra.flavor = '{\"cur\": null, \"old\": null, \"new\": null}'",
			`instance_extra.flavor = REPLACE(flavor, '"Flavor"', '"Taste"')`},
		{"instance_extra.numa_topology = '{bad'", `instance_extra.numa_topology = REPLACE(numa_topology, '"1.2"', '"1.9"')`,
			"instance_extra.numa_topology = ''", "instance_extra.numa_topology = '[]'"},
		{"instance_extra.pci_requests = '[{'", `instance_extra.pci_requests = '[{"count": 1, "spec": [], "alias_name": null}]'`,
			"instance_extra.pci_requests = 'null'", "instance_extra.pci_requests = ''"},
		{"instance_extra.vcpu_model = '{bad'", "instance_extra.vcpu_model = ''", "instance_extra.migration_context = '{}'",
			`instance_extra.migration_context = '{"nova_object.name": "MigrationContext", "nova_object.namespace": "nova", "nova_object.version": "1.3", "nova_object.data": {}}'`},
		{"instances.access_ip_v4 = 'abc'", "instances.access_ip_v6 = '10.0.0.1'", "instances.access_ip_v4 = ''", "instances.deleted = NULL"},
		{"block_device_mapping.source_type = 'x'", "block_device_mapping.connection_info = '{bad'",
			"block_device_mapping.destination_type = ''", "block_device_mapping.device_type = 'DISK'"},
		{"instance_system_metadata.`key` = 'image_hw_numa_nodes', value = 'abc' LIMIT 1",
			"instance_system_metadata.`key` = 'image_hw_cdrom_bus', value = 'of glass' LIMIT 1",
			"instance_system_metadata.`key` = 'image_os_type', value = '' LIMIT 1",
			"instance_system_metadata.`key` = 'image_hw_video_ram', value = 'two' LIMIT 1"},
	}
	readable = [][4]string{
		{`instance_extra.flavor = REPLACE(flavor, '"nova_object.version": "1.1"', '"nova_object.version": "1.2"')`,
			"instance_extra.numa_topology = NULL", "instance_extra.pci_requests = NULL",
			`instance_extra.vcpu_model = '{"nova_object.name": "VirtCPUModel", "nova_object.namespace": "nova", "nova_object.version": "1.0", "nova_object.data": {}}'`},
		{"instance_system_metadata.`key` = 'image_hw_boot_menu', value = 'maybe' LIMIT 1",
			"instances.access_ip_v6 = '::1'", "instance_system_metadata.`key` = 'image_hw_cpu_cores', value = ' " +
				"2 ' LIMIT 1", "block_device_mapping.device_type = NULL"},
	}
	// shared are those of hosts, and of what all guests have in common.
	shared = []string{
		"UPDATE nova.services SET forced_down = NULL WHERE host = 'cmp01'",
		"UPDATE nova.services SET disabled = NULL WHERE host = 'cmp01'", "UPDATE nova.compute_nodes SET stats = '{bad' WHERE host = 'cmp01'",
		"UPDATE nova.compute_nodes SET supported_instances = '{bad' WHERE host = 'cmp01'",
		"UPDATE nova.compute_nodes SET host_ip = '' WHERE host = 'cmp01'",
		"UPDATE nova.compute_nodes SET numa_topology = '{bad' WHERE host = 'cmp01'",
		"UPDATE nova.pci_devices SET extra_info = NULL LIMIT 1",
		`UPDATE nova.pci_devices SET extra_info = '{"a": null}' LIMIT 1`,
		"UPDATE nova.pci_devices SET status = 'lost' LIMIT 1", "UPDATE nova_api.flavors SET is_public = NULL LIMIT 1",
	}
)

// checksAreNovas: the profile's checks refuse what Nova's own objects do, of the same guests,
// and nothing else. It spoils rows of the target, whose columns are the source's.
func (c *newCloud) checksAreNovas(t *testing.T) {
	tables := []string{"nova.instance_extra", "nova.instances", "nova.block_device_mapping",
		"nova.instance_system_metadata", "nova.services", "nova.compute_nodes", "nova.pci_devices", "nova_api.flavors"}
	for _, x := range tables {
		c.SQL(fmt.Sprintf("CREATE DATABASE IF NOT EXISTS kept; CREATE OR REPLACE TABLE kept.`%s` AS SELECT * FROM %s", x, x))
	}
	m, _, err := profile.Mapping("openstack-liberty-zed")
	if err != nil {
		t.Fatal(err)
	}
	broken := func() (out string) {
		for _, check := range m.Checks {
			rows := strings.NewReplacer("{nova}", "nova", "{nova_api}", "nova_api").Replace(check.Rows)
			if check.OfTarget() && rows != "" && !regexp.MustCompile(`\{[a-z_]+\}`).MatchString(rows) { // else it is of another service
				out += c.SQL(rows)
			}
		}
		return out
	}
	for i, round := range append(unreadable, readable...) {
		for k, guest := range []string{guestWeb, guestDB, guestWin, guestSoft} {
			table, set, _ := strings.Cut(round[k], ".")
			set, limit, _ := strings.Cut(set, " LIMIT")
			by := "instance_uuid"
			if table == "instances" {
				by = "uuid"
			}
			if limit != "" {
				limit = " LIMIT" + limit
			}
			if n := c.SQL(fmt.Sprintf("UPDATE nova.%s SET %s WHERE %s = '%s'%s; SELECT ROW_COUNT()", table, set, by, guest, limit)); n == "0" {
				t.Errorf("%s: %s rows", round[k], n)
			}
		}
		faults, named := strings.Join(c.read(t).Faults, "\n"), broken()
		for k, guest := range []string{guestWeb, guestDB, guestWin, guestSoft} {
			want := i < len(unreadable)
			if got := [2]bool{strings.Contains(faults, guest), strings.Contains(named, guest)}; got != [2]bool{want, want} {
				t.Errorf("%s: Nova refuses it: %v, a check does: %v, want %v of both\n%s", round[k], got[0], got[1], want, faults)
			}
		}
		c.putBack(tables)
	}
	for _, change := range shared {
		c.SQL(change)
		if r, named := c.read(t, []string{}...), broken(); len(r.Faults) == 0 || named == "" {
			t.Errorf("%s: Nova's faults %q, broken by %q", change, r.Faults, named)
		}
		c.putBack(tables)
	}
	if named := broken(); named != "" {
		t.Errorf("put back: %s", named)
	}
}
