package profile

const (
	web  = "'90000000-0000-4000-8000-000000000101'"
	db   = "'90000000-0000-4000-8000-000000000102'"
	lost = "'90000000-0000-4000-8000-000000000103'"
	win  = "'90000000-0000-4000-8000-000000000104'"
	soft = "'90000000-0000-4000-8000-000000000105'"
	disk = "'92000000-0000-4000-8000-000000000001'"
)

// data is the path of what an object holds, in the JSON of Nova's objects.
const data = `$."nova_object.data".`

// looks are queries of the target, and what they give: a line for each row.
var looks = [][2]string{
	// Ids stay: libvirt's names are made of the guests', guests name their flavors'.
	{"SELECT id, uuid, deleted, hostname FROM {nova}.instances ORDER BY id",
		"101\t" + bare(web) + "\t0\tweb-1\n102\t" + bare(db) + "\t0\tdb-1\n103\t" + bare(lost) + "\t103\told\n104\t" +
			bare(win) + "\t0\twin-1\n105\t" + bare(soft) + "\t0\tsoft"},
	{"SELECT id, name, flavorid FROM {nova_api}.flavors ORDER BY id", "3\tm1.small\t2\n4\tbig \"db\"\tc0ffee00-0000-4000-8000-000000000002"},
	{"SELECT flavor_id, `key`, value FROM {nova_api}.flavor_extra_specs ORDER BY id",
		"4\thw:cpu_policy\tdedicated\n4\tquota:disk_read_iops_sec\t500\n3\tempty\t"},
	{"SELECT flavor_id, project_id FROM {nova_api}.flavor_projects", "4\tbank"},
	{"SELECT GROUP_CONCAT(id ORDER BY id) FROM {nova}.block_device_mapping", "21,22,23,24,25"},
	// Texts, times and zero dates.
	{"SELECT HEX(display_name), HEX(display_description) FROM {nova}.instances WHERE id = 101",
		"77656220223122205C20C3BC6EC3AF\t697427730974776F0A6C696E6573"},
	{"SELECT created_at, updated_at, launched_at IS NULL, LENGTH(user_data), locked_by, host, node, " +
		"availability_zone FROM {nova}.instances WHERE id = 102", "2016-03-01 10:00:00\tNULL\t1\t54037\tadmin\tnew02\tnew02.example\tNULL"},
	// Nova asks the mapping of every guest, also of those that are gone.
	{"SELECT id, instance_uuid, cell_id, project_id, user_id, queued_for_delete FROM {nova_api}.instance_mappings " +
		"WHERE id IN (101, 103, 105) ORDER BY id",
		"101\t" + bare(web) + "\t7\tshop\tada\t0\n103\t" + bare(lost) + "\t7\tothers\tada\t1\n105\t" + bare(soft) + "\t7\tbank\tbob\t1"},
	{"SELECT GROUP_CONCAT(id ORDER BY id) FROM {nova_api}.request_specs", "101,102,104,105"},
	{spec("is_bfv", "JSON_TYPE(", ")"), "BOOLEAN\nBOOLEAN\nBOOLEAN\nBOOLEAN"},
	{spec("is_bfv", "", ""), "false\ntrue\nfalse\nfalse"},
	{spec(`flavor."nova_object.data".name`, "", ""), "\"m1.small\"\n\"big \\\"db\\\"\"\n\"m1.gone\"\n\"m1.small\""},
	{spec(`flavor."nova_object.data".disabled`, "JSON_TYPE(", ")"), "BOOLEAN\nBOOLEAN\nBOOLEAN\nBOOLEAN"},
	{spec("project_id", "", ""), "\"shop\"\n\"bank\"\n\"shop\"\n\"bank\""},
	{spec("availability_zone", "", ""), "\"zone-1\"\nnull\n\"zone-1\"\nnull"},
	{spec(`image."nova_object.data".id`, "COALESCE(", ", 'none')"),
		"\"91000000-0000-4000-8000-000000000001\"\nnone\n\"91000000-0000-4000-8000-000000000001\"\n\"91000000-0000-4000-8000-000000000001\""},
	{spec(`instance_group`, "JSON_TYPE(", ")"), "OBJECT\nNULL\nOBJECT\nNULL"},
	{spec("num_instances", "JSON_TYPE(", ")"), "INTEGER\nINTEGER\nINTEGER\nINTEGER"},
	{spec("numa_topology", "JSON_TYPE(", ")"), "OBJECT\nOBJECT\nNULL\nNULL"},
	// NUMA cells say what newer releases ask them; Juno's form is in the spec of none.
	{cells("{nova}.instance_extra", "numa_topology", `$."nova_object.data".`), numa},
	{cells("{nova_api}.request_specs", "spec", data+`numa_topology."nova_object.data".`), numa},
	{"SELECT JSON_EXTRACT(numa_topology, '$.cells[0].cpus') FROM {nova}.instance_extra WHERE instance_uuid = " + win, `"0-1"`},
	{"SELECT COUNT(*) FROM {nova}.instance_extra WHERE numa_topology = ''", "1"},
	{spec(`pci_requests."nova_object.data".requests`, "JSON_LENGTH(", ")"), "0\n2\n0\n0"},
	{spec(`pci_requests."nova_object.data".requests[1]."nova_object.data".count`, "COALESCE(", ", 'none')"), "none\n2\nnone\nnone"},
	// Key pairs of guests.
	{"SELECT JSON_EXTRACT(keypairs, '" + data + "objects[0].\"nova_object.data\".user_id'), JSON_EXTRACT(keypairs, '" +
		data + "objects[0].\"nova_object.data\".public_key'), JSON_TYPE(JSON_EXTRACT(keypairs, '" + data +
		"objects[0].\"nova_object.data\".deleted')) FROM {nova}.instance_extra WHERE instance_uuid = " + web,
		`"ada"` + "\t" + `"ssh-rsa AAAAB3NzaC1yc2E \"ada\"\\n@example\n"` + "\tBOOLEAN"},
	{"SELECT COUNT(*) FROM {nova}.instance_extra WHERE JSON_EXTRACT(keypairs, '" + data + "objects') = '[]'", "3"},
	{"SELECT id, user_id, LENGTH(public_key), type, created_at FROM {nova_api}.key_pairs ORDER BY id",
		"11\tada\t40\tssh\t2016-03-01 10:00:00\n12\tbob\t65535\tssh\tNULL\n14\tada\t27\tx509\t2016-03-01 10:00:00"},
	// Pools, Windows, metadata.
	{"SELECT instance_uuid, value FROM {nova}.instance_system_metadata WHERE `key` = " +
		"'aggregate_instance_metadata:pool' AND deleted = 0 AND instance_uuid IN (" + web + ", " + db + ") ORDER BY 1",
		bare(web) + "\tssd-1\n" + bare(db) + "\tssd-1"},
	{"SELECT COUNT(*) FROM {nova}.instance_system_metadata WHERE `key` = 'pool'", "0"},
	{"SELECT id, instance_uuid, value FROM {nova}.instance_system_metadata WHERE `key` = 'image_hw_vif_model'",
		"1000000104\t" + bare(win) + "\tvirtio"},
	{"SELECT `key`, value FROM {nova}.instance_metadata WHERE deleted = 0 ORDER BY id",
		"role\tweb ?\npool\tof the user\naggregate_instance_metadata:pool\taz-a"},
	{"SELECT LENGTH(network_info), JSON_EXTRACT(network_info, '$[0].network.label') FROM {nova}.instance_info_caches " +
		"WHERE instance_uuid = " + win, "300002\tNULL"},
	{"SELECT JSON_UNQUOTE(JSON_EXTRACT(network_info, '$[0].network.label')) FROM {nova}.instance_info_caches WHERE " +
		"instance_uuid = " + web, "prod 😀"},
	// Hosts.
	{"SELECT id, host, cell_id FROM {nova_api}.host_mappings ORDER BY id", "3\tnew01\t7\n4\tnew02\t7"},
	{"SELECT id, host, `binary`, disabled, disabled_reason FROM {nova}.services ORDER BY id",
		"3\tnew01\tnova-compute\t0\tNULL\n4\tnew02\tnova-compute\t1\tbroken fan"},
	{"SELECT id, host, hypervisor_hostname, cpu_allocation_ratio, ram_allocation_ratio, mapped FROM " +
		"{nova}.compute_nodes ORDER BY id", "1\tnew01\tnew01.example\t16\t1.5\t1\n2\tnew02\tnew02.example\tNULL\tNULL\t1"},
	{"SELECT id, compute_node_id, parent_addr, uuid IS NOT NULL FROM {nova}.pci_devices ORDER BY id",
		"1\t1\t0000:81:00.0\t1\n2\t1\tNULL\t1\n3\t2\tNULL\t1\n4\t2\tNULL\t1"},
	// What guests, volumes, snapshots and images are called by EC2 and by cloud-init.
	{"SELECT id, uuid, deleted FROM {nova}.instance_id_mappings ORDER BY id",
		"1001\t" + bare(web) + "\t0\n1002\t" + bare(db) + "\tNULL\n1003\t" + bare(lost) + "\t1003"},
	{"SELECT (SELECT MAX(id) FROM {nova}.volume_id_mappings), (SELECT MAX(id) FROM {nova}.snapshot_id_mappings), " +
		"(SELECT MAX(id) FROM {nova}.s3_images)", "2001\t3001\t4001"},
	{"SELECT name, uuid IS NOT NULL FROM {nova_api}.aggregates ORDER BY id", "rack-a\t1\nGestell ü\t1"},
	{"SELECT host, aggregate_id FROM {nova_api}.aggregate_hosts ORDER BY id", "new01\t1\nnew02\t1"},
	{"SELECT aggregate_id, `key`, value FROM {nova_api}.aggregate_metadata ORDER BY id", "1\tavailability_zone\tzone-1\n1\tpool\taz-a"},
	{"SELECT instance_uuid, group_id FROM {nova_api}.instance_group_member ORDER BY id", bare(web) + "\t1\n" + bare(win) + "\t1"},
	{"SELECT project_id, resource, hard_limit FROM {nova_api}.quotas ORDER BY id", "shop\tcores\t200\nbank\tinstances\t-1"},
	{"SELECT status, migration_type, source_compute, dest_compute FROM {nova}.migrations ORDER BY id",
		"confirmed\tmigration\tnew02\tnew01\nfinished\tresize\tnew02\tnew01"},
	{"SELECT resource_id, tag FROM {nova}.tags ORDER BY tag", bare(web) + "\tGröße\n" + bare(web) + "\tprod"},
	{"SELECT action, user_id, project_id FROM {nova}.instance_actions ORDER BY id", "create\tada\tshop\ndelete\tNULL\tNULL"},
	// Images and volumes.
	{"SELECT name, visibility, owner FROM {glance}.images ORDER BY id",
		"debian\tpublic\tshop\nlent\tshared\tshop\nown\tprivate\tbank\ngone\tprivate\tNULL"},
	{"SELECT name, value FROM {glance}.image_properties ORDER BY id",
		"owner_id\tshop\nuser_id\tada\nos_distro\tdebian\nbase_image_ref\t\nos_distro\twin2k12\nhw_vif_model\tvirtio"},
	{"SELECT member FROM {glance}.image_members ORDER BY id", "bank\nshop"},
	{"SELECT RIGHT(id, 1), host, availability_zone, project_id, user_id, service_uuid FROM {cinder}.volumes ORDER BY id",
		"1\tnew@rbd#fast\tnova\tbank\tbob\tservice-of-ceph\n2\tnew@rbd#fast\tzone-1\tshop\tada\tservice-of-ceph\n3\tnew@rbd#slow\tzone-1\tshop\tada\tservice-of-ceph\n4\tNULL\tzone-1\tshop\tada\tNULL"},
	{"SELECT volume_type_id FROM {cinder}.snapshots", "new-fast"},
	{"SELECT project_id, hard_limit FROM {cinder}.quotas", "shop\t50"},
	{"SELECT RIGHT(id, 1), project_id, user_id, availability_zone, host, service, data_timestamp, RIGHT(parent_id, " +
		"1) FROM {cinder}.backups ORDER BY id", "1\tbank\tbob\tnova\tNULL\tcinder.backup.drivers.ceph\t2016-03-01 " +
		"10:00:00\tNULL\n2\tbank\tbob\tnova\tNULL\tcinder.backup.drivers.ceph\t2016-03-01 10:00:00\t1"},
	{"SELECT RIGHT(volume_id, 1), source_project_id, accepted, no_snapshots, salt FROM {cinder}.transfers", "3\tshop\t0\t0\tsalt"},
	{"SELECT host, RIGHT(volume_id, 1), size FROM {cinder}.image_volume_cache_entries", "new@rbd#fast\t2\t1"},
	{"SELECT initiator, value FROM {cinder}.driver_initiator_data", "iqn.1993-08.org.debian:01:cmp01\tsecret"},
	{"SELECT host, availability_zone FROM {neutron}.agents ORDER BY id", "new01\tNULL\nctl01\tnova"},
}

