package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/install"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// byHand is a domain as an operator has it.
const byHand = `<domain type='qemu'>
  <name>%[1]s</name><uuid>%[2]s</uuid>
  <memory unit='MiB'>%[3]d</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>%[4]s/` + lab.KernelName + `</kernel><initrd>%[4]s/` + lab.InitrdName + `</initrd><cmdline>%[5]s</cmdline></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>restart</on_crash>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
      <source file='%[4]s/` + lab.ImageName + `'/><target dev='vda' bus='virtio'/></disk>
    <interface type='bridge'><mac address='%[6]s'/><source bridge='br0'/><model type='virtio'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <serial type='pty'/><console type='pty'/><sound model='ich9'/>
    <memballoon model='none'/>
  </devices>
</domain>
`

const (
	handName = "ZStack Management Node VM" // as the source tool calls it
	handUUID = "5f1c7a52-3d0e-4f8b-9f52-6a1d0c3b7e11"
)

// define makes a domain of an operator's on a host.
func (b *bareRig) define(t *testing.T, h, name, uuid string, oldnew ...string) {
	t.Helper()
	text := strings.NewReplacer(oldnew...).Replace(fmt.Sprintf(byHand, name, uuid, lab.GuestMemoryMiB, lab.SharedDir,
		b.lab.GuestCmdline(), b.lab.GuestMAC()))
	if err := os.WriteFile(b.lab.HostPath(h, name+".xml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.sh(t, h, "virsh -q -c qemu:///system define '/srv/host/"+name+".xml'")
}

// adopt runs "holdfast adopt" for the domain.
func (b *bareRig) adopt(t *testing.T, h string, args ...string) (install.Result, string, error) {
	t.Helper()
	return b.installer(t, h, append([]string{"adopt", handName, "-o", "json"}, args...)...)
}

// TestAdopt takes a management VM over that runs under libvirt by hand, with autostart, and
// that a service of the source tool would start: the command is killed twice, and goes on.
func TestAdopt(t *testing.T) {
	need.Drill(t, "P3: a guest that runs under libvirt by hand is taken over without a restart, by a command that is killed twice")
	b := newBareRig(t, 3)
	cl := b.lab.BareCluster()
	cl.DirectBoot = nil // the domain has it
	args := b.files(t, "h1", cl)
	b.define(t, "h2", handName, handUUID)
	b.sh(t, "h2", "virsh -q -c qemu:///system autostart '"+handName+"' && virsh -q -c qemu:///system start '"+handName+"'")
	units := map[string]string{}
	for i, h := range b.lab.Hosts() {
		units[h] = install.SourceUnits()[i]
		b.sourceTool(t, h, units[h])
	}
	first := b.waitGuest(t)

	b.adoptRefused(t, args)
	if a := b.waitGuest(t); a.Boot != first.Boot {
		t.Errorf("what was refused has restarted the guest")
	}
	if out := b.sh(t, "h2", "virsh -q -c qemu:///system list --all --autostart --name"); strings.TrimSpace(out) != handName {
		t.Errorf("what was refused has changed autostart: %q", out)
	}

	args = append(args, "--yes")
	for _, at := range []string{"h2: the definition is saved", "libvirt forgets"} {
		b.killedAt(t, "h1", append([]string{"adopt", handName}, args...), at)
		b.nowhereTwice(t)
	}
	res, said, err := b.adopt(t, "h1", args...)
	if err != nil || !res.OK || res.Running == "" {
		t.Fatalf("adopt: %v\n%s\n%+v", err, said, fails(res.Report))
	}
	t.Logf("%+v\n%s", res.Seconds, said)
	b.exe = install.Command
	b.runs(t, 3)
	b.nowhereTwice(t)
	a := b.waitGuest(t)
	if !strings.Contains(a.Prev, "boot="+first.Boot) {
		t.Errorf("the guest's disk knows of %q, want boot %s", a.Prev, first.Boot)
	}
	def := b.sh(t, res.Running, "virsh -q -c qemu:///system dumpxml "+cluster.GuestName)
	for _, want := range []string{"<sound model='ich9'>", "machine='pc-q35-", "<entry>holdfast:mnvm:"} {
		if !strings.Contains(def, want) {
			t.Errorf("the operator's device is gone: no %s in\n%s", want, def)
		}
	}
	for _, h := range b.lab.Hosts() {
		if out := b.sh(t, h, "virsh -q -c qemu:///system list --all --name"); strings.Contains(out, handName) {
			t.Errorf("%s still has it: %q", h, out)
		}
		if out := b.sh(t, h, "systemctl is-enabled "+units[h]+" >/dev/null && echo enabled; systemctl is-active "+
			units[h]+" >/dev/null && echo active; true"); strings.TrimSpace(out) != "" {
			t.Errorf("%s: %s is %q", h, units[h], out)
		}
	}
	saved := filepath.Join(install.SavedDir, handName+".xml")
	if out := b.sh(t, "h2", "stat -c '%a %U' '"+saved+"' && grep -c "+handUUID+" '"+saved+"'"); out != "600 root\n1\n" {
		t.Errorf("what was saved: %q", out)
	}
	// Once more changes nothing.
	again, said, err := b.adopt(t, "h3", append(b.files(t, "h3", cl), "--yes")...)
	if err != nil || !again.OK {
		t.Errorf("adopt once more: %v\n%s\n%+v", err, said, fails(again.Report))
	}
	if now := b.waitGuest(t); now.Boot != a.Boot {
		t.Errorf("adopted once more it was restarted")
	}
	b.zshaEnds(t, "h1", cl, args)
	for _, h := range b.lab.Hosts() {
		b.sh(t, h, "rm -rf "+install.SavedDir)
	}
}

// sourceTool puts a stand-in of the source tool's service onto a host: a daemon that a unit keeps.
func (b *bareRig) sourceTool(t *testing.T, h, unit string) {
	t.Helper()
	daemon := strings.TrimSuffix(unit, ".service")
	b.sh(t, h, strings.NewReplacer("UNIT", unit, "DAEMON", daemon).Replace(`set -e
cp /bin/sleep /usr/local/bin/DAEMON
printf '[Service]\nExecStart=/usr/local/bin/DAEMON infinity\n[Install]\nWantedBy=multi-user.target\n' >/usr/lib/systemd/system/UNIT
systemctl enable --now UNIT
until pgrep -x DAEMON >/dev/null; do sleep 0.1; done`))
}

// waitGuest waits until the guest answers.
func (b *bareRig) waitGuest(t *testing.T) (a lab.Answer) {
	t.Helper()
	b.until(t, "the guest answers", func(ctx context.Context) (_ string, ok bool) {
		var err error
		a, err = b.lab.Ask(ctx)
		return fmt.Sprint(err), err == nil
	})
	return a
}

// nowhereTwice: at most one host has a process on the image.
func (b *bareRig) nowhereTwice(t *testing.T) {
	t.Helper()
	var have []string
	for _, h := range b.lab.Hosts() {
		if out := b.sh(t, h, "pgrep -f '[q]emu-system.*"+lab.ImageName+"' || true"); out != "" {
			have = append(have, h+" "+strings.TrimSpace(out))
		}
	}
	if len(have) > 1 || len(have) == 1 && strings.Contains(have[0], "\n") {
		t.Errorf("the guest runs more than once: %q", have)
	}
}

// adoptRefused tries what must be refused, with nothing changed.
func (b *bareRig) adoptRefused(t *testing.T, args []string) {
	t.Helper()
	try := func(what string, want ...string) {
		t.Helper()
		res, said, err := b.adopt(t, "h1", append(args, "--check")...)
		got := fails(res.Report)
		slices.Sort(got)
		if err == nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, failed %q, want %q\n%s", what, err, got, want, said)
		}
	}
	b.define(t, "h3", "another", "5f1c7a52-3d0e-4f8b-9f52-6a1d0c3b7e12")
	try("another name on the same disk", "h3 guest")
	b.sh(t, "h3", "virsh -q -c qemu:///system undefine another")
	b.sh(t, "h3", "qemu-img create -q -f qcow2 /srv/shared/other.img 1M")
	b.define(t, "h3", handName, handUUID, lab.ImageName, "other.img")
	try("another disk under the same name", "h3 domain")
	b.sh(t, "h3", "virsh -q -c qemu:///system undefine '"+handName+"'; rm /srv/shared/other.img")
	if _, said, err := b.adopt(t, "h1", args...); err == nil || !strings.Contains(said, "nobody can be asked") {
		t.Errorf("without a question: %v\n%s", err, said)
	}
	if res, said, err := b.installer(t, "h1", append([]string{"adopt", "nobody", "-o", "json", "--check"},
		args...)...); err == nil || !slices.Contains(fails(res.Report), " domain") {
		t.Errorf("a domain that is not there: %v, %q\n%s", err, fails(res.Report), said)
	}
}
