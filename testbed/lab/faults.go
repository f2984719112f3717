package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Isolate switches the host's port off: nothing goes in or out.
func (l *Lab) Isolate(ctx context.Context, host string) error {
	if _, err := l.running(host); err != nil {
		return err
	}
	if err := l.p.setPort(ctx, host, "down"); err != nil {
		return fmt.Errorf("isolate %s: %w", host, err)
	}
	return l.p.record(host, "isolate", "")
}

// Heal ends Isolate, CutStore, and every Cut from or to the host.
func (l *Lab) Heal(ctx context.Context, host string) error {
	if _, err := l.running(host); err != nil {
		return err
	}
	err := l.changeCuts(ctx, func(cuts []cut) []cut {
		return slices.DeleteFunc(cuts, func(c cut) bool { return c.Only != onlyDisk && (c.From == host || c.To == host) })
	})
	if err = errors.Join(err, l.p.setPort(ctx, host, "up")); err != nil {
		return fmt.Errorf("heal %s: %w", host, err)
	}
	return l.p.record(host, "heal", "")
}

// SecondCable switches the host's port at the second switch off, or on again.
func (l *Lab) SecondCable(ctx context.Context, host string, plugged bool) error {
	if _, err := l.running(host); err != nil {
		return err
	}
	to := map[bool]string{false: "down", true: "up"}[plugged]
	if err := l.p.ip(ctx, "link", "set", l.p.secondPort(host), to); err != nil {
		return fmt.Errorf("second cable of %s %s: %w", host, to, err)
	}
	return l.p.record(host, "second cable", to)
}

// cut is a one-way loss of unicast frames, or a loss of one kind of traffic.
type cut struct {
	From string `json:"from"`
	To   string `json:"to,omitempty"`
	Only string `json:"only,omitempty"` // onlyStore or onlyDisk: of From, in both directions
}

const (
	onlyStore = "store" // the ports of the embedded store, between this host and all others
	onlyDisk  = "disk"  // the port of the server of the guest's disk
)

// CutStore drops the store's traffic (TCP ports 2379 and 2380) between the host
// and all others, in both directions; all else passes. Heal ends it.
func (l *Lab) CutStore(ctx context.Context, host string) error {
	if err := l.p.checkHost(host); err != nil {
		return err
	}
	if err := l.addCut(ctx, cut{From: host, Only: onlyStore}); err != nil {
		return fmt.Errorf("cut %s from the store: %w", host, err)
	}
	return l.p.record(host, "cut", "from the store")
}

func (l *Lab) addCut(ctx context.Context, c cut) error {
	return l.changeCuts(ctx, func(cuts []cut) []cut {
		if slices.Contains(cuts, c) {
			return cuts
		}
		return append(cuts, c)
	})
}

// Cut drops every unicast frame from one end to another, in this direction
// only. Ends are hosts, "guest" and "switch" (where clients of InSwitch live).
// Broadcasts, ARP requests among them, still pass.
func (l *Lab) Cut(ctx context.Context, from, to string) error {
	if from == to {
		return fmt.Errorf("cut from %s to itself", from)
	}
	for _, end := range []string{from, to} {
		if end == "guest" || end == "switch" {
			continue
		}
		if err := l.p.checkHost(end); err != nil {
			return fmt.Errorf("cut: %w (or guest, or switch)", err)
		}
	}
	if err := l.addCut(ctx, cut{From: from, To: to}); err != nil {
		return fmt.Errorf("cut %s to %s: %w", from, to, err)
	}
	return l.p.record(from, "cut", "to "+to)
}

// changeCuts replaces the list of cuts and the rules that carry them out.
func (l *Lab) changeCuts(ctx context.Context, fn func([]cut) []cut) error {
	return l.change(ctx, func(s *state) error {
		before := len(s.Cuts)
		next := fn(slices.Clone(s.Cuts))
		if len(next) == before {
			return nil
		}
		if err := l.p.applyCuts(ctx, next); err != nil {
			return err
		}
		s.Cuts = next
		return nil
	})
}

