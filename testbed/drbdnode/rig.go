package drbdnode

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/try"
)

// commandWithin is how long a command of a node may take: one that hangs fails its test with what the node says.
const commandWithin = 15 * time.Minute

// CPU is the processor of an emulated host. A kernel that has `erms` copies and clears memory byte by byte, for which an
// emulator takes seven times as long as for words (`dd if=/dev/zero of=/dev/null bs=1M`: 240 MB/s, 1.6 GB/s without).
const CPU = "max,la57=off,erms=off,fsrm=off"

// translations is how much of what was translated an emulator keeps, in MiB. When that is full it begins anew: with 128,
// in which two of our programs and a system do not fit, a host took 52 s for its start instead of 30.
const translations = "1024"

// Words are what the kernel of an emulated host is told. A Go program has a thread that sleeps for 20 us again and again; without
// `highres` it sleeps until the next tick, and an idle pair takes 23 to 25 s of each emulated processor's minute instead of 33.
const Words = "console=ttyS0 quiet panic=1 mitigations=off no_timer_check highres=off net.ifnames=0"

// WriterRests is between two rows of a client on a node, and LookAgain between two looks at one: each is a program that begins on
// an emulated processor, which others need to come to the state that is waited for.
const (
	WriterRests = 20 * time.Millisecond
	LookAgain   = 500 * time.Millisecond
)

// Options are what the nodes have.
type Options struct {
	Pkg    string      // Go package whose test program runs inside; its TestMain calls Serve
	Files  []string    // files and directories of this machine that are there, too, with the libraries that programs need
	Memory int         // MiB, default 224
	Disk   int64       // bytes, default 64 MiB
	Home   int64       // bytes of a second disk, /dev/vdb; 0: none
	Spare  int64       // bytes of a third one, /dev/vdc, beside Home; 0: none
	Taps   [2]*os.File // their cards' other ends, in place of the link between the two
	// System has the nodes boot Debian with systemd, sshd and MariaDB, from /dev/vdb. Files are there
	// without libraries. Both have /dev/vdc, one disk with a serial number.
	System bool
	Addrs  [2]string // of the link of such nodes, ADDRESS/LENGTH
}

// Node is a host. Its name is n1 or n2, the address of its link 10.97.1.1 or 10.97.1.2, and
// its disk /dev/vda.
type Node struct {
	t     testing.TB
	id    int
	opt   Options
	dir   string
	files string // kernel and initramfs
	port  int    // of this machine's loopback, for commands
	cmd   *exec.Cmd
	gone  chan struct{}
	errs  bytes.Buffer
}

// New makes two nodes with empty disks, and boots them. pkg is the Go package whose test
// program runs inside; its TestMain calls Serve.
func New(t testing.TB, pkg string) [2]*Node { t.Helper(); return Make(t, Options{Pkg: pkg}) }

// EmptyDatabase makes an empty database on this machine, into a directory: an emulated host takes
// minutes for its own.
func EmptyDatabase(t testing.TB, dir string) {
	t.Helper()
	args := []string{"--no-defaults", "--user=root", "--datadir=" + dir, "--skip-test-db", "--auth-root-authentication-method=socket",
		"--innodb-log-file-size=4M", "--innodb-data-file-path=ibdata1:6M:autoextend"}
	if out, err := exec.CommandContext(t.Context(), "mariadb-install-db", args...).CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v: %s", err, out)
	}
}

