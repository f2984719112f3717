package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// Volumes of internal/transition/db/profile/testdata/rows.sql.
const (
	volumeRoot   = "92000000-0000-4000-8000-000000000001" // of guestDB
	volumeSpare  = "92000000-0000-4000-8000-000000000002" // which volumeMoving moves to
	volumeMoving = "92000000-0000-4000-8000-000000000003"
	snapshotRoot = "96000000-0000-4000-8000-000000000001"
	attachedRoot = "97000000-0000-4000-8000-000000000001"
)

// volume is what Cinder tells of one.
type volume struct {
	ID, Name, Status string
	Size             int
	Zone             string `json:"availability_zone"`
	Type             string `json:"volume_type"`
	Bootable         string
	User             string `json:"user_id"`
	Project          string `json:"os-vol-tenant-attr:tenant_id"`
	Host             string `json:"os-vol-host-attr:host"`
	Migration        string `json:"migration_status"`
	Service          string `json:"service_uuid"`
	Quota            bool   `json:"consumes_quota"`
	Shared           any    `json:"shared_targets"`
	Metadata         map[string]string
	Image            map[string]string `json:"volume_image_metadata"`
	Attachments      []struct {
		ID     string `json:"attachment_id"`
		Server string `json:"server_id"`
		Device string
	}
}

func (v volume) String() string {
	return fmt.Sprintf("%q %s %d GB in %s on %s of %s/%s: type %s, bootable %s, migration %q, service %s, quota %v, "+
		"shared %v, metadata %v, image %v, attached %v",
		v.Name, v.Status, v.Size, v.Zone, v.Host, v.Project, v.User, v.Type, v.Bootable, v.Migration, v.Service,
		v.Quota, v.Shared, v.Metadata, v.Image, v.Attachments)
}

// volumes are as Cinder is to tell of them after the alignment.
var volumes = map[string]string{
	volumeRoot: `"root of db-1" in-use 40 GB in nova on new@rbd#fast of bank/bob: type __DEFAULT__, bootable true, migration "", service ` + backEnd +
		`, quota true, shared false, metadata map[attached_mode:rw], image map[image_id:` +
		imageDebian + `], attached [{` + attachedRoot + ` ` + guestDB + ` /dev/vda}]`,
	volumeSpare: `"" available 1 GB in zone-1 on new@rbd#fast of shop/ada: type __DEFAULT__, bootable false, migration "", service ` + backEnd +
		`, quota false, shared false, metadata map[], image map[], attached []`,
	volumeMoving: `"moving" awaiting-transfer 1 GB in zone-1 on new@rbd#slow of shop/ada: type __DEFAULT__, bootable false, migration "target:` + volumeSpare + `", service ` + backEnd +
		`, quota false, shared false, metadata map[], image map[], attached []`,
}

// snapshot is what Cinder tells of one.
type snapshot struct {
	ID, Name, Status string
	Size             int
	Volume           string `json:"volume_id"`
	User             string `json:"user_id"`
	Project          string `json:"os-extended-snapshot-attributes:project_id"`
	Progress         string `json:"os-extended-snapshot-attributes:progress"`
	Quota            bool   `json:"consumes_quota"`
	Metadata         map[string]string
}

// attachment is what Cinder tells of one.
type attachment struct {
	ID, Status, Instance string
	Volume               string `json:"volume_id"`
	Mode                 string `json:"attach_mode"`
}

