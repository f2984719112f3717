package virthost

import (
	"os"
	"path/filepath"
	"testing"
)

// Sysfs is a made-up one, with the /dev that belongs to it.
type Sysfs struct{ Sys, Dev string }

// NewSysfs has: sdb and sdc, two iSCSI paths of the multipath device mpatha
// (dm-0) with the partition mpatha-part1 (dm-1); sdd, a Fibre Channel disk with one
// path and the logical volume vg-lv (dm-2) on it; sda, a disk of the host with the
// partition sda1; drbd0.
func NewSysfs(t *testing.T) Sysfs {
	t.Helper()
	s := Sysfs{Sys: t.TempDir(), Dev: t.TempDir()}
	dirs := map[string]string{
		"sda":  "pci0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
		"sdb":  "platform/host2/session1/target2:0:0/2:0:0:1/block/sdb",
		"sdc":  "platform/host3/session2/target3:0:0/3:0:0:1/block/sdc",
		"sdd":  "pci0/host4/rport-4:0-1/target4:0:1/4:0:1:0/block/sdd",
		"dm-0": "virtual/block/dm-0", "dm-1": "virtual/block/dm-1", "dm-2": "virtual/block/dm-2",
		"drbd0": "virtual/block/drbd0",
	}
	dirs["sda1"], dirs["sdb1"] = dirs["sda"]+"/sda1", dirs["sdb"]+"/sdb1"
	for name, dir := range dirs {
		s.Write(t, "devices/"+dir+"/size", "8")
		s.link(t, filepath.Join(s.Sys, "devices", dir), filepath.Join(s.Sys, "class/block", name))
		if err := os.WriteFile(filepath.Join(s.Dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.Write(t, "devices/"+dirs["sda1"]+"/partition", "1\n")
	s.Write(t, "devices/"+dirs["sdb1"]+"/partition", "1\n")
	for dm, d := range map[string]struct {
		name, uuid string
		on         []string
	}{
		"dm-0": {"mpatha", "mpath-3600a", []string{"sdb", "sdc"}},
		"dm-1": {"mpatha-part1", "part1-mpath-3600a", []string{"dm-0"}},
		"dm-2": {"vg-lv", "LVM-x", []string{"sdd"}},
	} {
		at := "devices/" + dirs[dm]
		s.Write(t, at+"/dm/name", d.name+"\n")
		s.Write(t, at+"/dm/uuid", d.uuid+"\n")
		for _, on := range d.on {
			s.Write(t, at+"/slaves/"+on, "")
			s.Write(t, "devices/"+dirs[on]+"/holders/"+dm, "")
		}
		s.link(t, filepath.Join(s.Dev, dm), filepath.Join(s.Dev, "mapper", d.name))
	}
	for n, c := range map[string]struct{ host, addr, target string }{
		"1": {"host2", "10.0.0.1", "iqn.2001-05.com.example:a"}, "2": {"host3", "fd00::1", "iqn.2001-05.com.example:a"},
	} {
		at := "devices/platform/" + c.host + "/session" + n
		s.Write(t, at+"/iscsi_session/session"+n+"/targetname", c.target+"\n")
		s.link(t, filepath.Join(s.Sys, at), filepath.Join(s.Sys, at, "iscsi_session/session"+n, "device"))
		s.link(t, filepath.Join(s.Sys, at, "iscsi_session/session"+n), filepath.Join(s.Sys, "class/iscsi_session/session"+n))
		conn := at + "/connection" + n + ":0/iscsi_connection/connection" + n + ":0"
		s.Write(t, conn+"/persistent_address", c.addr+"\n")
		s.Write(t, conn+"/persistent_port", "3260\n")
	}
	return s
}

// Write makes a file.
func (s Sysfs) Write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(s.Sys, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s Sysfs) link(t *testing.T, to, from string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(from), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}
