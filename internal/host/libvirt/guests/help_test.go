package guests

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// small is a tiny guest of the fleet: 64 MiB, one CPU, no system. With less the
// filler would write over what its firmware needs at the end of the memory.
type small struct {
	name    string
	uuid    string
	disks   string // XML of its disks
	devices string // more devices
	cpu     string // XML of its CPU; "" for a plain one
	extra   string // elements beside the devices
}

// smallUUID makes the nth guest's.
func smallUUID(n int) string { return fmt.Sprintf("98000000-0000-4000-8000-%012d", n) }

func (s small) xml() string {
	cpu := s.cpu
	if cpu == "" {
		cpu = `<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>qemu64</model></cpu>`
	}
	return fmt.Sprintf(`<domain type='qemu'>
  <name>%s</name><uuid>%s</uuid>
  <memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <features><acpi/></features>%s%s
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>%s%s
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>`, s.name, s.uuid, cpu, s.extra, s.disks, s.devices)
}

// diskXML is a virtio disk over a file.
func diskXML(path, format string) string {
	return fmt.Sprintf(`<disk type='file' device='disk'><driver name='qemu' type='%s' cache='none'/><source file='%s'/><target dev='vda' bus='virtio'/></disk>`, format, path)
}

// qcow2 makes an empty image.
func qcow2(t *testing.T, path string) string {
	t.Helper()
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", path, "4M")
	return path
}

// obeys makes a raw image with a boot sector that waits for the power button by
// the registers of the machine's ACPI, and then powers the machine off.
func obeys(t *testing.T, path string) string {
	t.Helper()
	code := []byte{
		0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // out 0x602, 0x100: enable the button
		0xfb, 0xf4, // sti; hlt: until the clock ticks
		0xba, 0x00, 0x06, 0xed, // in ax, 0x600
		0xf6, 0xc4, 0x01, 0x74, 0xf5, // until it was pressed
		0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // out 0x604, 0x2000: off
		0xf4, 0xeb, 0xfd, // hlt
	}
	disk := make([]byte, 1<<20)
	copy(disk, code)
	copy(disk[510:], []byte{0x55, 0xaa})
	if err := os.WriteFile(path, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fillDisk makes a raw image whose guest writes most of its memory, once or for
// ever.
func fillDisk(t *testing.T, path string, forever bool) string {
	t.Helper()
	virthost.Filler(t, path, forever)
	return path
}

// fleet is a simulated host with a Fleet, seen from the test.
type fleet struct {
	*virthost.Host
	t *testing.T
}

func newFleets(t *testing.T, n int, opt Options) []fleet {
	t.Helper()
	return withFleets(t, virthost.New(t, n, nil), opt)
}

// withFleets gives hosts a Fleet each.
func withFleets(t *testing.T, hosts []*virthost.Host, opt Options) []fleet {
	t.Helper()
	var out []fleet
	for _, h := range hosts {
		f := fleet{h, t}
		f.renew(opt)
		out = append(out, f)
	}
	return out
}

// renew gives the host a new Fleet, as a new process of the agent has.
func (f fleet) renew(opt Options) {
	f.t.Helper()
	opt.MigrateURI = cmp.Or(opt.MigrateURI, "qemu+tcp://%s/system")
	f.call("new", fleetRequest{Options: opt})
}

func (f fleet) setUp(what string, q fleetRequest) {
	f.t.Helper()
	f.SetUp(what, virthost.Setup{XML: q.XML, UUID: q.UUID, Name: q.Name, Number: q.Number})
}

// request is one thing for the host to do.
type request struct {
	Op      string
	Timeout time.Duration
	Text    string
	Number  int
	Fleet   fleetRequest
}

type reply struct {
	virthost.Reply
	Fleet fleetReply
}

func (a reply) err() error {
	if a.Err == "" {
		return nil
	}
	return errors.New(a.Err)
}

// begin asks for something and returns at once.
func (f fleet) begin(r request) virthost.Pending {
	f.t.Helper()
	return f.Begin(virthost.Request{Op: r.Op, Timeout: r.Timeout, Text: r.Text, Number: r.Number}, r.Fleet)
}

func (f fleet) end(p virthost.Pending) (reply, error) {
	f.t.Helper()
	var a reply
	a.Reply = f.End(p, &a.Fleet)
	return a, a.err()
}

// do asks for something and waits.
func (f fleet) do(r request) (reply, error) {
	f.t.Helper()
	return f.end(f.begin(r))
}

func (f fleet) must(r request) reply {
	f.t.Helper()
	a, err := f.do(r)
	if err != nil {
		f.t.Fatalf("%s: %v", r.Op, err)
	}
	return a
}

// call makes a call of the Fleet that must succeed.
func (f fleet) call(op string, q fleetRequest) fleetReply {
	f.t.Helper()
	return f.must(request{Op: op, Fleet: q}).Fleet
}

// try makes one that may fail.
func (f fleet) try(op string, q fleetRequest, timeout time.Duration) (fleetReply, error) {
	f.t.Helper()
	a, err := f.do(request{Op: op, Fleet: q, Timeout: timeout})
	return a.Fleet, err
}

func (f fleet) vms() map[string]VM {
	f.t.Helper()
	out := map[string]VM{}
	for _, v := range f.call("list", fleetRequest{}).VMs {
		out[v.Name] = v
	}
	return out
}

func (f fleet) where(s small) Where {
	f.t.Helper()
	return f.call("where", fleetRequest{UUID: s.uuid, Name: s.name}).Where
}

// wait polls until ok.
func (f fleet) wait(what string, ok func() bool) {
	f.t.Helper()
	try.Until(f.t, what, ok)
}

// signalQEMU sends a signal to the process of a guest.
func (f fleet) signalQEMU(s small, sig syscall.Signal) {
	f.t.Helper()
	f.must(request{Op: "signal-guest", Number: int(sig), Fleet: fleetRequest{UUID: s.uuid}})
}

// wantText checks that each want is a part of one of the texts, and the other
// way round.
func wantText(t *testing.T, what string, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %q, want %q", what, got, want)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("%s: %q, want %q in it", what, got[i], want[i])
		}
	}
}
