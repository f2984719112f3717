package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"holdfast/internal/lib/fail"
)

// Lab is a laboratory that exists. Its methods may be called from several
// goroutines and processes at once.
type Lab struct {
	p plan
}

// Open finds the laboratory in dir ("" means DefaultDir).
func Open(dir string) (*Lab, error) {
	if dir == "" {
		dir = DefaultDir
	}
	dir, err := checkDir(dir)
	if err != nil {
		return nil, err
	}
	s, err := loadState(dir)
	if err != nil {
		return nil, err
	}
	return &Lab{p: s.Plan}, nil
}

// Up makes the laboratory, or completes it when it is already there (the
// options that made it stay in force), and returns when libvirtd answers on
// every host, and every business guest. When it can not make a new one it removes what it began.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.check()
	if err != nil {
		return nil, err
	}
	if err := ready(o.Work); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make laboratory: %w", err)
	}
	l, fresh, err := create(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := l.start(ctx); err != nil {
		err = fmt.Errorf("start laboratory in %s: %w", l.p.Dir, err)
		var left error
		if fresh {
			// The caller's context may be what ended the start.
			left = l.Down(context.WithoutCancel(ctx))
		}
		if ctx.Err() != nil {
			return nil, interrupted(l.p.Dir, fresh, left)
		}
		return nil, errors.Join(err, left)
	}
	return l, nil
}

// interrupted says what is left of a laboratory in dir whose start was broken off. left is what could not be
// removed of a fresh one.
func interrupted(dir string, fresh bool, left error) error {
	switch {
	case !fresh:
		return fail.Errorf(fail.Canceled, "interrupted; the laboratory in %s was there before and is left, not all of it up", dir).
			With("go on with: holdfast-lab up; remove it with: holdfast-lab down")
	case left != nil:
		return fail.Errorf(fail.Canceled, "interrupted; of the laboratory in %s not all could be removed: %w", dir, left).
			With("remove the rest with: holdfast-lab down")
	}
	return fail.Errorf(fail.Canceled, "interrupted; all of the laboratory in %s is removed, and nothing is left", dir)
}

// check completes options and makes sure of root: nothing has been changed yet.
func (o Options) check() (Options, error) {
	o, err := o.complete()
	if err != nil {
		return o, fail.Errorf(fail.Invalid, "%w", err)
	}
	return o, asRoot()
}

// asRoot refuses what only root can do.
func asRoot() error {
	if os.Geteuid() != 0 {
		return fail.Errorf(fail.Invalid, "the laboratory needs root").With("run it with sudo")
	}
	return nil
}

// create loads the laboratory in o.Dir or reserves a new one: state.json and
// the switch's namespace. fresh tells which.
func create(ctx context.Context, o Options) (l *Lab, fresh bool, err error) {
	f, err := lock(ctx, o.Dir)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	s, err := loadState(o.Dir)
	if err == nil {
		return &Lab{p: s.Plan}, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, false, err
	}
	groups, err := freezerRoot()
	if err != nil {
		return nil, false, err
	}
	s = &state{Plan: plan{Dir: o.Dir, Hosts: o.Hosts, Groups: groups}, Options: o, Hosts: map[string]hostState{}}
	if s.Plan.Subnet, err = reserveSubnet(ctx, o.Subnet); err != nil {
		return nil, false, errors.Join(err, os.Remove(f.Name()))
	}
	s.Netns = true
	if err := s.save(); err != nil {
		return nil, false, errors.Join(err, removeNetns(ctx, s.Plan.netns()))
	}
	return &Lab{p: s.Plan}, true, nil
}

// start brings everything of the laboratory to where Up promises.
func (l *Lab) start(ctx context.Context) error {
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	if err := l.prepare(ctx, s.Options); err != nil {
		return err
	}
	if err := l.p.setupSwitch(ctx, s.Options); err != nil {
		return err
	}
	if err := l.startPower(ctx); err != nil {
		return err
	}
	if s.Options.Watchdogs {
		if err := l.startWatchdogs(ctx); err != nil {
			return err
		}
	}
	switch s.Options.Disk {
	case DiskNBD:
		err = l.startDisk(ctx)
	case DiskCeph:
		err = l.startCeph(ctx)
	}
	if err != nil {
		return err
	}
	if s.Options.BMCs {
		if err := l.startBMCs(ctx); err != nil {
			return err
		}
	}
	if err := forAll(l.p.hosts(), func(h string) error { return l.On(ctx, h) }); err != nil {
		return err
	}
	if s.Options.Bare != "" {
		if err := l.furnish(ctx, s.Options.Bare); err != nil {
			return err
		}
	}
	return l.startBusiness(ctx)
}

