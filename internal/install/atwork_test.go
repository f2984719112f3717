package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPairBegun: what is said while somebody has the lock, and when a set-up was left.
func TestPairBegun(t *testing.T) {
	dir := t.TempDir()
	lock, file := filepath.Join(dir, "lock"), filepath.Join(dir, "note")
	says := func(want string) {
		t.Helper()
		if got, err := PairBegun(lock, file); err != nil || !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q, %v: want %q", got, err, want)
		}
	}
	says("")
	f, err := os.Create(lock)
	if err != nil {
		t.Fatal(err)
	}
	says("") // who had it has died
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	says("a set-up or a recovery is at work")
	if _, err := f.WriteString(`{"what":"recovery","pid":7,"since":"` + time.Now().UTC().Format(time.RFC3339) + `"}`); err != nil {
		t.Fatal(err)
	}
	says("a recovery is at work: process 7, since 2")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	says("")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	says("a set-up was begun")
}
