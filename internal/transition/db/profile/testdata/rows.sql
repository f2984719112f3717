-- A small platform of Liberty: three live guests, one deleted softly, one for good, and what belongs to them, with
-- the odd things that years of use leave behind.
SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = 'NO_AUTO_VALUE_ON_ZERO';
SET @ada = 'a0000000000040008000000000000001', @bob = 'b0000000000040008000000000000002', @shop = 'c0000000000040008000000000000001', @bank = 'c0000000000040008000000000000002';
SET @web = '90000000-0000-4000-8000-000000000101', @db = '90000000-0000-4000-8000-000000000102', @lost = '90000000-0000-4000-8000-000000000103', @win = '90000000-0000-4000-8000-000000000104', @soft = '90000000-0000-4000-8000-000000000105';
SET @image = '91000000-0000-4000-8000-000000000001', @disk = '92000000-0000-4000-8000-000000000001', @spare = '92000000-0000-4000-8000-000000000002';
SET @t = '2016-03-01 10:00:00', @later = '2017-05-06 07:08:09';

USE liberty_nova;
INSERT INTO instance_types (created_at, updated_at, deleted_at, name, id, memory_mb, vcpus, swap, vcpu_weight, flavorid, rxtx_factor, root_gb, ephemeral_gb, disabled, is_public, deleted) VALUES
  (@t, NULL, NULL, 'm1.small', 3, 2048, 1, 0, NULL, '2', 1, 20, 0, 0, 1, 0),
  (@t, @later, NULL, 'big "db"', 4, 8192, 4, 512, 5, 'c0ffee00-0000-4000-8000-000000000002', 1.5, 40, 10, 0, 0, 0),
  (@t, NULL, @later, 'm1.small', 1, 1024, 1, 0, NULL, '2', 1, 10, 0, 0, 1, 1),
  (@t, NULL, @later, 'm1.gone', 2, 1024, 2, 0, NULL, '7', 1, 10, 0, 0, 1, 2);
INSERT INTO instance_type_extra_specs (created_at, instance_type_id, `key`, value, deleted) VALUES
  (@t, 4, 'hw:cpu_policy', 'dedicated', 0), (@t, 4, 'quota:disk_read_iops_sec', '500', 0), (@t, 4, 'quota:old', '1', 2), (@t, 1, 'of', 'a deleted flavor', 0), (@t, 3, 'empty', '', 0);
INSERT INTO instance_type_projects (created_at, instance_type_id, project_id, deleted) VALUES (@t, 4, @bank, 0), (@t, 2, @shop, 0), (@t, 4, @shop, 2);
INSERT INTO key_pairs (created_at, updated_at, id, name, user_id, fingerprint, public_key, deleted, type) VALUES
  (@t, NULL, 11, 'ops', @ada, 'aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:66:77:88:99', 'ssh-rsa AAAAB3NzaC1yc2E "ada"\\n@example\n', 0, 'ssh'),
  ('0000-00-00 00:00:00', @later, 12, 'ops', @bob, 'bb', REPEAT('k', 65535), 0, 'ssh'), (@t, NULL, 13, 'ops', @ada, '00', 'ssh-rsa OLD', 13, 'ssh'), (@t, NULL, 14, 'cert', @ada, '01', '-----BEGIN CERTIFICATE-----', 0, 'x509');
