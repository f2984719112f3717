package setup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// TestTwoSetUps: the second one is refused, and told who is at work and since when, until that
// process has ended, in whatever way.
func TestTwoSetUps(t *testing.T) {
	const helper = "HOLDFAST_TEST_SETUP_LOCK"
	if path := os.Getenv(helper); path != "" { // the first one, which is killed
		_, err := Lock(path, "recovery")
		fmt.Println("locked:", err)
		_, _ = io.Copy(io.Discard, os.Stdin) // until its parent ends
		return
	}
	path := filepath.Join(t.TempDir(), "conf", "lock")
	refused := func(want string) {
		t.Helper()
		free, err := Lock(path, "set-up")
		var e *fail.Error
		if free != nil || !errors.As(err, &e) || fail.ExitCode(err) != fail.ExitRefused || !strings.HasPrefix(e.Message, want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
	free, err := Lock(path, "set-up")
	try.Must(t, err)
	refused(fmt.Sprintf("a set-up is at work on this node: process %d, since %s", os.Getpid(), time.Now().Format("2006-")))
	try.Must(t, os.WriteFile(path, nil, 0o600)) // it has not written yet who it is
	refused("a set-up or a recovery of a pair is at work on this node")
	try.Must(t, free())
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("after its end: %v", err)
	}

	cmd := exec.Command(os.Args[0], "-test.run=^TestTwoSetUps$")
	cmd.Env = append(os.Environ(), helper+"="+path, "TMPDIR="+t.TempDir()) // what TestMain makes there goes with this test
	_, err = cmd.StdinPipe()                                               // open until its end
	try.Must(t, err)
	out, err := cmd.StdoutPipe()
	try.Must(t, err)
	try.Must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "locked: <nil>\n" {
		t.Errorf("%q, %v", line, err)
	}
	refused(fmt.Sprintf("a recovery is at work on this node: process %d, since ", cmd.Process.Pid))
	try.Must(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	free, err = Lock(path, "set-up")
	try.Must(t, err)
	refused(fmt.Sprintf("a set-up is at work on this node: process %d, ", os.Getpid()))
	try.Must(t, free())
}

// TestOneHasTheLock: at any time one at most, also while others remove the file.
func TestOneHasTheLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders, had atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 200 {
				free, err := Lock(path, "set-up")
				if err != nil {
					if fail.ExitCode(err) != fail.ExitRefused {
						t.Error(err)
					}
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d have it", n)
				}
				had.Add(1)
				holders.Add(-1)
				if err := free(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if had.Load() == 0 {
		t.Error("nobody ever had it")
	}
}
