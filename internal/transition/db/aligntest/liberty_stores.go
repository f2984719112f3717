package aligntest

import (
	"fmt"
	"strings"
	"time"
)

// This file makes the images of Glance and the volumes of Cinder.

const cephCluster = "b1d7b9f0-0000-4000-8000-00000000ce00"

func (m *maker) image() {
	img, n := image{id: m.uuid(), windows: m.one(4), size: 20 + m.rand.IntN(3)*10}, len(m.images)
	if n < 4 { // one of each kind of Windows, for small platforms
		img.windows = n > 0
	}
	if img.windows {
		img.distro, img.card = []string{"win2k12", "win2k16", "win2k8", ""}[n%4], n%3 == 0
	}
	project, user := m.owner()
	now := m.when()
	var at any
	deleted := m.one(12)
	if deleted {
		at, _ = m.gone(now, 1)
	}
	status := "active"
	if deleted {
		status = "deleted"
	}
	own := m.p.Projects[project]
	m.put("glance.images", img.id, m.maybe(m.text("Ubuntu 14.04", 5), 30), img.size<<30, status, m.one(3), now,
		m.touched(now), at, deleted, "raw", "bare", m.maybe(m.hex(), 10), m.maybe(own, 20), img.size, 0, m.one(20), nil)
	m.put("glance.image_locations", m.next("glance.image_locations"), img.id,
		fmt.Sprintf("rbd://%s/images/%s/snap", cephCluster, img.id), now, nil, at, deleted, "{}", status)
	properties := map[string]string{"hw_disk_bus": "virtio", "owner_id": own, "user_id": m.p.Users[user], "description": m.text("", 3)}
	if img.windows {
		properties["os_type"] = "windows"
	}
	if img.distro != "" {
		properties["os_distro"] = img.distro
	}
	if img.card {
		properties["hw_vif_model"] = "e1000"
	}
	if m.one(4) {
		properties["image_type"], properties["base_image_ref"] = "snapshot", m.uuid() // of an image that is gone
	}
	for _, k := range []string{"base_image_ref", "description", "hw_disk_bus", "hw_vif_model", "image_type",
		"os_distro", "os_type", "owner_id", "user_id"} {
		if v, ok := properties[k]; ok {
			m.put("glance.image_properties", m.next("glance.image_properties"), img.id, k, m.maybe(v, 60), now, nil, at, deleted)
		}
	}
	if m.one(3) {
		m.put("glance.image_members", m.next("glance.image_members"), img.id,
			m.p.Projects[(project+1)%len(m.p.Projects)], false, now, nil, at, deleted, "accepted")
		m.put("glance.image_tags", m.next("glance.image_tags"), img.id, m.text("golden", 2), now, nil, at, deleted)
	}
	m.put("nova.s3_images", now, m.next("nova.s3_images"), img.id, 0)
	m.images = append(m.images, img)
}

func (m *maker) volumeTypes() {
	for i, name := range []string{"ssd", "hdd", "大容量"} {
		now, id := m.when(), m.uuid()
		m.p.VolumeTypes = append(m.p.VolumeTypes, id)
		m.put("cinder.volume_types", now, nil, false, id, name, true, m.maybe("", 2))
		m.put("cinder.volume_type_extra_specs", now, nil, false, m.next("cinder.volume_type_extra_specs"), id,
			"volume_backend_name", fmt.Sprintf("rbd-%d", i+1))
		gone, _ := m.gone(now, 1)
		m.put("cinder.volume_type_extra_specs", now, gone, true, m.next("cinder.volume_type_extra_specs"), id, "volume_backend_name", "lvm")
	}
}

// spareVolumes makes those of no instance: one that waits for another project, one that
// stands for an image.
func (m *maker) spareVolumes() {
	put := func(status string) string {
		now, id := m.when(), m.uuid()
		m.put("cinder.volumes", now, nil, nil, false, id, m.p.Users[0], m.p.Projects[0], m.p.Pools[0], 10, m.p.Zones[0],
			status, "detached", now, now, nil, "spare", nil, nil, m.p.VolumeTypes[0], nil, false, nil, nil, nil, false, nil)
		return id
	}
	now := m.when()
	m.put("cinder.transfers", now, false, m.uuid(), put("awaiting-transfer"), "to the other one", "12345678", m.hex(), nil)
	m.put("cinder.image_volume_cache_entries", now, m.next("cinder.image_volume_cache_entries"), m.p.Pools[0],
		m.images[0].id, put("available"), 10, now)
	m.put("cinder.driver_initiator_data", now, m.next("cinder.driver_initiator_data"),
		"iqn.1993-08.org.debian:01:"+m.p.Hosts[0], "driver", "chap", m.hex())
}

// backups makes a full one of a volume, and one of what has changed since.
func (m *maker) backups(s *guest, volume string, size int) {
	var full any
	for i := range 2 {
		now, id := m.when(), m.uuid()
		m.put("cinder.backups", now, m.touched(now), nil, false, id, volume, s.user, s.project, "ctl01", m.p.Zones[0],
			m.text("nightly", 5), "backups", "available", "cinder.backup.drivers.ceph", size, 1, full, 1-i)
		full = id
	}
}