// Make makes two nodes with empty disks, and boots them.
func Make(t testing.TB, opt Options) [2]*Node {
	t.Helper()
	script := "node.sh"
	if opt.System {
		script = "system.sh"
	}
	made, err := exec.Command(filepath.Join(try.Module(t), "testbed/drbdnode", script)).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, made)
	}
	dir := try.ShortDir(t)
	from := strings.TrimSpace(string(made))
	opt.Memory, opt.Disk = cmp.Or(opt.Memory, 224), cmp.Or(opt.Disk, 64<<20)
	image(t, from, dir, opt)
	var nodes [2]*Node
	for i := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		try.Must(t, err)
		n := &Node{t: t, id: i + 1, opt: opt, dir: dir, files: from, port: l.Addr().(*net.TCPAddr).Port}
		nodes[i] = n
		try.Must(t, l.Close())
		empty(t, n.disk(), opt.Disk)
		empty(t, n.spare(), opt.Spare)
		n.Reinstall()
		if opt.System {
			empty(t, n.shared(), 1<<20)
		}
		t.Cleanup(n.Crash)
	}
	for _, n := range nodes {
		n.Boot()
	}
	for _, n := range nodes {
		n.Wait()
	}
	return nodes
}

// Reinstall gives a node that has no power its second disk anew: an empty one, or the system.
func (n *Node) Reinstall() {
	n.t.Helper()
	if !n.opt.System {
		empty(n.t, n.home(), n.opt.Home)
		return
	}
	out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
		filepath.Join(n.files, "disk.img"), n.home()).CombinedOutput()
	if err != nil {
		n.fail("qemu-img: %v: %s", err, out)
	}
}

// In has what goes wrong on the node fail a part of its test, while that part runs.
func (n *Node) In(part testing.TB) {
	whole := n.t
	n.t = part
	part.Cleanup(func() { n.t = whole })
}

// anew takes everything away that parts of a test leave on a node. It fails where something is still in use.
const anew = `cd /
i=0
while grep -q ' /mnt ' /proc/mounts && [ $i -lt 100 ]; do umount /mnt; i=$((i+1)); sleep 0.1; done
drbdsetup down r0
grep -q ' /mnt ' /proc/mounts && exit 1
grep -q '^ *0: cs:[^U]' /proc/drbd && exit 1
drbdsetup status r0 && exit 1
rm -rf /etc/drbd.d/*.res /run/* /var/run/* /var/lock/* /var/lib/*
mkdir /var/lib/drbd
dd if=/dev/zero of=/dev/vda bs=1M count=$(($(cat /sys/block/vda/size) / 2048)) conv=notrunc,fsync`

// Anew gives a node, none of System, an empty disk, and all else as it was after its boot: the next part of a test begins
// without a boot, which takes an emulated processor longer than most of what is tested. One that does not let go of what it has is
// booted.
func (n *Node) Anew() {
	n.t.Helper()
	if n.On() {
		n.Cut(false)
		ctx, cancel := context.WithTimeout(context.Background(), commandWithin)
		defer cancel()
		if out, code, err := n.run(ctx, "sh", "-c", anew); err != nil || code != 0 {
			n.t.Logf("%s is booted anew: %v: %s", n.Name(), err, out)
			n.Crash()
		}
	}
	if !n.On() {
		n.Crash()
		empty(n.t, n.disk(), n.opt.Disk)
		n.Boot()
		n.Wait()
	}
}

// empty makes a file of that many zeros.
func empty(t testing.TB, file string, size int64) {
	t.Helper()
	try.Must(t, os.WriteFile(file, nil, 0o600))
	try.Must(t, os.Truncate(file, size))
}

// image puts the program and the files into a second initramfs behind the first one: the
// kernel unpacks both.
func image(t testing.TB, from, dir string, opt Options) {
	t.Helper()
	extra := filepath.Join(dir, "extra")
	root, add := extra, addFile
	if opt.System {
		root, add = filepath.Join(extra, "extra"), `mkdir -p ".${1%/*}" && cp -RL "$1" ".$1"`
	}
	try.Must(t, os.MkdirAll(root, 0o755))
	program(t, filepath.Join(root, "node"), opt.Pkg)
	for _, f := range opt.Files {
		cmd := exec.Command("sh", "-c", add, "sh", f)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("put %s into the image: %v: %s", f, err, out)
		}
	}
	pack := exec.Command("sh", "-c", "find . | busybox cpio -o -H newc")
	pack.Dir = extra
	second, err := pack.Output()
	try.Must(t, err)
	first, err := os.ReadFile(filepath.Join(from, "initrd.gz"))
	try.Must(t, err)
	first = append(first, make([]byte, -len(first)&3)...) // archives begin at multiples of 4
	try.Must(t, os.WriteFile(filepath.Join(dir, "initrd"), append(first, second...), 0o600))
	try.Must(t, os.RemoveAll(extra))
}

