package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"holdfast/internal/lib/strictyaml"
)

// Defaults of Node.
const (
	defaultDataDir    = "/var/lib/holdfast"
	defaultRunDir     = "/run/holdfast"
	defaultBootID     = "/proc/sys/kernel/random/boot_id"
	defaultMachine    = "/sys/class/dmi/id/product_uuid"
	LibvirtSocket     = "/run/libvirt/libvirt-sock"
	defaultMigrateURI = "qemu+tls://%s/system"
	defaultMigrateTLS = "auto"
	defaultWatchdog   = "/dev/watchdog0"
)

// NoWatchdog is the Watchdog.Device of a host without one.
const NoWatchdog = "none"

// LoadNode reads the agent's settings from a file, at most 1 MiB, fills in the
// defaults and checks them. A file that is not valid gives an error that wraps
// Faults.
func LoadNode(path string) (Node, error) {
	data, err := ReadFile(path)
	if err != nil {
		return Node{}, fmt.Errorf("read agent settings: %w", err)
	}
	n, faults := ParseNode(path, data)
	if len(faults) > 0 {
		return Node{}, fmt.Errorf("check agent settings: %w", Faults(faults))
	}
	return n, nil
}

// ParseNode is LoadNode for text that has been read already. The faults are
// complete and in document order; without faults the Node is valid.
func ParseNode(name string, data []byte) (Node, []Fault) {
	c := newChecker(name)
	var n Node
	if c.document(data, &n, true) {
		n.fill()
		c.node(n)
	}
	return n, c.faults()
}

// fill puts defaults in place of empty fields.
func (n *Node) fill() {
	watchdog := defaultWatchdog
	if n.GuestsOnly {
		watchdog = NoWatchdog
	}
	for _, d := range []struct {
		field *string
		def   string
	}{
		{&n.DataDir, defaultDataDir},
		{&n.RunDir, defaultRunDir},
		{&n.BootIDFile, defaultBootID},
		{&n.Machine, defaultMachine},
		{&n.Driver, "libvirt"},
		{&n.Libvirt.Socket, LibvirtSocket},
		{&n.Libvirt.MigrateURI, defaultMigrateURI},
		{&n.Libvirt.MigrateTLS, defaultMigrateTLS},
		{&n.Watchdog.Device, watchdog},
	} {
		if *d.field == "" {
			*d.field = d.def
		}
	}
	if n.Console.OIDC != nil {
		n.Console.OIDC.fill(n.Addr, n.Console.Listen)
	}
}

func (c *checker) node(n Node) {
	if !IsHostname(n.Host) {
		c.fault("host", n.Host, hostnameRule)
	}
	if !isIP(n.Addr) {
		c.fault("addr", n.Addr, "want this host's IP address")
	}
	if n.Cluster == "" || len(n.Cluster) > 64 || strings.Trim(n.Cluster, letters+"0123456789-_.") != "" {
		c.fault("cluster", n.Cluster, "want the cluster's id, 1 to 64 letters, digits, - _ or .")
	}
	c.absolute("data_dir", n.DataDir)
	c.absolute("run_dir", n.RunDir)
	c.absolute("boot_id_file", n.BootIDFile)
	c.absolute("machine_uuid_file", n.Machine)
	if n.ConfigFile != "" {
		c.absolute("config_file", n.ConfigFile)
	}
	c.driver(n)
	c.store(n)
	c.guestsOnly(n)
	if n.API.Listen != "" && !isListen(n.API.Listen) {
		c.fault("api.listen", n.API.Listen, "want IP:PORT, HOST:PORT, :PORT, or nothing for the unix socket only")
	}
	switch {
	case n.Console.Listen == "":
	case !isListen(n.Console.Listen):
		c.fault("console.listen", n.Console.Listen, "want IP:PORT, HOST:PORT, :PORT, or nothing for no console")
	case n.GuestsOnly:
		c.fault("console.listen", n.Console.Listen, "want none: the host is guests_only")
	case n.TLS.CA == "":
		c.fault("console.listen", n.Console.Listen, "want none without tls.ca, tls.cert and tls.key: a console is served by TLS only")
	}
	c.oidc(n.Console)
	c.traces(n.Traces)
	c.tls(n.TLS)
	if cmd := n.Upgrade.RebootCommand; len(cmd) > 0 {
		c.absolute("upgrade.reboot_command[0]", cmd[0])
	}
	if n.Upgrade.CredentialsFile != "" {
		c.absolute("upgrade.credentials_file", n.Upgrade.CredentialsFile)
	}
	if !isWatchdog(n.Watchdog.Device) {
		c.fault("watchdog.device", n.Watchdog.Device, watchdogRule)
	}
}

