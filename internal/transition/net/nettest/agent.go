package nettest

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// Agent is a real network agent beside a switch. It is the first process of a namespace of processes of
// its own, so that what it starts ends with it.
type Agent struct {
	Host      string     // under which Neutron knows its host
	Endpoint  netip.Addr // of the host in tunnels; the zero value: it has none. For its next start, as is what follows.
	DropFlows bool       // drop_flows_on_start
	of        testing.TB // with which it ends, also one that a part of the test has started
	program   string
	ready     string // what it logs when it is ready
	sw        *ovstest.Switch
	bus       *Bus
	dir       string
	pid       int
	end       func()
}

const agentSettings = `[DEFAULT]
auth_strategy = noauth
transport_url = %[1]s
host = %[2]s
state_path = %[3]s/state
log_file = %[3]s/log
use_stderr = false
interface_driver = openvswitch
resync_interval = 1
[oslo_concurrency]
lock_path = %[3]s/lock
[ovs]
bridge_mappings = physnet1:br-ex
ovsdb_connection = unix:%[4]s/db.sock
datapath_type = netdev
of_listen_address = 127.0.0.1
of_listen_port = 6633
integration_bridge = br-int
%[5]s[agent]
root_helper = env
polling_interval = 1
drop_flows_on_start = %[7]t
tunnel_types = %[6]s
[securitygroup]
firewall_driver = openvswitch
`

func (a *Agent) settings() string {
	endpoint, tunnels := "", ""
	if a.Endpoint.IsValid() {
		endpoint, tunnels = fmt.Sprintf("local_ip = %s\n", a.Endpoint), "vxlan"
	}
	return fmt.Sprintf(agentSettings, a.bus.url(), a.Host, a.dir, a.sw.Dir, endpoint, tunnels, a.DropFlows)
}

// NewAgent is a neutron-openvswitch-agent of the host cmp00 that has not been started. It is ready when its first loop has come to its end,
// when also the flows of its last run have gone. The switch gets the bridge of its physical network. The test is skipped
// where the agent is not installed.
func NewAgent(t testing.TB, s *ovstest.Switch, bus *Bus) *Agent {
	t.Helper()
	a := agentOf(t, s, bus, "/usr/bin/neutron-openvswitch-agent", "cleanup stale flows")
	s.Run(t, "ovs-vsctl", "--timeout=15", "--may-exist", "add-br", "br-ex", "--", "set", "bridge", "br-ex",
		"datapath_type=netdev", "fail_mode=secure")
	return a
}

// NewDHCPAgent is a neutron-dhcp-agent of the host cmp00 that has not been started. It is ready when it has served all networks
// that it found.
func NewDHCPAgent(t testing.TB, s *ovstest.Switch, bus *Bus) *Agent {
	t.Helper()
	if _, err := exec.LookPath("dnsmasq"); err != nil {
		t.Skipf("dnsmasq is not installed: %v", err)
	}
	return agentOf(t, s, bus, "/usr/bin/neutron-dhcp-agent", "Synchronizing state complete")
}

func agentOf(t testing.TB, s *ovstest.Switch, bus *Bus, program, ready string) *Agent {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Skipf("an agent of Neutron is not installed: %v", err)
	}
	a := &Agent{Host: host(0), of: t, program: program, ready: ready, sw: s, bus: bus, dir: try.ShortDir(t)}
	try.Must(t, os.Chmod(a.dir, 0o711)) // dnsmasq reads what its agent wrote there, as another user
	return a
}

// Start starts it, and waits until it is ready.
func (a *Agent) Start(t testing.TB) {
	t.Helper()
	a.Begin(t)
	a.Ready(t)
}

// Begin starts it.
func (a *Agent) Begin(t testing.TB) {
	t.Helper()
	try.Must(t, os.WriteFile(filepath.Join(a.dir, "agent.conf"), []byte(a.settings()), 0o600))
	try.Must(t, os.WriteFile(filepath.Join(a.dir, "log"), nil, 0o600))
	a.pid, a.end = a.sw.Start(a.of, filepath.Join(a.dir, "out"),
		slices.Concat([]string{"unshare"}, apart, ownNames, []string{python, a.program, "--config-file", filepath.Join(a.dir, "agent.conf")})...)
	try.Until(t, "the agent's process", func() bool { return len(try.Children(a.pid)) > 0 })
}

// ownNames runs a program in a mount namespace of its own, with what the system has once for all: a state of libuuid, as Open
// vSwitch's Python library makes UUIDs of the kind whose clock libuuid keeps in a file; and names of network namespaces.
var ownNames = []string{"sh", "-c", `[ ! -d /var/lib/libuuid ] || mount -t tmpfs libuuid /var/lib/libuuid
mount -t tmpfs run /run && mkdir /run/netns && exec "$0" "$@"`}

// Ready waits until an agent that was begun is ready.
func (a *Agent) Ready(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(a.dir, "log"))
		try.Must(t, err)
		if bytes.Contains(text, []byte(a.ready)) {
			return
		}
		if time.Now().After(end) || len(try.Children(a.pid)) == 0 {
			t.Fatalf("%s does not become ready:\n%s", a.program, a.Log())
		}
	}
}

// stopWithin is how long an agent may take to end by itself, as a service manager has a limit.
const stopWithin = 10 * time.Second

// Stop has it end as a service manager does: by SIGTERM, and when it has not ended then, by SIGKILL.
func (a *Agent) Stop(t testing.TB) {
	t.Helper()
	unshare := try.Children(a.pid)
	if len(unshare) != 1 {
		t.Fatalf("%s has ended:\n%s", a.program, a.Log())
	}
	for _, pid := range try.Children(unshare[0]) {
		try.Must(t, syscall.Kill(pid, syscall.SIGTERM))
	}
	for end := time.Now().Add(stopWithin); len(try.Children(a.pid)) > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	a.end()
}

// Kill ends it at once.
func (a *Agent) Kill() { a.end() }

// Log is the end of what it wrote, for a test that failed.
func (a *Agent) Log() string {
	var b strings.Builder
	for _, name := range []string{"out", "log"} {
		text, err := os.ReadFile(filepath.Join(a.dir, name))
		if err != nil {
			text = []byte(err.Error())
		}
		b.Write(text[max(0, len(text)-3000):])
	}
	return b.String()
}