// own are looks at what the releases have differently.
var own = map[string][][2]string{
	"stein_": {
		{"SELECT DISTINCT version FROM {nova}.services", "35"},
		{"SELECT id, meta_data FROM {glance}.image_locations ORDER BY id",
			"1\t{\"a\": 1, \"backend\": \"ceph\"}\n2\t{}\n3\t{\"backend\": \"ceph\"}\n4\t{\"backend\": \"ceph\"}"},
		{"SELECT RIGHT(id, 1), volume_type_id FROM {cinder}.volumes ORDER BY id", "1\tnew-fast\n2\tNULL\n3\tNULL\n4\tNULL"},
	},
	"zed_": {
		{"SELECT DISTINCT version FROM {nova}.services", "61"},
		{"SELECT DISTINCT hidden FROM {nova}.instances", "0"},
		{"SELECT id, meta_data FROM {glance}.image_locations ORDER BY id",
			"1\t{\"a\": 1, \"store\": \"ceph\"}\n2\t{}\n3\t{\"store\": \"ceph\"}\n4\t{\"store\": \"ceph\"}"},
		{"SELECT RIGHT(id, 1), volume_type_id, use_quota FROM {cinder}.volumes ORDER BY id",
			"1\tnew-fast\t1\n2\tnew-default\t0\n3\tnew-default\t0\n4\tnew-default\t1"},
	},
}

