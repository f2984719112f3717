package protected

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/virthost"
)

// ownGuest is a spec whose domain is the operator's, with two disks.
func ownGuest(t *testing.T) cluster.GuestSpec {
	t.Helper()
	spec := guest(t)
	spec.Folder = filepath.Dir(spec.Image)
	data := filepath.Join(spec.Folder, "data.img")
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "raw", data, "4M")
	spec.Domain = fmt.Sprintf(`<domain type='qemu' id='3'>
  <name>another</name>
  <memory unit='MiB'>64</memory>
  <vcpu cpuset='0'>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><bootmenu enable='yes' timeout='1'/></os>
  <features><acpi/></features>
  <on_poweroff>preserve</on_poweroff>
  <tomorrow/>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none'/><source file='%s'/><target dev='sda' bus='sata'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/><source file='%s'/><target dev='sdb' bus='sata'/>
    </disk>
    <sound model='ich9'/>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
  </devices>
</domain>`, spec.Image, data)
	spec.Image, spec.NICs, spec.Emulate = "/not/looked/at", nil, false
	return spec
}

func TestOwnDomain(t *testing.T) {
	need.Drill(t, "P1: a guest with a definition of the administrator's own is started, moved and killed as any other")
	hosts := newHosts(t, 2)
	spec := ownGuest(t)
	for _, h := range hosts {
		h.must(request{Op: "check", Spec: spec})
	}
	hosts[0].must(request{Op: "start", Spec: spec})
	if g := hosts[0].until("running", is(cluster.GuestRunning)); g.Epoch != spec.Epoch {
		t.Errorf("it carries epoch %v, want %v", g.Epoch, spec.Epoch)
	}
	def := hosts[0].must(request{Op: "xml"}).Text
	for _, want := range []string{"<name>mnvm</name>", "<on_poweroff>destroy</on_poweroff>", "<sound model='ich9'>",
		"machine='pc-q35-", "cpuset='0'", "data.img", spec.Seed, "<bootmenu enable='yes' timeout='1'/>"} {
		if !strings.Contains(def, want) {
			t.Errorf("libvirt does not show %s:\n%s", want, def)
		}
	}

	// Each disk by itself keeps a second guest out.
	for _, disk := range []string{"mnvm.img", "data.img"} {
		other := spec
		free := filepath.Join(t.TempDir(), disk)
		other.Folder = filepath.Dir(spec.Folder) // which has both
		virthost.Run(t, "cp", filepath.Join(spec.Folder, disk), free)
		other.Domain = strings.ReplaceAll(spec.Domain, filepath.Join(spec.Folder, disk), free)
		_, err := hosts[1].do(request{Op: "start", Spec: other})
		if !errors.Is(err, cluster.ErrNotStarted) || !strings.Contains(err.Error(), `Failed to get "write" lock`) {
			t.Errorf("with another %s the second host says %v", disk, err)
		}
	}

	hosts[0].must(request{Op: "migrate", Text: hosts[1].Addr})
	hosts[1].until("arrived", is(cluster.GuestArrived))
	hosts[1].must(request{Op: "resume"})
	hosts[1].until("running", is(cluster.GuestRunning))
	hosts[1].must(request{Op: "kill"})
	if g := hosts[1].must(request{Op: "observe"}).Guest; g.State != cluster.GuestAbsent {
		t.Errorf("after the kill: %+v", g)
	}
	hosts[0].must(request{Op: "start", Spec: spec}) // nothing holds the locks any more
	hosts[0].must(request{Op: "kill"})
}

