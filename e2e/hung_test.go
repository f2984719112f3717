package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// consoles are the lengths of what the management VM has written to its console, by the
// files of the hosts on which it ran.
func (r *rig) consoles(t *testing.T) map[string]int64 {
	t.Helper()
	sizes := map[string]int64{}
	for _, h := range r.lab.Hosts() {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(r.lab.HostPath(h)), "var-log-libvirt", "qemu", "*-serial.log"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			sizes[f] = info.Size()
		}
	}
	return sizes
}

// stuck is what a kernel says of a processor of its own that does not get on. On real
// hardware it means a fault of the kernel; without KVM, one start of some hundreds ends so:
// timers do not fire any more, QEMU runs, and nothing answers.
var stuck = [][]byte{[]byte("self-detected stall on CPU"), []byte("BUG: soft lockup")}

// hung reports whether the guest's kernel has said so since, and shows what it said.
func (r *rig) hung(t *testing.T, before map[string]int64) bool {
	t.Helper()
	for f, size := range r.consoles(t) {
		if size <= before[f] {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text = text[min(before[f], int64(len(text))):]
		for _, s := range stuck {
			if bytes.Contains(text, s) {
				t.Logf("the emulator has hung the guest's kernel, this run does not count: %s: %s", f, text)
				return true
			}
		}
	}
	return false
}
