package libvirt

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
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

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

const (
	testUUID = "98000000-0000-4000-8000-00000000c0de"
	testName = "mnvm"
)

// host is a simulated host, seen from the test.
type host struct {
	t      *testing.T
	dir    string
	number int
	addr   string
	cmd    *exec.Cmd
	in     io.WriteCloser

	mu   sync.Mutex
	next int
	wait map[int]chan reply
}

// needHosts skips, with the reason, where no host can be simulated. more are needs besides those of each host.
func needHosts(t *testing.T, more ...need.Need) {
	t.Helper()
	need.Real(t, append([]need.Need{need.Root, need.Programs("libvirt-daemon-system", "libvirtd", "virtlogd"), need.Programs("qemu-system-x86", "qemu-system-x86_64"),
		need.Programs("qemu-utils", "qemu-img"), need.Programs("iproute2", "ip"), need.Programs("util-linux", "nsenter")}, more...)...)
}

// needArm64 is needHosts, for guests of arm64.
func needArm64(t *testing.T) {
	t.Helper()
	needHosts(t, need.Programs("qemu-system-arm", "qemu-system-aarch64"))
}

// newHosts starts n simulated hosts, each with a bridge br0. The first two are
// joined by a cable.
func newHosts(t *testing.T, n int) []*host {
	t.Helper()
	return newHostsLocking(t, n, "")
}

// newHostsLocking is newHosts, with virtlockd unless lockspace is "".
func newHostsLocking(t *testing.T, n int, lockspace string) []*host {
	t.Helper()
	return newHostsWith(t, n, func(h *host, files map[string]string) {
		if lockspace != "" {
			files["virtlockd.conf"] = "" // tells the host to start it
			files["qemu.conf"] += "lock_manager = \"lockd\"\n"
			files["qemu-lockd.conf"] = "# where\nfile_lockspace_dir = \"" + lockspace + "\"\n"
		}
	})
}

// newHostsWith is newHosts, with changes to the files of /etc/libvirt.
func newHostsWith(t *testing.T, n int, edit func(h *host, files map[string]string)) []*host {
	t.Helper()
	needHosts(t)
	var hosts []*host
	for i := range n {
		hosts = append(hosts, newHost(t, i+1, edit))
	}
	for _, h := range hosts {
		h.must(request{Op: "ready"})
		h.ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "forward_delay", "0")
		// A bridge without an address of its own takes the lowest of its ports', and
		// changes it when the guest's comes: then the other host can not reach it for
		// seconds.
		h.ip("link", "set", "br0", "address", fmt.Sprintf("52:54:00:98:70:%02x", h.number))
		h.ip("addr", "add", h.addr+"/24", "dev", "br0")
		h.ip("link", "set", "br0", "up")
	}
	if n >= 2 {
		run(t, "ip", "link", "add", "eth0", "netns", hosts[0].pid(), "type", "veth", "peer", "name", "eth0", "netns", hosts[1].pid())
		for _, h := range hosts[:2] {
			h.ip("link", "set", "eth0", "master", "br0", "up")
		}
	}
	for _, h := range hosts {
		h.must(request{Op: "new"})
	}
	return hosts
}

