package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
)

// Names and the account of the management controllers, the same on every host.
const (
	// BMCUser is the account that every controller knows, with the right to switch power.
	BMCUser = "admin"
	// BMCPassword is the file with the account's password, as every host sees it.
	BMCPassword = HostDir + "/bmc.password"
	// MachineUUID is the file with the host's hardware UUID, which is also its
	// controller's system GUID.
	MachineUUID = HostDir + "/machine-uuid"

	bmcPort = 623
)

// Modes of a management controller, for BMCMode. BMCSlow is followed by a
// duration, as in "slow:3s".
const (
	BMCOk     = "ok"
	BMCDead   = "dead"   // no power: it has no address and answers nothing
	BMCLie    = "lie"    // says yes to off, reset and shutdown, and does nothing
	BMCRefuse = "refuse" // refuses every order, tells the state
	BMCSlow   = "slow:"  // carries out each order after that time, and answers nobody meanwhile

	maxBMCDelay = 10 * time.Minute
)

// bmcState is one host's management controller.
type bmcState struct {
	Sim  Process `json:"sim,omitzero"`   // ipmi_sim
	Mode string  `json:"mode,omitempty"` // as of BMCMode, "" is ok
	Lost int     `json:"lost,omitempty"` // times it became dead
}

func (b bmcState) mode() string {
	if b.Mode == "" {
		return BMCOk
	}
	return b.Mode
}

// bmcAddr is the controller's address: 10.98.K.(100+N).
func (p plan) bmcAddr(h string) netip.Addr { return p.addr(100 + hostNumber(h)) }

// fenceDevice is the controller as a configuration has it.
func (p plan) fenceDevice(h string) config.FenceDevice {
	return config.FenceDevice{Type: "ipmi", Address: p.bmcAddr(h).String(), User: BMCUser, Credential: "file:" + BMCPassword}
}

// FenceDevice is a host's management controller as a configuration has it.
func (l *Lab) FenceDevice(host string) config.FenceDevice { return l.p.fenceDevice(host) }

// bmc is a file of a host's controller, outside of the host.
func (p plan) bmc(h string, elem ...string) string {
	return p.path(append([]string{"bmc", h}, elem...)...)
}

// BMCAddr is the address of a host's management controller, UDP port 623.
func (l *Lab) BMCAddr(host string) netip.AddrPort {
	return netip.AddrPortFrom(l.p.bmcAddr(host), bmcPort)
}

// HostUUID is the hardware UUID of a host, and the system GUID of its
// management controller.
func (l *Lab) HostUUID(host string) string { return l.p.hostUUID(host) }

// delayOf reads the duration of the mode slow; 0 in every other mode.
func delayOf(mode string) (time.Duration, error) {
	text, ok := strings.CutPrefix(mode, BMCSlow)
	if !ok {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > maxBMCDelay {
		return 0, fail.Errorf(fail.Invalid, "mode %q: want slow:DURATION, above 0 and at most %v", mode, maxBMCDelay)
	}
	return d, nil
}

func checkBMCMode(mode string) error {
	switch mode {
	case BMCOk, BMCDead, BMCLie, BMCRefuse:
		return nil
	}
	if d, err := delayOf(mode); err != nil || d > 0 {
		return err
	}
	return fail.Errorf(fail.Invalid, "mode %q of a management controller: want ok, dead, lie, refuse or slow:DURATION", mode)
}

// BMCMode sets how a host's management controller behaves: ok, dead, lie,
// refuse or slow:DURATION. It holds for an order that a slow one still waits to
// carry out, too; one that was answered is carried out.
func (l *Lab) BMCMode(ctx context.Context, host, mode string) error {
	if err := errors.Join(l.p.checkHost(host), checkBMCMode(mode)); err != nil {
		return err
	}
	err := l.change(ctx, func(s *state) error {
		if !s.Options.BMCs {
			return errors.New("the laboratory was made without management controllers")
		}
		b := s.BMCs[host]
		b.Mode = mode
		if mode == BMCDead {
			b.Lost++
		}
		s.BMCs[host] = b
		if mode == BMCDead {
			return l.p.unplugBMC(ctx, host, b)
		}
		return nil
	})
	if err == nil && mode != BMCDead {
		err = l.startBMC(ctx, host)
	}
	if err != nil {
		return fmt.Errorf("set the management controller of %s to %s: %w", host, mode, err)
	}
	return l.p.record(host, "bmc", mode)
}

// CrashWithBMC is a loss of the whole power supply: the host and its management
// controller go. On brings the host back, BMCMode the controller.
func (l *Lab) CrashWithBMC(ctx context.Context, host string) error {
	return errors.Join(l.BMCMode(ctx, host, BMCDead), l.Crash(ctx, host))
}

// unplugBMC takes the controller's power: its process and its address go.
func (p plan) unplugBMC(ctx context.Context, host string, b bmcState) error {
	err := p.endSession(ctx, b.Sim)
	gone := p.ip(ctx, "addr", "del", p.bmcAddr(host).String()+"/24", "dev", p.bridge())
	if isOneOf(gone, "Cannot assign requested address", "Address not found") { // by kernel
		return err
	}
	return errors.Join(err, gone)
}

// endSession kills a process that leads a session, and all of the session: a
// controller's program that waits for its answer must not outlive it.
func (p plan) endSession(ctx context.Context, lead Process) error {
	if err := endProcess(ctx, lead); err != nil || lead.PID <= 0 {
		return err
	}
	pids, err := proc.Here.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.Contains(string(line), p.path("bmc")) {
			continue // not of this laboratory, or gone
		}
		st, err := proc.Here.Read(pid)
		if err != nil || st.Session != lead.PID {
			continue
		}
		if err := endProcess(ctx, Process{PID: pid, Start: st.Started}); err != nil {
			return err
		}
	}
	return nil
}

