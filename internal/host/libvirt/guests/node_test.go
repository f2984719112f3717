package guests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFleetOfAPairsHost: a host of a pair may do without libvirtd. Then it has the group, no
// other guests, no pools, and it is not taken for empty while an emulator is left.
func TestFleetOfAPairsHost(t *testing.T) {
	dir := t.TempDir()
	process := func(pid int, name string, flags int) {
		t.Helper()
		home := filepath.Join(dir, "proc", fmt.Sprint(pid))
		if err := os.MkdirAll(home, 0o755); err != nil {
			t.Fatal(err)
		}
		stat := fmt.Sprintf("%d (%s) S 1 1 1 0 -1 %d 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0", pid, name, flags)
		if err := os.WriteFile(filepath.Join(home, "stat"), []byte(stat), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	process(1, "init", 0)
	process(7, "kvm", 0x00200000) // a thread of the kernel
	process(8, "qemu-ga", 0)
	process(9, "mariadbd", 0)
	lost := errors.New("not known")
	var group []VM
	var why error
	opt := Options{
		Socket: filepath.Join(dir, "socket"), ProcDir: filepath.Join(dir, "proc"),
		Group: func(context.Context) ([]VM, error) { return group, why },
	}
	fleet := func(opt Options) *Fleet {
		t.Helper()
		f, err := New(opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
		return f
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	f := fleet(opt)
	if vms, err := f.List(ctx); err != nil || len(vms) != 0 {
		t.Errorf("without the group: %+v, %v", vms, err)
	}
	group = []VM{{Name: "group", State: VMRunning, Protected: true}}
	if vms, err := f.List(ctx); err != nil || len(vms) != 1 || vms[0].Name != "group" {
		t.Errorf("with the group: %+v, %v", vms, err)
	}
	if pools, err := f.Pools().List(ctx); err != nil || len(pools) != 0 {
		t.Errorf("pools: %+v, %v", pools, err)
	}
	if n, err := f.Node(ctx); err != nil || n.GuestMiB != 0 {
		t.Errorf("node: %+v, %v", n, err)
	}
	if rates, err := f.MeasureDirty(ctx, time.Second); err != nil || len(rates) != 0 {
		t.Errorf("dirty rates: %v, %v", rates, err)
	}
	why = lost
	if _, err := f.List(ctx); !errors.Is(err, lost) {
		t.Errorf("it is not known whether the group is here: %v", err)
	}
	why = nil
	for _, name := range []string{"qemu-system-x86", "kvm"} {
		process(10, name, 0)
		if vms, err := f.List(ctx); err == nil {
			t.Errorf("%s runs, and the host has only %+v", name, vms)
		}
	}
	process(10, "sleep", 0)
	if _, err := f.List(ctx); err != nil {
		t.Error(err)
	}
	opt.Group = nil
	if vms, err := fleet(opt).List(ctx); err == nil {
		t.Errorf("a host of guests without libvirtd has %+v", vms)
	}
}