func TestOwnDomainIsRefused(t *testing.T) {
	need.Drill(t, "P7: definitions of one's own that would break a promise are refused")
	h := newHosts(t, 1)[0]
	good := ownGuest(t)
	data := filepath.Join(good.Folder, "data.img")
	outside := filepath.Join(t.TempDir(), "outside.img")
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "raw", outside, "4M")
	if err := os.Symlink(outside, filepath.Join(good.Folder, "link.img")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"no XML": {"</devices>", "", "DomainXML: line"},
		"a shared disk": {"<target dev='sdb' bus='sata'/>", "<target dev='sdb' bus='sata'/><shareable/>",
			"DomainXML /domain/devices/disk[2]/shareable"},
		"a disk that is gone":   {"data.img", "gone.img", "gone.img does not exist on this host"},
		"a disk behind a link":  {"data.img", "link.img", "is a link to " + outside},
		"what libvirt refuses":  {"machine='q35'", "machine='q36'", "libvirtd does not take DomainXML"},
		"a CPU that is nowhere": {"cpuset='0'", "cpuset='abc'", "libvirtd does not take DomainXML"},
	} {
		spec := good
		spec.Domain = strings.Replace(good.Domain, c.old, c.new, 1)
		if _, err := h.do(request{Op: "check", Spec: spec}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: check says %v, want %q", name, err, c.want)
		}
		if _, err := h.do(request{Op: "start", Spec: spec}); !errors.Is(err, cluster.ErrNotStarted) {
			t.Errorf("%s: start says %v", name, err)
		}
	}
	if err := os.Remove(data); err != nil {
		t.Fatal(err)
	}
	if _, err := h.do(request{Op: "check", Spec: good}); err == nil ||
		!strings.Contains(err.Error(), "DomainXML /domain/devices/disk[2]/source/@file "+data+" does not exist") {
		t.Errorf("check says %v", err)
	}
}

// The variables of UEFI lie where all hosts have them.
func TestOwnDomainWithUEFI(t *testing.T) {
	need.Drill(t, "a definition of one's own with UEFI moves between hosts")
	needArm64(t)
	hosts := newHosts(t, 2)
	spec := guest(t)
	spec.Folder = filepath.Dir(spec.Image)
	spec.Domain = `<domain type='qemu'><memory unit='MiB'>256</memory><vcpu>1</vcpu>
<os firmware='efi'><type arch='aarch64' machine='virt'>hvm</type>
<firmware><feature enabled='no' name='enrolled-keys'/><feature enabled='no' name='secure-boot'/></firmware></os>
<features><acpi/></features><cpu mode='custom'><model>cortex-a57</model></cpu>
<devices><disk type='file'><driver name='qemu' type='qcow2' cache='none'/><source file='` + spec.Image + `'/><target dev='vda'/></disk></devices></domain>`
	for _, h := range hosts {
		h.must(request{Op: "check", Spec: spec})
	}
	hosts[0].must(request{Op: "start", Spec: spec})
	hosts[0].until("running", is(cluster.GuestRunning))
	vars := filepath.Join(spec.Folder, testName+"_VARS.fd")
	if info, err := os.Stat(vars); err != nil || info.Size() == 0 {
		t.Errorf("the firmware's variables: %v, %v", info, err)
	}
	// QEMU does not lock them: it is the disk that keeps a second guest away from both.
	_, err := hosts[1].do(request{Op: "start", Spec: spec})
	if !errors.Is(err, cluster.ErrNotStarted) || !strings.Contains(err.Error(), `Failed to get "write" lock`) {
		t.Errorf("the second host says %v", err)
	}
	hosts[0].must(request{Op: "kill"})
	hosts[1].must(request{Op: "start", Spec: spec})
	hosts[1].must(request{Op: "kill"})
}

// TestOwnDomainOfAnEarlierVersion: what was allowed and only keeps a guest from moving still starts; what would
// let two hosts write does not.
func TestOwnDomainOfAnEarlierVersion(t *testing.T) {
	const domain = `<domain type="qemu"><memory unit="MiB">64</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>
<disk type="file"><driver name="qemu" type="raw" cache="none"/><source file="/srv/a"/><target dev="vda"/></disk>
<channel type="qemu-vdagent"><target type="virtio" name="com.redhat.spice.0"/></channel></devices></domain>`
	spec := cluster.GuestSpec{Domain: domain, Folder: "/srv"}
	if _, err := ownDomain(spec); err != nil {
		t.Errorf("an agent of the screen: %v", err)
	}
	spec.Domain = strings.Replace(domain, "<target dev", "<shareable/><target dev", 1)
	if _, err := ownDomain(spec); err == nil || !strings.Contains(err.Error(), "two hosts could write") ||
		strings.Contains(err.Error(), "vdagent") {
		t.Errorf("a disk that two may write: %v", err)
	}
}