INSERT INTO aggregates (created_at, id, name, deleted) VALUES (@t, 1, 'rack-a', 0), (@t, 2, 'rack-a', 2), (@t, 3, 'Gestell ü', 0);
INSERT INTO aggregate_hosts (created_at, host, aggregate_id, deleted) VALUES (@t, 'cmp01', 1, 0), (@t, 'cmp02', 1, 0), (@t, 'cmp09', 2, 0), (@t, 'cmp01', 3, 2);
INSERT INTO aggregate_metadata (created_at, aggregate_id, `key`, value, deleted) VALUES (@t, 1, 'availability_zone', 'az-a', 0), (@t, 1, 'pool', 'az-a', 0), (@t, 1, 'old', 'x', 3), (@t, 2, 'availability_zone', 'az-gone', 0);
INSERT INTO quotas (created_at, project_id, resource, hard_limit, deleted) VALUES (@t, @shop, 'cores', 200, 0), (@t, @bank, 'instances', -1, 0), (@t, 'long gone', 'cores', 1, 3);
INSERT INTO project_user_quotas (created_at, user_id, project_id, resource, hard_limit, deleted) VALUES (@t, @ada, @shop, 'cores', 20, 0);
INSERT INTO quota_classes (created_at, class_name, resource, hard_limit, deleted) VALUES (@t, 'default', 'cores', 20, 0);
INSERT INTO instance_groups (created_at, id, user_id, project_id, uuid, name, deleted) VALUES (@t, 1, @ada, @shop, '93000000-0000-4000-8000-000000000001', 'apart', 0), (@t, 2, @ada, @shop, '93000000-0000-4000-8000-000000000002', 'gone', 2);
INSERT INTO instance_group_policy (created_at, policy, group_id, deleted) VALUES (@t, 'anti-affinity', 1, 0), (@t, 'affinity', 2, 0);
INSERT INTO instance_group_member (created_at, instance_id, group_id, deleted) VALUES (@t, @web, 1, 0), (@t, @win, 1, 0), (@t, @lost, 1, 3), (@t, @db, 2, 0);

INSERT INTO services (created_at, updated_at, id, host, `binary`, topic, report_count, disabled, deleted, disabled_reason, last_seen_up, forced_down, version) VALUES
  (@t, @later, 1, 'ctl01', 'nova-conductor', 'conductor', 10, 0, 0, NULL, @later, 0, 2), (@t, @later, 2, 'ctl01', 'nova-scheduler', 'scheduler', 10, 0, 0, NULL, @later, 0, 2),
  (@t, @later, 3, 'cmp01', 'nova-compute', 'compute', 10, 0, 0, NULL, @later, 0, 2), (@t, @later, 4, 'cmp02', 'nova-compute', 'compute', 10, 1, 0, 'broken fan', @later, 0, 2),
  (@t, @later, 5, 'cmp09', 'nova-compute', 'compute', 10, 0, 5, NULL, @later, 0, 1);
INSERT INTO compute_nodes (created_at, updated_at, id, vcpus, memory_mb, local_gb, vcpus_used, memory_mb_used, local_gb_used, hypervisor_type, hypervisor_version, cpu_info, disk_available_least, free_ram_mb,
  free_disk_gb, current_workload, running_vms, hypervisor_hostname, deleted, host_ip, supported_instances, pci_stats, metrics, stats, host, ram_allocation_ratio, cpu_allocation_ratio) VALUES
  (@t, @later, 1, 32, 131072, 900, 1, 2560, 20, 'QEMU', 2003000, '{"vendor": "Intel", "model": "Haswell", "arch": "x86_64", "features": [], "topology": {"cores": 8, "threads": 2, "sockets": 2}}', 800, 128512, 880, 0, 1,
    'cmp01.example', 0, '10.0.0.11', '[["x86_64", "kvm", "hvm"]]', '{"nova_object.version": "1.1", "nova_object.changes": ["objects"], "nova_object.name": "PciDevicePoolList", "nova_object.data": {"objects": []}, "nova_object.namespace": "nova"}', '[]', '{}', 'cmp01', 1.5, 16),
  (@t, @later, 2, 32, 131072, 900, 4, 8704, 0, 'QEMU', 2003000, '{"vendor": "Intel", "model": "Haswell", "arch": "x86_64", "features": []}', 800, 122368, 900, 0, 1, 'cmp02.example', 0, '10.0.0.12', '[["x86_64", "kvm", "hvm"]]', NULL, '[]', '{}', 'cmp02', 0, 0),
  (@t, @later, 3, 8, 1, 1, 0, 0, 0, 'QEMU', 2003000, '{}', 0, 0, 0, 0, 0, 'cmp09.example', 3, '10.0.0.19', '[]', NULL, '[]', '{}', 'cmp09', 0, 0);