// guestsOnly refuses settings that only a host of the management VM has.
func (c *checker) guestsOnly(n Node) {
	if !n.GuestsOnly {
		return
	}
	const only = "want none: the host is guests_only"
	if n.ConfigFile != "" {
		c.fault("config_file", n.ConfigFile, only+", and reads the configuration from the store")
	}
	if n.Store.Member != nil {
		c.fault("store.member", n.Store.Member.PeerURL, only)
	}
	if n.Watchdog.Device != NoWatchdog {
		c.fault("watchdog.device", n.Watchdog.Device, only)
	}
	if n.Driver != "libvirt" {
		c.fault("driver", n.Driver, "want libvirt: the host is guests_only")
	}
}

func (c *checker) absolute(p, value string) {
	if !isAbsolute(value) {
		c.fault(p, value, `want an absolute path without ".."`)
	}
}

func (c *checker) driver(n Node) {
	switch n.Driver {
	case "libvirt", "process":
	default:
		c.fault("driver", n.Driver, "want libvirt or process")
	}
	c.absolute("libvirt.socket", n.Libvirt.Socket)
	for i, dir := range n.Libvirt.Shared {
		c.absolute(index("libvirt.shared", i), dir)
	}
	uri := n.Libvirt.MigrateURI
	u, err := url.Parse(strings.Replace(uri, "%s", "192.0.2.1", 1))
	if err != nil || strings.Count(uri, "%") != 1 || u.Scheme == "" || u.Hostname() != "192.0.2.1" {
		c.fault("libvirt.migrate_uri", uri, "want a libvirt connection URI with %s in place of the host, such as "+defaultMigrateURI)
	}
	switch n.Libvirt.MigrateTLS {
	case defaultMigrateTLS, "required", "off":
	default:
		c.fault("libvirt.migrate_tls", n.Libvirt.MigrateTLS, "want auto, required or off")
	}
	if n.Driver != "process" {
		return
	}
	if len(n.Process.Command) == 0 || n.Process.Command[0] == "" {
		c.fault("process.command", "", "driver process needs a program and its arguments")
	}
	c.absolute("process.dir", n.Process.Dir)
}

func (c *checker) store(n Node) {
	if len(n.Store.Endpoints) == 0 {
		c.fault("store.endpoints", "", "want the client URLs of all store members")
	}
	for i, e := range n.Store.Endpoints {
		c.url(index("store.endpoints", i), e)
	}
	m := n.Store.Member
	if m == nil {
		return
	}
	c.url("store.member.listen_peer", m.ListenPeer)
	c.url("store.member.listen_client", m.ListenClient)
	c.url("store.member.peer_url", m.PeerURL)
	c.url("store.member.client_url", m.ClientURL)
	if peer, ok := m.Initial[n.Host]; !ok {
		c.fault("store.member.initial", "", fmt.Sprintf("want the members of the new cluster, host name to peer URL; "+
			"this host %q is missing", n.Host))
	} else if peer != m.PeerURL {
		c.fault(field("store.member.initial", n.Host), peer,
			fmt.Sprintf("this host's entry must equal peer_url, %q", strictyaml.Shorten(m.PeerURL)))
	}
	for _, host := range slices.Sorted(maps.Keys(m.Initial)) {
		p, peer := field("store.member.initial", host), m.Initial[host]
		if !IsHostname(host) {
			c.fault(p, host, hostnameRule)
		}
		c.url(p, peer)
	}
}

// url checks the URL of a store member.
func (c *checker) url(p, value string) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || !isHostPort(u.Host, true) ||
		u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		c.fault(p, value, "want http://HOST:PORT or https://HOST:PORT")
	}
}

func (c *checker) tls(t TLS) {
	files := []struct{ name, value string }{{"tls.ca", t.CA}, {"tls.cert", t.Cert}, {"tls.key", t.Key}}
	given := 0
	for _, f := range files {
		if f.value != "" {
			given++
			c.absolute(f.name, f.value)
		}
	}
	if t.CRL != "" {
		c.absolute("tls.crl", t.CRL)
		if given == 0 {
			c.fault("tls.crl", t.CRL, "needs ca, cert and key")
		}
	}
	if given == 0 || given == len(files) {
		return
	}
	for _, f := range files {
		if f.value == "" {
			c.fault(f.name, "", "set all of ca, cert and key, or none of them")
		}
	}
}

// isListen reports whether s is an address to listen at; port 0 lets the system choose.
func isListen(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || port != "0" && !isPort(port) {
		return false
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return host == "" || IsHostname(host)
}
