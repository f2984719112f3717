package virthost

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// Host is a simulated host, seen from the test.
type Host struct {
	Dir    string // with the files that it has as its own
	Number int    // from 1 on
	Addr   string

	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser

	mu   sync.Mutex
	next int
	wait map[int]chan answer
}

// Need skips, with the reason, where no host can be simulated. more are needs besides those of each host.
func Need(t *testing.T, more ...need.Need) {
	t.Helper()
	need.Real(t, append([]need.Need{need.Root, need.Programs("libvirt-daemon-system", "libvirtd", "virtlogd"),
		need.Programs("qemu-system-x86", "qemu-system-x86_64"),
		need.Programs("qemu-utils", "qemu-img"), need.Programs("iproute2", "ip"), need.Programs("util-linux", "nsenter")}, more...)...)
}

// New starts n hosts, each with a bridge br0. The first two are joined by a cable. edit may change
// the files of /etc/libvirt; nil: nothing.
func New(t *testing.T, n int, edit func(h *Host, files map[string]string)) []*Host {
	t.Helper()
	Need(t)
	var hosts []*Host
	for i := range n {
		hosts = append(hosts, newHost(t, i+1, edit))
	}
	for _, h := range hosts {
		h.Must(Request{Op: "ready"})
		h.IP("link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
		// A bridge without an address of its own takes the lowest of its ports', and
		// changes it when the guest's comes: then the other host can not reach it for
		// seconds.
		h.IP("link", "set", "br0", "address", fmt.Sprintf("52:54:00:98:70:%02x", h.Number))
		h.IP("addr", "add", h.Addr+"/24", "dev", "br0")
		h.IP("link", "set", "br0", "up")
	}
	if n >= 2 {
		Run(t, "ip", "link", "add", "eth0", "netns", hosts[0].PID(), "type", "veth", "peer", "name", "eth0", "netns", hosts[1].PID())
		for _, h := range hosts[:2] {
			h.IP("link", "set", "eth0", "master", "br0", "up")
		}
	}
	return hosts
}

func newHost(t *testing.T, number int, edit func(h *Host, files map[string]string)) *Host {
	t.Helper()
	addr := fmt.Sprintf("10.98.7.%d", number)
	h := &Host{t: t, Dir: t.TempDir(), Number: number, Addr: addr, wait: map[int]chan answer{}}
	for _, d := range []string{"etc/qemu", "lib", "cache", "log/qemu", "dev"} {
		if err := os.MkdirAll(filepath.Join(h.Dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.configure(edit)
	h.giveProbed()
	h.cmd = exec.Command("/proc/self/exe")
	h.cmd.Env = append(os.Environ(), hostEnv+"="+h.Dir)
	h.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	var stderr bytes.Buffer
	h.cmd.Stderr = &stderr
	in, err := h.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		t.Fatalf("start a host: %v", err)
	}
	h.in = in
	read := make(chan struct{})
	go func() { defer close(read); h.read(out) }()
	t.Cleanup(func() { // the first process of the PID namespace takes all others along
		_ = h.cmd.Process.Kill()
		<-read
		_ = h.cmd.Wait() // "signal: killed"
		h.keepProbed()
		if said := stderr.String(); strings.Contains(said, "DATA RACE") || strings.Contains(said, "panic: ") {
			t.Error("the host found a data race or panicked")
		}
		if t.Failed() {
			t.Logf("host %s said:\n%s%s", addr, stderr.String(), h.daemonLogs())
		}
	})
	return h
}

// probed is what libvirtds have found out about this machine's emulators, by the names of its files. The first
// one that needs an emulator asks it for all that it can do, which takes more than a second of a processor; later
// hosts have its answers, as one has whose libvirtd is started again.
var probed = map[string][]byte{}

func (h *Host) probedDir() string { return filepath.Join(h.Dir, "cache/qemu/capabilities") }

func (h *Host) giveProbed() {
	h.t.Helper()
	if err := os.MkdirAll(h.probedDir(), 0o755); err != nil {
		h.t.Fatal(err)
	}
	for name, text := range probed {
		if err := os.WriteFile(filepath.Join(h.probedDir(), name), text, 0o600); err != nil {
			h.t.Fatal(err)
		}
	}
}

// keepProbed is for a host that has ended. Another program may have been in the emulator's place there, whose
// answers libvirtd does not take for the emulator's.
func (h *Host) keepProbed() {
	h.t.Helper()
	files, err := os.ReadDir(h.probedDir())
	if err != nil {
		h.t.Error(err)
	}
	for _, f := range files {
		if probed[f.Name()] != nil {
			continue
		}
		text, err := os.ReadFile(filepath.Join(h.probedDir(), f.Name()))
		if err != nil {
			h.t.Error(err)
		} else if bytes.HasSuffix(bytes.TrimSpace(text), []byte("</qemuCaps>")) { // it is whole
			probed[f.Name()] = text
		}
	}
}

func (h *Host) daemonLogs() string {
	var all strings.Builder
	logs, _ := filepath.Glob(filepath.Join(h.Dir, "log/qemu/*.log")) // the pattern is well formed
	for _, f := range append([]string{filepath.Join(h.Dir, "libvirtd.out")}, logs...) {
		if b, err := os.ReadFile(f); err == nil {
			fmt.Fprintf(&all, "--- %s\n%s", filepath.Base(f), b)
		}
	}
	return all.String()
}

func (h *Host) configure(edit func(h *Host, files map[string]string)) {
	files := map[string]string{
		"libvirtd.conf": `listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
keepalive_interval = 2
keepalive_count = 3
host_uuid = "` + fmt.Sprintf("1abc0000-0000-4000-8000-%012d", h.Number) + `"
`,
		"qemu.conf": `security_driver = "none"
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "logd"
keepalive_interval = 2
keepalive_count = 3
migration_address = "0.0.0.0"
migration_host = "` + h.Addr + `"
`,
		"virtlogd.conf": "", "libvirt.conf": "",
	}
	if edit != nil {
		edit(h, files)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(h.Dir, "etc", name), []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
}

// PID is that of the host's first process, as the test sees it.
func (h *Host) PID() string { return strconv.Itoa(h.cmd.Process.Pid) }

// IP carries out ip(8) in the network of the host.
func (h *Host) IP(args ...string) {
	h.t.Helper()
	Run(h.t, "nsenter", append([]string{"-t", h.PID(), "-n", "ip"}, args...)...)
}

// Run carries out a program that must succeed.
func Run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (h *Host) read(out io.Reader) {
	for in := bufio.NewScanner(out); in.Scan(); {
		var a answer
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			continue // the tests that wait for it say what is missing
		}
		h.mu.Lock()
		h.wait[a.ID] <- a
		h.mu.Unlock()
	}
}

// answer is what comes back; More is of the test's own.
type answer struct {
	ID    int
	Reply Reply
	More  json.RawMessage
}

// Pending is what has been asked for and not been answered.
type Pending <-chan answer

// Begin asks for something and returns at once. more is for what the package of the test adds; nil: nothing.
func (h *Host) Begin(r Request, more any) Pending {
	h.t.Helper()
	if r.Timeout == 0 {
		r.Timeout = 2 * time.Minute
	}
	body, err := json.Marshal(more)
	if err != nil {
		h.t.Fatal(err)
	}
	c := make(chan answer, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	h.wait[h.next] = c
	b, err := json.Marshal(question{ID: h.next, Request: r, More: body})
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.in.Write(append(b, '\n')); err != nil {
		h.t.Fatalf("the host is gone: %v", err)
	}
	return c
}

// End waits for the answer, and reads what it has of the test's own into more, unless that is nil.
func (h *Host) End(p Pending, more any) Reply {
	h.t.Helper()
	a := <-p
	if more != nil && a.More != nil {
		if err := json.Unmarshal(a.More, more); err != nil {
			h.t.Fatal(err)
		}
	}
	return a.Reply
}

// Must asks for something that this package knows, which must succeed.
func (h *Host) Must(r Request) Reply {
	h.t.Helper()
	a := h.End(h.Begin(r, nil), nil)
	if a.Err != "" {
		h.t.Fatalf("%s: %s", r.Op, a.Err)
	}
	return a
}

// PowerOff ends the host as a loss of power does: nothing of it is heard any more.
func (h *Host) PowerOff() {
	h.IP("link", "set", "eth0", "down")
	_ = h.cmd.Process.Kill()
}
