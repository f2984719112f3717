package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// guestXML is the domain of StartGuest: transient, plain emulation, a channel
// for the guest agent and a panic device.
const guestXML = `<domain type='qemu'>
  <name>%[1]s</name><uuid>%[2]s</uuid>
  <memory unit='MiB'>%[3]d</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>
    <kernel>%[4]s/` + KernelName + `</kernel><initrd>%[4]s/` + InitrdName + `</initrd>
    <cmdline>%[5]s</cmdline></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
    %[7]s
    <interface type='bridge'><mac address='%[6]s'/><source bridge='br0'/><model type='virtio'/></interface>
    <serial type='pty'><log file='` + HostDir + `/log/%[1]s.log' append='on'/></serial><console type='pty'/>
    <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <memballoon model='none'/><panic model='isa'/>
  </devices>
</domain>
`

// GuestMemoryMiB is the memory of the laboratory's guest.
const GuestMemoryMiB = 128

// GuestCmdline is the kernel command line of the laboratory's guest.
func (l *Lab) GuestCmdline() string { return l.p.guestCmdline() }

// Under plain emulation on a busy machine a kernel that checks its timer was seen to
// hang in its boot for good, and one whose timers did not fire any more: idle=halt keeps it from
// the way around an erratum of the emulated processor (C1E, E400), which hands its timer over to
// another one each time it is idle. What it has to warn of is in its console's log. Its tests
// of its own ciphers, the keys of its maker and its probes take an emulator a tenth of the boot.
const kernelWords = "panic=1 no_timer_check idle=halt nokaslr mitigations=off cryptomgr.notests " +
	"initcall_blacklist=load_system_certificate_list,init_kprobe_trace"

func (p plan) guestCmdline() string {
	return fmt.Sprintf("console=ttyS0 loglevel=5 %s lab.ip=%s/24 lab.gw=%s", kernelWords, p.guestAddr(), p.switchAddr())
}

// StartGuest starts the laboratory's own guest on a host, as "virsh create",
// and waits until it answers over the network, at most a minute. It is for
// laboratories without agents.
func (l *Lab) StartGuest(ctx context.Context, host string) (Answer, error) {
	if _, err := l.running(host); err != nil {
		return Answer{}, err
	}
	s, err := loadState(l.p.Dir)
	if err != nil {
		return Answer{}, err
	}
	xml := fmt.Sprintf(guestXML, GuestName, GuestUUID, GuestMemoryMiB, SharedDir, l.GuestCmdline(), l.GuestMAC(), l.p.diskXML(s.Options.Disk))
	if err := os.WriteFile(l.HostPath(host, GuestName+".xml"), []byte(xml), 0o644); err != nil {
		return Answer{}, fmt.Errorf("start guest on %s: %w", host, err)
	}
	err = poll(ctx, patience, "libvirt to take the guest", func() (bool, error) {
		_, err := l.Exec(ctx, host, "virsh", "-q", "-c", "qemu:///system", "create", HostDir+"/"+GuestName+".xml")
		// libvirt cleans up after a guest for a moment after its process is gone.
		if err != nil && strings.Contains(err.Error(), "is already being removed") {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return Answer{}, fmt.Errorf("start guest on %s: %w", host, err)
	}
	if err := l.p.record(host, "guest", "started"); err != nil {
		return Answer{}, err
	}
	a, err := l.WaitGuest(ctx, time.Minute)
	if err != nil {
		return Answer{}, fmt.Errorf("start guest on %s: %w\n%s%s", host, err, l.LastWords(GuestName), l.Autopsy(context.WithoutCancel(ctx)))
	}
	return a, nil
}

// MigrateGuest moves StartGuest's guest live between two hosts.
func (l *Lab) MigrateGuest(ctx context.Context, from, to string) error {
	if err := l.p.checkHost(to); err != nil {
		return err
	}
	// --unsafe: libvirt can not know that the hosts' folders are the same one.
	_, err := l.Exec(ctx, from, "virsh", "-q", "-c", "qemu:///system", "migrate", "--live", "--p2p", "--unsafe",
		GuestName, "qemu+tcp://"+l.Addr(to).String()+"/system")
	if err != nil {
		return fmt.Errorf("migrate guest to %s: %w", to, err)
	}
	return l.p.record(from, "guest", "migrated to "+to)
}

// Answer is what the guest says of itself at /status.
type Answer struct {
	Boot     string        // boot id, new at each start of the guest
	N        uint64        // counter, about five per second
	Up       time.Duration // since its kernel started
	Host     string        // the guest's host name
	Instance string        // instance-id of its seed
	Prev     string        // what the previous boot left on the disk: "boot=ID n=N"
}

// ParseAnswer reads the guest's status line.
func ParseAnswer(line string) (Answer, error) {
	var a Answer
	head, prev, ok := strings.Cut(strings.TrimSpace(line), " prev=[")
	if !ok || !strings.HasSuffix(prev, "]") {
		return a, fmt.Errorf("guest's answer %q: no prev=[...] at its end", line)
	}
	a.Prev = strings.TrimSuffix(prev, "]")
	for field := range strings.FieldsSeq(head) {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "boot":
			a.Boot = value
		case "n":
			a.N, err = strconv.ParseUint(value, 10, 64)
		case "up":
			a.Up, err = time.ParseDuration(value + "s")
		case "host":
			a.Host = value
		case "iid":
			a.Instance = value
		}
		if err != nil {
			return a, fmt.Errorf("guest's answer %q: %w", line, err)
		}
	}
	if a.Boot == "" {
		return a, fmt.Errorf("guest's answer %q: no boot id", line)
	}
	return a, nil
}

// Ask asks the guest for its status, from the switch. Without a deadline of ctx
// it gives up after 2 s.
func (l *Lab) Ask(ctx context.Context) (Answer, error) {
	body, err := l.GuestGet(ctx, "/status")
	if err != nil {
		return Answer{}, err
	}
	return ParseAnswer(body)
}

// GuestGet fetches a page of the guest, from the switch, within 2 s.
func (l *Lab) GuestGet(ctx context.Context, path string) (body string, err error) {
	return l.Page(ctx, l.GuestAddr(), path, pageLimit)
}

// pageLimit is how long a page of a guest may take.
const pageLimit = 2 * time.Second

// Page fetches a page of at most 64 KiB from the switch, over a connection of its own.
func (l *Lab) Page(ctx context.Context, addr netip.Addr, path string, limit time.Duration) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+path, nil)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", addr, err)
	}
	resp, err := l.HTTPClient(limit).Do(req)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", addr, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("ask %s for %s: %s", addr, path, resp.Status)
	}
	return string(raw), nil
}

// WaitGuest waits until the guest answers.
func (l *Lab) WaitGuest(ctx context.Context, limit time.Duration) (Answer, error) {
	var a Answer
	var last error
	err := poll(ctx, limit, "the guest to answer", func() (bool, error) {
		a, last = l.Ask(ctx)
		return last == nil, nil
	})
	if err != nil {
		return Answer{}, errors.Join(err, last)
	}
	return a, nil
}
