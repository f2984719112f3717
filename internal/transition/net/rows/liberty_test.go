package rows

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/net"
	"holdfast/testbed/try"
)

// TestLiberty: a database of Neutron 7, whose objects are shared by columns, is read with that, and all that it has beside
// is told: objects, an attribute in a column, and one in a table that nobody knows.
func TestLiberty(t *testing.T) {
	rig := aligntest.MariaDB(t)
	rig.Load("liberty-schema.sql", "liberty_", "liberty_")
	rig.SQL(`USE liberty_neutron; SET foreign_key_checks = 0;
INSERT INTO networks (tenant_id, id, name, status, admin_state_up, mtu, vlan_transparent) VALUES ('p', 'n1', 'out', 'ACTIVE', 1, 1500, 1), ('p', 'n2', 'in', 'ACTIVE', 1, 1500, 0), ('', 'n9', 'HA network tenant p', 'ACTIVE', 1, 1500, 0);
INSERT INTO ports (tenant_id, id, name, network_id, mac_address, admin_state_up, status, device_id, device_owner, dns_name) VALUES ('', 'p9', '', 'n9', 'fa:16:3e:00:00:09', 1, 'ACTIVE', 'o1', 'network:router_ha_interface', '');
INSERT INTO externalnetworks VALUES ('n1');
INSERT INTO networkrbacs VALUES ('b1', 'n2', 'p', 'q', 'access_as_shared');
INSERT INTO ports (tenant_id, id, name, network_id, mac_address, admin_state_up, status, device_id, device_owner, dns_name) VALUES ('p', 'p1', '', 'n2', 'fa:16:3e:00:00:01', 1, 'ACTIVE', '', '', 'web');
INSERT INTO extradhcpopts VALUES ('x1', 'p1', 'bootfile-name', 'pxe.0', 4);
INSERT INTO securitygrouprules (tenant_id, id, security_group_id, direction, ethertype) VALUES ('p', 'r1', 'g1', 'ingress', 'IPv4');
ALTER TABLE securitygrouprules ADD COLUMN remote_zone VARCHAR(9);
UPDATE securitygrouprules SET remote_zone = 'dmz';
INSERT INTO qos_policies VALUES ('q1', 'slow', 'for all', 1, 'p');
INSERT INTO qos_bandwidth_limit_rules VALUES ('u1', 'q1', 100, 10);
INSERT INTO qos_network_policy_bindings (policy_id, network_id) VALUES ('q1', 'n2');
INSERT INTO subnetpools (tenant_id, id, name, ip_version, default_prefixlen, min_prefixlen, max_prefixlen, shared, hash) VALUES ('p', 'l1', 'pool', 4, 24, 8, 32, 1, '');
INSERT INTO subnetpoolprefixes VALUES ('10.0.0.0/8', 'l1');
INSERT INTO routers (tenant_id, id, name, enable_snat) VALUES ('p', 'o1', 'r', 1), ('p', 'o2', 'r', 0);
INSERT INTO router_extra_attributes (router_id, distributed, service_router, ha) VALUES ('o1', 1, 0, 0);
INSERT INTO quotas (id, tenant_id, resource, ` + "`limit`" + `) VALUES ('i1', 'p', 'port', 9), ('i2', 'p', 'network', 9);
CREATE TABLE vendor_limits (port_id VARCHAR(36), kbps INT);
INSERT INTO vendor_limits VALUES ('p1', 7);
CREATE TABLE vendor_zones (id VARCHAR(36));
INSERT INTO vendor_zones VALUES ('z1');
CREATE TABLE sg_ext (note VARCHAR(9), sg VARCHAR(36), n INT, PRIMARY KEY (sg, n), UNIQUE KEY a (note));
INSERT INTO sg_ext VALUES ('x', 'g1', 3);
CREATE TABLE sg_key (note VARCHAR(9), sg VARCHAR(36) NOT NULL, UNIQUE KEY b (sg));
INSERT INTO sg_key VALUES ('x', 'g2');
CREATE TABLE sg_none (note VARCHAR(9), sg VARCHAR(36));
INSERT INTO sg_none VALUES ('x', NULL), (NULL, 'g3');`)
	ctx, cancel := context.WithCancel(aligntest.Deadline(t))
	defer cancel()
	db, err := Open(ctx, "source", rig.DSN(), "liberty_neutron", nil)
	try.Must(t, err)
	defer func() { try.Must(t, db.Close()) }()
	d, err := db.Read(ctx)
	try.Must(t, err)
	var got []string
	for _, l := range d.LeftOut {
		got = append(got, fmt.Sprintf("%s %s=%s", l.Name(), l.ID, l.Value))
	}
	want := `ha_network n9=|network.vlan_transparent n1="1"|port.vendor_limits p1={"kbps":"7","port_id":"p1"}|quota p=|router o1=|security_group_rule.remote_zone r1="dmz"|sg_ext g1/3=|sg_key g2=|sg_none g3=|sg_none x=|vendor_zones z1=`
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("left out:\n%s\nwant\n%s", s, want)
	}
	if len(d.Routers) != 1 || d.Routers[0].ID != "o2" {
		t.Errorf("routers: %+v", d.Routers)
	}
	var rbac []string
	for _, r := range d.RBACPolicies {
		rbac = append(rbac, r.ObjectType+" "+r.ObjectID+" "+r.Action+" "+r.Target)
	}
	for _, want := range []string{"network n1 access_as_external *", "network n2 access_as_shared q",
		"qos_policy q1 access_as_shared *", "subnetpool l1 access_as_shared *"} {
		if !strings.Contains(strings.Join(rbac, "|"), want) || len(rbac) != 4 {
			t.Errorf("RBAC policies %v, want 4 with %s", rbac, want)
		}
	}
	if n := d.Networks[1]; n.Shared || n.QoSPolicyID == nil || *n.QoSPolicyID != "q1" {
		t.Errorf("network: %+v", n)
	}
	if p := d.Ports[0]; p.DNSName != "web" || len(p.DHCPOptions) != 1 ||
		p.DHCPOptions[0] != (net.DHCPOption{Name: "bootfile-name", Value: "pxe.0", IPVersion: 4}) {
		t.Errorf("port: %+v", p)
	}
	if q := d.QoSPolicies[0]; q.Description != "for all" || len(q.Rules) != 1 || *q.Rules[0].Direction != "egress" ||
		*q.Rules[0].MaxKbps != 100 {
		t.Errorf("policy: %+v", q)
	}
	if l := d.SubnetPools[0]; l.MinLength != 8 || len(l.Prefixes) != 1 {
		t.Errorf("pool: %+v", l)
	}
}