// numa is what cells gives of the guests' rows, those that have objects of cells.
const numa = "0\t[]\tnull\tnone\tnone\tnone\n0\tnone\t{\"0\": 4, \"1\": 5, \"2\": 6, \"3\": " +
	"7}\t\"dedicated\"\t{\"4\": 12, \"5\": 13}\t\"dedicated\""

// cells asks the NUMA cells of guests, of which each has two at most.
func cells(table, column, path string) string {
	ask := "SELECT "
	for i, field := range []string{"[0].id", "[0].pcpuset", "[0].cpu_pinning_raw", "[0].cpu_policy", "[1].cpu_pinning_raw", "[1].cpu_policy"} {
		if i > 0 {
			ask += ", "
		}
		ask += "COALESCE(JSON_EXTRACT(" + column + ", '" + path + "cells" + field[:3] + `."nova_object.data"` + field[3:] + "'), 'none')"
	}
	return ask + " FROM " + table + " WHERE JSON_EXTRACT(IF(" + column + " = '', '{}', " + column + "), '" +
		path + "cells[0].\"nova_object.data\"') IS NOT NULL ORDER BY instance_uuid"
}

func bare(quoted string) string { return quoted[1 : len(quoted)-1] }

// spec asks the request specs of all guests for one thing.
func spec(path, before, after string) string {
	return "SELECT " + before + "JSON_EXTRACT(spec, '" + data + path + "')" + after + " FROM {nova_api}.request_specs ORDER BY id"
}