// applyCuts loads one nftables table, in one transaction.
func (p plan) applyCuts(ctx context.Context, cuts []cut) error {
	mac := func(end string) string {
		if end == "guest" {
			return p.guestMAC()
		}
		return p.hostMAC(end)
	}
	chains := map[string][]string{"forward": nil, "input": nil, "output": nil}
	for _, c := range cuts {
		switch {
		case c.Only == onlyStore:
			for _, way := range []string{"saddr", "daddr"} {
				for _, port := range []string{"sport", "dport"} {
					chains["forward"] = append(chains["forward"],
						fmt.Sprintf("ether %s %s tcp %s { %d, %d } drop", way, mac(c.From), port, clientPort, peerPort))
				}
			}
		case c.Only == onlyDisk:
			chains["input"] = append(chains["input"], fmt.Sprintf("ether saddr %s tcp dport { %d, %s } drop", mac(c.From), diskPort, cephPorts))
			chains["output"] = append(chains["output"], fmt.Sprintf("ether daddr %s tcp sport { %d, %s } drop", mac(c.From), diskPort, cephPorts))
		case c.From == "switch":
			chains["output"] = append(chains["output"], "ether daddr "+mac(c.To)+" drop")
		case c.To == "switch":
			chains["input"] = append(chains["input"], "ether saddr "+mac(c.From)+" ether type { ip, arp } drop")
		default:
			chains["forward"] = append(chains["forward"], "ether saddr "+mac(c.From)+" ether daddr "+mac(c.To)+" drop")
		}
	}
	var b strings.Builder
	b.WriteString("table bridge cuts\ndelete table bridge cuts\ntable bridge cuts {\n")
	for _, name := range []string{"forward", "input", "output"} {
		fmt.Fprintf(&b, " chain %s {\n  type filter hook %s priority 0; policy accept;\n  %s\n }\n", name, name,
			strings.Join(chains[name], "\n  "))
	}
	b.WriteString("}\n")
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", p.netns(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(b.String())
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("load the switch's rules: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Freeze stops every process of the host at once, as a host that hangs. Its
// kernel still answers pings and takes connections.
func (l *Lab) Freeze(ctx context.Context, host string) error {
	return l.setFrozen(ctx, host, true, "freeze")
}

// Thaw ends Freeze.
func (l *Lab) Thaw(ctx context.Context, host string) error {
	return l.setFrozen(ctx, host, false, "thaw")
}

func (l *Lab) setFrozen(ctx context.Context, host string, freeze bool, what string) error {
	if _, err := l.running(host); err != nil {
		return err
	}
	if err := setFrozen(ctx, l.p.cgroup(host), freeze); err != nil {
		if freeze { // not half of it
			err = errors.Join(err, setFrozen(context.WithoutCancel(ctx), l.p.cgroup(host), false))
		}
		return fmt.Errorf("%s %s: %w", what, host, err)
	}
	return l.p.record(host, what, "")
}

// Pause stops a process of the host (SIGSTOP). name is a daemon's name, or
// "cmd:TEXT" for every process of the host whose command line holds TEXT.
func (l *Lab) Pause(ctx context.Context, host, name string) error {
	return l.signal(host, name, unix.SIGSTOP, "pause")
}

// Resume ends Pause.
func (l *Lab) Resume(ctx context.Context, host, name string) error {
	return l.signal(host, name, unix.SIGCONT, "resume")
}

// Kill ends a process of the host with SIGKILL; names are as in Pause. The
// host's PID 1 starts a daemon again after 300 ms.
func (l *Lab) Kill(ctx context.Context, host, name string) error {
	return l.signal(host, name, unix.SIGKILL, "kill")
}

func (l *Lab) signal(host, name string, sig unix.Signal, what string) error {
	hs, err := l.running(host)
	if err != nil {
		return err
	}
	procs, err := l.p.find(host, hs.Init, name)
	if err != nil {
		return fmt.Errorf("%s %s on %s: %w", what, name, host, err)
	}
	for _, q := range procs {
		if err := q.signal(sig); err != nil {
			return fmt.Errorf("%s %s on %s: %w", what, name, host, err)
		}
	}
	return l.p.record(host, what, name)
}

// find resolves a name as in Pause to at least one process.
func (p plan) find(host string, init Process, name string) ([]Process, error) {
	text, byText := strings.CutPrefix(name, "cmd:")
	inner := 0
	if !byText {
		daemons, err := p.daemons(host)
		if err != nil {
			return nil, err
		}
		if inner = daemons[name]; inner == 0 {
			return nil, fmt.Errorf("no such daemon runs; daemons: %v", daemons)
		}
	}
	all, err := hostProcesses(init)
	if err != nil {
		return nil, err
	}
	var found []Process
	for _, q := range all {
		if q.PID == init.PID {
			continue
		}
		if byText {
			// A process that ends meanwhile has no command line.
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", q.PID))
			if err == nil && strings.Contains(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})), text) {
				found = append(found, q)
			}
		} else if innerPID(q.PID) == inner {
			found = append(found, q)
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no such process")
	}
	return found, nil
}
