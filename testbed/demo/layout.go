package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/pki"
)

// hostCount is the number of hosts of the demo, 2N+1 with N = 1.
const hostCount = 3

// certValidity is that of the certificates; a demo ends within a minute.
const certValidity = 24 * time.Hour

// maxSocketPath is the longest path of a unix socket, in bytes (unix(7): 108
// with the zero at the end).
const maxSocketPath = 107

// ports are the TCP ports of every host, the same on each.
type ports struct{ peer, client, api, console uint16 }

func (p ports) all() []uint16 { return []uint16{p.peer, p.client, p.api, p.console} }

// place is where one host lives.
type place struct {
	name    cluster.HostID
	outside netip.Addr // its address: the relays listen here
	inside  netip.Addr // where its own processes listen
	dir     string     // holds all of the below
	dataDir string     // survives a power loss
	runDir  string     // does not
	bootID  string     // file
	config  string     // agent.json
	log     string     // the agent's output
	device  string     // socket of the simulated watchdog, outside of the host
}

// agentSocket is the agent's API.
func (p place) agentSocket() string { return filepath.Join(p.runDir, "holdfast.sock") }

// layout is the directory of one run.
type layout struct {
	dir    string
	run    string
	shared string
	ports  ports
	places []place
}

// newLayout makes the directory of a run in parent ("": the system's directory
// for temporary files).
func newLayout(parent, run string) (*layout, error) {
	if parent != "" {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return nil, fmt.Errorf("make the demo's directory: %w", err)
		}
	}
	dir, err := os.MkdirTemp(parent, "hf-")
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("make the demo's directory: %w", err)
	}
	l := &layout{dir: dir, run: run, shared: filepath.Join(dir, "shared")}
	if err := l.fill(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return l, nil
}

func (l *layout) fill() error {
	if err := os.WriteFile(filepath.Join(l.dir, runFile), []byte(l.run), 0o600); err != nil {
		return fmt.Errorf("mark the demo's directory: %w", err)
	}
	if err := os.Mkdir(l.shared, 0o700); err != nil {
		return fmt.Errorf("make the shared directory: %w", err)
	}
	// A random net of 127.0.0.0/8 keeps clear of whatever else runs here.
	a, b := byte(64+rand.N(128)), byte(rand.N(256))
	for i := range hostCount {
		name := cluster.HostID("h" + strconv.Itoa(i+1))
		dir := filepath.Join(l.dir, string(name))
		p := place{
			name: name, dir: dir,
			outside: netip.AddrFrom4([4]byte{127, a, b, byte(11 + i)}),
			inside:  netip.AddrFrom4([4]byte{127, a, b, byte(111 + i)}),
			dataDir: filepath.Join(dir, "data"), runDir: filepath.Join(dir, "run"),
			bootID: filepath.Join(dir, "boot_id"), config: filepath.Join(dir, "agent.json"),
			log: filepath.Join(dir, "agent.log"), device: filepath.Join(l.dir, string(name)+".wd"),
		}
		if n := len(p.agentSocket()) + len("-holder"); n > maxSocketPath {
			return fmt.Errorf("directory %s: paths of sockets in it would have %d bytes, %d are allowed: choose a "+
				"shorter one by --dir", l.dir, n, maxSocketPath)
		}
		if err := os.MkdirAll(p.dataDir, 0o700); err != nil {
			return fmt.Errorf("make the directory of %s: %w", name, err)
		}
		l.places = append(l.places, p)
	}
	return l.choosePorts()
}

// choosePorts picks ports that are free on all addresses of the run. They are
// below those that the kernel gives to clients.
func (l *layout) choosePorts() error {
	for range 50 {
		first := uint16(10000 + rand.N(20000))
		p := ports{peer: first, client: first + 1, api: first + 2, console: first + 3}
		if l.free(p) {
			l.ports = p
			return nil
		}
	}
	return errors.New("choose ports for the demo: none free found between 10000 and 30003 on a 127.0.0.0/8 address")
}