// startBMCs starts the process that switches the hosts' power, and all
// controllers that are not dead. Idempotent.
func (l *Lab) startBMCs(ctx context.Context) error {
	err := l.startHelper(ctx, bmcsCommand, l.p.path("bmc", "log"), func(s *state) *Process { return &s.Chassis })
	if err != nil {
		return fmt.Errorf("start management controllers: %w", err)
	}
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	return forAll(l.p.hosts(), func(h string) error {
		if s.BMCs[h].Mode == BMCDead {
			return nil
		}
		return l.startBMC(ctx, h)
	})
}

// startBMC starts a host's controller, unless it runs, and waits until it answers.
func (l *Lab) startBMC(ctx context.Context, host string) error {
	d, err := release(l.hold(ctx, func(s *state) (*detached, error) {
		b := s.BMCs[host]
		if b.Sim.alive() || b.Mode == BMCDead {
			return nil, nil
		}
		// A program of a controller that died by itself may still wait.
		err := l.p.endSession(ctx, b.Sim)
		if err = errors.Join(err, l.p.plugBMC(ctx, host), l.p.writeBMC(host)); err != nil {
			return nil, err
		}
		d, err := startDetached([]string{l.p.self(), bmcCommand, l.p.bmc(host)}, 0, l.p.bmc(host, "log"))
		if err == nil {
			b.Sim = d.Process
			s.BMCs[host] = b
		}
		return d, err
	}))
	if err != nil || d == nil {
		return err
	}
	if err := l.waitBMC(ctx, host, d.Process); err != nil {
		return fmt.Errorf("%w%s", err, tail(l.p.bmc(host, "log")))
	}
	return nil
}

// plugBMC gives the controller its address. Idempotent.
func (p plan) plugBMC(ctx context.Context, host string) error {
	err := p.ip(ctx, "addr", "add", p.bmcAddr(host).String()+"/24", "dev", p.bridge())
	if isOneOf(err, "File exists", "Address already assigned") { // by kernel
		return nil
	}
	return err
}

// isOneOf reports whether err holds one of the texts.
func isOneOf(err error, texts ...string) bool {
	return err != nil && slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(err.Error(), s) })
}

// waitBMC asks the controller for its ways to log in until it answers.
func (l *Lab) waitBMC(ctx context.Context, host string, sim Process) error {
	ask := []byte{6, 0, 0xff, 7, // RMCP
		0, 0, 0, 0, 0, 0, 0, 0, 0, 9, // IPMI 1.5 without a session, nine bytes
		0x20, 0x18, 0xc8, 0x81, 0, 0x38, 0x8e, 4, 0xb5} // Get Channel Authentication Capabilities
	conn, err := l.Dial(ctx, "udp", l.BMCAddr(host).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	return poll(ctx, patience, "the management controller of "+host, func() (bool, error) {
		if !sim.alive() {
			return false, errors.New("ipmi_sim has ended")
		}
		if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return false, err
		}
		// Refused and unanswered are the same: not yet.
		if _, err := conn.Write(ask); err != nil {
			return false, nil
		}
		n, err := conn.Read(make([]byte, 64))
		return err == nil && n > 0, nil
	})
}

// prepareBMCs makes the password, once, and what the hosts have to know.
func (p plan) prepareBMCs() error {
	if err := os.MkdirAll(p.path("bmc"), 0o700); err != nil {
		return fmt.Errorf("prepare management controllers: %w", err)
	}
	secret, err := p.bmcPassword()
	if errors.Is(err, os.ErrNotExist) {
		// IPMI takes at most 20 bytes; these are 16 letters and digits of more than 80 random bits.
		secret = rand.Text()[:16]
		err = os.WriteFile(p.path("bmc", "password"), []byte(secret+"\n"), 0o600)
	}
	if err != nil {
		return fmt.Errorf("prepare management controllers: %w", err)
	}
	for _, h := range p.hosts() {
		if err := os.MkdirAll(p.disk(h, "srv"), 0o755); err != nil {
			return fmt.Errorf("prepare management controllers: %w", err)
		}
		if err := os.WriteFile(p.disk(h, "srv", "bmc.password"), []byte(secret+"\n"), 0o600); err != nil {
			return fmt.Errorf("prepare management controllers: %w", err)
		}
	}
	return nil
}

func (p plan) bmcPassword() (string, error) {
	raw, err := os.ReadFile(p.path("bmc", "password"))
	return strings.TrimSpace(string(raw)), err
}
