package facts

import (
	"errors"
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

func TestAHostWithLittleMemoryIsTold(t *testing.T) {
	const want = "less of this host's memory is available than the 8192 MiB that the management VM begins with: the " +
		"kernel may end it, or something else"
	if got := Scarce(8192, 4096, nil); got != want {
		t.Errorf("%q", got)
	}
	if got := Scarce(8192, 8192, nil); got != "" {
		t.Errorf("%q", got)
	}
	if got := Scarce(8192, 0, errors.New("denied")); got != "how much memory is available is not known: denied" {
		t.Errorf("%q", got)
	}
}
