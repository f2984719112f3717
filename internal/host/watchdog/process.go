package watchdog

import (
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// prepareProcess keeps the holder alive and on time when the host is short of
// memory or CPU. All of it is best effort; what failed is returned.
func prepareProcess() []error {
	debug.SetGCPercent(20) // the heap is tiny: small matters more than fast
	// The agent may be the reader of the log and the leader of the session; its
	// death must not be the holder's.
	signal.Ignore(unix.SIGPIPE, unix.SIGHUP)
	var failed []error
	try := func(what string, err error) {
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", what, err))
		}
	}
	// Without ONFAULT the whole binary and the heap's reserve would be read in.
	try("lock the memory", unix.Mlockall(unix.MCL_CURRENT|unix.MCL_FUTURE|unix.MCL_ONFAULT))
	try("escape the out-of-memory killer", os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0))
	try("take real-time priority", realtime())
	return failed
}

// realtime gives every thread SCHED_RR with the lowest real-time priority:
// before all normal processes, behind the kernel's own threads. Threads that
// the runtime makes later inherit it.
func realtime() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return fmt.Errorf("thread %q: %w", task.Name(), err)
		}
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: 1}
		if err := unix.SchedSetAttr(tid, &attr, 0); err != nil {
			return fmt.Errorf("thread %d: %w", tid, err)
		}
	}
	return nil
}
