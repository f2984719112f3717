package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/lib/pki"
)

// Names of what Options.Agents adds to every host.
const (
	AgentDaemon   = "agent"                   // name of the daemon
	AgentConfig   = HostDir + "/agent.json"   // config.Node
	ClusterConfig = HostDir + "/cluster.json" // config.Cluster
	// CredentialsFile has the answers to prompts of bundles' programs, when it is there.
	CredentialsFile = HostDir + "/credentials.yaml"
	clusterID       = "lab"                     // of all laboratories: each has its own network and its own authority
	validity        = 10 * 365 * 24 * time.Hour // of certificates
)

// Ports of an agent's servers.
const (
	APIPort = 7443
	// ConsolePort is that of the members' consoles.
	ConsolePort = 8443
	clientPort  = 2379
	peerPort    = 2380
)

// prepareAgents makes the certificates and writes the agents' settings, once:
// an existing authority means that it was done.
func (p plan) prepareAgents(o Options) error {
	caCert, caKey := p.path("pki", "ca.pem"), p.path("pki", "ca.key")
	ca, err := pki.LoadCA(caCert, caKey)
	if errors.Is(err, os.ErrNotExist) {
		if ca, err = pki.NewCA("holdfast laboratory "+p.id(), validity); err == nil {
			err = ca.Write(caCert, caKey)
		}
	}
	if err != nil {
		return fmt.Errorf("prepare agents: %w", err)
	}
	// A client's certificate, for the command line from outside the hosts.
	if err := p.issue(ca, "admin", p.path("pki"), p.switchAddr()); err != nil {
		return fmt.Errorf("prepare agents: %w", err)
	}
	for _, h := range p.hosts() {
		if err := p.prepareAgent(ca, h, o); err != nil {
			return fmt.Errorf("prepare agent of %s: %w", h, err)
		}
	}
	return nil
}

// issue writes a certificate as NAME.pem and NAME.key into dir, once.
func (p plan) issue(ca pki.CA, name, dir string, addr netip.Addr) error {
	cert, key := filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	if exists(cert) && exists(key) {
		return nil
	}
	pair, err := ca.Issue(name, []netip.Addr{addr, netip.MustParseAddr("127.0.0.1")}, []string{"localhost"}, validity)
	if err != nil {
		return err
	}
	return pair.Write(cert, key)
}

func (p plan) prepareAgent(ca pki.CA, h string, o Options) error {
	dir := p.disk(h, "srv", "pki")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := ca.WriteCert(filepath.Join(dir, "ca.pem")); err != nil {
		return err
	}
	if err := p.issue(ca, h, dir, p.hostAddr(h)); err != nil {
		return err
	}
	if err := p.prepareAgentExe(h, o); err != nil {
		return err
	}
	node, cl := p.node(h, o), p.cluster(o)
	if err := check(node, cl); err != nil {
		return err
	}
	files := map[string]any{AgentConfig: node, ClusterConfig: cl}
	if node.GuestsOnly {
		delete(files, ClusterConfig)
	}
	for path, v := range files {
		file := p.disk(h, "srv", filepath.Base(path))
		if exists(file) {
			continue // the user may have changed it
		}
		if err := writeJSON(file, v); err != nil {
			return err
		}
	}
	return nil
}

// check lets the settings pass through the agent's own parser.
func check(node config.Node, cl config.Cluster) error {
	raw, err := json.Marshal(node)
	if err != nil {
		return fmt.Errorf("encode agent settings: %w", err)
	}
	if _, faults := config.ParseNode("agent.json", raw); len(faults) > 0 {
		return config.Faults(faults)
	}
	if raw, err = json.Marshal(cl); err != nil {
		return fmt.Errorf("encode cluster configuration: %w", err)
	}
	if _, faults, _ := config.Parse("cluster.json", raw, config.Options{AllowUndersized: true}); len(faults) > 0 {
		return config.Faults(faults)
	}
	return nil
}

func (p plan) url(h string, port int) string {
	return fmt.Sprintf("https://%s:%d", p.hostAddr(h), port)
}

// node is the settings of one host's agent.
func (p plan) node(h string, o Options) config.Node {
	n := config.Node{
		Host: h, Addr: p.hostAddr(h).String(), Cluster: clusterID,
		DataDir: HostDir + "/data", RunDir: "/run/holdfast", ConfigFile: ClusterConfig,
		Machine: MachineUUID, // the machine's own would be the same on all hosts
		Driver:  "libvirt",
		Libvirt: config.Libvirt{Socket: "/run/libvirt/libvirt-sock", MigrateURI: "qemu+tcp://%s/system", Shared: []string{"/srv/shared"}},
		Store: config.Store{Member: &config.Member{
			ListenPeer: p.url(h, peerPort), PeerURL: p.url(h, peerPort),
			ListenClient: p.url(h, clientPort), ClientURL: p.url(h, clientPort),
			Initial: map[string]string{},
		}},
		API:        config.API{Listen: fmt.Sprintf("%s:%d", p.hostAddr(h), APIPort)},
		TLS:        config.TLS{CA: HostDir + "/pki/ca.pem", Cert: HostDir + "/pki/" + h + ".pem", Key: HostDir + "/pki/" + h + ".key"},
		Watchdog:   config.Watchdog{Device: WatchdogDevice(h)},
		Upgrade:    config.Upgrade{RebootCommand: p.rebootArgv(h), CredentialsFile: CredentialsFile},
		Undersized: true,
	}
	if o.Work == WorkAddress {
		n.Driver, n.Libvirt = "process", config.Libvirt{}
		n.Process = config.Process{Command: p.addressArgv(), Dir: SharedDir}
	}
	if o.Work == WorkPair {
		n.Libvirt.Socket = "/run/no-libvirt" // a pair needs none
	}
	for _, m := range p.members(o) {
		n.Store.Endpoints = append(n.Store.Endpoints, p.url(m, clientPort))
		n.Store.Member.Initial[m] = p.url(m, peerPort)
	}
	n.Console.Listen = fmt.Sprintf("%s:%d", p.hostAddr(h), ConsolePort)
	if !slices.Contains(p.members(o), h) {
		n.Console.Listen = ""
		n.GuestsOnly, n.ConfigFile, n.Store.Member, n.Watchdog = true, "", nil, config.Watchdog{}
	}
	return n
}

