package onhost

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/pair/precheck"
)

// Answers of lsblk: 2.38 with several mount points of a device, 2.34 with texts in place of
// numbers and one mount point.
const (
	blockDevices = `{"blockdevices": [
{"name":"loop0","type":"loop","size":4096,"rm":false,"tran":null,"wwn":null,"serial":null,"mountpoints":["/snap/x"]},
{"name":"zram0","type":"disk","size":4096,"rm":false,"tran":null,"wwn":null,"serial":null,"mountpoints":["[SWAP]"]},
{"name":"sda","type":"disk","size":1000,"rm":false,"tran":"sata","wwn":"0x5","serial":"S1","mountpoints":[null],"children":[
  {"name":"sda3","type":"part","size":500,"rm":false,"tran":null,"wwn":null,"serial":null,"mountpoints":[null],"children":[
    {"name":"md0","type":"raid1","size":400,"mountpoints":[null],"children":[{"name":"vg-root","type":"lvm","size":300,"mountpoints":["/run/x","/"]},{"name":"vg-vms","type":"lvm","size":50,"mountpoints":["/vms"]}]}]},
  {"name":"sda1","type":"part","size":10,"mountpoints":["/boot/efi"]}]},
{"name":"sdb","type":"disk","size":1000,"rm":false,"tran":"sata","mountpoints":[null],"children":[
  {"name":"sdb1","type":"part","size":500,"mountpoints":[null],"children":[{"name":"md0","type":"raid1","size":400,"mountpoints":[null],"children":[{"name":"vg-root","type":"lvm","size":300,"mountpoints":["/"]}]}]}]},
{"name":"sdc","type":"disk","size":9,"rm":false,"tran":"iscsi","mountpoints":[null]},
{"name":"sdd","type":"disk","size":9,"rm":true,"tran":"usb","mountpoints":[null]},
{"name":"sr0","type":"rom","size":9,"rm":true,"mountpoints":[null]},
{"name":"drbd0","type":"disk","size":9,"rm":false,"mountpoints":["/data"]}]}`
	olderDevices = `{"blockdevices": [{"name":"vda","type":"disk","size":"1000","rm":"0","mountpoint":null,
"children":[{"name":"vda1","type":"part","size":"900","rm":"0","mountpoint":"/"}]}, {"name":"vdb","type":"disk","size":"5","rm":"1","mountpoint":null}]}`
)

func TestLayoutOfDisks(t *testing.T) {
	numbers := map[string]int{"sda1": 1, "sda3": 3, "sdb1": 1, "vda1": 1}
	for said, want := range map[string]struct {
		disks   []precheck.Disk
		volumes []precheck.Volume
	}{
		blockDevices: {
			[]precheck.Disk{
				{Name: "sda", Size: 1000, System: true,
					Parts: []precheck.Part{{Number: 1, Size: 10, Mounts: []string{"/boot/efi"}}, {Number: 3, Size: 500}}},
				{Name: "sdb", Size: 1000, System: true, Parts: []precheck.Part{{Number: 1, Size: 500}}},
			},
			[]precheck.Volume{{Kind: "lvm", Size: 300, Mounts: []string{"/"}}, {Kind: "lvm", Size: 50, Mounts: []string{"/vms"}}},
		},
		olderDevices: {
			[]precheck.Disk{{Name: "vda", Size: 1000, System: true, Parts: []precheck.Part{{Number: 1, Size: 900, Mounts: []string{"/"}}}}},
			nil,
		},
	} {
		all, err := readBlockDevices(said)
		if err != nil {
			t.Fatal(err)
		}
		d, v := layout(all, func(name string) int { return numbers[name] })
		if !reflect.DeepEqual(d, want.disks) || !reflect.DeepEqual(v, want.volumes) {
			t.Errorf("%+v\n%+v\nwant %+v\n%+v", d, v, want.disks, want.volumes)
		}
	}
	if _, err := readBlockDevices("lsblk: unknown column"); err == nil {
		t.Error("what is no JSON was read")
	}
}

