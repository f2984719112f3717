package rows

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition/db/server"
	"holdfast/internal/transition/net"
)

// optional are the tables that are read where a database has them, beside those in read.
var optional = strings.Fields(`address_scopes subnetpools subnetpoolprefixes address_groups address_associations
	qos_policies qos_policies_default qos_bandwidth_limit_rules qos_dscp_marking_rules qos_minimum_bandwidth_rules
	qos_packet_rate_limit_rules qos_minimum_packet_rate_rules qos_network_policy_bindings qos_port_policy_bindings trunks subports tags
	qospolicyrbacs securitygrouprbacs subnetpoolrbacs addressgrouprbacs addressscoperbacs extradhcpopts subnet_service_types
	routers router_extra_attributes routerroutes floatingips portdnses networkdnsdomains portuplinkstatuspropagation`)

// part is a table whose rows are attributes of objects of a kind: the column that has the object's ID, and all columns that are
// carried over or that say nothing of their own. harmless are values of further ones.
type part struct {
	kind, id, known string
	harmless        map[string][]string
}

const common = "id,project_id,tenant_id,standard_attr_id,"

// attributes are the tables of which a column that is not known is an attribute which is not carried over.
var attributes = map[string]part{
	"networks": {"network", "id", common + "name,description,status,admin_state_up,shared,mtu",
		map[string][]string{"vlan_transparent": {"0"}, "availability_zone_hints": {"[]"}}},
	"networksegments": {"network", "network_id",
		common + "network_id,network_type,physical_network,segmentation_id,is_dynamic,segment_index,name", nil},
	"externalnetworks": {"network", "network_id", "network_id,is_default", nil},
	"networkrbacs":     {"rbac_policy", "id", common + "object_id,target_project,target_tenant,action", nil},
	"subnets": {"subnet", "id",
		common + "name,description,network_id,ip_version,cidr,gateway_ip,enable_dhcp,ipv6_ra_mode,ipv6_address_mode,subnetpool_id,in_use,shared", nil},
	"dnsnameservers":    {"subnet", "subnet_id", "subnet_id,address,order", nil},
	"ipallocationpools": {"subnet", "subnet_id", "id,subnet_id,first_ip,last_ip", nil},
	"subnetroutes":      {"subnet", "subnet_id", "subnet_id,destination,nexthop", nil},
	"ports": {"port", "id",
		common + "name,description,network_id,mac_address,admin_state_up,status,device_id,device_owner,ip_allocation,dns_name", nil},
	"allowedaddresspairs": {"port", "port_id", "port_id,mac_address,ip_address", nil},
	"ml2_port_bindings": {"port", "port_id",
		"port_id,host,vif_type,vnic_type,profile,vif_details,status,segment,driver,cap_port_filter,router_id", nil},
	"extradhcpopts":  {"port", "port_id", "id,port_id,opt_name,opt_value,ip_version", nil},
	"securitygroups": {"security_group", "id", common + "name,description,stateful", nil},
	"securitygrouprules": {"security_group_rule", "id",
		common + "description,security_group_id,remote_group_id,direction,ethertype,protocol," +
			"port_range_min,port_range_max,remote_ip_prefix,remote_address_group_id", nil},
	"address_scopes": {"address_scope", "id", common + "name,ip_version,shared", nil},
	"subnetpools": {"subnetpool", "id",
		common + "name,description,ip_version,default_prefixlen,min_prefixlen,max_prefixlen,shared,default_quota,hash," +
			"address_scope_id,is_default", nil},
	"address_groups": {"address_group", "id", common + "name,description", nil},
	"qos_policies":   {"qos_policy", "id", common + "name,description,shared", nil},
	"trunks":         {"trunk", "id", common + "name,description,admin_state_up,port_id,status", nil},
	"routers":        {"router", "id", common + "name,description,status,admin_state_up,gw_port_id,enable_snat,flavor_id", nil},
	"router_extra_attributes": {"router", "router_id", "router_id,distributed,ha,ha_vr_id",
		map[string][]string{"service_router": {"0"}, "availability_zone_hints": {"[]"}}},
	"floatingips": {"floatingip", "id",
		common + "description,status,floating_ip_address,floating_network_id,floating_port_id,fixed_port_id,fixed_ip_address," +
			"router_id,last_known_router_id", nil},
	"subports": {"trunk", "trunk_id", "port_id,trunk_id,segmentation_type,segmentation_id", nil},
}

