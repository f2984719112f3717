package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/lib/proc"
)

// hostProcesses lists the processes of the PID namespace of a host, its PID 1
// included. Processes that end meanwhile are left out.
func hostProcesses(init Process) ([]Process, error) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init.PID))
	if err != nil {
		if !init.alive() {
			return nil, nil
		}
		return nil, fmt.Errorf("read namespace of process %d: %w", init.PID, err)
	}
	pids, err := proc.Here.PIDs()
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, pid := range pids {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || ns != space {
			continue
		}
		if p, err := identify(pid); err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}

// innerPID is the pid that a process has inside its own namespace; 0 when the
// process is gone.
func innerPID(pid int) int {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(rest)
			inner, err := strconv.Atoi(f[len(f)-1])
			if err != nil {
				return 0
			}
			return inner
		}
	}
	return 0
}

// qemuProcess is a QEMU that runs a guest on a host.
type qemuProcess struct {
	Process
	host     string
	incoming bool   // started to receive a migration
	line     string // command line, arguments each ended by a zero byte
}

// spaces are the PID namespaces of processes, which they never leave. Who looks again and again keeps
// them from one look to the next: most processes of the machine are no host's.
type spaces map[int]string

// next is what is known of the processes that are still there, and what it has to find out of others.
func (s spaces) next(pids []int) spaces {
	now := make(spaces, len(pids))
	for _, pid := range pids {
		ns, ok := s[pid]
		if !ok {
			var err error
			if ns, err = os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil {
				continue // it has ended
			}
		}
		now[pid] = ns
	}
	return now
}

// qemuProcesses finds the QEMU processes of all hosts in the machine's process
// table: it asks nothing inside a host, so it works whatever hangs there.
func qemuProcesses(s *state) ([]qemuProcess, error) {
	all, _, err := lookForQEMU(s, nil)
	return all, err
}

// lookForQEMU is qemuProcesses with what the last look has left for the next one. That must not be so old that
// the number of a process can have been given to another one meanwhile.
func lookForQEMU(s *state, known spaces) ([]qemuProcess, spaces, error) {
	hosts := map[string]string{}
	for h, hs := range s.Hosts {
		if !hs.Init.alive() {
			continue
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", hs.Init.PID)); err == nil {
			hosts[ns] = h
		}
	}
	pids, err := proc.Here.PIDs()
	if err != nil {
		return nil, nil, err
	}
	known = known.next(pids)
	var all []qemuProcess
	for _, pid := range pids {
		host := hosts[known[pid]]
		if host == "" {
			continue
		}
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || !bytes.HasPrefix(comm, []byte("qemu-system-")) {
			continue
		}
		id, err1 := identify(pid)
		line, err2 := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err1 != nil || err2 != nil || !bytes.Contains(line, []byte("\x00-uuid\x00")) {
			continue // ended meanwhile, or no guest: libvirt asks QEMU for its abilities in a process of its own
		}
		all = append(all, qemuProcess{Process: id, host: host, line: string(line),
			incoming: bytes.Contains(line, []byte("\x00-incoming\x00"))})
	}
	return all, known, nil
}

// of reports whether the process runs the guest with the UUID.
func (q qemuProcess) of(uuid string) bool {
	return strings.Contains(q.line, "\x00-uuid\x00"+uuid+"\x00")
}
