package aligntest

import (
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// This file makes instances and all that belongs to them.

// guest is an instance while its rows are made.
type guest struct {
	i, id               int
	uuid, project, user string
	projectNumber       int
	host, node          string
	made                time.Time
	deleted             bool
	goneAt              any
	flavor              *flavor
	image               *image
	ports               []nic
}

type nic struct {
	id, mac, address string
	*network
}

const (
	hugeData   = 500 // one instance of so many has 64 KiB of user data
	hugeCache  = 700 // one of so many has hugePorts interfaces
	hugePorts  = 60
	userData   = 48 << 10 // bytes, 64 KiB in base64
	systemMeta = 10       // rows each, and more where images asked for more
)

// instance makes one. The first ones are odd in every way, so that small platforms have
// all; the first of all is not deleted.
func (m *maker) instance(i int) {
	project, user := m.owner()
	host := m.rand.IntN(len(m.p.Hosts))
	s := &guest{
		i: i, id: m.next("nova.instances"), uuid: m.uuid(), projectNumber: project, project: m.p.Projects[project], user: m.p.Users[user],
		host: m.p.Hosts[host], node: m.p.Nodes[host], made: m.when(), deleted: i == 1 || i > 1 && m.one(20),
		flavor: &m.flavors[m.rand.IntN(len(m.flavors))], image: &m.images[m.rand.IntN(len(m.images))],
	}
	if s.deleted {
		s.goneAt, _ = m.gone(s.made, 1)
	}
	m.p.Servers = append(m.p.Servers, Server{s.id, s.uuid, s.project, s.deleted})
	fromVolume := m.one(3)
	m.instanceRow(s, fromVolume, m.keys[user])
	m.put("nova.instance_id_mappings", s.made, s.goneAt, m.next("nova.instance_id_mappings"), s.uuid, s.gone())
	m.extra(s)
	m.metadata(s)
	m.ports(s)
	m.devices(s, fromVolume)
	m.actions(s)
	if i%50 == 0 {
		m.put("nova.tags", s.uuid, "tag"+fmt.Sprint(i%7))
		m.put("nova.virtual_interfaces", s.made, s.goneAt, m.next("nova.virtual_interfaces"), mac(1<<23+i), nil, m.uuid(), s.uuid, s.gone())
	}
}

// gone is the number in column deleted: the row's own in truth, which nothing reads.
func (s *guest) gone() int {
	if s.deleted {
		return s.id
	}
	return 0
}

func mac(n int) string { return fmt.Sprintf("fa:16:3e:%02x:%02x:%02x", n>>16&255, n>>8&255, n&255) }

// state is how an instance stands: its state, its power state, its task.
func (m *maker) state(s *guest) (vm string, power int, task any) {
	switch k := m.rand.IntN(100); {
	case s.deleted:
		return "deleted", 0, nil
	case k < 12:
		return "stopped", 4, nil
	case k < 13:
		return "error", 0, m.maybe("deleting", 2)
	case k < 14:
		return "paused", 3, nil
	case k < 15:
		return "shelved_offloaded", 4, nil
	}
	return "active", 1, nil
}

func (m *maker) instanceRow(s *guest, fromVolume bool, key keyPair) {
	vm, power, task := m.state(s)
	host, node := any(s.host), any(s.node)
	if vm == "shelved_offloaded" {
		host, node = nil, nil
	}
	imageRef := s.image.id
	if fromVolume {
		imageRef = ""
	}
	var keyName, keyData, osType, lockedBy any
	if !m.one(4) {
		keyName, keyData = key.name, key.public
	}
	if s.image.windows && s.image.distro != "win2k8" { // of those, the image says it alone
		osType = "windows"
	}
	locked := m.one(30)
	if locked {
		lockedBy = "owner"
	}
	name := m.text(fmt.Sprintf("vm-%d", s.i), 12)
	if s.i >= 2 && s.i < 2+len(oddTexts) {
		name = oddTexts[s.i-2]
	}
	zone := m.p.Zones[m.rand.IntN(3)]
	m.put("nova.instances", s.made, m.touched(s.made), s.goneAt, s.id, nil, s.user, s.project, imageRef,
		m.maybe("", 10), m.maybe("", 10), m.maybe(0, 10), keyName, keyData, power, vm,
		s.flavor.memory, s.flavor.vcpus, m.maybe(fmt.Sprintf("vm-%d", s.i), 40), host, m.userData(s),
		fmt.Sprintf("r-%08x", m.rand.Uint32()), m.maybe(s.made, 20), m.maybe(s.made, 20), s.goneAt,
		m.maybe(name, 60), m.maybe(m.text(name, 12), 20), m.maybe(zone, 20), locked, osType, m.maybe(s.host, 20),
		s.flavor.id, nil, s.uuid, m.maybe("x86_64", 2), m.maybe("/dev/vda", 20),
		m.maybe(fmt.Sprintf("192.0.2.%d", s.i%256), 2), nil, []string{"", "True"}[m.rand.IntN(2)], task, 0, m.maybe(true, 10), false, false,
		s.flavor.root, s.flavor.ephemeral, nil, node, s.gone(), lockedBy, s.deleted)
}

func (m *maker) userData(s *guest) any {
	switch {
	case s.i%hugeData == 3:
		raw := make([]byte, userData)
		for i := range raw {
			raw[i] = byte(m.rand.Uint32())
		}
		return base64.StdEncoding.EncodeToString(raw)
	case m.one(5):
		return base64.StdEncoding.EncodeToString([]byte("#cloud-config\nhostname: vm-" + fmt.Sprint(s.i) + "\n# 😀\n"))
	}
	return nil
}

// extra makes the instance's description. One of 40 deleted ones has lost it.
func (m *maker) extra(s *guest) {
	if s.deleted && m.one(40) {
		return
	}
	var numa, cpu any
	if m.one(30) {
		numa = `{"nova_object.version": "1.2", "nova_object.name": "InstanceNUMATopology", "nova_object.namespace": "nova", "nova_object.data": {"instance_uuid": "` + s.uuid + `", "cells": []}}`
	}
	if m.one(8) {
		cpu = `{"nova_object.version": "1.0", "nova_object.name": "VirtCPUModel", "nova_object.namespace": "nova", "nova_object.data": {"vendor": "Intel", "model": "Haswell", "features": [], "mode": "host-model", "match": "exact", "arch": "x86_64", "topology": null}}`
	}
	m.put("nova.instance_extra", s.made, m.touched(s.made), s.goneAt, s.gone(), m.next("nova.instance_extra"), s.uuid,
		numa, m.maybe("[]", 10), s.flavor.json, cpu, nil)
}

func (m *maker) metadata(s *guest) {
	put := func(key string, value any) {
		m.put("nova.instance_system_metadata", s.made, m.touched(s.made), s.goneAt,
			m.next("nova.instance_system_metadata"), s.uuid, key, value, s.gone())
	}
	pairs := [systemMeta][2]string{
		{"image_disk_format", "raw"}, {"image_container_format", "bare"}, {"image_min_ram", "0"},
		{"image_min_disk", fmt.Sprint(s.flavor.root)}, {"image_base_image_ref", s.image.id},
		{"image_hw_disk_bus", "virtio"}, {"owner_id", s.project}, {"pool", fmt.Sprintf("ceph%d", 1+s.i%3)},
		{"image_os_type", "linux"}, {"image_description", m.text("", 10)},
	}
	if s.image.windows {
		pairs[8][1] = "windows"
	}
	for _, kv := range pairs {
		put(kv[0], m.maybe(kv[1], 200))
	}
	if s.image.distro != "" {
		put("image_os_distro", s.image.distro)
	}
	if s.image.card {
		put("image_hw_vif_model", "e1000")
	}
	if s.i%20 == 5 { // an image that asks for two NUMA nodes and CPUs of its own
		put("image_hw_numa_nodes", "2")
		put("image_hw_cpu_policy", "dedicated")
	}
	for i := range m.rand.IntN(3) {
		m.put("nova.instance_metadata", s.made, m.touched(s.made), s.goneAt, m.next("nova.instance_metadata"),
			m.maybe(fmt.Sprintf("key%d", i), 50), m.maybe(m.text("value", 6), 10), s.uuid, s.gone())
	}
	if m.one(25) && !s.deleted { // a value that was there before
		at, n := m.gone(s.made, s.id)
		m.put("nova.instance_metadata", s.made, nil, at, m.next("nova.instance_metadata"), "key0", "before", s.uuid, n)
	}
}

// ports makes the interfaces, in Neutron and in the instance's cache. A deleted
// instance has none.
func (m *maker) ports(s *guest) {
	n := 1 + m.rand.IntN(8)/7
	switch {
	case s.deleted:
		n = 0
	case s.i%hugeCache == 4:
		n = hugePorts
	}
	for range n {
		m.port(s)
	}
	cache := any(networkInfo(s))
	if s.deleted || m.one(300) {
		cache = m.maybe("[]", 20)
	}
	m.put("nova.instance_info_caches", s.made, m.touched(s.made), s.goneAt, m.next("nova.instance_info_caches"), cache, s.uuid, s.gone())
}

func (m *maker) port(s *guest) {
	net := &m.networks[m.rand.IntN(len(m.networks))]
	net.used++
	low := net.used + 9
	p := nic{m.uuid(), mac(m.next("port")), fmt.Sprintf("10.%d.%d.%d", net.number%200, low>>8, low&255), net}
	s.ports = append(s.ports, p)
	m.put("neutron.ports", s.project, p.id, m.text("", 20), net.id, p.mac, true, "ACTIVE", s.uuid, "compute:"+m.p.Zones[s.i%3], m.maybe("", 2))
	m.put("neutron.ipallocations", p.id, p.address, net.subnet, net.id)
	m.put("neutron.ml2_port_bindings", p.id, s.host, "ovs", "normal", "", `{"port_filter": true, "ovs_hybrid_plug": true}`)
	m.put("neutron.ml2_port_binding_levels", p.id, s.host, 0, "openvswitch", net.segment)
	m.put("neutron.portsecuritybindings", p.id, true)
	m.put("neutron.securitygroupportbindings", p.id, m.groups[s.projectNumber])
}

// networkInfo is the cache of the interfaces.
func networkInfo(s *guest) string {
	var all []string
	for _, p := range s.ports {
		all = append(all, fmt.Sprintf(`{"profile": {}, "ovs_interfaceid": "%[1]s", "preserve_on_delete": false, "network": {"bridge": "br-int", "subnets": [{"ips": [{"meta": {}, "version": 4, "type": "fixed", "floating_ips": [], "address": "%[2]s"}], "version": 4, "meta": {"dhcp_server": "10.%[3]d.0.2"}, "dns": [], "routes": [], "cidr": "10.%[3]d.0.0/16", "gateway": {"meta": {}, "version": 4, "type": "gateway", "address": "10.%[3]d.0.1"}}], "meta": {"injected": false, "tenant_id": "%[4]s"}, "id": "%[5]s", "label": %[6]s}, "devname": "tap%[7]s", "vnic_type": "normal", "qbh_params": null, "meta": {}, "details": {"port_filter": true, "ovs_hybrid_plug": true}, "address": "%[8]s", "active": true, "type": "ovs", "id": "%[1]s", "qbg_params": null}`,
			p.id, p.address, p.number%200, s.project, p.network.id, ascii(p.label), p.id[:11], p.mac))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// devices makes the block devices, and the volumes behind them.
func (m *maker) devices(s *guest, fromVolume bool) {
	put := func(device, volume, size any, source, destination string, boot, image, info any, last bool) {
		m.put("nova.block_device_mapping", s.made, m.touched(s.made), s.goneAt, m.next("nova.block_device_mapping"),
			device, last, nil, volume, size, m.maybe(false, 10), info, s.uuid, s.gone(), source, destination, nil,
			m.maybe("disk", 10), m.maybe("virtio", 10), boot, image)
	}
	if fromVolume {
		volume := m.volume(s, "/dev/vda", s.image, s.flavor.root)
		put("/dev/vda", volume, s.flavor.root, "volume", "volume", 0, nil, connection(volume), m.one(2))
	} else {
		put("/dev/vda", nil, nil, "image", "local", 0, s.image.id, nil, true)
	}
	if s.flavor.ephemeral > 0 {
		put("/dev/vdb", nil, s.flavor.ephemeral, "blank", "local", -1, nil, nil, true)
	}
	if m.one(6) {
		volume, info := m.volume(s, "/dev/vdc", nil, 10), any(nil)
		if m.one(30) { // was deleted behind Nova's back: it is not in Cinder, and never was, for all that can be seen
			volume = m.uuid()
		}
		if !m.one(15) {
			info = connection(volume)
		}
		put("/dev/vdc", volume, 10, "volume", "volume", nil, nil, info, false)
	}
}

// actions makes the instance's history.
func (m *maker) actions(s *guest) {
	list := []string{"create"}
	if m.one(2) {
		list = append(list, []string{"reboot", "stop", "resize", "live-migration"}[m.rand.IntN(4)])
	}
	if s.deleted {
		list = append(list, "delete")
	}
	for _, a := range list {
		id, request := m.next("nova.instance_actions"), "req-"+m.uuid()
		m.put("nova.instance_actions", s.made, m.touched(s.made), id, a, s.uuid, request, s.user, s.project, s.made,
			m.maybe(s.made.Add(9*time.Second), 20), nil, 0)
		result, trace := "Success", any(nil)
		if m.one(30) {
			result, trace = "Error", "Traceback (most recent call last):\n  File "+
				"\"/usr/lib/python2.7/site-packages/nova/compute/manager.py\", line 352, in decorated_function\n"+
				m.text("VirtualInterfaceCreateException", 3)
		}
		m.put("nova.instance_actions_events", s.made, nil, m.next("nova.instance_actions_events"), "compute__do_"+a, id,
			s.made, s.made.Add(8*time.Second), result, trace, 0)
		if trace != nil {
			m.put("nova.instance_faults", s.made, nil, m.next("nova.instance_faults"), s.uuid, 500,
				m.text("No valid host was found", 3), trace, m.maybe(s.host, 3), 0)
		}
		if a == "resize" || a == "live-migration" {
			kind, to := map[string]string{"resize": "resize", "live-migration": "live-migration"}[a], m.rand.IntN(len(m.p.Hosts))
			m.put("nova.migrations", s.made, m.touched(s.made), m.next("nova.migrations"), s.host, m.p.Hosts[to],
				m.maybe("10.0.0.9", 3), []string{"confirmed", "completed", "error"}[m.rand.IntN(3)], s.uuid,
				s.flavor.id, s.flavor.id, s.node, m.p.Nodes[to], 0, m.maybe(kind, 10), m.maybe(false, 10))
		}
	}
}

// serverGroups makes groups of instances, one of 50.
func (m *maker) serverGroups() {
	for i := 0; i < len(m.p.Servers); i += 50 {
		now, id := m.when(), m.next("nova.instance_groups")
		deleted := i > 0 && m.one(20)
		at, n := m.gone(now, id)
		if !deleted {
			at, n = nil, 0
		}
		m.put("nova.instance_groups", now, m.touched(now), at, n, id, m.p.Users[i%len(m.p.Users)],
			m.p.Servers[i].Project, m.uuid(), m.text("group", 5))
		m.put("nova.instance_group_policy", now, at, n, m.next("nova.instance_group_policy"), []string{"affinity", "anti-affinity"}[i/50%2], id)
		for k := i; k < min(i+3, len(m.p.Servers)); k++ {
			m.put("nova.instance_group_member", now, at, n, m.next("nova.instance_group_member"), m.p.Servers[k].UUID, id)
		}
		if m.one(10) { // one that is gone for good
			m.put("nova.instance_group_member", now, at, n, m.next("nova.instance_group_member"), m.uuid(), id)
		}
	}
}