func (l *layout) free(p ports) bool {
	for _, at := range l.places {
		for _, addr := range []netip.Addr{at.inside, at.outside} {
			for _, port := range p.all() {
				listener, err := net.Listen("tcp", netip.AddrPortFrom(addr, port).String())
				if err != nil || listener.Close() != nil {
					return false
				}
			}
		}
	}
	return true
}

// write makes certificates and configuration files. self is the program that
// plays the VM.
func (l *layout) write(self string) error {
	ca, err := pki.NewCA("holdfast demo "+l.run, certValidity)
	if err != nil {
		return err
	}
	if err := ca.WriteCert(l.caFile()); err != nil {
		return err
	}
	if err := writeJSON(l.configFile(), l.clusterConfig()); err != nil {
		return err
	}
	for _, p := range l.places {
		ips := []netip.Addr{p.outside, p.inside, netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		pair, err := ca.Issue(string(p.name), ips, []string{"localhost"}, certValidity)
		if err != nil {
			return err
		}
		node := l.node(p, self)
		if err := pair.Write(node.TLS.Cert, node.TLS.Key); err != nil {
			return err
		}
		if err := writeJSON(p.config, node); err != nil {
			return err
		}
	}
	return nil
}

func (l *layout) caFile() string     { return filepath.Join(l.dir, "ca.pem") }
func (l *layout) configFile() string { return filepath.Join(l.dir, "cluster.json") }

// node is the agent's configuration on one host. It listens inside and tells
// the others its outside address, where the relays are.
func (l *layout) node(p place, self string) config.Node {
	initial := map[string]string{}
	endpoints := []string{url(p.inside, l.ports.client)}
	for _, other := range l.places {
		initial[string(other.name)] = url(other.outside, l.ports.peer)
		if other.name != p.name {
			endpoints = append(endpoints, url(other.outside, l.ports.client))
		}
	}
	return config.Node{
		Host: string(p.name), Addr: p.outside.String(), Cluster: "demo-" + l.run,
		DataDir: p.dataDir, RunDir: p.runDir, ConfigFile: l.configFile(), BootIDFile: p.bootID,
		Driver: "process", Process: config.Process{Command: []string{self, guestCommand}, Dir: l.shared},
		Store: config.Store{
			Member: &config.Member{
				ListenPeer: url(p.inside, l.ports.peer), ListenClient: url(p.inside, l.ports.client),
				PeerURL: url(p.outside, l.ports.peer), ClientURL: url(p.outside, l.ports.client),
				Initial: initial,
			},
			Endpoints: endpoints,
		},
		API:        config.API{Listen: netip.AddrPortFrom(p.inside, l.ports.api).String()},
		Console:    config.Console{Listen: netip.AddrPortFrom(p.inside, l.ports.console).String()},
		TLS:        config.TLS{CA: l.caFile(), Cert: filepath.Join(p.dir, "cert.pem"), Key: filepath.Join(p.dir, "key.pem")},
		Watchdog:   config.Watchdog{Device: "unix:" + p.device},
		Undersized: true,
	}
}

// clusterConfig is the configuration as an operator would write it. The network
// of the VM is from the range for documentation (RFC 5737): nothing here uses it.
func (l *layout) clusterConfig() any {
	var nodes []string
	for _, p := range l.places {
		nodes = append(nodes, p.outside.String()+" "+string(p.name))
	}
	return map[string]any{
		"Node": nodes, "MemorySizeInGB": 8, "CPU": 4, "Type": "FileConf",
		"ImageFolder": l.shared, "ChronyServers": []string{"192.0.2.2"}, "DNS": []string{"192.0.2.3"},
		"Network": []map[string]any{{
			"Bridge": "br0", "MacAddress": "52:54:00:12:34:56", "Ipaddr": "192.0.2.10",
			"Netmask": "255.255.255.0", "Gateway": "192.0.2.1", "IsMgmt": true, "IsDefRoute": true,
		}},
	}
}

func url(a netip.Addr, port uint16) string {
	return "https://" + netip.AddrPortFrom(a, port).String()
}

func writeJSON(file string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	return nil
}
