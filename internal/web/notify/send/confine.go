package send

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Bounds of the process.
const (
	maxData = 512 << 20 // bytes
	nice    = 10
)

// confine gives this process little memory, the last turn, and has the kernel end it first when memory is short. What of
// that is not allowed stays as it was: the deadline holds all the same.
func confine() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_DATA, &l) == nil {
		l.Cur = min(l.Cur, maxData)
		_ = unix.Setrlimit(unix.RLIMIT_DATA, &l)
	}
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, t := range tasks {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, nice)
		}
	}
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
}
