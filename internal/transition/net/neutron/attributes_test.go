package neutron

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"holdfast/internal/transition/net"
	"holdfast/testbed/try"
)

// TestNotCarriedOver: an attribute that nobody knows, or that has another value than a harmless one, is noted with the object,
// and so are objects of kinds that are not carried over. What holds nothing is not.
func TestNotCarriedOver(t *testing.T) {
	answers := map[string]string{
		"agents": `{"agents": []}`,
		"networks": `{"networks": [{"id": "n1", "project_id": "p", "status": "ACTIVE", "vlan_transparent": true, "qinq": false, "subnets": ["s"], "hint": {}},
			{"id": "n9", "project_id": "", "name": "HA network tenant p", "vlan_transparent": true}]}`,
		"subnets": `{"subnets": [{"id": "s1", "segment_id": "x", "dns_publish_fixed_ip": false, "created_at": "now"}, {"id": "s9", "network_id": "n9"}]}`,
		"ports": `{"ports": [{"id": "p1", "numa_affinity_policy": null, "device_profile": "gpu", "vendor_limit": 0, "tags": [], "status": "DOWN", "extra_dhcp_opts": [{"opt_name": "a", "opt_value": "b"}]},
			{"id": "p2", "propagate_uplink_status": true, "binding:vnic_type": "normal"},
			{"id": "p9", "network_id": "n9", "device_id": "o1", "device_owner": "network:router_ha_interface", "device_profile": "gpu"}]}`,
		"security-groups":        `{"security_groups": [{"id": "g1", "name": "default", "security_group_rules": [{}], "shared": false}]}`,
		"security-group-rules":   `{"security_group_rules": [{"id": "r1", "remote_zone": "dmz", "normalized_cidr": "0.0.0.0/0", "remote_address_group_id": "a1"}]}`,
		"extensions":             `{"extensions": [{"alias": "qos"}, {"alias": "subnet_allocation"}, {"alias": "rbac-policies"}, {"alias": "address-scope"}, {"alias": "router"}]}`,
		"qos/policies":           `{"policies": [{"id": "q1", "rules": [{"id": "u1", "type": "dscp_marking", "dscp_mark": 8, "qos_policy_id": "q1", "until": "noon"}, {"id": "u2", "type": "bandwidth_limit", "max_kbps": 9}]}]}`,
		"address-scopes":         `{"address_scopes": [{"id": "c1"}]}`,
		"subnetpools":            `{"subnetpools": [{"id": "l1", "min_prefixlen": "8", "max_prefixlen": 32, "default_prefixlen": "24", "shared": true}]}`,
		"rbac-policies":          `{"rbac_policies": [{"id": "b1", "object_type": "bgpvpn"}, {"id": "b2", "object_type": "network", "object_id": "n1", "action": "access_as_shared", "target_tenant": "*"}]}`,
		"routers":                `{"routers": [{"id": "o1", "ha": true}, {"id": "o2", "distributed": true}, {"id": "o3", "conntrack_helpers": [{}]}]}`,
		"floatingips":            `{"floatingips": [{"id": "f1", "router_id": "o1"}, {"id": "f2", "router_id": "o3", "qos_policy_id": "q1"}]}`,
		"quotas":                 `{"quotas": [{"tenant_id": "p", "port": 3}]}`,
		"network-segment-ranges": `{"network_segment_ranges": [{"id": "e1", "default": true}, {"id": "e2", "default": false}]}`,
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, ok := answers[strings.TrimPrefix(r.URL.Path, "/v2.0/")]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
		}
		_, _ = w.Write([]byte(text)) // a client that has gone says so itself
	}))
	defer srv.Close()
	c, err := New(srv.URL)
	try.Must(t, err)
	d, err := c.Read(t.Context(), nil)
	try.Must(t, err)
	var got []string
	for _, l := range d.LeftOut {
		got = append(got, fmt.Sprintf("%s %s=%s", l.Name(), l.ID, l.Value))
	}
	want := []string{`floatingip f1=`, `floatingip.qos_policy_id f2="q1"`, `ha_network n9=`,
		`network.vlan_transparent n1=true`, `network_segment_range e2=`, `port.device_profile p1="gpu"`,
		`port.vendor_limit p1=0`, `qos_policy.rules.until q1="noon"`,
		`quota p=`, `rbac_policy b1=`, `router o1=`, `router o2=`, `router.conntrack_helpers o3=[{}]`,
		`security_group_rule.remote_zone r1="dmz"`, `subnet.segment_id s1="x"`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("left out:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(d.Networks) != 1 || len(d.Subnets) != 1 || len(d.Ports) != 2 {
		t.Errorf("the network of an HA router is carried over: %+v, %+v, %+v", d.Networks, d.Subnets, d.Ports)
	}
	if r := d.SecurityGroupRules[0].RemoteAddressGroupID; r == nil || *r != "a1" {
		t.Errorf("the rule's address group: %v", r)
	}
	if p := d.SubnetPools[0]; p.MinLength != 8 || p.MaxLength != 32 || p.DefaultLength != 24 {
		t.Errorf("lengths as texts and as numbers: %+v", p)
	}
	shared := map[string]bool{}
	for _, r := range d.RBACPolicies {
		shared[r.ObjectID] = r.Target == net.Everybody
	}
	if !d.Networks[0].Shared || !shared["n1"] || !shared["l1"] || len(shared) != 2 {
		t.Errorf("shared with all: %+v, network %v", d.RBACPolicies, d.Networks[0].Shared)
	}
	if !d.SecurityGroups[0].Stateful || !d.Ports[0].PortSecurity || !d.Networks[0].PortSecurity {
		t.Errorf("a release without these attributes: stateful %v, port security %v and %v, want all on",
			d.SecurityGroups[0].Stateful, d.Ports[0].PortSecurity, d.Networks[0].PortSecurity)
	}
	if r := d.QoSPolicies[0].Rules[1]; r.Direction == nil || *r.Direction != "egress" ||
		d.AddressScopes[0].IPVersion != 4 || d.Ports[0].DHCPOptions[0].IPVersion != 4 {
		t.Errorf("a release without these attributes: %+v, %+v, %+v", r, d.AddressScopes, d.Ports[0].DHCPOptions)
	}
	if d.Ports[1].PropagateUplink != nil {
		t.Error("an attribute that is of SR-IOV is kept for another port")
	}
}