INSERT INTO pci_devices (created_at, deleted, compute_node_id, address, product_id, vendor_id, dev_type, dev_id, label, status, extra_info) VALUES
  (@t, 0, 1, '0000:81:10.1', '10ed', '8086', 'type-VF', 'pci_0000_81_10_1', 'label_8086_10ed', 'available', '{"phys_function": "0000:81:00.0"}'), (@t, 0, 1, '0000:82:00.0', '10fb', '8086', 'type-PCI', 'pci_0000_82_00_0', 'label_8086_10fb', 'available', '{}'),
  (@t, 0, 2, '0000:83:00.0', '10fb', '8086', 'type-PCI', 'pci_0000_83_00_0', 'label_8086_10fb', 'available', '{"phys_function": null}'), (@t, 0, 2, '0000:84:00.0', '10fb', '8086', 'type-PCI', 'pci_0000_84_00_0', 'label_8086_10fb', 'available', NULL), (@t, 0, 3, '0000:81:10.1', '10ed', '8086', 'type-VF', 'x', 'y', 'available', '{}');

INSERT INTO instances (created_at, updated_at, deleted_at, id, user_id, project_id, image_ref, kernel_id, ramdisk_id, launch_index, key_name, key_data, power_state, vm_state, memory_mb, vcpus, hostname, host, user_data,
  reservation_id, scheduled_at, launched_at, display_name, display_description, availability_zone, locked, os_type, launched_on, instance_type_id, uuid, root_device_name, config_drive, progress, auto_disk_config,
  shutdown_terminate, disable_terminate, root_gb, ephemeral_gb, node, deleted, cleaned) VALUES
  (@t, @later, NULL, 101, @ada, @shop, @image, '', '', 0, 'ops', 'ssh-rsa AAAAB3NzaC1yc2E ada', 1, 'active', 2048, 1, 'web-1', 'cmp01', NULL, 'r-00000001', @t, @t, 'web "1" \\ ünï', 'it''s\ttwo\nlines', 'az-a', 0, NULL, 'cmp01', 3,
    @web, '/dev/vda', '', 0, 1, 0, 0, 20, 0, 'cmp01.example', 0, 0),
  (@t, NULL, NULL, 102, @bob, @bank, '', '', '', 0, NULL, NULL, 4, 'stopped', 8192, 4, 'db-1', 'cmp02', TO_BASE64(REPEAT('x', 40000)), 'r-00000002', @t, '0000-00-00 00:00:00', 'db-1', NULL, NULL, 1, NULL, 'cmp02', 4,
    @db, '/dev/vda', 'True', 0, 1, 0, 0, 40, 10, 'cmp02.example', 0, 0),
  (@t, @later, @later, 103, @ada, 'c0000000000040008000000000000099', @image, '', '', 0, 'ops', NULL, 0, 'deleted', 2048, 1, 'old', NULL, NULL, 'r-00000003', NULL, NULL, 'old', 'old', NULL, 0, NULL, NULL, 1,
    @lost, '/dev/vda', '', 0, 0, 0, 0, 20, 0, NULL, 103, 1),
  (@t, @later, NULL, 104, @ada, @shop, @image, '', '', 1, 'never kept', NULL, 1, 'active', 1024, 2, 'win-1', 'cmp01', NULL, 'r-00000004', @t, @t, 'win-1', '', 'az-a', 0, 'windows', 'cmp01', 2,
    @win, '/dev/vda', '', 0, 1, 0, 0, 10, 0, 'cmp01.example', 0, 0),
  (@t, @later, @later, 105, @bob, @bank, @image, '', '', 0, NULL, NULL, 4, 'soft-delete', 2048, 1, 'soft', 'cmp02', NULL, 'r-00000005', @t, @t, 'soft', 'soft', NULL, 0, NULL, 'cmp02', 3,
    @soft, '/dev/vda', '', 0, 1, 0, 0, 20, 0, 'cmp02.example', 0, 0);