// attributeTables are tables of attributes that are not carried over: the kind of the object, the attribute's name in the API, and
// the values that say nothing.
var attributeTables = map[string]struct {
	kind, id, field, column string
	harmless                []string
}{
	"portnumaaffinitypolicies":      {"port", "port_id", "numa_affinity_policy", "numa_affinity_policy", nil},
	"portdeviceprofiles":            {"port", "port_id", "device_profile", "device_profile", nil},
	"maclearningstates":             {"port", "port_id", "mac_learning_enabled", "mac_learning_enabled", []string{"0"}},
	"subnet_dns_publish_fixed_ips":  {"subnet", "subnet_id", "dns_publish_fixed_ip", "dns_publish_fixed_ip", []string{"0"}},
	"portforwardings":               {"floatingip", "floatingip_id", "port_forwardings", "id", nil},
	"floatingipdnses":               {"floatingip", "floatingip_id", "dns_name", "dns_name", nil},
	"qos_fip_policy_bindings":       {"floatingip", "fip_id", "qos_policy_id", "policy_id", nil},
	"qos_router_gw_policy_bindings": {"router", "router_id", "qos_policy_id", "policy_id", nil},
	"conntrack_helpers":             {"router", "router_id", "conntrack_helpers", "id", nil},
	"routerrules":                   {"router", "router_id", "rules", "id", nil},
	"router_ndp_proxy_state":        {"router", "router_id", "enable_ndp_proxy", "enable_ndp_proxy", []string{"0"}},
}

// kinds are the kinds of objects in tables of these names that are not carried over, as neutron.Client tells them. Other tables
// that nobody knows are told under their own names.
var kinds = map[string]string{"quotas": "quota", "meteringlabels": "metering_label", "logs": "log", "local_ips": "local_ip",
	"ndp_proxies": "ndp_proxy", "flavors": "flavor", "serviceprofiles": "service_profile",
	"network_segment_ranges": "network_segment_range", "vpnservices": "vpnservice",
	"ipsec_site_connections": "ipsec_site_connection", "ikepolicies": "ikepolicy", "ipsecpolicies": "ipsecpolicy",
	"firewalls": "firewall", "firewall_policies": "firewall_policy",
	"firewall_rules": "firewall_rule", "pools": "pool", "vips": "vip", "bgp_speakers": "bgp_speaker", "bgp_peers": "bgp_peer",
	"auto_allocated_topologies": "auto_allocated_topology"}

// NotCarried are the kinds of objects that are not carried over, as far as they are known.
func NotCarried() []string { return slices.Collect(maps.Values(kinds)) }

// internal are patterns of tables that Neutron fills by itself, or that belong to objects in tables of kinds.
var internal = strings.Fields(`alembic_version* ipam* ipavailabilityranges ml2_*_allocations ml2_*_endpoints ml2_port_binding_levels ml2_distributed_port_bindings
	ml2_dvr_port_bindings networkdhcpagentbindings routerl3agentbindings routerports ha_router_* dvr_* provisioningblocks standardattributes
	quotausages reservations resourcedeltas consistencyhashes network_subnet_lock providerresourceassociations ovn_hash_ring ovn_revision_numbers
	segmenthostmappings default_security_group portdataplanestatuses meteringlabelrules local_ip_associations flavorserviceprofilebindings portbindingports agents`)

