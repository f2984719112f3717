package aligntest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// This file makes what instances stand on: projects, hosts, flavors, keys, images and
// networks.

type flavor struct {
	id, memory, vcpus, swap, root, ephemeral int
	json                                     string // as instance_extra has it
}

type keyPair struct{ user, name, public string }

type image struct {
	id      string
	windows bool
	distro  string // of Windows; "" where nobody has said it
	card    bool   // it names its network card
	size    int    // GB
}

type network struct {
	id, subnet, segment, label string
	number, used               int
}

// platform makes it all.
func (m *maker) platform() {
	p := m.p
	for range p.Size.Projects {
		p.Projects = append(p.Projects, m.hex())
	}
	for range p.Size.Users {
		p.Users = append(p.Users, m.hex())
	}
	p.Zones = []string{"az-a", "az-b", "az-c"}
	m.hosts()
	m.aggregates()
	m.allFlavors()
	m.keyPairs()
	for range p.Size.Images {
		m.image()
	}
	for i := range p.Size.Networks {
		m.network(i)
	}
	m.volumeTypes()
	m.spareVolumes()
	for i, project := range p.Projects {
		m.project(i, project)
	}
	for i := range p.Size.Instances {
		m.instance(i)
	}
	m.serverGroups()
	m.oddities()
}

// owner is a project and one of its users: the same user always is of the same project.
func (m *maker) owner() (project, user int) {
	user = m.rand.IntN(len(m.p.Users))
	return user % len(m.p.Projects), user
}

func (m *maker) hosts() {
	for i := range m.p.Size.Hosts {
		host := fmt.Sprintf("cmp%05d", i+1)
		node := host + ".example.org"
		m.p.Hosts, m.p.Nodes = append(m.p.Hosts, host), append(m.p.Nodes, node)
		m.service("nova-compute", "compute", host)
		m.computeNode(i, host, node)
		now := m.when()
		m.put("neutron.agents", m.uuid(), "Open vSwitch agent", "neutron-openvswitch-agent", "N/A", host, true, now, now, now.Add(time.Hour), nil,
			`{"bridge_mappings": {"physnet1": "br-vlan"}, "tunnel_types": [], "l2_population": false, "datapath_type": "system", "devices": 12}`, m.rand.IntN(50))
	}
	for i := range 3 {
		host := fmt.Sprintf("ctl%02d", i+1)
		for _, b := range []string{"conductor", "scheduler", "consoleauth", "cert"} {
			m.service("nova-"+b, b, host)
		}
		now := m.when()
		m.put("neutron.agents", m.uuid(), "DHCP agent", "neutron-dhcp-agent", "dhcp_agent", host, true, now, now,
			now.Add(time.Hour), nil, `{"dhcp_driver": "neutron.agent.linux.dhcp.Dnsmasq"}`, 0)
	}
	for i := range 3 {
		pool := fmt.Sprintf("storage@rbd-%d#rbd-%d", i+1, i+1)
		m.p.Pools = append(m.p.Pools, pool)
		host, _, _ := strings.Cut(pool, "#")
		now := m.when()
		m.put("cinder.services", now, m.touched(now), nil, false, m.next("cinder.services"), host, "cinder-volume",
			"cinder-volume", m.rand.IntN(1e6), i == 2, m.p.Zones[i], m.text("maintenance", 2), "1.30", "1.3")
	}
}

// service makes a service of Nova's, and now and then the one before it, which is deleted.
func (m *maker) service(binary, topic, host string) {
	row := func(gone bool) {
		now, id := m.when(), m.next("nova.services")
		at, deleted := m.gone(now, id)
		if !gone {
			at, deleted = nil, 0
		}
		m.put("nova.services", now, m.touched(now), at, id, host, binary, topic, m.rand.IntN(1e7), m.one(30), deleted,
			m.maybe(m.text("broken disk", 4), 2), m.maybe(now, 10), false, 2)
	}
	if m.one(20) {
		row(true)
	}
	row(false)
}