UPDATE instances SET locked_by = 'admin' WHERE id = 102;
INSERT INTO instance_extra (created_at, instance_uuid, deleted, numa_topology, pci_requests, flavor)
  SELECT @t, i.uuid, i.deleted, NULL, '[]', CONCAT('{"cur": {"nova_object.version": "1.1", "nova_object.name": "Flavor", "nova_object.namespace": "nova", "nova_object.data": {"id": ', f.id, ', "name": "', REPLACE(f.name, '"', '\\"'),
    '", "memory_mb": ', f.memory_mb, ', "vcpus": ', f.vcpus, ', "swap": ', f.swap, ', "root_gb": ', f.root_gb, ', "ephemeral_gb": ', f.ephemeral_gb, ', "flavorid": "', f.flavorid, '", "rxtx_factor": 1.0, "vcpu_weight": 0, "disabled": false, "is_public": ',
    IF(f.is_public, 'true', 'false'), ', "extra_specs": ', IF(f.id = 4, '{"hw:cpu_policy": "dedicated", "quota:disk_read_iops_sec": "500"}', '{}'),
    ', "created_at": "2016-03-01T10:00:00Z", "updated_at": null, "deleted_at": null, "deleted": false}}, "old": null, "new": null}')
  FROM instances i JOIN instance_types f ON f.id = i.instance_type_id;
UPDATE instance_extra SET pci_requests = '[{"count": 1, "spec": [{"vendor_id": "8086", "product_id": "10ed"}], "alias_name": "fast", "is_new": false, "request_id": null}, {"count": 2, "spec": [{"physical_network": "p1"}], "alias_name": null, "is_new": false, "request_id": "99000000-0000-4000-8000-000000000001"}]',
  numa_topology = '{"nova_object.version": "1.2", "nova_object.name": "InstanceNUMATopology", "nova_object.namespace": "nova", "nova_object.data": {"instance_uuid": "90000000-0000-4000-8000-000000000102", "cells": [{"nova_object.version": "1.2", "nova_object.name": "InstanceNUMACell", "nova_object.namespace": "nova", "nova_object.data": {"id": 0, "cpuset": [0, 1, 2, 3], "memory": 8192, "pagesize": null, "cpu_topology": null, "cpu_pinning_raw": {"0": 4, "1": 5, "2": 6, "3": 7}}}, {"nova_object.version": "1.2", "nova_object.name": "InstanceNUMACell", "nova_object.namespace": "nova", "nova_object.data": {"id": 1, "cpuset": [4, 5], "memory": 8192, "pagesize": null, "cpu_topology": null, "cpu_pinning_raw": {"4": 12, "5": 13}}}]}}'
  WHERE instance_uuid = @db;
-- A guest whose CPUs are not pinned, in narrow JSON, and one of Juno.
UPDATE instance_extra SET numa_topology = '{"nova_object.version":"1.2","nova_object.name":"InstanceNUMATopology","nova_object.namespace":"nova","nova_object.data":{"instance_uuid":"90000000-0000-4000-8000-000000000101","cells":[{"nova_object.version":"1.2","nova_object.name":"InstanceNUMACell","nova_object.namespace":"nova","nova_object.data":{"id":0,"cpuset":[0],"memory":2048,"pagesize":null,"cpu_topology":null,"cpu_pinning_raw":null}}]}}'
  WHERE instance_uuid = @web;
