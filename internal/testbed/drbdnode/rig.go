package drbdnode

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/testbed/try"
)

// bootWithin is how long a node may take to boot, or for a command, on a machine that is busy.
const bootWithin = 5 * time.Minute

// Node is a host. Its name is n1 or n2, the address of its link 10.97.1.1 or 10.97.1.2, and
// its disk /dev/vda.
type Node struct {
	t     testing.TB
	id    int
	dir   string
	files string // kernel and initramfs
	port  int    // of this machine's loopback, for commands
	cmd   *exec.Cmd
	gone  chan struct{}
	errs  bytes.Buffer
}

// New makes two nodes with empty disks, and boots them. pkg is the Go package whose test
// program runs inside; its TestMain calls Serve.
func New(t testing.TB, pkg string) [2]*Node {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	made, err := exec.Command(filepath.Join(filepath.Dir(here), "node.sh")).CombinedOutput()
	if err != nil {
		t.Fatalf("node.sh: %v: %s", err, made)
	}
	dir := try.ShortDir(t)
	from := strings.TrimSpace(string(made))
	image(t, from, dir, pkg)
	var nodes [2]*Node
	for i := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		try.Must(t, err)
		nodes[i] = &Node{t: t, id: i + 1, dir: dir, files: from, port: l.Addr().(*net.TCPAddr).Port}
		try.Must(t, l.Close())
		try.Must(t, os.WriteFile(nodes[i].disk(), nil, 0o600))
		try.Must(t, os.Truncate(nodes[i].disk(), 64<<20))
		t.Cleanup(nodes[i].Crash)
	}
	for _, n := range nodes {
		n.Boot()
	}
	for _, n := range nodes {
		n.Wait()
	}
	return nodes
}

// image puts the program into a second initramfs behind the first one: the kernel unpacks both.
func image(t testing.TB, from, dir, pkg string) {
	t.Helper()
	build := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, "node"), "-ldflags", "-s -w", pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", build.Args, err, out)
	}
	pack := exec.Command("busybox", "cpio", "-o", "-H", "newc")
	pack.Dir, pack.Stdin = dir, strings.NewReader("node\n")
	second, err := pack.Output()
	try.Must(t, err)
	first, err := os.ReadFile(filepath.Join(from, "initrd.gz"))
	try.Must(t, err)
	first = append(first, make([]byte, -len(first)&3)...) // archives begin at multiples of 4
	try.Must(t, os.WriteFile(filepath.Join(dir, "initrd"), append(first, second...), 0o600))
}

func (n *Node) disk() string            { return filepath.Join(n.dir, fmt.Sprintf("disk%d", n.id)) }
func (n *Node) link(id int) string      { return filepath.Join(n.dir, fmt.Sprintf("link%d", id)) }
func (n *Node) monitor() string         { return filepath.Join(n.dir, fmt.Sprintf("monitor%d", n.id)) }
func (n *Node) console() string         { return filepath.Join(n.dir, fmt.Sprintf("console%d", n.id)) }
func (n *Node) mac(net int) string      { return fmt.Sprintf("52:54:00:97:0%d:0%d", net, n.id) }
func (n *Node) Name() string            { return fmt.Sprintf("n%d", n.id) }
func (n *Node) url() string             { return fmt.Sprintf("http://127.0.0.1:%d/", n.port) }
func (n *Node) fail(f string, a ...any) { n.t.Helper(); n.t.Fatalf(n.Name()+": "+f, a...) }