func newHost(t *testing.T, number int, edit func(h *host, files map[string]string)) *host {
	t.Helper()
	addr := fmt.Sprintf("10.98.7.%d", number)
	h := &host{t: t, dir: t.TempDir(), number: number, addr: addr, wait: map[int]chan reply{}}
	for _, d := range []string{"etc/qemu", "lib", "cache", "log/qemu", "dev"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.configure(edit)
	h.giveProbed()
	h.cmd = exec.Command("/proc/self/exe")
	h.cmd.Env = append(os.Environ(), hostEnv+"="+h.dir)
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

func (h *host) probedDir() string { return filepath.Join(h.dir, "cache/qemu/capabilities") }

func (h *host) giveProbed() {
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
func (h *host) keepProbed() {
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

func (h *host) daemonLogs() string {
	var all strings.Builder
	for _, f := range []string{"libvirtd.out", "log/qemu/" + testName + ".log"} {
		if b, err := os.ReadFile(filepath.Join(h.dir, f)); err == nil {
			fmt.Fprintf(&all, "--- %s\n%s", f, b)
		}
	}
	return all.String()
}

func (h *host) configure(edit func(h *host, files map[string]string)) {
	files := map[string]string{
		"libvirtd.conf": `listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
keepalive_interval = 2
keepalive_count = 3
host_uuid = "` + fmt.Sprintf("1abc0000-0000-4000-8000-%012d", h.number) + `"
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
migration_host = "` + h.addr + `"
`,
		"virtlogd.conf": "", "libvirt.conf": "",
	}
	edit(h, files)
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(h.dir, "etc", name), []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
}

func (h *host) pid() string { return strconv.Itoa(h.cmd.Process.Pid) }

func (h *host) ip(args ...string) {
	h.t.Helper()
	run(h.t, "nsenter", append([]string{"-t", h.pid(), "-n", "ip"}, args...)...)
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

func (h *host) read(out io.Reader) {
	for in := bufio.NewScanner(out); in.Scan(); {
		var a reply
		if err := json.Unmarshal(in.Bytes(), &a); err != nil {
			continue // the tests that wait for it say what is missing
		}
		h.mu.Lock()
		h.wait[a.ID] <- a
		h.mu.Unlock()
	}
}

// begin asks for something and returns at once.
func (h *host) begin(r request) <-chan reply {
	h.t.Helper()
	if r.Timeout == 0 {
		r.Timeout = 2 * time.Minute
	}
	c := make(chan reply, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	r.ID = h.next
	h.wait[r.ID] = c
	b, err := json.Marshal(r)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := h.in.Write(append(b, '\n')); err != nil {
		h.t.Fatalf("the host is gone: %v", err)
	}
	return c
}

// do asks for something and waits. A call whose context has ended returns although what it asked still hangs:
// a test lets that go on only after the answer.
func (h *host) do(r request) (reply, error) {
	h.t.Helper()
	if r.Timeout == 0 {
		r.Timeout = 2 * time.Minute
	}
	return h.end(r, h.begin(r))
}

func (h *host) end(r request, c <-chan reply) (reply, error) {
	h.t.Helper()
	a := <-c
	return a, a.err()
}

func (h *host) must(r request) reply {
	h.t.Helper()
	a, err := h.do(r)
	if err != nil {
		h.t.Fatalf("%s: %v", r.Op, err)
	}
	return a
}

// until observes until the guest is as asked for.
func (h *host) until(what string, ok func(cluster.Guest) bool) cluster.Guest {
	h.t.Helper()
	var a reply
	try.Until(h.t, "a guest that is "+what, func() (done bool) {
		var err error
		a, err = h.do(request{Op: "observe", Timeout: 2 * time.Second})
		return err == nil && ok(a.Guest)
	})
	return a.Guest
}

func is(s cluster.GuestState) func(cluster.Guest) bool {
	return func(g cluster.Guest) bool { return g.State == s }
}

func (a reply) err() error {
	if a.Err == "" {
		return nil
	}
	kinds := []error{errors.New(a.Err)}
	if a.NotStarted {
		kinds = append(kinds, cluster.ErrNotStarted)
	}
	if a.NotProved {
		kinds = append(kinds, cluster.ErrNotProved)
	}
	return errors.Join(kinds...)
}

// guest is a spec with an image of its own: qcow2 without a system in it.
func guest(t *testing.T) cluster.GuestSpec {
	t.Helper()
	image := filepath.Join(t.TempDir(), "mnvm.img")
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", image, "8M")
	seed := filepath.Join(t.TempDir(), "seed.iso")
	if err := os.WriteFile(seed, make([]byte, 64<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	return cluster.GuestSpec{
		Resource: cluster.MgmtVM, Epoch: cluster.Epoch{Gen: 1, Seq: 7}, UUID: testUUID, Name: testName,
		MemoryMiB: 64, CPUs: 1, Image: image, Seed: seed, Emulate: true,
		NICs: []cluster.NIC{{Bridge: "br0", MAC: "52:54:00:98:07:01"}},
	}
}

// filler makes the guest's image a raw one with a boot sector that writes into
// every page from 1 MiB to 48 MiB: once, then it halts, or at each tick of its clock for ever.
func filler(t *testing.T, spec *cluster.GuestSpec, forever bool) {
	t.Helper()
	code := []byte{
		0xfa,       // cli
		0x31, 0xc0, // xor ax,ax
		0x8e, 0xd8, // mov ds,ax
		0x0f, 0x01, 0x16, 0x80, 0x7c, // lgdt [0x7c80]
		0x0f, 0x20, 0xc0, // mov eax,cr0
		0x0c, 0x01, // or al,1: protected mode, to load a segment of 4 GiB
		0x0f, 0x22, 0xc0, // mov cr0,eax
		0xbb, 0x08, 0x00, // mov bx,8
		0x8e, 0xdb, // mov ds,bx
		0x24, 0xfe, // and al,0xfe: and back, the segment's limit stays
		0x0f, 0x22, 0xc0, // mov cr0,eax
		0x66, 0x31, 0xd2, // xor edx,edx
	}
	outer := len(code)
	code = append(code,
		0x66, 0x42, // inc edx
		0x66, 0xbf, 0, 0, 0x10, 0, // mov edi,1 MiB
	)
	inner := len(code)
	code = append(code,
		0x67, 0x66, 0x89, 0x17, // mov [edi],edx
		0x66, 0x81, 0xc7, 0, 0x10, 0, 0, // add edi,4096
		0x66, 0x81, 0xff, 0, 0, 0, 0x03, // cmp edi,48 MiB
	)
	code = append(code, 0x72, byte(inner-len(code)-2)) // jb inner
	if forever {
		// 18 rounds a second are more than a migration of these tests takes along.
		code = append(code, 0xfb, 0xf4, 0xfa)              // sti; hlt; cli: until the clock ticks
		code = append(code, 0xeb, byte(outer-len(code)-2)) // jmp outer
	}
	code = append(code, 0xf4, 0xeb, 0xfd) // hlt; jmp hlt
	disk := make([]byte, 1<<20)
	copy(disk, code)
	binary.LittleEndian.PutUint16(disk[0x80:], 15)                // size of the descriptor table - 1
	binary.LittleEndian.PutUint32(disk[0x82:], 0x7c88)            // its address
	copy(disk[0x90:], []byte{0xff, 0xff, 0, 0, 0, 0x92, 0xcf, 0}) // data, base 0, limit 4 GiB
	copy(disk[510:], []byte{0x55, 0xaa})                          // boot signature
	spec.Image = filepath.Join(t.TempDir(), "filler.img")
	if err := os.WriteFile(spec.Image, disk, 0o600); err != nil {
		t.Fatal(err)
	}
}