// volume makes one that is attached to an instance, with what belongs to it, and gives
// its ID. A deleted instance's is deleted or free.
func (m *maker) volume(s *guest, device string, from *image, size int) string {
	id, k := m.uuid(), m.rand.IntN(3)
	var at any
	status, attached := "in-use", "attached"
	deleted := s.deleted && m.one(2)
	switch {
	case deleted:
		at, status, attached = s.goneAt, "deleted", "detached"
	case s.deleted:
		status, attached = "available", "detached"
	}
	m.put("cinder.volumes", s.made, m.touched(s.made), at, deleted, id, s.user, s.project, m.p.Pools[k], size,
		m.p.Zones[k], status, attached, s.made, s.made, at,
		m.maybe(m.text("data", 10), 8), m.text("", 10), nil, m.p.VolumeTypes[k], nil, from != nil, nil, nil, m.maybe("disabled", 3), false, nil)
	meta := func(table, key string, value any) {
		m.put("cinder."+table, s.made, at, deleted, m.next("cinder."+table), id, key, value)
	}
	meta("volume_admin_metadata", "readonly", "False")
	if !s.deleted {
		meta("volume_admin_metadata", "attached_mode", "rw")
	}
	if m.one(3) {
		meta("volume_metadata", "note", m.maybe(m.text("db", 3), 10))
	}
	if from != nil {
		for _, kv := range [][2]string{{"image_id", from.id}, {"min_ram", "0"}, {"disk_format", "raw"}, {"container_format", "bare"}} {
			m.put("cinder.volume_glance_metadata", s.made, at, deleted, m.next("cinder.volume_glance_metadata"), id, nil, kv[0], kv[1])
		}
	}
	var detached any
	mode := any("rw")
	if s.deleted {
		detached, mode = s.goneAt, nil
	}
	m.put("cinder.volume_attachment", s.made, nil, detached, s.deleted, m.uuid(), id, m.maybe(s.host, 2), s.uuid,
		device, s.made, detached, mode, attached)
	if s.i%10 == 0 && !deleted {
		m.backups(s, id, size)
	}
	if m.one(15) {
		m.snapshot(s, id, size, k, deleted)
	}
	return id
}

func (m *maker) snapshot(s *guest, volume string, size, kind int, gone bool) {
	id := m.uuid()
	var at any
	status := "available"
	if gone {
		at, status = s.goneAt, "deleted"
	}
	m.put("cinder.snapshots", s.made, m.touched(s.made), at, gone, id, volume, s.user, s.project, status, "100%", size,
		m.text("before upgrade", 4), nil, m.p.VolumeTypes[kind])
	m.put("cinder.snapshot_metadata", s.made, at, gone, m.next("cinder.snapshot_metadata"), id, "by", m.text("cron", 4))
}

// connection is what a block device says of its volume.
func connection(volume string) string {
	return fmt.Sprintf(`{"driver_volume_type": "rbd", "serial": "%[1]s", "data": {"secret_type": "ceph", "name": "volumes/volume-%[1]s", "secret_uuid": null, "qos_specs": null, "hosts": ["10.0.0.21", "10.0.0.22", "10.0.0.23"], "auth_enabled": false, "access_mode": "rw", "auth_username": null, "ports": ["6789", "6789", "6789"]}}`, volume)
}

// oddities makes what a plan is to refuse. It takes nothing from the stream of random
// numbers before the rest is made.
func (m *maker) oddities() {
	now, p := time.Date(2016, 3, 1, 10, 0, 0, 0, time.UTC), m.p
	if m.has(DuplicateAggregates) {
		for range 2 {
			m.put("nova.aggregates", now, nil, nil, m.next("nova.aggregates"), "rack-a", 0)
		}
	}
	if m.has(CaseKeys) {
		for _, k := range []string{"hw:Numa_Nodes", "hw:numa_nodes"} {
			m.put("nova.instance_type_extra_specs", now, nil, m.next("nova.instance_type_extra_specs"), m.flavors[1].id, k, "2", 0)
		}
	}
	if m.has(NullOwners) {
		m.put("nova.key_pairs", now, nil, nil, m.next("nova.key_pairs"), "nobody's", nil, "00", "ssh-rsa AAAA", 0, "ssh")
	}
	if m.has(LongKeys) {
		m.put("nova.key_pairs", now, nil, nil, m.next("nova.key_pairs"), "long", p.Users[0], "00",
			"ssh-rsa "+strings.Repeat("A", 70_000), 0, "ssh")
	}
	if m.has(FourByte) {
		m.put("nova.instance_metadata", now, nil, nil, m.next("nova.instance_metadata"), "mood", "😀", p.Servers[0].UUID, 0)
	}
	if m.has(Orphans) {
		m.put("nova.instance_metadata", now, nil, nil, m.next("nova.instance_metadata"), "of", "nobody", m.uuid(), 0)
		m.put("nova.instance_system_metadata", now, nil, nil, m.next("nova.instance_system_metadata"), m.uuid(), "of", "nobody", 0)
		m.put("cinder.volume_metadata", now, nil, false, m.next("cinder.volume_metadata"), m.uuid(), "of", "nobody")
	}
	if m.has(Untyped) {
		m.put("cinder.volumes", now, nil, nil, false, m.uuid(), p.Users[0], p.Projects[0], p.Pools[0], 1, p.Zones[0],
			"available", "detached", now, now, nil, "untyped", nil, nil, nil, nil, false, nil, nil, nil, false, nil)
	}
}