// prepare fills the folder with what the hosts need.
func (l *Lab) prepare(ctx context.Context, o Options) error {
	for _, d := range []string{"bin", "shared", "wd", "power", "hosts", "pki"} {
		if err := os.MkdirAll(l.p.path(d), 0o755); err != nil {
			return fmt.Errorf("prepare laboratory: %w", err)
		}
	}
	// Copies: the hosts must not lose their programs when the originals are rebuilt.
	if err := copyOnce(o.Self, l.p.self(), 0o755); err != nil {
		return err
	}
	if o.Exe != "" {
		if err := copyOnce(o.Exe, l.p.exe(), 0o755); err != nil {
			return err
		}
	}
	var images []string
	if o.Work != WorkPair { // its hosts have no guest
		if err := buildGuest(ctx, o.Cache, l.p.path("shared")); err != nil {
			return err
		}
		images = []string{ImageName}
	}
	if o.Disk == DiskOwn {
		images = append(images, ImageName2)
	}
	for _, name := range images {
		image := l.p.path("shared", name)
		if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
			if _, err := run(ctx, "qemu-img", "create", "-q", "-f", "qcow2", image, "64M"); err != nil {
				return err
			}
		}
	}
	if o.Locks {
		if err := os.MkdirAll(l.p.path("shared", lockspaceName), 0o700); err != nil {
			return fmt.Errorf("make lockspace: %w", err)
		}
	}
	if o.Pools {
		if err := l.p.preparePools(); err != nil {
			return err
		}
	}
	if err := l.p.prepareBusiness(ctx, o); err != nil {
		return err
	}
	if err := l.p.prepareMemory(); err != nil {
		return err
	}
	if o.BMCs {
		if err := steps(l.p.prepareBMCs, l.p.makePipes); err != nil {
			return err
		}
	}
	if o.Work == WorkPair {
		if err := l.p.preparePair(ctx); err != nil {
			return err
		}
	}
	if o.Agents {
		return l.p.prepareAgents(o)
	}
	return nil
}

// exe is the program holdfast, where hosts have it, and self the laboratory's own, which its processes run.
func (p plan) exe() string  { return p.path("bin", ProgramName) }
func (p plan) self() string { return p.path("bin", "holdfast-lab") }

// copyOnce copies a file unless the target is there.
func copyOnce(from, to string, mode os.FileMode) error {
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	return copyFile(from, to, mode)
}

func copyFile(from, to string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy to %s: %w", to, err)
	}
	defer in.Close()
	tmp := to + ".tmp"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy %s to %s: %w", from, to, err)
	}
	if err := os.Rename(tmp, to); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