// program puts a package's test program into a file: this process' own, where it is that and needs no libraries.
func program(t testing.TB, file, pkg string) {
	t.Helper()
	if info, ok := debug.ReadBuildInfo(); ok && info.Path == pkg+".test" &&
		slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"}) {
		own, err := os.ReadFile("/proc/self/exe")
		try.Must(t, err)
		try.Must(t, os.WriteFile(file, own, 0o755))
		return
	}
	build := exec.Command("go", "test", "-vet=off", "-c", "-o", file, "-ldflags", "-s -w", pkg)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", build.Args, err, out)
	}
}

// addFile copies a file or a directory, and the libraries of a program. The directories of
// the libraries are no links in the initramfs.
const addFile = `set -e
for f in "$1" $(ldd "$1" 2>/dev/null | grep -o '/[^ ]*'); do
  mkdir -p ".${f%/*}"
  cp -RL "$f" ".$f"
done
`

func (n *Node) disk() string            { return filepath.Join(n.dir, fmt.Sprintf("disk%d", n.id)) }
func (n *Node) spare() string           { return filepath.Join(n.dir, fmt.Sprintf("n%d.spare", n.id)) }
func (n *Node) home() string            { return filepath.Join(n.dir, fmt.Sprintf("home%d", n.id)) }
func (n *Node) shared() string          { return filepath.Join(n.dir, "shared") }
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
	args := []string{"-machine", "q35", "-accel", "tcg,thread=multi,tb-size=" + translations, "-cpu", CPU, "-m",
		strconv.Itoa(n.opt.Memory), "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel",
		filepath.Join(n.files, "vmlinuz"), "-initrd", filepath.Join(n.dir, "initrd"),
		"-append", n.words(),
		"-serial", "file:" + n.console(), "-monitor", "unix:" + n.monitor() + ",server=on,wait=off",
		"-drive", "file=" + n.disk() + ",format=raw,if=none,id=d,cache=writeback", "-device", "virtio-blk-pci,drive=d",
		"-netdev", fmt.Sprintf("user,id=way,restrict=on,hostfwd=tcp:127.0.0.1:%d-10.0.2.15:7777", n.port),
		"-device", "virtio-net-pci,netdev=way,romfile=,addr=6,mac=" + n.mac(1),
		"-device", "virtio-net-pci,netdev=link,id=nic,romfile=,addr=7,mac=" + n.mac(2),
		"-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng",
	}
	if n.opt.System {
		args = append(args, "-uuid", fmt.Sprintf("00000000-0000-4000-8000-%012d", n.id),
			"-drive", "file="+n.home()+",format=qcow2,if=none,id=h,cache=unsafe", "-device", "virtio-blk-pci,drive=h",
			"-drive", "file="+n.shared()+",format=raw,if=none,id=s,cache=writeback,file.locking=off", "-device",
			"virtio-blk-pci,drive=s,share-rw=on,serial=shared")
	}
	if n.opt.Home > 0 {
		args = append(args, "-drive", "file="+n.home()+",format=raw,if=none,id=h,cache=writeback", "-device", "virtio-blk-pci,drive=h")
	}
	if n.opt.Spare > 0 {
		args = append(args, "-drive", "file="+n.spare()+",format=raw,if=none,id=t,cache=writeback", "-device", "virtio-blk-pci,drive=t")
	}
	tap := n.opt.Taps[n.id-1]
	if tap != nil {
		args = append(args, "-netdev", "tap,id=link,fd=3")
	} else {
		args = append(args, "-netdev", "dgram,id=link,local.type=unix,local.path="+n.link(n.id)+",remote.type=unix,remote.path="+n.link(3-n.id))
	}
	n.cmd = exec.Command("qemu-system-x86_64", args...)
	if tap != nil {
		n.cmd.ExtraFiles = []*os.File{tap}
	}
	n.errs.Reset()
	n.cmd.Stderr = &n.errs
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true} // it ends with the tests
	try.Must(n.t, n.cmd.Start())
	gone, cmd := make(chan struct{}), n.cmd
	n.gone = gone
	go func() {
		defer close(gone)
		_ = cmd.Wait() // it is killed
	}()
}

