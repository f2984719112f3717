package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/procfs"
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
	pids, err := procfs.Here.PIDs()
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

// qemuProcesses finds the QEMU processes of all hosts in the machine's process
// table: it asks nothing inside a host, so it works whatever hangs there.
func qemuProcesses(s *state) ([]qemuProcess, error) {
	spaces := map[string]string{}
	for h, hs := range s.Hosts {
		if !hs.Init.alive() {
			continue
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", hs.Init.PID)); err == nil {
			spaces[ns] = h
		}
	}
	pids, err := procfs.Here.PIDs()
	if err != nil {
		return nil, err
	}
	var all []qemuProcess
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil || !bytes.HasPrefix(comm, []byte("qemu-system-")) {
			continue
		}
		ns, err := os.Readlink(filepath.Join(dir, "ns/pid"))
		if err != nil || spaces[ns] == "" {
			continue
		}
		id, err1 := identify(pid)
		line, err2 := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err1 != nil || err2 != nil || !bytes.Contains(line, []byte("\x00-uuid\x00")) {
			continue // ended meanwhile, or no guest: libvirt asks QEMU for its abilities in a process of its own
		}
		all = append(all, qemuProcess{Process: id, host: spaces[ns], line: string(line),
			incoming: bytes.Contains(line, []byte("\x00-incoming\x00"))})
	}
	return all, nil
}

// of reports whether the process runs the guest with the UUID.
func (q qemuProcess) of(uuid string) bool {
	return strings.Contains(q.line, "\x00-uuid\x00"+uuid+"\x00")
}