// leftOut notes what a database has that is not carried over: columns of the tables that were read, and rows of all others.
func (d *Database) leftOut(ctx context.Context, tx *sql.Tx, s *snapshot) (out []net.LeftOut, err error) {
	taken := map[string]bool{}
	for _, names := range read {
		for _, n := range names {
			taken[n] = true
		}
	}
	for _, n := range optional {
		taken[n] = true
	}
	for table, of := range attributes {
		known := strings.Split(of.known, ",")
		for _, r := range s.rows[table] {
			for column, value := range r {
				if value != "" && !slices.Contains(known, column) && !slices.Contains(of.harmless[column], value) {
					out = append(out, net.LeftOut{Kind: of.kind, ID: r[of.id], Field: column, Value: asJSON(value)})
				}
			}
		}
	}
	keys, err := d.keys(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, table := range slices.Sorted(maps.Keys(d.has)) {
		if strings.Contains(table, ".") || taken[table] ||
			slices.ContainsFunc(internal, func(p string) bool { ok, bad := path.Match(p, table); return ok && bad == nil }) {
			continue
		}
		rows, err := d.others(ctx, tx, table, keys[table])
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// keys are the columns by which a row of a table is told: those of its primary key, else of its first unique key, else the
// first ones.
func (d *Database) keys(ctx context.Context, tx *sql.Tx) (map[string][]string, error) {
	const first = 3
	out := map[string][]string{}
	of := map[string]string{} // the key that is taken
	for _, q := range []string{
		"SELECT table_name AS t, index_name AS k, column_name AS c FROM information_schema.statistics WHERE " +
			"table_schema = '%s' AND non_unique = 0" +
			" ORDER BY table_name, index_name <> 'PRIMARY', index_name, seq_in_index",
		"SELECT table_name AS t, '' AS k, column_name AS c FROM information_schema.columns WHERE table_schema = '%s' " +
			"AND ordinal_position <= " + fmt.Sprint(first) +
			" ORDER BY table_name, ordinal_position",
	} {
		found, err := server.Named(ctx, tx, fmt.Sprintf(q, d.name)) // a name of letters, digits, _, $ and -: Open has looked
		if err != nil {
			return nil, fmt.Errorf("read the keys of the tables: %w", err)
		}
		for _, r := range found {
			if k, has := of[r["t"]]; !has || k == r["k"] {
				of[r["t"]] = r["k"]
				out[r["t"]] = append(out[r["t"]], r["c"])
			}
		}
	}
	return out, nil
}

// told is how a row is told apart from others: by its id, or by the columns of a key.
func told(r map[string]string, key []string) string {
	if r["id"] != "" {
		return r["id"]
	}
	var out []string
	for _, c := range key {
		if r[c] != "" {
			out = append(out, strictyaml.Shorten(r[c]))
		}
	}
	return cmp.Or(strings.Join(out, "/"), row(r).project(), "(empty)")
}

// others are the rows of a table that is not carried over. A row is told by the columns of key.
func (d *Database) others(ctx context.Context, tx *sql.Tx, table string, key []string) (out []net.LeftOut, err error) {
	rows, err := server.Named(ctx, tx, "SELECT * FROM "+d.table(table))
	if err != nil {
		return nil, fmt.Errorf("read the table %s: %w", table, err)
	}
	for _, r := range rows {
		at, known := attributeTables[table]
		switch {
		case known:
			if v := r[at.column]; v != "" && !slices.Contains(at.harmless, v) {
				out = append(out, net.LeftOut{Kind: at.kind, ID: r[at.id], Field: at.field, Value: asJSON(v)})
			}
		case table == "quotas":
			out = append(out, net.LeftOut{Kind: "quota", ID: row(r).project()})
		case table == "network_segment_ranges" && r["default"] == "1": // from the settings
		case kinds[table] == "" && r["id"] == "" && cmp.Or(r["port_id"], r["network_id"], r["subnet_id"]) != "":
			of := [][2]string{{"port", "port_id"}, {"network", "network_id"}, {"subnet", "subnet_id"}}
			i := slices.IndexFunc(of, func(o [2]string) bool { return r[o[1]] != "" })
			value, err := json.Marshal(r)
			if err != nil {
				return nil, err
			}
			out = append(out, net.LeftOut{Kind: of[i][0], ID: r[of[i][1]], Field: table, Value: value})
		default:
			out = append(out, net.LeftOut{Kind: cmp.Or(kinds[table], table), ID: told(r, key)})
		}
	}
	if table == "quotas" { // one for each project, as the API tells them
		slices.SortFunc(out, func(a, b net.LeftOut) int { return strings.Compare(a.ID, b.ID) })
		out = slices.CompactFunc(out, func(a, b net.LeftOut) bool { return a.ID == b.ID })
	}
	return out, nil
}

// asJSON is a value of a column as JSON.
func asJSON(v string) json.RawMessage {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err) // a string can always be written
	}
	return out
}