const cpuInfo = `{"vendor": "Intel", "model": "Haswell-noTSX", "arch": "x86_64", "features": ["pge", "avx", "vmx", "sse4.2"], "topology": {"cores": 12, "cells": 2, "threads": 2, "sockets": 2}}`

func (m *maker) computeNode(i int, host, node string) {
	now, id := m.when(), m.next("nova.compute_nodes")
	numa := `{"nova_object.version": "1.2", "nova_object.changes": ["cells"], "nova_object.name": "NUMATopology", "nova_object.data": {"cells": []}, "nova_object.namespace": "nova"}`
	m.put("nova.compute_nodes", now, m.touched(now), nil, id, m.maybe(id, 2), 48, 262144, 900, m.rand.IntN(96),
		m.rand.IntN(262144), m.rand.IntN(900), "QEMU", 2003000, cpuInfo,
		m.rand.IntN(900), m.rand.IntN(262144), -m.rand.IntN(100), m.rand.IntN(3), 1+i%30, node, 0,
		fmt.Sprintf("10.%d.%d.%d", 200+i>>16, i>>8&255, i&255),
		`[["i686", "qemu", "hvm"], ["x86_64", "kvm", "hvm"]]`,
		m.maybe(`{"nova_object.version": "1.1", "nova_object.changes": ["objects"], "nova_object.name": "PciDevicePoolList", "nova_object.data": {"objects": []}, "nova_object.namespace": "nova"}`, 3),
		"[]", nil, `{"num_task_None": 12, "num_instances": 12, "io_workload": 0}`, m.maybe(numa, 4), host, 1.5, 16.0)
	if i%10 != 0 {
		return
	}
	for k := range 4 { // virtual functions of a network card, free
		m.put("nova.pci_devices", now, m.touched(now), 0, m.next("nova.pci_devices"), id,
			fmt.Sprintf("0000:%02x:10.%d", i%256, k), "10ed", "8086", "type-VF",
			fmt.Sprintf("pci_0000_%02x_10_%d", i%256, k), "label_8086_10ed", "available",
			`{"phys_function": "0000:05:00.0"}`, nil, nil, m.maybe(i%2, 3))
	}
}

// aggregates makes one of each zone and one of each storage pool, and deleted ones of
// the same names.
func (m *maker) aggregates() {
	add := func(name, key, value string, deleted bool) int {
		now, id := m.when(), m.next("nova.aggregates")
		at, n := m.gone(now, id)
		if !deleted {
			at, n = nil, 0
		}
		m.put("nova.aggregates", now, m.touched(now), at, id, name, n)
		m.put("nova.aggregate_metadata", now, at, m.next("nova.aggregate_metadata"), id, key, value, n)
		return id
	}
	var ids []int
	for i, zone := range m.p.Zones {
		add(zone, "availability_zone", zone, true)
		ids = append(ids, add(zone, "availability_zone", zone, false))
		add("ceph-"+zone, "pool", fmt.Sprintf("ceph%d", i+1), false)
	}
	add(`it's "quoted" \ 中文`, "note", "", false)
	for i, host := range m.p.Hosts {
		id, now := m.next("nova.aggregate_hosts"), m.when()
		m.put("nova.aggregate_hosts", now, nil, id, host, ids[i%len(ids)], 0)
		if m.one(20) { // was in another one before
			id = m.next("nova.aggregate_hosts")
			at, n := m.gone(now, id)
			m.put("nova.aggregate_hosts", now, at, id, host, ids[(i+1)%len(ids)], n)
		}
	}
}

