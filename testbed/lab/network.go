package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// commandLimit is the deadline of every short command that the laboratory runs.
const commandLimit = 20 * time.Second

// run runs a program to its end and returns its output. The error holds what
// the program wrote to its error output.
func run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	return runLong(ctx, name, args...)
}

// runLong is run with the caller's deadline only.
func runLong(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.WaitDelay = time.Second
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return stdout.String(), fmt.Errorf("run %s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// reserveSubnet makes the switch's namespace for number k, or for the first
// free number when k is 0. The namespace's name is the reservation.
func reserveSubnet(ctx context.Context, k int) (int, error) {
	first, last := k, k
	if k == 0 {
		first, last = 1, maxSubnet
	}
	for k = first; k <= last; k++ {
		ns := plan{Subnet: k}.netns()
		if exists(filepath.Join("/run/netns", ns)) {
			continue
		}
		_, err := run(ctx, "ip", "netns", "add", ns)
		if err == nil {
			return k, nil
		}
		if !strings.Contains(err.Error(), "File exists") {
			return 0, err
		}
	}
	return 0, fmt.Errorf("subnet 10.98.%d.0/24: another laboratory uses it (ip netns lists hfN-sw): choose another "+
		"number, or take that one down", last)
}

func removeNetns(ctx context.Context, ns string) error {
	if !exists(filepath.Join("/run/netns", ns)) {
		return nil
	}
	_, err := run(ctx, "ip", "netns", "del", ns)
	return err
}

// ip runs iproute2 in the switch's namespace.
func (p plan) ip(ctx context.Context, args ...string) error {
	_, err := run(ctx, "ip", append([]string{"-n", p.netns()}, args...)...)
	return err
}

// setupSwitch makes the bridge that stands for the switch. Idempotent.
func (p plan) setupSwitch(ctx context.Context, o Options) error {
	if err := p.ip(ctx, "link", "show", p.bridge()); err == nil {
		return nil
	}
	return steps(
		func() error { return p.ip(ctx, "link", "set", "lo", "up") },
		func() error {
			// A MAC address of its own: it would change with the ports, and what the
			// hosts know of the switch's addresses with it.
			return p.ip(ctx, "link", "add", p.bridge(), "address", p.switchMAC(), "type", "bridge", "stp_state", "0", "forward_delay", "0")
		},
		func() error { return p.ip(ctx, "addr", "add", p.switchAddr().String()+"/24", "dev", p.bridge()) },
		func() error {
			if !o.IPv6 {
				return nil
			}
			return p.ip(ctx, "addr", "add", p.addr6(p.switchAddr()).String()+"/64", "dev", p.bridge(), "nodad")
		},
		func() error { return p.ip(ctx, "link", "set", p.bridge(), "up") },
	)
}

// steps runs functions until one fails.
func steps(fns ...func() error) error {
	for _, fn := range fns {
		if err := fn(); err != nil {
			return err
		}
	}
	return nil
}

// plugCable joins the switch and the network namespace of process pid by a
// cable whose far end is eth0.
func (p plan) plugCable(ctx context.Context, h string, pid int) error {
	return p.plug(ctx, p.bridge(), p.port(h), "eth0", pid)
}

// plugSecond joins the second switch, which it makes, and that namespace; the far end
// is eth1.
func (p plan) plugSecond(ctx context.Context, h string, pid int) error {
	bridge := p.secondBridge()
	err := p.ip(ctx, "link", "add", bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0")
	if err != nil && !strings.Contains(err.Error(), "File exists") { // another host was on before
		return err
	}
	return steps(
		func() error { return p.ip(ctx, "link", "set", bridge, "up") },
		func() error { return p.plug(ctx, bridge, p.secondPort(h), "eth1", pid) },
	)
}

func (p plan) plug(ctx context.Context, bridge, port, far string, pid int) error {
	// The kernel removes the old cable some time after the old host's end, at any point of this.
	if err := p.ip(ctx, "link", "del", port); err != nil && p.ip(ctx, "link", "show", port) == nil {
		return err
	}
	return steps(
		func() error {
			return p.ip(ctx, "link", "add", port, "type", "veth", "peer", "name", far, "netns", fmt.Sprint(pid))
		},
		func() error { return p.ip(ctx, "link", "set", port, "master", bridge, "up") },
	)
}

// pullCable switches the host's ports off, those that it has yet.
func (p plan) pullCable(ctx context.Context, h string) error {
	if err := p.ip(ctx, "link", "set", p.secondPort(h), "down"); err != nil &&
		!strings.Contains(err.Error(), "Cannot find device") && exists(filepath.Join("/run/netns", p.netns())) {
		return err
	}
	err := p.setPort(ctx, h, "down")
	if err != nil && (strings.Contains(err.Error(), "Cannot find device") || !exists(filepath.Join("/run/netns", p.netns()))) {
		return nil
	}
	return err
}

func (p plan) setPort(ctx context.Context, host, to string) error {
	return p.ip(ctx, "link", "set", p.port(host), to)
}

// portsUp names the switch's ports that are switched on.
func (p plan) portsUp(ctx context.Context) ([]string, error) {
	out, err := run(ctx, "ip", "-n", p.netns(), "-json", "link", "show")
	if err != nil {
		return nil, err
	}
	var links []struct {
		Name  string   `json:"ifname"`
		Flags []string `json:"flags"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil {
		return nil, fmt.Errorf("read the switch's ports: %w", err)
	}
	var up []string
	for _, l := range links {
		for _, f := range l.Flags {
			if f == "UP" {
				up = append(up, l.Name)
			}
		}
	}
	return up, nil
}

// InSwitch runs fn on a thread whose network namespace is the switch's. Sockets
// that fn opens itself stay in that namespace; goroutines that it starts do not
// run in it.
func (l *Lab) InSwitch(fn func() error) (err error) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer unix.Close(home)
	target, err := unix.Open(filepath.Join("/run/netns", l.p.netns()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the switch's namespace: %w", err)
	}
	defer unix.Close(target)
	if err := unix.Setns(target, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the switch's namespace: %w", err)
	}
	defer func() {
		if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
			// The thread stays locked, so it ends with its goroutine and serves nobody else.
			err = errors.Join(err, fmt.Errorf("leave the switch's namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// Dial connects from the switch to an address of the laboratory. The host part
// must be an IP address.
func (l *Lab) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	// A name would be looked up, and perhaps dialled, on other threads.
	if net.ParseIP(host) == nil {
		return nil, fmt.Errorf("dial %s: not an IP address", addr)
	}
	var conn net.Conn
	err = l.InSwitch(func() error {
		var err error
		conn, err = (&net.Dialer{Timeout: commandLimit}).DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Listen listens on a free port of the switch's own address, which all hosts reach. Whoever accepts runs
// in the machine's own network namespace: so hosts can be given a server that listens on its loopback.
func (l *Lab) Listen() (ln net.Listener, err error) {
	err = l.InSwitch(func() (err error) {
		ln, err = net.Listen("tcp", netip.AddrPortFrom(l.p.switchAddr(), 0).String())
		return err
	})
	return ln, err
}

// HTTPClient talks from the switch to servers of the laboratory, one connection
// per request, each with the given limit.
func (l *Lab) HTTPClient(limit time.Duration) *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{DialContext: l.Dial, DisableKeepAlives: true}}
}
