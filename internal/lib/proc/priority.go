package proc

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// urgent is the nice value of everything that a host's life hangs on: under load
// it must run before the guests, else a busy host looks like a dead one.
const urgent = -19

// Prioritize makes this process run before all others of the ordinary kind. Its
// children inherit it. It must be called before the program is busy: threads that
// begin meanwhile could be missed. Without the right to do so (CAP_SYS_NICE) it
// returns an error, and everything works as before.
func Prioritize() error { return Renice(urgent) }

// Renice gives all threads of this process a nice value, as Prioritize does.
func Renice(nice int) error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("list own threads: %w", err)
	}
	for _, t := range tasks {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("thread %s: %w", t.Name(), err)
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, nice); err != nil {
			return fmt.Errorf("set the priority of thread %d: %w", id, err)
		}
	}
	return nil
}
