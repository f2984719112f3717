package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// MaxGuests is the largest number of business guests.
const MaxGuests = 64

// businessMemoryMiB is the memory of a business guest.
const businessMemoryMiB = 96

// businessLimit is how long all business guests may take to boot.
const businessLimit = 3 * time.Minute

// businessXML is the domain of a business guest: persistent, plain emulation, a
// channel for the guest agent. Nothing in it names a host.
const businessXML = `<domain type='qemu'>
  <name>%[1]s</name><uuid>%[2]s</uuid>
  <memory unit='MiB'>%[3]d</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>
    <kernel>` + SharedDir + "/" + KernelName + `</kernel><initrd>` + SharedDir + "/" + businessInitrd + `</initrd>
    <cmdline>%[4]s</cmdline></os>
  <features><acpi/><tcg><tb-cache unit='MiB'>32</tb-cache></tcg></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    %[6]s
    <interface type='bridge'><mac address='%[5]s'/><source bridge='br0'/><model type='virtio'/><rom enabled='no'/></interface>
    <serial type='pty'><log file='` + HostDir + `/log/%[1]s.log' append='on'/></serial><console type='pty'/>
    <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <controller type='usb' model='none'/><memballoon model='none'/>
  </devices>
</domain>
`

// businessDisk is the disk of the first business guest, a volume of SharedPool.
const businessDisk = `<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
      <source file='` + SharedPoolDir + `/%s.qcow2'/><target dev='vda' bus='virtio'/></disk>`

// diskGuest is the number of the business guest that has a disk.
const diskGuest = 1

// GuestInfo is one business guest, as the machine's process table shows it.
type GuestInfo struct {
	Name string     `json:"name"` // vm1, vm2, ...: also its domain
	UUID string     `json:"uuid"`
	Addr netip.Addr `json:"addr"` // in the laboratory's network, on whatever host
	MAC  string     `json:"mac"`
	Disk string     `json:"disk,omitempty"` // its disk's file, as hosts see it
	Host string     `json:"host,omitempty"` // that has its QEMU process; empty: none, it is off
	To   string     `json:"to,omitempty"`   // the other host while it moves from Host
	PID  int        `json:"pid,omitempty"`  // of QEMU on Host, as the machine sees it
}

// business is the n-th business guest, n from 1, without the host that it is on.
func (p plan) business(n int) GuestInfo {
	g := GuestInfo{
		Name: fmt.Sprintf("vm%d", n), UUID: fmt.Sprintf("98000000-0000-4000-8001-%012d", n),
		Addr: p.addr(110 + n), MAC: fmt.Sprintf("52:54:00:98:%02x:%02x", p.Subnet, 110+n),
	}
	if n == diskGuest {
		g.Disk = fmt.Sprintf("%s/%s.qcow2", SharedPoolDir, g.Name)
	}
	return g
}

// businessHost is the host that the n-th business guest is defined and started
// on when the laboratory is made.
func (p plan) businessHost(n int) string { return p.hosts()[(n-1)%p.Hosts] }

func (p plan) businessDomain(g GuestInfo) string {
	// Without the probes and delays of real hardware it boots a little sooner.
	cmdline := fmt.Sprintf("console=ttyS0 quiet %s lab.ip=%s/24 lab.name=%s", kernelWords, g.Addr, g.Name)
	disk := ""
	if g.Disk != "" {
		disk = fmt.Sprintf(businessDisk, g.Name)
	}
	return fmt.Sprintf(businessXML, g.Name, g.UUID, businessMemoryMiB, cmdline, g.MAC, disk)
}

// Guests are all business guests, in order, and where they are now. It asks no
// daemon, so it answers whatever hangs.
func (l *Lab) Guests(ctx context.Context) ([]GuestInfo, error) {
	s, err := loadState(l.p.Dir)
	if err != nil {
		return nil, err
	}
	procs, err := qemuProcesses(s)
	if err != nil {
		return nil, fmt.Errorf("find the business guests: %w", err)
	}
	return l.p.located(s.Options.Guests, procs), ctx.Err()
}

// located says where the first n business guests are.
func (p plan) located(n int, procs []qemuProcess) []GuestInfo {
	// While a guest moves, its process that started last is where it goes.
	procs = slices.Clone(procs)
	slices.SortStableFunc(procs, func(a, b qemuProcess) int { return cmp.Compare(a.Start, b.Start) })
	var all []GuestInfo
	for i := 1; i <= n; i++ {
		g := p.business(i)
		for _, q := range procs {
			switch {
			case !q.of(g.UUID):
			case g.Host == "":
				g.Host, g.PID = q.host, q.PID
			case q.host != g.Host:
				g.To = q.host
			}
		}
		all = append(all, g)
	}
	return all
}

// guest finds a business guest by its name.
func (l *Lab) guest(ctx context.Context, name string) (GuestInfo, error) {
	all, err := l.Guests(ctx)
	if err != nil {
		return GuestInfo{}, err
	}
	i := slices.IndexFunc(all, func(g GuestInfo) bool { return g.Name == name })
	if i < 0 {
		return GuestInfo{}, fmt.Errorf("business guest %q: want one of vm1..vm%d", name, len(all))
	}
	return all[i], nil
}

// AskVM asks a business guest for its status, from the switch, within 2 s. Its
// boot id is new at each start; N are the seconds since then; Prev is of the
// guest with a disk only.
func (l *Lab) AskVM(ctx context.Context, name string) (Answer, error) {
	g, err := l.guest(ctx, name)
	if err != nil {
		return Answer{}, err
	}
	return l.askBusiness(ctx, g)
}