UPDATE instance_extra SET numa_topology = '{"instance_uuid": "90000000-0000-4000-8000-000000000104", "cells": [{"id": 0, "cpus": "0-1", "mem": {"total": 1024}, "pagesize": null}]}' WHERE instance_uuid = @win;
INSERT INTO instance_system_metadata (created_at, instance_uuid, `key`, value, deleted)
  SELECT @t, i.uuid, k.k, k.v, IF(i.deleted, i.id, 0) FROM instances i JOIN (SELECT 'image_disk_format' AS k, 'raw' AS v UNION SELECT 'image_container_format', 'bare' UNION SELECT 'image_min_ram', '0'
    UNION SELECT 'image_min_disk', '20' UNION SELECT 'image_hw_disk_bus', 'virtio' UNION SELECT 'pool', 'ssd-1') AS k;
INSERT INTO instance_system_metadata (created_at, instance_uuid, `key`, value, deleted) VALUES (@t, @win, 'image_os_distro', 'win2k16', 0), (@t, @web, 'old', 'x', 9);
INSERT INTO instance_system_metadata (created_at, instance_uuid, `key`, value, deleted) VALUES
  (@t, @db, 'image_hw_numa_nodes', '2', 0), (@t, @db, 'image_hw_cpu_policy', 'dedicated', 0), (@t, @db, 'image_hw_numa_cpus.0', '0-3', 0), (@t, @db, 'image_hw_numa_cpus.1', '4,5', 0), (@t, @db, 'image_hw_numa_mem.0', '8192', 0),
  (@t, @db, 'image_hw_numa_mem.1', '8192', 0), (@t, @db, 'image_hw_qemu_guest_agent', 'Yes', 0), (@t, @db, 'image_hw_boot_menu', 'maybe', 0), (@t, @db, 'image_hw_mem_page_size', 'large', 0), (@t, @db, 'image_os_type', 'Linux', 0),
  (@t, @db, 'image_os_command_line', 'say="x\\\\y"', 0), (@t, @db, 'image_hw_architecture', 'x86_64', 0), (@t, @db, 'image_architecture', 'i686', 0), (@t, @db, 'image_vm_mode', 'hvm', 0), (@t, @db, 'image_hw_cpu_cores', '2.5', 0),
  (@t, @db, 'image_hw_video_model', 'of glass', 0), (@t, @db, 'image_hw_watchdog_action', NULL, 0), (@t, @db, 'image_of_our_own', 'x', 0), (@t, @db, 'image_hw_rng_model', 'virtio', 7), (@t, @db, 'image_owner_id', @bank, 0);
INSERT INTO instance_metadata (created_at, `key`, value, instance_uuid, deleted) VALUES (@t, 'role', 'web 😀', @web, 0), (@t, 'pool', 'of the user', @web, 0), (@t, 'role', 'old', @web, 1), (@t, 'pool', 'az-a', @db, 0);
INSERT INTO instance_id_mappings (created_at, deleted_at, id, uuid, deleted) VALUES (@t, NULL, 1001, @web, 0), (@t, @later, 1003, @lost, 1003), (@t, NULL, 1002, @db, NULL);
INSERT INTO volume_id_mappings (created_at, id, uuid, deleted) VALUES (@t, 2001, @disk, 0);
INSERT INTO snapshot_id_mappings (created_at, id, uuid, deleted) VALUES (@t, 3001, '96000000-0000-4000-8000-000000000001', 0);
INSERT INTO s3_images (created_at, id, uuid, deleted) VALUES (@t, 4001, @image, 0);
INSERT INTO instance_info_caches (created_at, updated_at, network_info, instance_uuid, deleted) VALUES
  (@t, @later, '[{"profile": {}, "ovs_interfaceid": "94000000-0000-4000-8000-000000000301", "preserve_on_delete": false, "network": {"bridge": "br-int", "subnets": [{"ips": [{"meta": {}, "version": 4, "type": "fixed", "floating_ips": [], "address": "10.20.0.11"}], "version": 4, "meta": {"dhcp_server": "10.20.0.2"}, "dns": [], "routes": [], "cidr": "10.20.0.0/24", "gateway": {"meta": {}, "version": 4, "type": "gateway", "address": "10.20.0.1"}}], "meta": {"injected": false, "tenant_id": "c0000000000040008000000000000001"}, "id": "94000000-0000-4000-8000-000000000001", "label": "prod \\ud83d\\ude00"}, "devname": "tap94000000-00", "vnic_type": "normal", "qbh_params": null, "meta": {}, "details": {"port_filter": true, "ovs_hybrid_plug": true}, "address": "fa:16:3e:aa:00:11", "active": true, "type": "ovs", "id": "94000000-0000-4000-8000-000000000301", "qbg_params": null}]', @web, 0),
  (@t, NULL, '[]', @db, 0), (@t, NULL, NULL, @lost, 103), (@t, NULL, CONCAT('[', RPAD('', 300000, ' '), ']'), @win, 0), (@t, NULL, '[]', @soft, 0);
