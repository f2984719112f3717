// Package nettest makes hosts for tests: network namespaces on one switch, whose
// cables can be pulled and cut in one direction, or two at the ends of one cable.
// Nothing of it has a name outside
// the test's process, and all of it is gone when that ends, however it ends.
package nettest

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
)

// commandLimit bounds one command that changes the network.
const commandLimit = 20 * time.Second

// Net is a switch with hosts, which are counted from 0.
type Net struct {
	sw    *os.File // the switch's namespace
	hosts []*os.File
	drops map[string]bool // rules of the switch
}

// New makes a network of n hosts, each with its address on its eth0. It skips the
// test where that is not possible: it takes root, iproute2 and nftables.
func New(t *testing.T, n int) *Net {
	t.Helper()
	asks(t)
	made := &Net{drops: map[string]bool{}}
	made.sw = space(t)
	must(t, made.sw, "ip", "link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
	must(t, made.sw, "ip", "link", "set", "br0", "up")
	for i := range n {
		h := space(t)
		made.hosts = append(made.hosts, h)
		must(t, made.sw, "ip", "link", "add", port(i), "type", "veth", "peer", "name", "eth0", "netns", path(h))
		must(t, made.sw, "ip", "link", "set", port(i), "master", "br0", "up")
		must(t, h, "ip", "link", "set", "lo", "up")
		must(t, h, "ip", "addr", "add", made.Addr(i).String()+"/24", "dev", "eth0")
		must(t, h, "ip", "link", "set", "eth0", "up")
	}
	return made
}

// asks is what a network takes.
func asks(t testing.TB) {
	t.Helper()
	need.Real(t, need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
}

// space is a network namespace for the time of the test.
func space(t testing.TB) *os.File {
	t.Helper()
	f, err := newSpace()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() }) // it is read-only: there is nothing to lose
	return f
}

// path is how other programs find a namespace.
func path(space *os.File) string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), space.Fd()) }

// newSpace makes a network namespace that lives as long as the file is open.
func newSpace() (*os.File, error) {
	type made struct {
		file *os.File
		err  error
	}
	done := make(chan made)
	go func() { // ends at once, and its thread, which is never unlocked, with it
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- made{err: fmt.Errorf("make a network namespace: %w", err)}
			return
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		done <- made{f, err}
	}()
	m := <-done
	return m.file, m.err
}

func port(host int) string { return fmt.Sprintf("p%d", host) }

// Addr is a host's address. It exists inside the network only.
func (n *Net) Addr(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 0, byte(host + 1)})
}

// Host is a host of the switch.
func (n *Net) Host(host int) End { return End{n.hosts[host]} }

// Start starts a command on a host.
func (n *Net) Start(host int, cmd *exec.Cmd) error { return inside(n.hosts[host], cmd.Start) }

// Dial connects from a host to an address, which has an IP and not a name: names
// are looked up on other threads.
func (n *Net) Dial(ctx context.Context, host int, addr string) (conn net.Conn, err error) {
	err = inside(n.hosts[host], func() error {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		return err
	})
	return conn, err
}

// Tap is a card of the switch for a machine that an emulator makes: its frames are read and
// written by the file.
func (n *Net) Tap(t *testing.T, name string) *os.File {
	t.Helper()
	var f *os.File
	err := inside(n.sw, func() (err error) {
		if f, err = os.OpenFile("/dev/net/tun", os.O_RDWR, 0); err != nil {
			return err
		}
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		return unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req)
	})
	if err != nil {
		t.Fatalf("no cards for emulators: %v", err)
	}
	t.Cleanup(func() { f.Close() }) // nothing is written to it
	must(t, n.sw, "ip", "link", "set", name, "master", "br0", "up")
	return f
}

// Isolate pulls the host's cable: nothing goes in or out.
func (n *Net) Isolate(t *testing.T, host int) {
	t.Helper()
	must(t, n.sw, "ip", "link", "set", port(host), "down")
}

// CutFrom drops all that the host sends. The host does not notice by itself.
func (n *Net) CutFrom(t *testing.T, host int) {
	t.Helper()
	n.rule(t, "iifname "+port(host)+" drop", true)
}

// CutTo drops all that is sent to the host.
func (n *Net) CutTo(t *testing.T, host int) {
	t.Helper()
	n.rule(t, "oifname "+port(host)+" drop", true)
}

// Heal ends Isolate, CutFrom and CutTo.
func (n *Net) Heal(t *testing.T, host int) {
	t.Helper()
	n.rule(t, "iifname "+port(host)+" drop", false)
	n.rule(t, "oifname "+port(host)+" drop", false)
	must(t, n.sw, "ip", "link", "set", port(host), "up")
}

// rule turns a rule of the switch on or off.
func (n *Net) rule(t *testing.T, text string, on bool) {
	t.Helper()
	if n.drops[text] == on {
		return
	}
	n.drops[text] = on
	var b strings.Builder
	b.WriteString("table bridge cuts\ndelete table bridge cuts\ntable bridge cuts {\n chain c {\n  type filter hook " +
		"forward priority 0; policy accept;\n")
	for text, on := range n.drops {
		if on {
			b.WriteString("  " + text + "\n")
		}
	}
	b.WriteString(" }\n}\n")
	must(t, n.sw, "nft", b.String())
}

// must runs a command in a namespace.
func must(t testing.TB, space *os.File, argv ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit) // also in cleanups
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := inside(space, cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("run %s: %v: %s", strings.Join(argv, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String()
}

// inside runs fn on a thread that is in a namespace; a process that fn starts
// itself is born there.
func inside(space *os.File, fn func() error) (err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	err = fn()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, so it ends with its goroutine and serves nobody else.
		return fmt.Errorf("leave a network namespace: %w", back)
	}
	runtime.UnlockOSThread()
	return err
}
