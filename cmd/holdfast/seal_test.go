package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestMain is also the program itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
	}
	os.Exit(m.Run())
}

// TestKeysAreNotDumped: what /proc has of a process whose memory is not dumped belongs to root.
func TestKeysAreNotDumped(t *testing.T) {
	need.Real(t, need.Root)
	const nobody = 65534
	for name, c := range map[string]struct {
		caps  []uintptr
		owner uint32
	}{
		"as the agent":        {[]uintptr{unix.CAP_SYS_PTRACE}, 0},
		"of an ordinary user": {nil, nobody}, // whose agent could not find it any more
	} {
		// A command that waits.
		cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "storage-probe", t.TempDir(), "h1")
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: c.caps}
		ask, err := cmd.StdinPipe()
		try.Must(t, err)
		told, err := cmd.StdoutPipe()
		try.Must(t, err)
		try.Must(t, cmd.Start())
		if _, err := bufio.NewReader(told).ReadByte(); err != nil { // it has looked once, so it has begun
			t.Fatalf("%s: %v", name, err)
		}
		var st unix.Stat_t
		try.Must(t, unix.Stat(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid), &st))
		if st.Uid != c.owner {
			t.Errorf("%s: its entries in /proc belong to user %d, want %d", name, st.Uid, c.owner)
		}
		try.Must(t, ask.Close())
		_ = cmd.Wait() // how it ends is no matter
	}
}