// ownXML is the domain of DiskOwn, as an operator may have it. The name is not the
// agents' guest's; the serial console is where that has its own.
const ownXML = `<domain type='qemu'>
  <name>theirs</name>
  <memory unit='MiB'>%[1]d</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>%[2]s/` + KernelName + `</kernel><initrd>%[2]s/` + InitrdName + `</initrd>
    <cmdline>%[3]s</cmdline></os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model>qemu64</model></cpu>
  <on_crash>preserve</on_crash>
  <devices>
    <disk type='file'><driver name='qemu' type='qcow2' cache='none'/>
      <source file='%[2]s/` + ImageName + `'/><target dev='vda' bus='virtio'/></disk>
    <disk type='file'><driver name='qemu' type='qcow2' cache='none'/>
      <source file='%[2]s/` + ImageName2 + `'/><target dev='vdb' bus='virtio'/></disk>
    <interface type='bridge'><mac address='%[4]s'/><source bridge='br0'/><model type='virtio'/></interface>
    <serial type='pty'><log file='/var/log/libvirt/qemu/holdfast-mnvm-serial.log' append='on'/></serial><console type='pty'/>
    <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <sound model='ich9'/>
    <memballoon model='none'/><panic model='isa'/>
  </devices>
</domain>
`

// members are the hosts that run the store and may have the management VM.
func (p plan) members(o Options) []string {
	if o.Members == 0 {
		return p.hosts()
	}
	return p.hosts()[:o.Members]
}

// cluster is the configuration of the whole cluster: the laboratory's guest is
// its management VM. With WorkAddress the agents run a process in its place.
func (p plan) cluster(o Options) config.Cluster {
	cl := config.Cluster{
		CPU: 1, MemorySizeInMB: GuestMemoryMiB, Type: config.FileConf, ImageFolder: SharedDir,
		Network: []config.Network{{
			Bridge: "br0", MacAddress: p.guestMAC(), Ipaddr: p.guestAddr().String(),
			Netmask: "255.255.255.0", Gateway: p.switchAddr().String(), IsMgmt: true, IsDefRoute: true,
		}},
		DirectBoot: &config.DirectBoot{
			Kernel: SharedDir + "/" + KernelName, Initrd: SharedDir + "/" + InitrdName, Cmdline: p.guestCmdline(),
		},
	}
	for _, h := range p.members(o) {
		cl.Node = append(cl.Node, p.hostAddr(h).String()+" "+h)
	}
	cl.TimingConf = o.Timings
	if o.Profile != "" {
		cl.TimingConf.Profile = o.Profile
	}
	cl.HealthCheck, cl.Restart = o.HealthCheck, o.Restart
	if o.Locks {
		cl.LockManager = &config.LockManager{Type: "virtlockd", Lockspace: Lockspace}
	}
	switch o.Disk {
	case DiskNBD:
		cl.ImageURL = p.diskURL()
	case DiskCeph:
		p.cephConf(&cl)
	case DiskOwn:
		cl.DomainXML, cl.DirectBoot = config.DomainXML(fmt.Sprintf(ownXML, GuestMemoryMiB, SharedDir, p.guestCmdline(), p.guestMAC())), nil
	}
	if o.BMCs {
		cl.Fencing.Hosts = map[string]config.HostFencing{}
		for _, h := range p.members(o) {
			cl.Fencing.Hosts[h] = config.HostFencing{Devices: []config.FenceDevice{p.fenceDevice(h)}}
		}
	}
	if o.Work == WorkPair {
		p.pairConf(&cl, o)
	}
	return cl
}

// ConsoleURL is the address of a member's console, as seen from the machine itself.
func (l *Lab) ConsoleURL(host string) string { return l.p.url(host, ConsolePort) }

// AdminTLS are the PEM files of a client's certificate that all agents of the
// laboratory trust, as seen from the machine itself.
func (l *Lab) AdminTLS() config.TLS {
	return config.TLS{CA: l.p.path("pki", "ca.pem"), Cert: l.p.path("pki", "admin.pem"), Key: l.p.path("pki", "admin.key")}
}
