package facts

import (
	"fmt"

	"holdfast/internal/lib/proc"
)

// AvailableMiB is how much memory of this host programs can have without swapping, by the kernel's estimate
// (proc_meminfo(5), MemAvailable).
func AvailableMiB() (int, error) { return availableMiB("/proc/meminfo") }

func availableMiB(file string) (int, error) {
	kib, found, err := proc.KiB(file, "MemAvailable")
	if err == nil && !found {
		err = fmt.Errorf("%s: no MemAvailable", file)
	}
	return kib >> 10, err
}