func (m *maker) allFlavors() {
	for i := range 24 {
		f := flavor{id: m.next("nova.instance_types"), vcpus: 1 << (i % 5), root: 20 * (1 + i%4)}
		f.memory = f.vcpus * 2048
		if i%7 == 3 {
			f.swap, f.ephemeral = 512, 10
		}
		name, flavorid := fmt.Sprintf("c%d.%d", f.vcpus, i), m.uuid()
		if i < 3 {
			name, flavorid = []string{"m1.small", `db "big" o'neil`, "大型"}[i], fmt.Sprint(i+1)
		}
		now, public := m.when(), i%5 != 4
		specs := map[string]string{}
		if i%3 == 0 {
			specs = map[string]string{"hw:cpu_policy": "dedicated", "quota:disk_read_iops_sec": "500",
				"aggregate_instance_extra_specs:ssd": "true", "note": m.text("", 2)}
		}
		m.put("nova.instance_types", now, m.touched(now), nil, name, f.id, f.memory, f.vcpus, f.swap, m.maybe(0, 2),
			flavorid, 1.0, f.root, f.ephemeral, false, public, 0)
		f.json = flavorJSON(f, name, flavorid, public, specs)
		m.flavors = append(m.flavors, f)
		m.extraSpecs(f.id, now, specs)
		if !public {
			for _, p := range m.p.Projects[:2] {
				m.put("nova.instance_type_projects", now, nil, m.next("nova.instance_type_projects"), f.id, p, 0)
			}
		}
		if i%8 == 0 { // its name was another's before
			id := m.next("nova.instance_types")
			at, n := m.gone(now, id)
			m.put("nova.instance_types", now, nil, at, name, id, 512, 1, 0, nil, flavorid, 1.0, 0, 0, false, true, n)
			m.put("nova.instance_type_extra_specs", now, at, m.next("nova.instance_type_extra_specs"), id, "gone", "1", n)
		}
	}
}

func (m *maker) extraSpecs(flavor int, now time.Time, specs map[string]string) {
	for _, k := range slices.Sorted(maps.Keys(specs)) {
		id := m.next("nova.instance_type_extra_specs")
		m.put("nova.instance_type_extra_specs", now, nil, id, flavor, k, specs[k], 0)
		if k == "note" {
			at, n := m.gone(now, id)
			m.put("nova.instance_type_extra_specs", now, at, m.next("nova.instance_type_extra_specs"), flavor, "Note", "of other times", n)
		}
	}
}

// flavorJSON is a flavor as Liberty writes it into instance_extra.
func flavorJSON(f flavor, name, flavorid string, public bool, specs map[string]string) string {
	return fmt.Sprintf(`{"new": null, "old": null, "cur": {"nova_object.version": "1.1", "nova_object.name": "Flavor", "nova_object.namespace": "nova", "nova_object.data": {"disabled": false, "root_gb": %d, "name": %s, "flavorid": %s, "deleted": false, "created_at": "2014-03-01T10:00:00Z", "ephemeral_gb": %d, "updated_at": null, "memory_mb": %d, "vcpus": %d, "extra_specs": %s, "swap": %d, "rxtx_factor": 1.0, "is_public": %t, "deleted_at": null, "vcpu_weight": 0, "id": %d}}}`,
		f.root, ascii(name), ascii(flavorid), f.ephemeral, f.memory, f.vcpus, object(specs), f.swap, public, f.id)
}

