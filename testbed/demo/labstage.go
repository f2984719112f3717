package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/testbed/lab"
)

const (
	labParent    = "/var/tmp"       // hosts have their own /run, and /tmp may be small
	labUpLimit   = 10 * time.Minute // the first time on a machine the guest is built from packages
	labDownLimit = 30 * time.Second
	labLook      = 200 * time.Millisecond // between two looks at the hosts
	labBlind     = 3 * time.Second        // without a good look
	labAgentPath = "run/holdfast/holdfast.sock"

	// At most so many questions to the VM wait for their answers: few while it
	// answers, since each is a load for an emulated machine; more while it is silent,
	// when each waits for its limit, so that one is asked at least every 60 ms.
	askedAtOnce = 2
	askedLost   = 9
)

// labStage is the stage with real VMs: hosts of the laboratory.
type labStage struct {
	witness
	opt    Options
	screen *screen

	dir      string
	uuid     string // of the VM
	lab      *lab.Lab
	machines []*labMachine
	agents   map[cluster.HostID]Agent

	mu     sync.Mutex
	status map[string]lab.HostStatus // at the last look
	fired  map[string]int            // how often a watchdog has reset the host
}

func newLabStage(opt Options, w witness, s *screen) *labStage {
	return &labStage{witness: w, opt: opt, screen: s, agents: map[cluster.HostID]Agent{},
		status: map[string]lab.HostStatus{}, fired: map[string]int{}}
}

func (s *labStage) Driver() string { return "libvirt" }

func labLimits() limits {
	return limits{run: 10 * time.Minute, boot: 3 * time.Minute, powerBack: 2 * time.Minute, rejoin: time.Minute,
		noise: 500 * time.Millisecond}
}

func (s *labStage) Machines() []machine {
	var all []machine
	for _, m := range s.machines {
		all = append(all, m)
	}
	return all
}

func (s *labStage) Agents() map[cluster.HostID]Agent { return s.agents }

func (s *labStage) Console(host cluster.HostID) (url, ca string) {
	return s.lab.ConsoleURL(string(host)), s.lab.AdminTLS().CA
}

// Kept is nothing: a laboratory is removed as a whole.
func (s *labStage) Kept() string { return "" }

func (s *labStage) Prepare(ctx context.Context) error {
	var err error
	if s.dir, err = os.MkdirTemp(labParent, "holdfast-demo-"); err != nil {
		return fmt.Errorf("make the demo's directory: %w", err)
	}
	s.explain()
	up, cancel := context.WithTimeout(ctx, labUpLimit)
	defer cancel()
	s.lab, err = lab.Up(up, lab.Options{Dir: s.dir, Hosts: hostCount, Exe: s.opt.Exe, Self: s.opt.Self, Agents: true})
	if err != nil {
		return err
	}
	node, err := config.LoadNode(s.lab.HostPath(s.lab.Hosts()[0], filepath.Base(lab.AgentConfig)))
	if err != nil {
		return err
	}
	s.uuid = loop.GuestUUID(node.Cluster)
	for _, h := range s.lab.Hosts() {
		s.machines = append(s.machines, &labMachine{stage: s, host: h})
		s.agents[cluster.HostID(h)] = &labAgent{dial: s.opt.Dial, socket: func() (string, error) { return s.agentSocket(h) }}
	}
	return s.lookAtHosts(ctx)
}

func (s *labStage) explain() {
	s.screen.Print(
		"driver: libvirt. The VM is a small Linux in QEMU (plain emulation, no KVM). The",
		"        three hosts are namespaces of this machine, each with its own libvirtd,",
		"        agent and store; their cables can be cut, their watchdog devices are",
		"        simulated.",
		"files:  "+s.dir+", removed at the end")
	s.screen.Note("        after a kill -9 the hosts remain; remove them with:")
	s.screen.Note(fmt.Sprintf("        %s --dir %s down", lab.FromHere(s.opt.Self), s.dir))
	if found, err := os.ReadDir(lab.DefaultCache); err != nil || len(found) == 0 {
		s.screen.Note("        the VM is built, once per machine: apt-get fetches a kernel, which may take minutes")
	}
	s.screen.Print("")
}

// agentSocket is the way to an agent through the root directory of its host's
// first process. It is another one after each boot.
func (s *labStage) agentSocket(host string) (string, error) {
	st := s.hostStatus(host)
	if !st.On {
		return "", fmt.Errorf("host %s has no power", host)
	}
	return fmt.Sprintf("/proc/%d/root/%s", st.PID, labAgentPath), nil
}

func (s *labStage) hostStatus(host string) lab.HostStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status[host]
}

// LastWords is the last line that the agent wrote.
func (s *labStage) LastWords(host cluster.HostID) string {
	return lastLine(s.lab.HostPath(string(host), "log", lab.AgentDaemon+".log"))
}

// CrashVM makes the VM's kernel panic, as it would on a broken driver.
func (s *labStage) CrashVM(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	said, err := s.lab.GuestGet(ctx, "/cgi-bin/crash")
	if err != nil {
		return fmt.Errorf("crash the VM: %w", err)
	}
	if strings.TrimSpace(said) != "crash" {
		return fmt.Errorf("crash the VM: it answers %q", said)
	}
	s.note(fromDemo, "crash", "", "the VM's kernel panics")
	return nil
}

// Close removes the laboratory. Its deadline is its own, since the run's context
// may have ended already.
func (s *labStage) Close() error {
	if s.dir == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), labDownLimit)
	defer cancel()
	l, err := lab.Open(s.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist): // none was made, or it was removed by its maker
	case err != nil:
		return s.left(err)
	default:
		if err := l.Down(ctx); err != nil {
			return s.left(err)
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the demo's directory: %w", err)
	}
	return nil
}

func (s *labStage) left(err error) error {
	return fmt.Errorf("%w; remove what is left with: %s --dir %s down", err, s.opt.Self, s.dir)
}
