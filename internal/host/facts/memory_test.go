package facts

import (
	"os"
	"path/filepath"
	"testing"

	"holdfast/testbed/try"
)

func TestAvailableMiB(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	for text, want := range map[string]int{
		"MemTotal:       24576000 kB\nMemFree:          100 kB\nMemAvailable:    2097160 kB\nBuffers: 1 kB\n": 2048,
		"MemTotal:       24576000 kB\n": -1, "MemAvailable: x kB\n": -1,
	} {
		try.Must(t, os.WriteFile(file, []byte(text), 0o600))
		if got, err := availableMiB(file); (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v: want %d", text, got, err, want)
		}
	}
	if mib, err := AvailableMiB(); err != nil || mib == 0 {
		t.Errorf("of this host: %d, %v", mib, err)
	}
}
