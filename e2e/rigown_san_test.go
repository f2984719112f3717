package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sanTarget is the iSCSI target of the made-up SAN; its unit 1 is a disk of 64 MiB.
const sanTarget = "iqn.2020-05.example.lab:pool"

// sanPool is a pool on it. The kernels of the laboratory's machines may have no iSCSI
// initiator, so libvirt and QEMU are initiators by themselves.
const sanPool = `<pool type='iscsi-direct'><name>san</name><source><host name='%s' port='3260'/><device path='` + sanTarget +
	`'/><initiator><iqn name='iqn.2020-05.example.lab:%s'/></initiator></source></pool>`

// sanDisk is a disk on it.
const sanDisk = `<disk type='network' device='disk'><driver name='qemu' type='raw' cache='none'/><source protocol='iscsi' name='` + sanTarget +
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
	r.startTarget(t, addr)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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

// startTarget serves the target by tgt, in user space, until the end of the test.
func (r *rig) startTarget(t testing.TB, addr string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "san.img")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 64<<20)); err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(os.Getpid() % 32768) // of its control socket
	server := exec.Command("tgtd", "-f", "-C", port, "--iscsi", "portal="+addr+":3260")
	var said strings.Builder
	server.Stdout, server.Stderr = &said, &said
	if err := r.lab.InSwitch(server.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Process.Kill(); err != nil {
			t.Errorf("end tgtd: %v", err)
		}
		if err := server.Wait(); err == nil {
			t.Errorf("tgtd had ended: %s", said.String())
		}
		for _, f := range []string{"socket." + port, "socket." + port + ".lock", ""} { // at last the folder, unless others are in it
			if err := os.Remove(filepath.Join("/var/run/tgtd", f)); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
				t.Error(err)
			}
		}
	})
	admin := func(args ...string) error {
		out, err := exec.CommandContext(t.Context(), "tgtadm", append([]string{"-C", port, "--lld", "iscsi"}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("tgtadm %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	r.until(t, 10*time.Second, "the SAN", func(context.Context) (string, bool) {
		err := admin("--mode", "target", "--op", "new", "--tid", "1", "-T", sanTarget)
		return fmt.Sprint(err), err == nil
	})
	if err := errors.Join(admin("--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", image),
		admin("--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL")); err != nil {
		t.Fatal(err)
	}
}

// sanIsThere wants the pool active on all hosts, and the guest's disk where the guest is.
func (r *rig) sanIsThere(t testing.TB) {
	t.Helper()
	disks := 0
	for _, h := range r.lab.Hosts() {
		out, err := r.script(t.Context(), h, `virsh pool-info san | grep -q 'State: *running' && echo active; for d in $(virsh list --name); do virsh domblklist "$d"; done`)
		if err != nil || !strings.HasPrefix(out, "active\n") {
			t.Errorf("the pool on %s: %s, %v", h, out, err)
		}
		disks += strings.Count(out, sanTarget)
	}
	if disks != 1 {
		t.Errorf("%d guests have the disk on the SAN, want 1", disks)
	}
}