INSERT INTO block_device_mapping (created_at, updated_at, id, device_name, delete_on_termination, volume_id, volume_size, no_device, connection_info, instance_uuid, deleted, source_type, destination_type, device_type, disk_bus, boot_index, image_id) VALUES
  (@t, @later, 21, '/dev/vda', 1, NULL, NULL, 0, NULL, @web, 0, 'image', 'local', 'disk', NULL, 0, @image),
  (@t, @later, 22, '/dev/vda', 0, @disk, 40, 0, '{"driver_volume_type": "rbd", "serial": "92000000-0000-4000-8000-000000000001", "data": {"name": "volumes/volume-92000000-0000-4000-8000-000000000001", "hosts": ["10.0.0.21"], "ports": ["6789"], "auth_enabled": false}}',
    @db, 0, 'volume', 'volume', 'disk', 'virtio', 0, NULL),
  (@t, @later, 23, '/dev/vdb', 0, @spare, 1, 0, '{}', @web, 23, 'volume', 'volume', NULL, NULL, NULL, NULL),
  (@t, NULL, 24, '/dev/vda', 1, NULL, NULL, 0, NULL, @win, 0, 'image', 'local', 'disk', NULL, 0, @image), (@t, NULL, 25, '/dev/vda', 1, NULL, NULL, 0, NULL, @soft, 0, 'image', 'local', 'disk', NULL, 0, @image);
INSERT INTO virtual_interfaces (created_at, address, network_id, uuid, instance_uuid, deleted) VALUES (@t, 'fa:16:3e:aa:00:11', NULL, '94000000-0000-4000-8000-000000000301', @web, 0);
INSERT INTO tags (resource_id, tag) VALUES (@web, 'prod'), (@web, 'Größe');
INSERT INTO migrations (created_at, updated_at, source_compute, dest_compute, dest_host, status, instance_uuid, old_instance_type_id, new_instance_type_id, source_node, dest_node, deleted, migration_type, hidden) VALUES
  (@t, @t, 'cmp02', 'cmp01', '10.0.0.11', 'confirmed', @web, 3, 3, 'cmp02.example', 'cmp01.example', 0, NULL, 0), (@t, @t, 'cmp02', 'cmp01', NULL, 'finished', @web, 3, 4, NULL, NULL, 0, NULL, NULL), (@t, @t, 'x', 'y', NULL, 'error', @lost, 1, 1, NULL, NULL, 3, 'migration', 0);
INSERT INTO instance_actions (created_at, id, action, instance_uuid, request_id, user_id, project_id, start_time, finish_time, message, deleted) VALUES
  (@t, 1, 'create', @web, 'req-1', @ada, @shop, @t, NULL, NULL, 0), (@t, 2, 'delete', @lost, 'req-2', NULL, NULL, @t, @t, 'Error', 0);