// forAll runs fn for every host at once and joins the errors.
func forAll(hosts []string, fn func(string) error) error {
	errs := make([]error, len(hosts))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			if err := fn(h); err != nil {
				errs[i] = fmt.Errorf("host %s: %w", h, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Down removes everything of the laboratory: processes, namespace, control
// groups and files. What is already gone is no error. The cache of built guests
// stays.
func (l *Lab) Down(ctx context.Context) error {
	if _, err := os.Stat(l.p.path("state.json")); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// What switches power goes first, without the lock: a reset that is carried
	// out may hold it, and would power a host on behind our back.
	if s, err := loadState(l.p.Dir); err == nil {
		if err := l.endSwitches(ctx, s); err != nil {
			return fmt.Errorf("remove laboratory: %w", err)
		}
	}
	f, err := lock(ctx, l.p.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	s, err := loadState(l.p.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := l.tearDown(ctx, s); err != nil {
		return fmt.Errorf("remove laboratory in %s: %w", l.p.Dir, err)
	}
	return nil
}

func (l *Lab) tearDown(ctx context.Context, s *state) error {
	err := l.endSwitches(ctx, s)
	for _, b := range s.BMCs {
		err = errors.Join(err, l.p.endSession(ctx, b.Sim))
	}
	for _, h := range l.p.hosts() {
		err = errors.Join(err, l.p.powerOff(ctx, h, s.Hosts[h]))
	}
	err = errors.Join(err, endProcess(ctx, s.Disk), endProcess(ctx, s.OSD), endProcess(ctx, s.Mon))
	if s.Netns {
		err = errors.Join(err, removeNetns(ctx, l.p.netns()))
	}
	if err != nil {
		return err // the state stays, so that Down can be repeated
	}
	err = l.p.keepProbed(s.Options)
	for _, name := range []string{"bin", "shared", "wd", "power", "hosts", "pki", "bmc", "disk.log", "ceph", "ceph.log",
		"database", "events.jsonl", "state.json.tmp", "state.json", "lock"} {
		err = errors.Join(err, os.RemoveAll(l.p.path(name)))
	}
	// Files of others keep the folder.
	if rest, rerr := os.ReadDir(l.p.Dir); rerr == nil && len(rest) == 0 {
		err = errors.Join(err, os.Remove(l.p.Dir))
	}
	return err
}

// endSwitches ends the processes that switch the hosts' power.
func (l *Lab) endSwitches(ctx context.Context, s *state) error {
	return errors.Join(endProcess(ctx, s.Watchdogs), endProcess(ctx, s.Chassis), endProcess(ctx, s.Power))
}

// endProcess kills a recorded process and waits until it is gone.
func endProcess(ctx context.Context, p Process) error {
	if err := p.signal(sigKill); err != nil {
		return err
	}
	return p.waitGone(ctx, patience)
}

// Dir is the laboratory's folder.
func (l *Lab) Dir() string { return l.p.Dir }

// Exe is the program holdfast on the hosts.
func (l *Lab) Exe() string { return l.p.exe() }

// Hosts are the names of all hosts: h1, h2, ...
func (l *Lab) Hosts() []string { return l.p.hosts() }

// Addr is a host's address in the laboratory's network.
func (l *Lab) Addr(host string) netip.Addr { return l.p.hostAddr(host) }

// SecondAddr is a host's address at the second switch.
func (l *Lab) SecondAddr(host string) netip.Addr { return l.p.secondAddr(host) }

// GuestAddr is the guest's address in the laboratory's network.
func (l *Lab) GuestAddr() netip.Addr { return l.p.guestAddr() }

// GuestMAC is the MAC address of the guest's card.
func (l *Lab) GuestMAC() string { return l.p.guestMAC() }

// SharedPath is the shared folder as seen from the machine itself.
func (l *Lab) SharedPath() string { return l.p.path("shared") }

// HostPath is a file of the host's persistent folder (HostDir) as seen from the
// machine itself.
func (l *Lab) HostPath(host string, elem ...string) string {
	return l.p.disk(host, append([]string{"srv"}, elem...)...)
}

// Status of a laboratory.
type Status struct {
	Dir    string       `json:"dir"`
	Subnet string       `json:"subnet"`
	Guest  string       `json:"guest"` // address
	Hosts  []HostStatus `json:"hosts"`
	VMs    []GuestInfo  `json:"vms,omitempty"` // business guests
}

// HostStatus is the state of one host's power, cable and processes.
type HostStatus struct {
	Name    string         `json:"name"`
	Addr    string         `json:"addr"`
	On      bool           `json:"on"`
	PID     int            `json:"pid,omitempty"` // of the host's PID 1, as the machine sees it
	Boots   int            `json:"boots"`
	Cable   bool           `json:"cable"` // the switch's port is up
	Frozen  bool           `json:"frozen,omitempty"`
	Hung    bool           `json:"hung,omitempty"`    // its shared folder hangs
	BMC     string         `json:"bmc,omitempty"`     // mode of its management controller, or "ended"
	Guests  int            `json:"guests"`            // QEMU processes
	Daemons map[string]int `json:"daemons,omitempty"` // name to pid inside the host, 0: waits for its restart
}

// Status reads what is there now. It asks no daemon, so it answers whatever hangs.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	s, err := loadState(l.p.Dir)
	if err != nil {
		return Status{}, err
	}
	up, err := l.p.portsUp(ctx)
	if err != nil {
		return Status{}, err
	}
	procs, err := qemuProcesses(s)
	if err != nil {
		return Status{}, err
	}
	st := Status{Dir: l.p.Dir, Subnet: l.p.addr(0).String() + "/24", Guest: l.p.guestAddr().String(),
		VMs: l.p.located(s.Options.Guests, procs)}
	for _, h := range l.p.hosts() {
		hs := s.Hosts[h]
		one := HostStatus{Name: h, Addr: l.p.hostAddr(h).String(), Boots: hs.Boots, Cable: slices.Contains(up, l.p.port(h))}
		if hs.Init.alive() {
			one.On, one.PID, one.Frozen, one.Hung = true, hs.Init.PID, frozen(l.p.cgroup(h)), hs.Hang.alive()
			if one.Daemons, err = l.p.daemons(h); err != nil {
				return Status{}, err
			}
		}
		if s.Options.BMCs {
			if one.BMC = s.BMCs[h].mode(); one.BMC != BMCDead && !s.BMCs[h].Sim.alive() {
				one.BMC = "ended"
			}
		}
		for _, q := range procs {
			if q.host == h {
				one.Guests++
			}
		}
		st.Hosts = append(st.Hosts, one)
	}
	return st, nil
}

// ready explains why a laboratory can not be made on this machine.
func ready(work string) error {
	if m := missing(work); len(m) > 0 {
		return fmt.Errorf("the laboratory misses: %s; --install installs them", joinLines(m))
	}
	if _, err := os.Stat(filepath.Dir(SharedDir)); err != nil {
		return fmt.Errorf("the hosts' mount point: %w (make the folder)", err)
	}
	return nil
}
