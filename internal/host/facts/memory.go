package facts

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// AvailableMiB is how much memory of this host programs can have without swapping, by the kernel's estimate
// (proc_meminfo(5), MemAvailable).
func AvailableMiB() (int, error) { return availableMiB("/proc/meminfo") }

func availableMiB(file string) (int, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")))
			return kib >> 10, err
		}
	}
	return 0, fmt.Errorf("%s: no MemAvailable", file)
}
