package slack

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
)

// ahead is the nice value of what goes first: three times the share of others. With more, two
// emulated hosts that boot leave nothing to a laboratory beside them, whose leases then end.
const ahead = -5

// Ahead gives the session of a process, which leads it, more of the processors than others get:
// by the nice value of the session where the kernel shares between sessions, see sched(7), and by
// that of the process. An emulated processor is one task, and gets little beside many.
func Ahead(t testing.TB, pid int) {
	t.Helper()
	err := os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), []byte(strconv.Itoa(ahead)), 0)
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = syscall.Setpriority(syscall.PRIO_PROCESS, pid, ahead)
	}
	if err != nil {
		t.Fatal(err)
	}
}
