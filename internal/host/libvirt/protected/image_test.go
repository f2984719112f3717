package protected

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
	"holdfast/testbed/virthost"
)

// probeFor probes with a deadline, and reports whether it ended before that.
func probeFor(t *testing.T, image string, limit time.Duration) (answered bool, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	err = ProbeImage(ctx, image)
	return ctx.Err() == nil, err
}

// freePort is a port of the loopback that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestProbeRealServer: a real server that is well, stands still, goes on and
// ends, and exports that are not as they should be.
func TestProbeRealServer(t *testing.T) {
	need.Real(t, need.Programs("qemu-utils", "qemu-nbd"))
	dir := t.TempDir()
	image, empty := filepath.Join(dir, "image"), filepath.Join(dir, "empty")
	for file, data := range map[string][]byte{image: make([]byte, 1<<20), empty: nil} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	server := serveNBD(t, image, "mnvm", "--shared=3", "--bind=127.0.0.1", fmt.Sprintf("--port=%d", port))
	await(t, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	url := fmt.Sprintf("nbd://127.0.0.1:%d/mnvm", port)
	well := func() {
		t.Helper()
		if _, err := probeFor(t, url, 20*time.Second); err != nil {
			t.Error(err)
		}
	}
	fails := func(image, want string) {
		t.Helper()
		if answered, err := probeFor(t, image, 20*time.Second); !answered || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: answered %v, %v, want %q", image, answered, err, want)
		}
	}
	well()
	fails(strings.Replace(url, "mnvm", "other", 1), "no such export")
	fails(nbdSocket(t, image, "--read-only"), "can only be read")
	fails(nbdSocket(t, empty), "is empty")

	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if answered, err := probeFor(t, url, 500*time.Millisecond); answered || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a server that stands still: answered %v, %v", answered, err)
	}
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	well()

	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	try.Until(t, "a refusal where a server has ended", func() bool { // its port is closed a moment later
		answered, err := probeFor(t, url, 20*time.Second)
		return answered && errors.Is(err, syscall.ECONNREFUSED)
	})
}

// TestProbeWrongAnswers: who listens there resets, hangs up or speaks something
// else.
func TestProbeWrongAnswers(t *testing.T) {
	for _, c := range []struct {
		name, says, want string
		linger           int // 0: reset
	}{
		{"reset", "", "reset by peer", 0},
		{"hangs up", "NBDMAGIC", "EOF", -1},
		{"another service", "SSH-2.0-OpenSSH_9.2p1 Debian\r\n", "no NBD server", -1},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() {
			nc, err := l.Accept()
			if err == nil {
				_, err = nc.Write([]byte(c.says))
				err = errors.Join(err, nc.(*net.TCPConn).SetLinger(c.linger), nc.Close())
			}
			served <- err
		}()
		answered, err := probeFor(t, fmt.Sprintf("nbd://%s/mnvm", l.Addr()), 20*time.Second)
		if !answered || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: answered %v, %v, want %q", c.name, answered, err, c.want)
		}
		if err := errors.Join(<-served, l.Close()); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestProbeOfWhatIsNoExport fails at once.
func TestProbeOfWhatIsNoExport(t *testing.T) {
	for image, want := range map[string]string{
		"/share/mnvm.img":             "want an export",
		"nbd://h:0/x":                 "want nbd://HOST",
		"nbd://no.such.invalid./mnvm": "find the server's address", // RFC 6761: never has one
	} {
		if answered, err := probeFor(t, image, 20*time.Second); !answered || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: answered %v, %v, want %q", image, answered, err, want)
		}
	}
}

// TestProbeWithoutAWayToTheServer: the network's word that there is none is no
// answer of the server.
func TestProbeWithoutAWayToTheServer(t *testing.T) {
	need.Real(t, need.Root)
	type result struct {
		answered bool
		err      error
	}
	got := make(chan result)
	go func() {
		// Locked for good: the thread ends with the goroutine, and the empty
		// network that it alone is in goes with it.
		runtime.LockOSThread()
		if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
			got <- result{true, err}
			return
		}
		answered, err := probeFor(t, "nbd://192.0.2.1/mnvm", 1200*time.Millisecond)
		got <- result{answered, err}
	}()
	if r := <-got; r.answered || !errors.Is(r.err, syscall.ENETUNREACH) {
		t.Errorf("answered %v, %v, want none", r.answered, r.err)
	}
}

// TestBehind: what lies behind images that qemu-img makes is found, and missed when it is gone.
func TestBehind(t *testing.T) {
	need.Real(t, need.Programs("qemu-utils", "qemu-img"))
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", at("base"), "4M")
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", at("middle"))
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", at("middle"), "-F", "qcow2", at("top"))
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+at("data")+",data_file_raw=on", at("apart"), "4M")
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", "-b", "base", "-F", "qcow2", at("old"))
	virthost.Run(t, "qemu-img", "create", "-q", "-f", "raw", at("raw"), "4M")
	for _, c := range []struct{ image, gone string }{
		{"base", ""}, {"raw", ""}, {"middle", "base"}, {"top", "base"}, {"top", "middle"}, {"apart", "data"}, {"old", "base"},
	} {
		if err := checkBehind("disk", at(c.image)); err != nil {
			t.Errorf("%s: %v", c.image, err)
		}
		if c.gone == "" {
			continue
		}
		if err := os.Rename(at(c.gone), at("away")); err != nil {
			t.Fatal(err)
		}
		if err := checkBehind("disk", at(c.image)); err == nil || !strings.Contains(err.Error(), at(c.gone)+" does not exist on this host") {
			t.Errorf("%s without %s: %v", c.image, c.gone, err)
		}
		if err := os.Rename(at("away"), at(c.gone)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBehindDamaged: headers that make no sense end, with an error or with nothing.
func TestBehindDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "i")
	for name, edit := range map[string]func(b []byte){
		"a name of 4 GiB":         func(b []byte) { copy(b[8:], "\x00\x00\x00\x00\x00\x00\x00\x08\xff\xff\xff\xff") },
		"a name behind the end":   func(b []byte) { copy(b[8:], "\x7f\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x10") },
		"extensions for ever":     func(b []byte) { b[79] = qcow2Data; b[103] = 104; b[107] = 1 },
		"extensions past the end": func(b []byte) { b[79] = qcow2Data; copy(b[100:], "\xff\xff\xff\xff") },
	} {
		b := make([]byte, 112)
		copy(b, "QFI\xfb\x00\x00\x00\x03")
		edit(b)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkBehind("disk", path); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := os.WriteFile(path, []byte("QFI\xfb"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkBehind("disk", path); err != nil {
		t.Errorf("a short one: %v", err)
	}
}
