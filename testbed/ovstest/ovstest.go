// Package ovstest runs an Open vSwitch for a test: a real ovs-vswitchd with its userspace
// datapath, in a network namespace, with hosts on the ports of its bridges. All of it
// ends with the test.
package ovstest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
	"holdfast/testbed/try"
)

// commandLimit bounds one command.
const commandLimit = 20 * time.Second

// Switch is an Open vSwitch.
type Switch struct {
	Dir  string // its OVS_RUNDIR
	host nettest.End
}

// New starts an Open vSwitch, and sets OVS_RUNDIR for this process. It skips the test where there is none.
func New(t testing.TB) *Switch {
	t.Helper()
	const schema = "/usr/share/openvswitch/vswitch.ovsschema"
	need.Real(t, need.Root, need.Programs("openvswitch-switch", "ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl"))
	s := &Switch{Dir: try.ShortDir(t), host: nettest.Alone(t)}
	s.Here(t)
	db := filepath.Join(s.Dir, "conf.db")
	s.Run(t, "ovsdb-tool", "create", db, schema)
	s.daemon(t, "ovsdb-server", "ovsdb-server", db, "--remote=punix:"+filepath.Join(s.Dir, "db.sock"),
		"--unixctl="+filepath.Join(s.Dir, "db.ctl"))
	try.Until(t, "ovsdb-server", func() bool { _, err := os.Stat(filepath.Join(s.Dir, "db.sock")); return err == nil })
	s.Run(t, "ovs-vsctl", "--no-wait", "init")
	// It forwards packets in its one thread, whose turn comes first also on a busy machine.
	s.daemon(t, "ovs-vswitchd", "nice", "-n", "-20", "ovs-vswitchd", "unix:"+filepath.Join(s.Dir, "db.sock"),
		"--disable-system", "--unixctl="+filepath.Join(s.Dir, "vs.ctl"))
	return s
}

// Here sets OVS_RUNDIR for this process to that of the switch: where there are several, programs that it starts ask this one.
func (s *Switch) Here(t testing.TB) {
	t.Helper()
	t.Setenv("OVS_RUNDIR", s.Dir)
}

// untilClosed is a shell that kills what it started when its input ends, as it does when the
// test's process has ended, however, or when it is told to end itself. (The kernel's signal for that is no use here: it
// comes when a thread ends.)
const untilClosed = `trap : TERM INT HUP; "$@" & p=$!; read -r x; kill -9 $p; wait $p`

func (s *Switch) daemon(t testing.TB, name string, argv ...string) {
	t.Helper()
	s.Start(t, filepath.Join(s.Dir, name+".log"), argv...)
}

// Start starts a program beside the switch, with a log. It is killed when end is called, and at the end of the test.
func (s *Switch) Start(t testing.TB, log string, argv ...string) (pid int, end func()) {
	t.Helper()
	return Start(t, s.host, log, append([]string{"env", "OVS_RUNDIR=" + s.Dir}, argv...)...)
}

// Start starts a program on a host, with a log. It is killed when end is called, and at the end of the test. pid is that of
// its parent.
func Start(t testing.TB, at nettest.End, log string, argv ...string) (pid int, end func()) {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	try.Must(t, err)
	cmd := exec.Command("sh", append([]string{"-c", untilClosed, "sh"}, argv...)...)
	cmd.Stdout, cmd.Stderr = out, out
	in, err := cmd.StdinPipe()
	try.Must(t, err)
	try.Must(t, at.Do(cmd.Start))
	end = sync.OnceFunc(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait() // the program in it was killed
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

// Inside calls fn in the namespace of the switch. A goroutine that it starts is not there.
func (s *Switch) Inside(fn func() error) error { return s.host.Do(fn) }

// IP runs ip(8) there, and returns what it says.
func (s *Switch) IP(t testing.TB, args ...string) string {
	t.Helper()
	return s.host.IP(t, args...)
}

// Run runs a command beside the switch, and returns what it prints.
func (s *Switch) Run(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := s.Try(argv...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Try runs a command that may fail.
func (s *Switch) Try(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit) // also in clean-ups
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "OVS_RUNDIR="+s.Dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("run %s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}

// Bridge makes a bridge, with the OpenFlow versions that Neutron's agent sets and a few more.
func (s *Switch) Bridge(t testing.TB, name, protocols string) {
	t.Helper()
	s.Run(t, "ovs-vsctl", "--timeout=15", "add-br", name, "--", "set", "bridge", name, "datapath_type=netdev",
		"fail_mode=secure", "protocols="+protocols)
}

// Host makes a host on a port of a bridge. Its eth0 has an address of 10.9.0.0/24 and the MAC address
// of MAC, both by the port's number.
func (s *Switch) Host(t testing.TB, bridge string, port int) nettest.End {
	t.Helper()
	return s.Plug(t, bridge, fmt.Sprintf("tap%d", port), port, fmt.Sprintf("ofport_request=%d", port))
}

// Plug is Host with an interface of a name, and columns of its row in the database.
func (s *Switch) Plug(t testing.TB, bridge, card string, port int, columns ...string) nettest.End {
	t.Helper()
	host := nettest.Alone(t)
	nettest.Join(t, s.host, card, host, "eth0")
	host.FillChecksums(t, "eth0")
	host.IP(t, "link", "set", "eth0", "address", MAC(port))
	host.IP(t, "addr", "add", Addr(port).String()+"/24", "dev", "eth0")
	s.Run(t, append([]string{"ovs-vsctl", "--timeout=15", "add-port", bridge, card, "--", "set", "interface", card}, columns...)...)
	return host
}

// Addr is the address of the host on a port.
func Addr(port int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, 0, byte(port)}) }

// MAC is the MAC address of the host on a port.
func MAC(port int) string { return fmt.Sprintf("fa:16:3e:00:00:%02x", port) }

// Add adds flows, one a line as ovs-ofctl(8) takes them, under a cookie.
func (s *Switch) Add(t testing.TB, bridge string, cookie uint64, flows ...string) {
	t.Helper()
	var b strings.Builder
	for _, f := range flows {
		fmt.Fprintf(&b, "cookie=0x%x,%s\n", cookie, f)
	}
	file := filepath.Join(s.Dir, "add.flows")
	try.Must(t, os.WriteFile(file, []byte(b.String()), 0o600))
	s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "add-flows", bridge, file)
}

// Delete deletes the flows of a cookie.
func (s *Switch) Delete(t testing.TB, bridge string, cookie uint64) {
	t.Helper()
	s.Run(t, "ovs-ofctl", "-O", "OpenFlow14", "del-flows", bridge, fmt.Sprintf("cookie=0x%x/-1", cookie))
}
