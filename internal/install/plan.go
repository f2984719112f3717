package install

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strconv"

	"holdfast/internal/config"
)

// Ports of a host: the agent's (also heartbeats, by UDP), the store's for clients, the store's
// between members, and the console's.
const (
	APIPort     = 7443
	ClientPort  = 2379
	PeerPort    = 2380
	ConsolePort = 8443
)

// Where things are on a host.
const (
	Program      = "/opt/holdfast/bin/holdfast"
	Command      = "/usr/bin/holdfast" // link to Program
	ConfDir      = "/etc/holdfast"
	SettingsFile = ConfDir + "/agent.json"
	ClusterFile  = ConfDir + "/cluster.json"
	KeyDir       = ConfDir + "/pki"
	CAFile       = KeyDir + "/ca.pem"
	Unit         = "holdfast.service"
	UnitFile     = "/usr/lib/systemd/system/" + Unit
	ImageName    = "mnvm.img" // in ImageFolder
	// StoppedFile beside the configuration: the first agent of a cluster does not ask for
	// the management VM to run.
	StoppedFile = ConfDir + "/" + config.StoppedName
	SavedDir    = "/var/lib/holdfast-adopted" // definitions of guests that were taken over
)

// Busy is in what a host says when another installation, or a check for a pair, works there.
const Busy = "another installation works on this host"

// Host is one of an installation.
type Host struct {
	Name   string
	Addr   string
	Guests bool // it runs guests only
}

// Members are the hosts of a configuration's Node.
func Members(cfg config.Cluster) []Host {
	var out []Host
	for _, n := range cfg.Nodes() {
		out = append(out, Host{Name: string(n.Host), Addr: n.IP})
	}
	return out
}

// Ports are those at which others reach the host, by TCP.
func (h Host) Ports() []int {
	if h.Guests {
		return []int{APIPort}
	}
	return []int{APIPort, ClientPort, PeerPort}
}

// SecondPorts are those at which the nodes of a pair reach each other over a second path, by TCP.
func SecondPorts() []int { return []int{APIPort, PeerPort} }

func url(addr string, port int) string {
	return "https://" + net.JoinHostPort(addr, strconv.Itoa(port))
}

// Settings writes the agent's settings of a host. base is what all hosts have in
// common beside what is filled in here (config.ParseBase).
func Settings(cfg config.Cluster, h Host, cluster string, base config.Node) config.Node {
	n := base
	n.Host, n.Addr, n.Cluster, n.GuestsOnly = h.Name, h.Addr, cluster, h.Guests
	n.ConfigFile = ClusterFile
	n.API.Listen = net.JoinHostPort(h.Addr, strconv.Itoa(APIPort))
	n.TLS.CA, n.TLS.Cert, n.TLS.Key = CAFile, KeyDir+"/host.pem", KeyDir+"/host.key"
	n.Store = config.Store{}
	initial := map[string]string{}
	for _, m := range Members(cfg) {
		n.Store.Endpoints = append(n.Store.Endpoints, url(m.Addr, ClientPort))
		initial[m.Name] = url(m.Addr, PeerPort)
	}
	if h.Guests {
		n.ConfigFile, n.Watchdog, n.Console = "", config.Watchdog{}, config.Console{}
		return n
	}
	switch n.Console.Listen {
	case "": // at all addresses, so also at one that a pair moves
		n.Console.Listen = net.JoinHostPort("", strconv.Itoa(ConsolePort))
	case config.NoConsole:
		n.Console.Listen = ""
	}
	n.Store.Member = &config.Member{
		ListenPeer: url(h.Addr, PeerPort), PeerURL: url(h.Addr, PeerPort),
		ListenClient: url(h.Addr, ClientPort), ClientURL: url(h.Addr, ClientPort), Initial: initial,
	}
	if dev := cfg.Fencing.Hosts[h.Name].Watchdog; dev != "" {
		n.Watchdog.Device = dev
	}
	return n
}

// consolePort is where the host's settings have its console; 0: nowhere, or at a port that the kernel chooses.
func consolePort(n config.Node) int {
	_, port, err := net.SplitHostPort(n.Console.Listen)
	if err != nil {
		return 0
	}
	p, _ := strconv.Atoi(port) // a number, as the settings were checked
	return p
}

// indented is JSON for people.
func indented(v any) ([]byte, error) {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return append(bytes.TrimSpace(raw), '\n'), nil
}
