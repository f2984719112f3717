package e2e

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"holdfast/testbed/tgt"
)

// sanTarget is the iSCSI target of the made-up SAN; its unit 1 is a disk of 64 MiB.
const sanTarget = "iqn.2020-05.example.lab:pool"

// sanPool is a pool on it. The kernels of the laboratory's machines may have no iSCSI
// initiator, so libvirt and QEMU are initiators by themselves.
const sanPool = `<pool type='iscsi-direct'><name>san</name><source><host name='%s' port='3260'/><device path='` + sanTarget +
	`'/><initiator><iqn name='iqn.2020-05.example.lab:%s'/></initiator></source></pool>`

// sanDisk is a disk on it.
const sanDisk = `<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/><source protocol='iscsi' name='` +
	sanTarget +
	`/1'><host name='%s' port='3260'/></source><target dev='vdz' bus='virtio'/></disk>`

// withSAN gives all hosts a pool on an iSCSI target in the switch, and one of the business
// guests a disk on it, until the end of the test.
func (r *rig) withSAN(t testing.TB) {
	t.Helper()
	u, err := url.Parse(r.lab.DiskURL())
	if err != nil {
		t.Fatal(err)
	}
	addr := u.Hostname() // of the switch
	tgt.Serve(t, sanTarget, addr+":3260", 64<<20, r.lab.InSwitch)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, h := range r.lab.Hosts() {
			if _, err := r.script(ctx, h, "virsh pool-destroy san || true; virsh pool-undefine san"); err != nil {
				t.Errorf("take the pool off %s: %v", h, err)
			}
		}
	})
	r.everywhere(t, "make a pool on the SAN", func(ctx context.Context, h string) error {
		_, err := r.script(ctx, h, `echo "$1" >/run/san.xml; virsh pool-define /run/san.xml; virsh pool-start san; virsh vol-info unit:0:0:1 --pool san`, fmt.Sprintf(sanPool, addr, h))
		return err
	})
	guests, err := r.lab.Guests(t.Context())
	if err != nil || len(guests) == 0 {
		t.Fatalf("%d guests, %v", len(guests), err)
	}
	disk := fmt.Sprintf(sanDisk, addr)
	const onDisk = `echo "$1" >/run/disk.xml; virsh "$2" "$3" /run/disk.xml --live`
	if _, err := r.script(t.Context(), guests[0].Host, onDisk, disk, "attach-device", guests[0].Name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, h := range r.lab.Hosts() { // it has moved
			if out, err := r.script(ctx, h, "virsh list --name"); err != nil || !strings.Contains("\n"+out, "\n"+guests[0].Name+"\n") {
				continue
			}
			if _, err := r.script(ctx, h, onDisk, disk, "detach-device", guests[0].Name); err != nil {
				t.Errorf("take the disk off %s: %v", guests[0].Name, err)
			}
			return
		}
		t.Errorf("%s runs nowhere", guests[0].Name)
	})
}

// sanIsThere wants the pool active on all hosts, and the guest's disk where the guest is.
func (r *rig) sanIsThere(t testing.TB) {
	t.Helper()
	disks := 0
	for _, h := range r.lab.Hosts() {
		out, err := r.script(t.Context(), h,
			`virsh pool-info san | grep -q 'State: *running' && echo active; for d in $(virsh list --name); do virsh domblklist "$d"; done`)
		if err != nil || !strings.HasPrefix(out, "active\n") {
			t.Errorf("the pool on %s: %s, %v", h, out, err)
		}
		disks += strings.Count(out, sanTarget)
	}
	if disks != 1 {
		t.Errorf("%d guests have the disk on the SAN, want 1", disks)
	}
}