INSERT INTO instance_actions_events (created_at, event, action_id, start_time, finish_time, result, traceback, deleted, host, details) VALUES (@t, 'compute__do_build_and_run_instance', 1, @t, @t, 'Success', NULL, 0, 'cmp01', NULL);
INSERT INTO instance_faults (created_at, instance_uuid, code, message, details, host, deleted) VALUES (@t, @win, 500, 'NoValidHost', 'Traceback\n  File "x"', 'cmp01', 0);

USE liberty_glance;
INSERT INTO images (id, name, size, status, is_public, created_at, deleted, disk_format, container_format, checksum, owner, min_disk, min_ram, protected, virtual_size) VALUES
  (@image, 'debian', 1073741824, 'active', 1, @t, 0, 'raw', 'bare', 'd41d8cd98f00b204e9800998ecf8427e', @shop, 0, 0, 0, NULL),
  ('91000000-0000-4000-8000-000000000002', 'lent', 1, 'active', 0, @t, 0, 'raw', 'bare', NULL, @shop, 0, 0, 1, NULL), ('91000000-0000-4000-8000-000000000003', 'own', 1, 'active', 0, @t, 0, 'qcow2', 'bare', NULL, @bank, 0, 0, 0, 5),
  ('91000000-0000-4000-8000-000000000004', 'gone', NULL, 'deleted', 0, @t, 1, NULL, NULL, NULL, NULL, 0, 0, 0, NULL);
INSERT INTO image_locations (id, image_id, value, created_at, deleted, meta_data, status) VALUES
  (1, @image, 'rbd://0a0b0c/images/91000000-0000-4000-8000-000000000001/snap', @t, 0, '{"a": 1}', 'active'), (2, '91000000-0000-4000-8000-000000000002', 'file:///var/lib/glance/images/91000000-0000-4000-8000-000000000002', @t, 0, '{}', 'active'),
  (3, '91000000-0000-4000-8000-000000000003', 'rbd://0a0b0c/images/3/snap', @t, 0, NULL, 'active'), (4, '91000000-0000-4000-8000-000000000004', 'rbd://0a0b0c/images/4/snap', @t, 1, 'broken', 'deleted');
INSERT INTO image_properties (image_id, name, value, created_at, deleted) VALUES (@image, 'owner_id', @shop, @t, 0), (@image, 'user_id', @ada, @t, 0), (@image, 'os_distro', 'debian', @t, 0), ('91000000-0000-4000-8000-000000000003', 'base_image_ref', '', @t, 0), ('91000000-0000-4000-8000-000000000003', 'os_distro', 'win2k12', @t, 0), ('91000000-0000-4000-8000-000000000003', 'hw_vif_model', 'e1000', @t, 1);
INSERT INTO image_members (image_id, member, can_share, created_at, deleted, status) VALUES ('91000000-0000-4000-8000-000000000002', @bank, 0, @t, 0, 'accepted'), ('91000000-0000-4000-8000-000000000003', @shop, 0, @t, 1, 'pending');
INSERT INTO image_tags (image_id, value, created_at, deleted) VALUES (@image, 'base', @t, 0);

USE liberty_cinder;
INSERT INTO volumes (created_at, deleted, id, user_id, project_id, host, size, availability_zone, status, attach_status, display_name, volume_type_id, bootable, multiattach, migration_status) VALUES
  (@t, 0, @disk, @bob, @bank, 'ctl01@ceph#ssd', 40, 'nova', 'in-use', 'attached', 'root of db-1', '95000000-0000-4000-8000-000000000001', 1, 0, NULL),
  (@t, 0, @spare, @ada, @shop, 'ctl01@ceph#ssd', 1, 'az-a', 'available', 'detached', NULL, NULL, 0, 0, NULL),
  (@t, 0, '92000000-0000-4000-8000-000000000003', @ada, @shop, 'ctl01@ceph#hdd', 1, 'az-a', 'awaiting-transfer', 'detached', 'moving', NULL, 0, 0, CONCAT('target:', @spare)),
  (@t, 1, '92000000-0000-4000-8000-000000000004', @ada, @shop, NULL, 1, 'az-a', 'deleted', 'detached', 'gone', NULL, 0, 0, NULL);
