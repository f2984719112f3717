package pacemaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"holdfast/internal/host/seed"
	"holdfast/testbed/lab"
)

// Names on a host.
const (
	homeName  = "pacemaker" // folder in lab.HostDir
	guestFile = lab.HostDir + "/" + homeName + "/guest.xml"
	seedFile  = lab.HostDir + "/" + homeName + "/seed.iso"
	fenceLog  = "fence.log"
)

// write puts a host's files onto its disk; the last one lets its daemons go.
func (c *Cluster) write(host string) error {
	l := c.lab
	home := func(elem ...string) string { return l.HostPath(host, append([]string{homeName}, elem...)...) }
	for _, d := range []string{"etc", "sbin", "ocf/bench"} {
		if err := os.MkdirAll(home(d), 0o755); err != nil {
			return fmt.Errorf("write files of %s: %w", host, err)
		}
	}
	if err := seed.Write(home("seed.iso"), guestSeed(l, host)); err != nil {
		return fmt.Errorf("write files of %s: %w", host, err)
	}
	guest, err := guestXML(l)
	if err != nil {
		return fmt.Errorf("write files of %s: %w", host, err)
	}
	fence, err1 := files.ReadFile("files/fence_bmc")
	agent, err2 := files.ReadFile("files/guest")
	web, err3 := files.ReadFile("files/web")
	service, err4 := files.ReadFile("files/service")
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("write files of %s: %w", host, err)
	}
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{
		{"guest.xml", guest, 0o644},
		{"etc/corosync.conf", corosyncConf(c.profile, l), 0o644},
		{"sbin/fence_bmc", string(fence), 0o755},
		{"ocf/bench/guest", string(agent), 0o755},
		{"ocf/bench/web", string(web), 0o755},
		{"ocf/bench/service", string(service), 0o755},
		{"ready", "", 0o644},
	} {
		if err := os.WriteFile(home(f.name), []byte(f.text), f.mode); err != nil {
			return fmt.Errorf("write files of %s: %w", host, err)
		}
	}
	return nil
}

// guestSeed is the seed that Holdfast's agent writes for this guest.
func guestSeed(l *lab.Lab, host string) seed.Seed {
	return seed.Seed{InstanceID: "holdfast-lab-" + host, Hostname: "mnvm", NICs: []seed.NIC{{
		MAC: l.GuestMAC(), IP: l.GuestAddr().String(), Netmask: "255.255.255.0", DefRoute: true,
		Gateway: neighbour(l, 1).String(),
	}}}
}

// neighbour is an address of the laboratory's network by its last number: 1 is
// the switch, 9 belongs to nobody.
func neighbour(l *lab.Lab, last byte) netip.Addr {
	a := l.GuestAddr().As4()
	a[3] = last
	return netip.AddrFrom4(a)
}

// guestXML is the domain. Devices and their order are those of the domain that
// Holdfast's agent starts, so that the guest takes the same time to boot.
func guestXML(l *lab.Lab) (string, error) {
	text, err := files.ReadFile("files/guest.xml")
	if err != nil {
		return "", err
	}
	return strings.NewReplacer(
		"{name}", lab.GuestName, "{uuid}", lab.GuestUUID, "{memory}", fmt.Sprint(lab.GuestMemoryMiB),
		"{shared}", lab.SharedDir, "{kernel}", lab.KernelName, "{initrd}", lab.InitrdName, "{image}", lab.ImageName,
		"{cmdline}", l.GuestCmdline(), "{seed}", seedFile, "{mac}", l.GuestMAC(),
	).Replace(string(text)), nil
}

// corosyncConf sets what has no default, and the profile.
func corosyncConf(p Profile, l *lab.Lab) string {
	var b strings.Builder
	b.WriteString("totem {\n  version: 2\n  cluster_name: bench\n  transport: knet\n  crypto_cipher: none\n  crypto_hash: none\n")
	if p.Token > 0 {
		fmt.Fprintf(&b, "  token: %d\n  token_coefficient: 0\n", p.Token.Milliseconds())
	}
	b.WriteString("}\n")
	fmt.Fprintf(&b, "logging {\n  to_stderr: no\n  to_syslog: no\n  to_logfile: yes\n  logfile: "+
		"%s/log/corosync-messages.log\n  timestamp: hires\n}\n", lab.HostDir)
	// The laboratory puts a host's processes into a control group, by which it freezes them.
	b.WriteString("system {\n  move_to_root_cgroup: no\n}\nquorum {\n  provider: corosync_votequorum\n}\nnodelist {\n")
	for i, h := range l.Hosts() {
		fmt.Fprintf(&b, "  node {\n    name: %s\n    nodeid: %d\n    ring0_addr: %s\n  }\n", h, i+1, l.Addr(h))
	}
	b.WriteString("}\n")
	return b.String()
}

// configuration is what the cluster is told once it has formed.
func (c *Cluster) configuration(o Options) (string, error) {
	text, err := files.ReadFile("files/cib.xml")
	if err != nil {
		return "", err
	}
	resources, err := c.work.resources(o)
	if err != nil {
		return "", err
	}
	constraints := ""
	if w, ok := c.work.(databaseWork); ok {
		constraints = w.constraints()
	}
	var devices []string
	for _, h := range c.lab.Hosts() {
		devices = append(devices, h+":"+c.lab.BMCAddr(h).Addr().String())
	}
	return strings.NewReplacer(
		"{hosts}", strings.Join(c.lab.Hosts(), " "), "{devices}", strings.Join(devices, " "), "{work}", resources,
		"{constraints}", constraints,
	).Replace(string(text)), nil
}

func (c *Cluster) configure(ctx context.Context, o Options) error {
	text, err := c.configuration(o)
	if err != nil {
		return fmt.Errorf("configure the cluster: %w", err)
	}
	host := c.lab.Hosts()[0]
	name := filepath.Join(homeName, "cib.xml")
	if err := os.WriteFile(c.lab.HostPath(host, name), []byte(text), 0o644); err != nil {
		return fmt.Errorf("configure the cluster: %w", err)
	}
	_, err = c.lab.Exec(ctx, host, "cibadmin", "--modify", "--allow-create", "--scope", "configuration", "--xml-file",
		filepath.Join(lab.HostDir, name))
	if err != nil {
		return fmt.Errorf("configure the cluster: %w", err)
	}
	return nil
}
