package nettest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/testbed/ovstest"
	"holdfast/internal/testbed/try"
)

// Agent is a real network agent of the host cmp00, beside a switch. It is the first process of a namespace of processes of
// its own, so that what it starts ends with it.
type Agent struct {
	DropFlows bool       // drop_flows_on_start, for its next start
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
transport_url = %s
host = cmp00
state_path = %s/state
log_file = %s/log
use_stderr = false
[oslo_concurrency]
lock_path = %s/lock
[ovs]
bridge_mappings = physnet1:br-ex
ovsdb_connection = unix:%s/db.sock
datapath_type = netdev
of_listen_address = 127.0.0.1
of_listen_port = 6633
integration_bridge = br-int
[agent]
tunnel_types =
root_helper = env
polling_interval = 1
drop_flows_on_start = %t
[securitygroup]
firewall_driver = openvswitch
`

// NewAgent is a neutron-openvswitch-agent that has not been started. It is ready when its first loop has come to its end,
// when also the flows of its last run have gone. The switch gets the bridge of its physical network. The test is skipped
// where the agent is not installed.
func NewAgent(t testing.TB, s *ovstest.Switch, bus *Bus) *Agent {
	t.Helper()
	a := agentOf(t, s, bus, "/usr/bin/neutron-openvswitch-agent", "cleanup stale flows")
	s.Run(t, "ovs-vsctl", "--timeout=15", "--may-exist", "add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev", "fail_mode=secure")
	return a
}

func agentOf(t testing.TB, s *ovstest.Switch, bus *Bus, program, ready string) *Agent {
	t.Helper()
	if _, err := os.Stat(program); err != nil {
		t.Skipf("an agent of Neutron is not installed: %v", err)
	}
	return &Agent{of: t, program: program, ready: ready, sw: s, bus: bus, dir: try.ShortDir(t)}
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
	conf := fmt.Sprintf(agentSettings, a.bus.url(), a.dir, a.dir, a.dir, a.sw.Dir, a.DropFlows)
	try.Must(t, os.WriteFile(filepath.Join(a.dir, "agent.conf"), []byte(conf), 0o600))
	try.Must(t, os.WriteFile(filepath.Join(a.dir, "log"), nil, 0o600))
	a.pid, a.end = a.sw.Start(a.of, filepath.Join(a.dir, "out"), slices.Concat([]string{"unshare"}, apart, ownUUIDs, []string{python, a.program, "--config-file", filepath.Join(a.dir, "agent.conf")})...)
	try.Until(t, "the agent's process", func() bool { return len(children(a.pid)) > 0 })
}

// ownUUIDs runs a program with a state of libuuid of its own, in a mount namespace of its own. Open vSwitch's
// Python library makes UUIDs of the kind whose clock libuuid keeps in a file of the system.
var ownUUIDs = []string{"sh", "-c", `[ ! -d /var/lib/libuuid ] || mount -t tmpfs libuuid /var/lib/libuuid; exec "$0" "$@"`}

// Ready waits until an agent that was begun is ready.
func (a *Agent) Ready(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(a.dir, "log"))
		try.Must(t, err)
		if bytes.Contains(text, []byte(a.ready)) {
			return
		}
		if time.Now().After(end) || len(children(a.pid)) == 0 {
			t.Fatalf("%s does not become ready:\n%s", a.program, a.Log())
		}
	}
}

// stopWithin is how long an agent may take to end by itself, as a service manager has a limit.
const stopWithin = 10 * time.Second

// Stop has it end as a service manager does: by SIGTERM, and when it has not ended then, by SIGKILL.
func (a *Agent) Stop(t testing.TB) {
	t.Helper()
	unshare := children(a.pid)
	if len(unshare) != 1 {
		t.Fatalf("%s has ended:\n%s", a.program, a.Log())
	}
	for _, pid := range children(unshare[0]) {
		try.Must(t, syscall.Kill(pid, syscall.SIGTERM))
	}
	for end := time.Now().Add(stopWithin); len(children(a.pid)) > 0 && time.Now().Before(end); {
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

// children are the processes that a process has started, and that have not ended.
func children(pid int) (out []int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil // it has gone
	}
	for _, f := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			out = append(out, n)
		}
	}
	return out
}
