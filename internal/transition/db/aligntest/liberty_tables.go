package aligntest

// libertyTables are the tables that get rows, with their columns in the order in which
// the makers give them.
var libertyTables = map[string]map[string]string{
	"nova": {
		"aggregates":         "created_at updated_at deleted_at id name deleted",
		"aggregate_hosts":    "created_at deleted_at id host aggregate_id deleted",
		"aggregate_metadata": "created_at deleted_at id aggregate_id key value deleted",
		"block_device_mapping": "created_at updated_at deleted_at id device_name delete_on_termination " +
			"snapshot_id volume_id volume_size no_device connection_info instance_uuid deleted source_type " +
			"destination_type guest_format device_type disk_bus boot_index image_id",
		"compute_nodes": "created_at updated_at deleted_at id service_id vcpus memory_mb local_gb " +
			"vcpus_used memory_mb_used local_gb_used hypervisor_type hypervisor_version cpu_info " +
			"disk_available_least free_ram_mb free_disk_gb current_workload running_vms hypervisor_hostname deleted " +
			"host_ip supported_instances pci_stats metrics extra_resources stats numa_topology host ram_allocation_ratio cpu_allocation_ratio",
		"instances": "created_at updated_at deleted_at id internal_id user_id project_id image_ref " +
			"kernel_id ramdisk_id launch_index key_name key_data power_state vm_state memory_mb vcpus hostname host " +
			"user_data reservation_id scheduled_at launched_at terminated_at display_name display_description " +
			"availability_zone locked os_type launched_on instance_type_id vm_mode uuid architecture " +
			"root_device_name access_ip_v4 access_ip_v6 config_drive task_state progress auto_disk_config " +
			"shutdown_terminate disable_terminate root_gb ephemeral_gb cell_name node deleted locked_by cleaned",
		"instance_actions": "created_at updated_at id action instance_uuid request_id user_id project_id " +
			"start_time finish_time message deleted",
		"instance_actions_events": "created_at updated_at id event action_id start_time finish_time result traceback deleted",
		"instance_extra": "created_at updated_at deleted_at deleted id instance_uuid numa_topology " +
			"pci_requests flavor vcpu_model migration_context",
		"instance_faults":          "created_at updated_at id instance_uuid code message details host deleted",
		"instance_groups":          "created_at updated_at deleted_at deleted id user_id project_id uuid name",
		"instance_group_member":    "created_at deleted_at deleted id instance_id group_id",
		"instance_group_policy":    "created_at deleted_at deleted id policy group_id",
		"instance_id_mappings":     "created_at deleted_at id uuid deleted",
		"instance_info_caches":     "created_at updated_at deleted_at id network_info instance_uuid deleted",
		"instance_metadata":        "created_at updated_at deleted_at id key value instance_uuid deleted",
		"instance_system_metadata": "created_at updated_at deleted_at id instance_uuid key value deleted",
		"instance_types": "created_at updated_at deleted_at name id memory_mb vcpus swap vcpu_weight " +
			"flavorid rxtx_factor root_gb ephemeral_gb disabled is_public deleted",
		"instance_type_extra_specs": "created_at deleted_at id instance_type_id key value deleted",
		"instance_type_projects":    "created_at deleted_at id instance_type_id project_id deleted",
		"key_pairs":                 "created_at updated_at deleted_at id name user_id fingerprint public_key deleted type",
		"migrations": "created_at updated_at id source_compute dest_compute dest_host status " +
			"instance_uuid old_instance_type_id new_instance_type_id source_node dest_node deleted migration_type hidden",
		"pci_devices": "created_at updated_at deleted id compute_node_id address product_id vendor_id " +
			"dev_type dev_id label status extra_info instance_uuid request_id numa_node",
		"project_user_quotas": "id created_at deleted_at deleted user_id project_id resource hard_limit",
		"quotas":              "id created_at updated_at deleted_at project_id resource hard_limit deleted",
		"quota_classes":       "created_at id class_name resource hard_limit deleted",
		"quota_usages":        "created_at updated_at id project_id resource in_use reserved until_refresh deleted user_id",
		"s3_images":           "created_at id uuid deleted",
		"security_groups":     "created_at id name description user_id project_id deleted",
		"services": "created_at updated_at deleted_at id host binary topic report_count disabled deleted " +
			"disabled_reason last_seen_up forced_down version",
		"tags":               "resource_id tag",
		"virtual_interfaces": "created_at deleted_at id address network_id uuid instance_uuid deleted",
	},
	"glance": {
		"images": "id name size status is_public created_at updated_at deleted_at deleted disk_format " +
			"container_format checksum owner min_disk min_ram protected virtual_size",
		"image_locations":  "id image_id value created_at updated_at deleted_at deleted meta_data status",
		"image_members":    "id image_id member can_share created_at updated_at deleted_at deleted status",
		"image_properties": "id image_id name value created_at updated_at deleted_at deleted",
		"image_tags":       "id image_id value created_at updated_at deleted_at deleted",
	},
	"cinder": {
		"backups": "created_at updated_at deleted_at deleted id volume_id user_id project_id host " +
			"availability_zone display_name container status service size object_count parent_id num_dependent_backups",
		"driver_initiator_data":      "created_at id initiator namespace key value",
		"image_volume_cache_entries": "image_updated_at id host image_id volume_id size last_used",
		"transfers":                  "created_at deleted id volume_id display_name salt crypt_hash expires_at",
		"quotas":                     "id created_at deleted project_id resource hard_limit allocated",
		"services": "created_at updated_at deleted_at deleted id host binary topic report_count " +
			"disabled availability_zone disabled_reason rpc_current_version object_current_version",
		"snapshots": "created_at updated_at deleted_at deleted id volume_id user_id project_id status " +
			"progress volume_size display_name display_description volume_type_id",
		"snapshot_metadata": "created_at deleted_at deleted id snapshot_id key value",
		"volumes": "created_at updated_at deleted_at deleted id user_id project_id host size " +
			"availability_zone status attach_status scheduled_at launched_at terminated_at display_name " +
			"display_description snapshot_id volume_type_id source_volid bootable _name_id migration_status " +
			"replication_status multiattach previous_status",
		"volume_admin_metadata": "created_at deleted_at deleted id volume_id key value",
		"volume_attachment": "created_at updated_at deleted_at deleted id volume_id attached_host " +
			"instance_uuid mountpoint attach_time detach_time attach_mode attach_status",
		"volume_glance_metadata":  "created_at deleted_at deleted id volume_id snapshot_id key value",
		"volume_metadata":         "created_at deleted_at deleted id volume_id key value",
		"volume_types":            "created_at deleted_at deleted id name is_public description",
		"volume_type_extra_specs": "created_at deleted_at deleted id volume_type_id key value",
	},
	"neutron": {
		"agents": "id agent_type binary topic host admin_state_up created_at started_at " +
			"heartbeat_timestamp description configurations load",
		"default_security_group":    "tenant_id security_group_id",
		"ipallocationpools":         "id subnet_id first_ip last_ip",
		"ipallocations":             "port_id ip_address subnet_id network_id",
		"ml2_network_segments":      "id network_id network_type physical_network segmentation_id is_dynamic segment_index",
		"ml2_port_bindings":         "port_id host vif_type vnic_type profile vif_details",
		"ml2_port_binding_levels":   "port_id host level driver segment_id",
		"networks":                  "tenant_id id name status admin_state_up mtu vlan_transparent",
		"networksecuritybindings":   "network_id port_security_enabled",
		"ports":                     "tenant_id id name network_id mac_address admin_state_up status device_id device_owner dns_name",
		"portsecuritybindings":      "port_id port_security_enabled",
		"securitygroupportbindings": "port_id security_group_id",
		"securitygrouprules": "tenant_id id security_group_id remote_group_id direction ethertype protocol " +
			"port_range_min port_range_max remote_ip_prefix",
		"securitygroups": "tenant_id id name description",
		"subnets":        "tenant_id id name network_id ip_version cidr gateway_ip enable_dhcp",
	},
}
