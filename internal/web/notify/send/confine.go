package send

import (
	"os"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/proc"
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
	_ = proc.Renice(nice)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
}