// words are what the kernel is told.
func (n *Node) words() string {
	w := fmt.Sprintf("%s node=%d", Words, n.id)
	if n.opt.System {
		w += fmt.Sprintf(" rw link=%s systemd.hostname=%s systemd.machine_id=%032x "+
			"systemd.mask=serial-getty@ttyS0.service systemd.journald.forward_to_console=1 systemd.journald.max_level_console=info",
			n.opt.Addrs[n.id-1], n.Name(), n.id)
	}
	return w
}

// Wait waits until the node takes commands.
func (n *Node) Wait() {
	n.t.Helper()
	try.Until(n.t, n.Name()+" to boot", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, _, err := n.run(ctx, "true")
		cancel()
		select {
		case <-n.gone:
			n.fail("QEMU has ended: %s", n.errs.String())
		default:
		}
		return err == nil
	})
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

// Stand makes the node stand still as a whole, or go on.
func (n *Node) Stand(still bool) {
	n.t.Helper()
	sig := syscall.SIGCONT
	if still {
		sig = syscall.SIGSTOP
	}
	try.Must(n.t, n.cmd.Process.Signal(sig))
}

// On reports that the node has power, and was not reset: a reset ends it.
func (n *Node) On() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.gone:
		return false
	default:
		return true
	}
}

// Cut cuts the link to the other node, or heals it; the way of commands stays.
func (n *Node) Cut(cut bool) {
	n.t.Helper()
	if cut {
		n.order("set_link nic off")
	} else {
		n.order("set_link nic on")
	}
}

// order has QEMU carry out a command of its monitor.
func (n *Node) order(command string) {
	n.t.Helper()
	c, err := net.Dial("unix", n.monitor())
	try.Must(n.t, err)
	defer c.Close()
	try.Must(n.t, c.SetDeadline(time.Now().Add(time.Minute)))
	r := bufio.NewReader(c)
	for range 2 { // what is said after the second prompt comes when the command was carried out
		_, err = r.ReadString(')')
		try.Must(n.t, err)
		_, err = fmt.Fprintln(c, command)
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

// Said is the end of what the node's kernel and system wrote to the console.
func (n *Node) Said() string {
	said, err := os.ReadFile(n.console())
	if err != nil {
		return err.Error()
	}
	return string(said[max(0, len(said)-6000):])
}

// Try runs a command, and gives what it said and its exit code.
func (n *Node) Try(args ...string) (out string, code int) {
	n.t.Helper()
	return n.Within(commandWithin, args...)
}

// Within is Try for a command that may take longer than most.
func (n *Node) Within(limit time.Duration, args ...string) (out string, code int) {
	n.t.Helper()
	out, code, err := n.within(limit, args)
	if err != nil {
		n.fail("%q: %v: %s; console: %s", args, err, out, n.Said())
	}
	return out, code
}

// Ask is Try for a node that may be reset meanwhile: err then says so.
func (n *Node) Ask(args ...string) (out string, code int, err error) {
	return n.within(commandWithin, args)
}

func (n *Node) within(limit time.Duration, args []string) (out string, code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out, code, err = n.run(ctx, args...)
	return strings.TrimSpace(out), code, err
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