// object writes a JSON object as Python does.
func object(of map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(of)) {
		parts = append(parts, ascii(k)+": "+ascii(of[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// ascii writes a JSON text as Python does: all but ASCII is escaped.
func ascii(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err) // a text can be written
	}
	var b strings.Builder
	for _, r := range string(data) {
		switch {
		case r < 0x80:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		}
	}
	return b.String()
}

func (m *maker) keyPairs() {
	for i, user := range m.p.Users {
		now := m.when()
		key := keyPair{user: user, name: fmt.Sprintf("key-%d", i),
			public: "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ" + strings.Repeat(m.hex(), 8) + " " + m.text("ops@example.org", 6)}
		m.keys = append(m.keys, key)
		print := strings.TrimSuffix(strings.Repeat(fmt.Sprintf("%02x:", i%256), 16), ":")
		m.put("nova.key_pairs", now, m.touched(now), nil, m.next("nova.key_pairs"), key.name, user, print, key.public, 0, "ssh")
		if m.one(10) {
			id := m.next("nova.key_pairs")
			at, n := m.gone(now, id)
			m.put("nova.key_pairs", now, nil, at, id, key.name, m.maybe(user, 3), print, nil, n, "ssh")
		}
		if m.one(10) {
			m.put("nova.key_pairs", now, nil, nil, m.next("nova.key_pairs"), m.text("cert", 2)+"-x509", user, nil,
				"-----BEGIN CERTIFICATE-----\n"+m.hex()+"\n", 0, "x509")
		}
	}
}

// network is one of a project's, with a subnet of /16 and a VLAN.
func (m *maker) network(i int) {
	n := network{id: m.uuid(), subnet: m.uuid(), segment: m.uuid(), label: m.text(fmt.Sprintf("net-%d", i), 5), number: i}
	if i == 0 {
		n.label = "prod 😀" // as an escape in info caches; the column has a question mark
	}
	project := m.p.Projects[i%len(m.p.Projects)]
	column := strings.ReplaceAll(n.label, "😀", "?")
	m.put("neutron.networks", project, n.id, column, "ACTIVE", true, 0, nil)
	m.put("neutron.networksecuritybindings", n.id, true)
	m.put("neutron.ml2_network_segments", n.segment, n.id, "vlan", "physnet1", 100+i%3900, false, 0)
	at := func(low string) string { return fmt.Sprintf("10.%d.%s", i%200, low) }
	m.put("neutron.subnets", project, n.subnet, column, n.id, 4, at("0.0/16"), at("0.1"), true)
	m.put("neutron.ipallocationpools", m.uuid(), n.subnet, at("0.2"), at("255.254"))
	m.networks = append(m.networks, n)
}

// project makes what each has: quotas and a default security group.
func (m *maker) project(i int, id string) {
	now := m.when()
	for _, resource := range []string{"cores", "instances", "ram", "volumes"} {
		limit := []int{100, -1, 51200, 0}[m.rand.IntN(4)]
		m.put("nova.quotas", m.next("nova.quotas"), now, m.touched(now), nil, id, resource, limit, 0)
		m.put("nova.quota_usages", now, m.touched(now), m.next("nova.quota_usages"), id, resource, m.rand.IntN(100), 0,
			nil, 0, m.p.Users[i%len(m.p.Users)])
		m.put("cinder.quotas", m.next("cinder.quotas"), now, false, id, resource, limit, 0)
	}
	if m.one(10) {
		n := m.next("nova.quotas")
		at, deleted := m.gone(now, n)
		m.put("nova.quotas", n, now, nil, at, id, "cores", 1, deleted)
	}
	if i == 0 {
		m.put("nova.quota_classes", now, m.next("nova.quota_classes"), "default", "cores", 20, 0)
	}
	m.put("nova.project_user_quotas", m.next("nova.project_user_quotas"), now, nil, 0, m.p.Users[i%len(m.p.Users)], id, "cores", 10)
	m.put("nova.security_groups", now, m.next("nova.security_groups"), "default", "default", m.p.Users[i%len(m.p.Users)], id, 0)
	group := m.uuid()
	m.groups = append(m.groups, group)
	m.put("neutron.securitygroups", id, group, "default", "Default security group")
	m.put("neutron.default_security_group", id, group)
	for _, kind := range []string{"IPv4", "IPv6"} {
		m.put("neutron.securitygrouprules", id, m.uuid(), group, nil, "egress", kind, nil, nil, nil, nil)
		m.put("neutron.securitygrouprules", id, m.uuid(), group, group, "ingress", kind, nil, nil, nil, nil)
	}
	m.put("neutron.securitygrouprules", id, m.uuid(), group, nil, "ingress", "IPv4", "tcp", 22, 22, "10.0.0.0/8")
}