func (l *Lab) askBusiness(ctx context.Context, g GuestInfo) (Answer, error) {
	body, err := l.Page(ctx, g.Addr, "/cgi-bin/status", pageLimit)
	if err != nil {
		return Answer{}, fmt.Errorf("ask %s: %w", g.Name, err)
	}
	a, err := ParseAnswer(body)
	if err == nil && a.Host != g.Name {
		err = fmt.Errorf("ask %s: %s answered", g.Name, a.Host)
	}
	return a, err
}

// AskVMs asks all business guests at once and returns their answers by name.
func (l *Lab) AskVMs(ctx context.Context) (map[string]Answer, error) {
	return l.eachBusiness(ctx, l.askBusiness)
}

// WaitVMs waits until every business guest answers, at most limit.
func (l *Lab) WaitVMs(ctx context.Context, limit time.Duration) (map[string]Answer, error) {
	return l.eachBusiness(ctx, func(ctx context.Context, g GuestInfo) (a Answer, err error) {
		var last error
		err = poll(ctx, limit, g.Name+" to answer", func() (bool, error) {
			a, last = l.askBusiness(ctx, g)
			return last == nil, nil
		})
		if err != nil {
			err = errors.Join(err, last)
		}
		return a, err
	})
}

// eachBusiness runs fn for all business guests at once.
func (l *Lab) eachBusiness(ctx context.Context, fn func(context.Context, GuestInfo) (Answer, error)) (map[string]Answer, error) {
	all, err := l.Guests(ctx)
	if err != nil {
		return nil, err
	}
	answers, errs := make([]Answer, len(all)), make([]error, len(all))
	var wg sync.WaitGroup
	for i, g := range all {
		wg.Go(func() { answers[i], errs[i] = fn(ctx, g) })
	}
	wg.Wait()
	byName := map[string]Answer{}
	for i, g := range all {
		if errs[i] == nil {
			byName[g.Name] = answers[i]
		}
	}
	return byName, errors.Join(errs...)
}

// MoveVM moves a business guest, and its definition with it, live to a host.
func (l *Lab) MoveVM(ctx context.Context, name, to string) error {
	g, err := l.guest(ctx, name)
	if err == nil {
		err = l.p.checkHost(to)
	}
	if err == nil && g.Host == "" {
		err = errors.New("it is off")
	}
	if err == nil {
		// --unsafe: libvirt can not know that the hosts' folders are the same one.
		_, err = l.Exec(ctx, g.Host, "virsh", "-q", "-c", "qemu:///system", "migrate", "--live", "--p2p", "--unsafe",
			"--persistent", "--undefinesource", name, "qemu+tcp://"+l.Addr(to).String()+"/system")
	}
	if err != nil {
		return fmt.Errorf("move %s to %s: %w", name, to, err)
	}
	return l.p.record(g.Host, "guest", name+" moved to "+to)
}

// prepareBusiness makes what the business guests have in the shared folder.
func (p plan) prepareBusiness(ctx context.Context, o Options) error {
	if o.Guests == 0 {
		return nil
	}
	if err := buildBusiness(p.path("shared", InitrdName), p.path("shared", businessInitrd)); err != nil {
		return err
	}
	for n := 1; n <= o.Guests; n++ {
		g := p.business(n)
		if g.Disk == "" {
			continue
		}
		file := p.path("shared", strings.TrimPrefix(g.Disk, SharedDir+"/"))
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if _, err := run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", file, "1M"); err != nil {
			return err
		}
	}
	return nil
}

// startBusiness starts the business guests that do not run, and waits until all
// of them answer. One that some host has defined is started there.
func (l *Lab) startBusiness(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, businessLimit)
	defer cancel()
	all, err := l.Guests(ctx)
	if err != nil || len(all) == 0 {
		return err
	}
	defined := map[string]string{}
	for _, h := range l.p.hosts() {
		out, err := l.Exec(ctx, h, "virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name")
		if err != nil {
			return err
		}
		for _, name := range strings.Fields(out) {
			defined[name] = h
		}
	}
	err = forAll(l.p.hosts(), func(h string) error {
		for i, g := range all {
			at := defined[g.Name]
			if g.Host != "" || at != h && (at != "" || l.p.businessHost(i+1) != h) {
				continue
			}
			if err := l.startVM(ctx, h, g, at == ""); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := l.WaitVMs(ctx, businessLimit); err != nil {
		return fmt.Errorf("start business guests: %w\n%s%s", err, l.LastWords(), l.Autopsy(context.WithoutCancel(ctx)))
	}
	return nil
}

// startVM starts a business guest on a host, which defines it first if it must.
func (l *Lab) startVM(ctx context.Context, host string, g GuestInfo, define bool) error {
	if define {
		file := filepath.Join(HostDir, g.Name+".xml")
		if err := os.WriteFile(l.HostPath(host, g.Name+".xml"), []byte(l.p.businessDomain(g)), 0o644); err != nil {
			return fmt.Errorf("define %s: %w", g.Name, err)
		}
		if _, err := l.Exec(ctx, host, "virsh", "-q", "-c", "qemu:///system", "define", file); err != nil {
			return err
		}
	}
	if _, err := l.Exec(ctx, host, "virsh", "-q", "-c", "qemu:///system", "start", g.Name); err != nil {
		return err
	}
	return l.p.record(host, "guest", g.Name+" started")
}