// Boot starts the node.
func (n *Node) Boot() {
	n.t.Helper()
	n.cmd = exec.Command("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=128", "-cpu", "max,la57=off", "-m", "224", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", filepath.Join(n.files, "vmlinuz"), "-initrd", filepath.Join(n.dir, "initrd"),
		"-append", fmt.Sprintf("console=ttyS0 quiet panic=1 mitigations=off no_timer_check net.ifnames=0 node=%d", n.id),
		"-serial", "file:"+n.console(), "-monitor", "unix:"+n.monitor()+",server=on,wait=off",
		"-drive", "file="+n.disk()+",format=raw,if=none,id=d,cache=writeback", "-device", "virtio-blk-pci,drive=d",
		"-netdev", fmt.Sprintf("user,id=way,restrict=on,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:7777", n.port),
		"-device", "virtio-net-pci,netdev=way,romfile=,addr=6,mac="+n.mac(1),
		"-netdev", "dgram,id=link,local.type=unix,local.path="+n.link(n.id)+",remote.type=unix,remote.path="+n.link(3-n.id),
		"-device", "virtio-net-pci,netdev=link,id=nic,romfile=,addr=7,mac="+n.mac(2),
		"-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng")
	n.errs.Reset()
	n.cmd.Stderr = &n.errs
	try.Must(n.t, n.cmd.Start())
	gone, cmd := make(chan struct{}), n.cmd
	n.gone = gone
	go func() {
		defer close(gone)
		_ = cmd.Wait() // it is killed
	}()
}

// Wait waits until the node takes commands.
func (n *Node) Wait() {
	n.t.Helper()
	for end := time.Now().Add(bootWithin); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, _, err := n.run(ctx, "true")
		cancel()
		select {
		case <-n.gone:
			n.fail("QEMU has ended: %s", n.errs.String())
		default:
		}
		switch {
		case err == nil:
			return
		case time.Now().After(end):
			said, _ := os.ReadFile(n.console())
			n.fail("no answer after %s: %v: %s %s", bootWithin, err, n.errs.String(), said)
		}
	}
}

// Crash takes the power away.
func (n *Node) Crash() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill() // it may have ended
	<-n.gone
	n.cmd = nil
}

// Cut cuts the link to the other node, or heals it; the way of commands stays.
func (n *Node) Cut(cut bool) {
	n.t.Helper()
	state := "on"
	if cut {
		state = "off"
	}
	c, err := net.Dial("unix", n.monitor())
	try.Must(n.t, err)
	defer c.Close()
	try.Must(n.t, c.SetDeadline(time.Now().Add(time.Minute)))
	r := bufio.NewReader(c)
	for range 2 { // what is said after the second prompt comes when the command was carried out
		_, err = r.ReadString(')')
		try.Must(n.t, err)
		_, err = fmt.Fprintf(c, "set_link nic %s\n", state)
		try.Must(n.t, err)
	}
}

// request begins a command.
func (n *Node) request(ctx context.Context, args []string) (*http.Response, error) {
	body, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Close = true
	return http.DefaultClient.Do(req)
}

func (n *Node) run(ctx context.Context, args ...string) (out string, code int, err error) {
	resp, err := n.request(ctx, args)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return string(b), 0, err
	}
	code, err = strconv.Atoi(resp.Trailer.Get(exitTrailer))
	return string(b), code, err
}

// Try runs a command, and gives what it said and its exit code.
func (n *Node) Try(args ...string) (out string, code int) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootWithin)
	defer cancel()
	out, code, err := n.run(ctx, args...)
	if err != nil {
		said, _ := os.ReadFile(n.console())
		n.fail("%q: %v: %s; console: %s", args, err, out, said[max(0, len(said)-2000):])
	}
	return strings.TrimSpace(out), code
}

// Run runs a command that must end well, and gives what it said.
func (n *Node) Run(args ...string) string {
	n.t.Helper()
	out, code := n.Try(args...)
	if code != 0 {
		n.fail("%q: exit code %d: %s", args, code, out)
	}
	return out
}

// Stream runs a command until ctx, it or the node ends, and hands each line on that it
// says. The channel is closed at the end.
func (n *Node) Stream(ctx context.Context, args ...string) <-chan string {
	n.t.Helper()
	lines := make(chan string, 1<<16)
	resp, err := n.request(ctx, args)
	try.Must(n.t, err)
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}
