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

// Scarce tells that a host has less memory for the guest than it begins with: it could be started, and the kernel could
// end it, or something else, later; "" when there is enough.
func Scarce(wants, has int, err error) string {
	switch {
	case err != nil:
		return fmt.Sprintf("how much memory is available is not known: %v", err)
	case has < wants:
		// without what changes all the time: it is in the host's record
		return fmt.Sprintf("less of this host's memory is available than the %d MiB that the management VM begins "+
			"with: the kernel may end it, or something else", wants)
	}
	return ""
}