func TestDeviceIsIdentified(t *testing.T) {
	name := "/data"
	for _, c := range []struct {
		b    blockDevice
		dm   string
		want precheck.Device
	}{
		{blockDevice{WWN: "0x5", Serial: "S", Size: "7"}, "", precheck.Device{ID: "0x5", Size: 7}},
		{blockDevice{Serial: "S"}, "", precheck.Device{ID: "S"}},
		{blockDevice{}, "mpath-3600", precheck.Device{ID: "3600"}},
		{blockDevice{}, "LVM-abc", precheck.Device{}},
		{blockDevice{WWN: "0x5", MountPoints: []*string{&name}}, "", precheck.Device{ID: "0x5", Used: "mounted at /data"}},
		{blockDevice{WWN: "0x5", Children: []blockDevice{{Name: "sdc1", Type: "part"}}}, "",
			precheck.Device{ID: "0x5", Used: "part sdc1 is on it"}},
	} {
		if got := identify(c.b, c.dm); *got != c.want {
			t.Errorf("%+v, want %+v", *got, c.want)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{file: "no block device", "/dev/null": "no block device", "/dev/none": "no such file"} {
		if d := device(t.Context(), path); !strings.Contains(d.Error, want) {
			t.Errorf("%s: %+v, want %q", path, *d, want)
		}
	}
}

func TestVersionsOfComponents(t *testing.T) {
	for _, c := range []struct{ said, mark, want string }{
		{"holdfast 1.4.0 (go1.26, linux/amd64)\nagent    unknown: x\n", "holdfast ", "1.4.0"},
		{"mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)\n", "Ver ", "10.11.6-MariaDB-0+deb12u1"},
		{"DRBDADM_BUILDTAG=GIT-hash:\\ x\nDRBD_KERNEL_VERSION=9.2.1\nDRBDADM_VERSION=9.22.0\n", "DRBDADM_VERSION=", "9.22.0"},
		{"libvirtd (libvirt) 9.0.0\n", "(libvirt) ", "9.0.0"},
		{"qemu-img version 7.2.22 (Debian 1:7.2)\nCopyright\n", "version ", "7.2.22"},
	} {
		if got, err := version(c.said, c.mark); got != c.want || err != nil {
			t.Errorf("%q: %q, %v, want %q", c.said, got, err, c.want)
		}
	}
	if got, err := version("command failed", "Ver "); err == nil {
		t.Errorf("no version was read as %q", got)
	}
}

// TestEndOfASecondPath: one on the interface of the first path, and one that is not there.
func TestEndOfASecondPath(t *testing.T) {
	here := "127.0.0.1"
	dev, err := link(here)
	if err != nil || dev == nil {
		t.Fatal(dev, err)
	}
	want := precheck.PathEnd{Dev: dev.Name, First: dev.Name, Cards: []string{dev.Name}, From: here}
	if got := pathEnd(precheck.Path{First: here, Own: here, Peer: here}); !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, want %+v", *got, want)
	}
	want = precheck.PathEnd{First: dev.Name}
	if got := pathEnd(precheck.Path{First: here, Own: "192.0.2.1", Peer: here}); !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v, want %+v", *got, want)
	}
	if got := pathEnd(precheck.Path{First: here, Own: here, Peer: "nobody"}); got.Error == "" {
		t.Errorf("a peer that no way leads to: %+v", *got)
	}
}

// TestRateIsMeasured sends to a port that takes all, to one that ends at once, and to none.
func TestRateIsMeasured(t *testing.T) {
	serve := func(do func(net.Conn)) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go do(c)
			}
		}()
		return ln.Addr().String()
	}
	if n, err := rate(t.Context(), serve(swallow)); n <= 0 || err != nil {
		t.Errorf("%d bytes in a second, %v", n, err)
	}
	if n, err := rate(t.Context(), serve(func(c net.Conn) { c.Close() })); n != 0 || err == nil {
		t.Errorf("what nobody took: %d bytes in a second", n)
	}
	said := func(c net.Conn) {
		_, _ = c.Write([]byte("hello"))
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}
	if n, err := rate(t.Context(), serve(said)); n != 0 || err == nil {
		t.Errorf("a server of another kind: %d bytes in a second", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := rate(ctx, "127.0.0.1:1"); n != 0 || err == nil {
		t.Errorf("no connection: %d bytes in a second", n)
	}
}

func TestSpaceOfAMount(t *testing.T) {
	if s, err := spaceOf("/"); err != nil || s == nil || s.Size <= 0 || s.Free > s.Size {
		t.Errorf("/: %+v, %v", s, err)
	}
	for _, dir := range []string{t.TempDir(), "/none"} {
		if s, err := spaceOf(dir); err != nil || s != nil {
			t.Errorf("%s, where nothing is mounted: %+v, %v", dir, s, err)
		}
	}
}