// volumesTold asks a real cinder-api.
func (c *newCloud) volumesTold(t *testing.T) {
	t.Parallel()
	addr := freePort(t)
	c.conf(t, "cinder.conf", addr, "")
	c.manage(t, "cinder", "db", "online_data_migrations")
	as := c.start(t, "cinder-api", python("cinder.cmd.api", "cinder-api", "--config-file",
		filepath.Join(c.dir, "cinder.conf"))...).answers(t, addr)
	// 3.65 tells of quotas, 3.63 of types.
	look := func() []string {
		return volumeFaults(as("X-Auth-Token", "admin:shop", "OpenStack-API-Version", "volume 3.70"))
	}
	if faults := look(); len(faults) > 0 {
		t.Fatalf("%s", strings.Join(faults, "\n"))
	}
	set := func(id, what string) string { return "UPDATE cinder.volumes SET " + what + " WHERE id = '" + id + "'" }
	c.spoiled(t, []string{"cinder.volumes", "cinder.snapshots", "cinder.volume_attachment", "cinder.volume_metadata",
		"cinder.snapshot_metadata", "cinder.volume_glance_metadata", "cinder.quotas"}, look,
		[]spoil{
			{set(volumeRoot, "host = 'ctl01@ceph#ssd'"), "volume " + volumeRoot + `: "root of db-1" in-use 40 GB in nova on ctl01@ceph#ssd`},
			{set(volumeSpare, "availability_zone = 'az-a'"), "volume " + volumeSpare + `: "" available 1 GB in az-a`},
			{set(volumeMoving, "use_quota = 1"), "volume " + volumeMoving + `: "moving"`},
			{"UPDATE cinder.snapshots SET status = 'creating'", "snapshots [{" + snapshotRoot + " before creating"},
			{"UPDATE cinder.volume_attachment SET attach_status = 'detached'", "attachments [{" + attachedRoot + " detached"},
			{"DELETE FROM cinder.quotas", "quota 10"},
		},
		[]spoil{
			{"UPDATE cinder.volume_attachment SET instance_uuid = '" + guestWeb + "'", "attachments [{" + attachedRoot + " attached " + guestWeb},
			{set(volumeSpare, "service_uuid = NULL"), "volume " + volumeSpare},
			{set(volumeMoving, "project_id = 'c0000000000040008000000000000001'"), "volume " + volumeMoving},
			{"DELETE FROM cinder.volume_glance_metadata", "volume " + volumeRoot},
			{"UPDATE cinder.snapshots SET deleted = 1", "snapshots []"},
		},
		[]spoil{
			{"UPDATE cinder.volume_attachment SET deleted = 1", "volume " + volumeRoot},
			{set(volumeMoving, "migration_status = NULL"), "volume " + volumeMoving},
			{set(volumeSpare, "status = 'error'"), "volume " + volumeSpare + `: "" error`},
			{"UPDATE cinder.snapshots SET project_id = 'shop'", "snapshots [{" + snapshotRoot + " before available 40 " + volumeRoot + " bob shop"},
		},
		[]spoil{{"SET foreign_key_checks = 0; " + set(volumeMoving, "volume_type_id = '95000000-0000-4000-8000-000000000001'"), "volumes"}},
	)
}

// volumeFaults is what Cinder tells and ought not to: the lists, and each volume.
func volumeFaults(ask asker) []string {
	var out []string
	told := func(where, got, want string) {
		if got != want {
			out = append(out, fmt.Sprintf("%s %s\nwant %s", where, got, want))
		}
	}
	asked := func(path string, into any) {
		if err := ask("v3/"+path, into); err != nil {
			out = append(out, fmt.Sprintf("%s: %v", path, err))
		}
	}
	var list struct{ Volumes []volume }
	asked("volumes/detail?all_tenants=1", &list)
	told("volumes", fmt.Sprint(len(list.Volumes)), fmt.Sprint(len(volumes)))
	for _, v := range list.Volumes {
		told("volume "+v.ID+":", v.String(), volumes[v.ID])
	}
	for id, want := range volumes {
		var one struct{ Volume volume }
		asked("volumes/"+id, &one)
		told("volume "+id+":", one.Volume.String(), want)
	}
	var s struct{ Snapshots []snapshot }
	asked("snapshots/detail?all_tenants=1", &s)
	told("snapshots", fmt.Sprint(s.Snapshots), "[{"+snapshotRoot+" before available 40 "+volumeRoot+" bob bank 100% true map[why:upgrade]}]")
	var a struct{ Attachments []attachment }
	asked("attachments/detail?all_tenants=1", &a)
	told("attachments", fmt.Sprint(a.Attachments), "[{"+attachedRoot+" attached "+guestDB+" "+volumeRoot+" rw}]")
	var q struct {
		Set struct{ Volumes int } `json:"quota_set"`
	}
	asked("os-quota-sets/shop", &q)
	told("quota", fmt.Sprint(q.Set.Volumes), "50")
	return out
}
