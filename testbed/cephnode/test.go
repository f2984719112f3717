package cephnode

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"holdfast/testbed/try"
)

// imageMiB is the size of the image for tests.
const imageMiB = 32

// New brings a cluster up for the time of a test, and skips the test where that is not
// possible. start starts a command where addr is.
func New(t *testing.T, addr netip.Addr, start func(*exec.Cmd) error) Node {
	t.Helper()
	if missing := Missing(); len(missing) > 0 {
		t.Skipf("missing: %s", strings.Join(missing, "; "))
	}
	ctx := try.Context(t)
	n := Node{Dir: try.ShortDir(t), Addr: addr, Start: start}
	try.Must(t, n.Prepare(ctx))
	n.daemon(t, n.Mon())
	try.Must(t, n.AddOSD(ctx))
	n.daemon(t, n.OSD())
	try.Must(t, n.Fill(ctx, imageMiB))
	return n
}

// daemon runs one until the test ends, however that ends: it is tied to the thread that
// starts it, so that one waits for it.
func (n Node) daemon(t *testing.T, argv []string) {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := n.start(cmd)
		started <- err
		if err == nil {
			_ = cmd.Wait() // "signal: killed"
		}
	}()
	try.Must(t, <-started)
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, else
		<-ended
		if t.Failed() {
			logs, _ := filepath.Glob(n.path("log", "*.log")) // the pattern is right
			for _, l := range logs {
				b, err := os.ReadFile(l)
				t.Logf("%s, %v: %s", l, err, b[max(0, len(b)-2000):])
			}
		}
	})
}