INSERT INTO snapshots (created_at, deleted, id, volume_id, user_id, project_id, status, progress, volume_size, display_name, volume_type_id) VALUES (@t, 0, '96000000-0000-4000-8000-000000000001', @disk, @bob, @bank, 'available', '100%', 40, 'before', '95000000-0000-4000-8000-000000000001');
INSERT INTO volume_metadata (created_at, deleted, volume_id, `key`, value) VALUES (@t, 0, @disk, 'attached_mode', 'rw');
INSERT INTO volume_admin_metadata (created_at, deleted, volume_id, `key`, value) VALUES (@t, 0, @disk, 'attached_mode', 'rw'), (@t, 0, @spare, 'temporary', 'True');
INSERT INTO snapshot_metadata (created_at, deleted, snapshot_id, `key`, value) VALUES (@t, 0, '96000000-0000-4000-8000-000000000001', 'why', 'upgrade');
INSERT INTO volume_glance_metadata (created_at, deleted, volume_id, `key`, value) VALUES (@t, 0, @disk, 'image_id', @image), (@t, 0, NULL, 'orphan', NULL);
INSERT INTO volume_attachment (created_at, deleted, id, volume_id, attached_host, instance_uuid, mountpoint, attach_time, attach_mode, attach_status) VALUES (@t, 0, '97000000-0000-4000-8000-000000000001', @disk, NULL, @db, '/dev/vda', @t, 'rw', 'attached');
INSERT INTO quotas (created_at, deleted, project_id, resource, hard_limit, allocated) VALUES (@t, 0, @shop, 'volumes', 50, 0), (@t, 1, @shop, 'volumes', 10, 0);
INSERT INTO backups (created_at, deleted, id, volume_id, user_id, project_id, host, availability_zone, display_name, container, status, service, size, object_count, parent_id, num_dependent_backups) VALUES
  (@t, 0, '99000000-0000-4000-8000-000000000001', @disk, @bob, @bank, 'ctl01', 'nova', 'full', 'backups', 'available', 'cinder.backup.drivers.ceph', 40, 1, NULL, 1),
  (@t, 0, '99000000-0000-4000-8000-000000000002', @disk, @bob, @bank, 'ctl01', 'nova', 'more', 'backups', 'available', 'cinder.backup.drivers.ceph', 40, 1, '99000000-0000-4000-8000-000000000001', 0);
INSERT INTO transfers (created_at, deleted, id, volume_id, display_name, salt, crypt_hash) VALUES (@t, 0, '9a000000-0000-4000-8000-000000000001', '92000000-0000-4000-8000-000000000003', 'to bob', 'salt', 'hash'), (@t, 1, '9a000000-0000-4000-8000-000000000002', @spare, 'done', 'x', 'y');
INSERT INTO image_volume_cache_entries (image_updated_at, host, image_id, volume_id, size, last_used) VALUES (@t, 'ctl01@ceph#ssd', @image, @spare, 1, @later);
INSERT INTO driver_initiator_data (created_at, initiator, namespace, `key`, value) VALUES (@t, 'iqn.1993-08.org.debian:01:cmp01', 'pure', 'chap', 'secret');

USE liberty_neutron;
INSERT INTO agents (id, agent_type, `binary`, topic, host, admin_state_up, created_at, started_at, heartbeat_timestamp, configurations, `load`) VALUES
  ('98000000-0000-4000-8000-000000000001', 'Open vSwitch agent', 'neutron-openvswitch-agent', 'N/A', 'cmp01', 1, @t, @t, @later, '{"bridge_mappings": {"physnet1": "br-ex"}}', 0),
  ('98000000-0000-4000-8000-000000000002', 'DHCP agent', 'neutron-dhcp-agent', 'dhcp_agent', 'ctl01', 1, @t, @t, @later, '{}', 3);
