package nettest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/testbed/ovstest"
	"holdfast/internal/testbed/try"
)

// Agent is a real neutron-openvswitch-agent of the host cmp00, beside a switch. It is the first process of a namespace
// of processes of its own, so that what it starts ends with it.
type Agent struct {
	Switch *ovstest.Switch
	dir    string
	pid    int
	end    func()
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

const (
	ovsAgent = "/usr/bin/neutron-openvswitch-agent"
	// agentReady is what the agent logs when its first loop has come to its end: also the flows of its last run have gone.
	agentReady = "cleanup stale flows"
)

// NewAgent is an agent that has not been started. The switch has, or gets, the bridge of its physical network. The test is
// skipped where the agent is not installed.
func NewAgent(t testing.TB, s *ovstest.Switch, bus *Bus, dropFlows bool) *Agent {
	t.Helper()
	if _, err := os.Stat(ovsAgent); err != nil {
		t.Skipf("Neutron's agent for Open vSwitch is not installed: %v", err)
	}
	a := &Agent{Switch: s, dir: try.ShortDir(t)}
	conf := fmt.Sprintf(agentSettings, bus.url(), a.dir, a.dir, a.dir, s.Dir, dropFlows)
	try.Must(t, os.WriteFile(filepath.Join(a.dir, "agent.conf"), []byte(conf), 0o600))
	s.Run(t, "ovs-vsctl", "--timeout=15", "--may-exist", "add-br", "br-ex", "--", "set", "bridge", "br-ex", "datapath_type=netdev", "fail_mode=secure")
	return a
}

// Start starts it, and waits until its first loop is over.
func (a *Agent) Start(t testing.TB) {
	t.Helper()
	a.Begin(t)
	a.Ready(t)
}

// Begin starts it.
func (a *Agent) Begin(t testing.TB) {
	t.Helper()
	try.Must(t, os.WriteFile(filepath.Join(a.dir, "log"), nil, 0o600))
	a.pid, a.end = a.Switch.Start(t, filepath.Join(a.dir, "out"), "unshare", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
		python, ovsAgent, "--config-file", filepath.Join(a.dir, "agent.conf"))
	try.Until(t, "the agent's process", func() bool { return len(children(a.pid)) > 0 })
}

// Ready waits until the first loop of an agent that was begun is over.
func (a *Agent) Ready(t testing.TB) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		text, err := os.ReadFile(filepath.Join(a.dir, "log"))
		try.Must(t, err)
		if bytes.Contains(text, []byte(agentReady)) {
			return
		}
		if time.Now().After(end) || len(children(a.pid)) == 0 {
			t.Fatalf("neutron-openvswitch-agent does not come to the end of its first loop:\n%s", a.Log())
		}
	}
}

// Stop has it end as a service manager does, by SIGTERM, and waits for that.
func (a *Agent) Stop(t testing.TB) {
	t.Helper()
	unshare := children(a.pid)
	if len(unshare) != 1 {
		t.Fatalf("neutron-openvswitch-agent has ended:\n%s", a.Log())
	}
	for _, pid := range children(unshare[0]) {
		try.Must(t, syscall.Kill(pid, syscall.SIGTERM))
	}
	for end := time.Now().Add(patience); len(children(a.pid)) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("neutron-openvswitch-agent does not end:\n%s", a.Log())
		}
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
		b.Write(text[max(0, len(text)-6000):])
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
