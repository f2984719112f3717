package testroot_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/drbdnode"
	"holdfast/testbed/try"
)

// guest is a host under QEMU without KVM. Its first process is systemd; a shell of root is
// on its second serial port.
type guest struct {
	cmd   *exec.Cmd
	conn  net.Conn
	said  []byte        // by the shell, not read yet
	tries int           // commands that it was asked for
	gone  chan struct{} // it has ended: also when it was reset
	log   string        // its console
}

// boot starts the host. Files of a directory are a disk that it sees at /drill. What it
// changes is lost with it.
func boot(t *testing.T, files string) *guest {
	t.Helper()
	made, dir := filepath.Dir(clean), t.TempDir()
	disk := filepath.Join(dir, "drill.img")
	for _, args := range [][]string{{"truncate", "-s", "300M", disk}, {"mkfs.ext4", "-q", "-m", "0", "-d", files, disk}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	g := &guest{gone: make(chan struct{}), log: filepath.Join(dir, "console")}
	// The path of a socket is short.
	short, err := os.MkdirTemp("", "guest-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	g.cmd = exec.Command("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=256", "-cpu",
		drbdnode.CPU, "-m", "1536", "-smp", "2",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", filepath.Join(made, "vmlinuz"),
		"-initrd", filepath.Join(made, "initrd.gz"),
		"-append", drbdnode.Words+" rw systemd.debug_shell=ttyS1 systemd.mask=serial-getty@ttyS0.service "+
			"systemd.journald.forward_to_console=1 systemd.journald.max_level_console=info",
		"-serial", "file:"+g.log, "-serial", "unix:"+short+"/shell,server=on,wait=off",
		"-drive", "file="+filepath.Join(made, "disk.img")+",format=raw,if=virtio,snapshot=on,file.locking=off",
		"-drive", "file="+disk+",format=raw,if=virtio,readonly=on",
		"-object", "rng-random,filename=/dev/urandom,id=rng", "-device", "virtio-rng-pci,rng=rng")
	var errs bytes.Buffer
	g.cmd.Stderr = &errs
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true} // it ends with the tests
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(g.gone)
		_ = g.cmd.Wait() // how it ends is no matter: it is killed, or reset
	}()
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill() // it may have ended
		<-g.gone
		console, err := os.ReadFile(g.log)
		if t.Failed() {
			t.Logf("%s; console, %v:\n%s", errs.String(), err, console[max(0, len(console)-12000):])
		}
	})
	g.connect(t, short+"/shell")
	return g
}

// connect waits for the shell.
func (g *guest) connect(t *testing.T, socket string) {
	t.Helper()
	try.Until(t, "QEMU", func() (ok bool) {
		var err error
		g.conn, err = net.Dial("unix", socket)
		return err == nil
	})
	t.Cleanup(func() { g.conn.Close() })
	// What is sent before there is a shell is lost, in part as well, so it has no quotes.
	for asked := (time.Time{}); !bytes.Contains(g.said, []byte("\n@ready@")); g.read(t, time.Second) {
		if time.Since(asked) > 4*time.Second {
			asked = time.Now()
			fmt.Fprint(g.conn, "\nexec sh\nstty -echo -onlcr; PS1= PS2= is=ready; echo; echo @$is@\n")
		}
	}
	// Its answers to later requests are not those of a command.
	for g.read(t, 3*time.Second) {
	}
	g.said = nil
}

// read takes what the shell says, and reports whether it said anything in time.
func (g *guest) read(t *testing.T, within time.Duration) bool {
	t.Helper()
	if err := g.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := g.conn.Read(buf)
	g.said = append(g.said, buf[:n]...)
	if err != nil && !os.IsTimeout(err) {
		t.Fatalf("the host is gone: %v", err)
	}
	return n > 0
}

// try runs a command in the host's shell. What stands before its beginning, and after its end, is of the shell: one of several that
// were asked for in connect may have begun late, with prompts.
func (g *guest) try(t *testing.T, command string) (out string, code int) {
	t.Helper()
	g.tries++
	fmt.Fprintf(g.conn, "PS1= PS2=; printf '\n@%%s@\n' %d\n( %s\n) </dev/null 2>&1; printf '\n@%%s@\n' %d.$?\n", g.tries, command, g.tries)
	for {
		_, said, begun := strings.Cut(string(g.said), fmt.Sprintf("\n@%d@\n", g.tries))
		out, last, ended := strings.Cut(said, fmt.Sprintf("\n@%d.", g.tries))
		if n, _, whole := strings.Cut(last, "@\n"); begun && ended && whole {
			code, err := strconv.Atoi(n)
			if err != nil {
				t.Fatalf("%s: it ended with %q", command, n)
			}
			g.said = nil
			return strings.TrimSpace(out), code
		}
		g.read(t, time.Second)
	}
}

func (g *guest) run(t *testing.T, command string) string {
	t.Helper()
	out, code := g.try(t, command)
	if code != 0 {
		t.Fatalf("%s: exit code %d: %s", command, code, out)
	}
	return out
}

// until repeats a command until it ends with 0 and says what is wanted.
func (g *guest) until(t *testing.T, command, want string) string {
	t.Helper()
	for ; ; time.Sleep(time.Second) {
		if out, code := g.try(t, command); code == 0 && strings.Contains(out, want) {
			return out
		}
	}
}

// reset waits until the host is reset.
func (g *guest) reset(ctx context.Context) error {
	select {
	case <-g.gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
