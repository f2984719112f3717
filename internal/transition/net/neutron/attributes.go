package neutron

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"holdfast/internal/transition/net"
)

// harmless are the attributes in answers of Neutron's API that need not be carried over: what it makes of other objects, or tells
// of the moment. With values: of these only. Those under "" are of all kinds. Attributes that hold nothing (null, "", [] and
// {}) are harmless anyway.
var harmless = map[string]map[string][]string{
	"": {"tenant_id": nil, "project_id": nil, "created_at": nil, "updated_at": nil, "revision_number": nil,
		"standard_attr_id": nil, "shared": nil},
	"network": {"status": nil, "subnets": nil, "availability_zones": nil, "ipv4_address_scope": nil,
		"ipv6_address_scope": nil, "l2_adjacency": nil,
		"vlan_transparent": {"false"}, "qinq": {"false"}},
	"subnet": {"dns_publish_fixed_ip": {"false"}, "router:external": nil},
	"port": {"status": nil, "dns_assignment": nil, "resource_request": nil, "qos_network_policy_id": nil,
		"ip_allocation": nil, "data_plane_status": nil,
		"trunk_details": nil},
	"security_group":      {"security_group_rules": nil},
	"security_group_rule": {"normalized_cidr": nil, "belongs_to_default_sg": nil},
	"trunk":               {"status": nil},
	"router": {"status": nil, "availability_zones": nil, "external_gateway_info": nil, "distributed": nil, "ha": nil,
		"ha_vr_id": nil, "service_type_id": nil,
		"enable_ndp_proxy": {"false"}},
	"floatingip":       {"status": nil, "port_details": nil, "qos_network_policy_id": nil},
	"rbac_policy":      {"target_project": nil},
	"qos_policy.rules": {"qos_policy_id": nil},
}

// empty reports whether a JSON value holds nothing.
func empty(v json.RawMessage) bool {
	return slices.Contains([]string{"", "null", `""`, "[]", "{}"}, string(v))
}

// beside are the attributes of an object that a type does not carry over and that are not harmless. kind is KIND, or KIND.FIELD
// of a part.
func beside(kind, id string, carried map[string]bool, all map[string]json.RawMessage) (out []net.LeftOut) {
	for name, value := range all {
		if carried[name] || empty(value) {
			continue
		}
		if values, ok := harmless[kind][name]; ok && (values == nil || slices.Contains(values, string(value))) {
			continue
		}
		if _, ok := harmless[""][name]; ok {
			continue
		}
		of, part, _ := strings.Cut(kind, ".")
		if part != "" {
			name = part + "." + name
		}
		out = append(out, net.LeftOut{Kind: of, ID: id, Field: name, Value: value})
	}
	return out
}

// names are the names of a type's fields in JSON, and of those of the types in it.
func names(t reflect.Type) map[string]bool {
	out := map[string]bool{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			for n := range names(f.Type) {
				out[n] = true
			}
		}
		out[name] = true
	}
	return out
}

// NotCarried are the kinds of objects that are not carried over.
func NotCarried() (out []string) {
	for _, n := range notCarried {
		out = append(out, n.kind)
	}
	return out
}

// notCarried are the collections whose objects are not carried over, by the kinds under which they are told. A platform has those
// of its plug-ins.
var notCarried = []struct{ kind, path, key string }{
	{"quota", "quotas", "quotas"},
	{"metering_label", "metering/metering-labels", "metering_labels"},
	{"log", "log/logs", "logs"},
	{"local_ip", "local_ips", "local_ips"},
	{"ndp_proxy", "ndp_proxies", "ndp_proxies"},
	{"flavor", "flavors", "flavors"},
	{"service_profile", "service_profiles", "service_profiles"},
	{"network_segment_range", "network-segment-ranges", "network_segment_ranges"},
	{"vpnservice", "vpn/vpnservices", "vpnservices"},
	{"ipsec_site_connection", "vpn/ipsec-site-connections", "ipsec_site_connections"},
	{"ikepolicy", "vpn/ikepolicies", "ikepolicies"},
	{"ipsecpolicy", "vpn/ipsecpolicies", "ipsecpolicies"},
	{"endpoint_group", "vpn/endpoint-groups", "endpoint_groups"},
	{"firewall_group", "fwaas/firewall_groups", "firewall_groups"},
	{"firewall_policy", "fwaas/firewall_policies", "firewall_policies"},
	{"firewall_rule", "fwaas/firewall_rules", "firewall_rules"},
	{"firewall", "fw/firewalls", "firewalls"},
	{"loadbalancer", "lbaas/loadbalancers", "loadbalancers"},
	{"pool", "lb/pools", "pools"},
	{"bgpvpn", "bgpvpn/bgpvpns", "bgpvpns"},
	{"bgp_speaker", "bgp-speakers", "bgp_speakers"},
	{"bgp_peer", "bgp-peers", "bgp_peers"},
	{"port_chain", "sfc/port_chains", "port_chains"},
	{"tap_service", "taas/tap_services", "tap_services"},
	{"l2_gateway", "l2-gateways", "l2_gateways"},
}
