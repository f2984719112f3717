package steps

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/upgrade"
)

// passing is a pool name that is no file name.
const passing = "../pas sing"

var storagePassing = upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a"}, {Name: "tpl"}, {Name: "gone", Multipath: true}}}

// newPassing has a pool a that is defined, tpl and gone that are transient, and one
// that is defined and not active, which is nobody's business.
func newPassing() *storageWorld {
	w := newStorageWorld(true, "a", "tpl", "gone", "idle")
	w.pools[1].Transient, w.pools[2].Transient, w.pools[3].Active = true, true, false
	return w
}

// TestTransientPoolsComeBack: libvirt forgets them with the reboot, and they are
// made anew of what was kept, by other processes.
func TestTransientPoolsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newPassing(), filepath.Join(t.TempDir(), "pools")
		detach := &StorageDetach{Host: w, Dir: dir}
		task, _ := enginetest.Task(t, "storage-detach", storagePassing)
		if err := detach.Do(t.Context(), task); err != nil || w.said() != "stop a, read tpl, stop tpl, read gone, stop gone" {
			t.Fatalf("%s: %v", w.said(), err)
		}
		enginetest.Probed(t, detach, task, engine.ProbedDone)
		if err := detach.Do(t.Context(), task); err != nil { // by the next process
			t.Fatal(err)
		}
		w.reboot()
		w.multi = "/dev/mapper/mpatha"
		w.fails["tpl"] = time.Now().Add(20 * time.Second)
		attach := &StorageAttach{Host: w, Dir: dir}
		task, heard := enginetest.Task(t, "storage-attach", storagePassing)
		enginetest.Probed(t, attach, task, engine.NotDone)
		if err := attach.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		enginetest.Probed(t, attach, task, engine.ProbedDone)
		for name, paths := range map[string]int{"tpl": 1, "gone": 2} {
			if p := storageFind(w.pools, name); p == nil || !p.Active || !p.Transient || p.Paths != paths {
				t.Errorf("%s: %+v, want %d paths", name, p, paths)
			}
		}
		if storageFind(w.pools, "idle").Active {
			t.Error("a pool that was not active was started")
		}
		enginetest.Has(t, "log", heard.Log(), "pool gone: uses the multipath device now", "pool tpl is active")
		enginetest.Has(t, "note", heard.Noted(), "waits: tpl: no route to the target")

		w.reboot() // once more, by hand
		if err := attach.Do(t.Context(), task); err != nil || storageFind(w.pools, "tpl") == nil {
			t.Errorf("after a second reboot: %+v, %v", w.pools, err)
		}
	})
}

// TestTransientPoolIsKeptBeforeItIsStopped: or it stays.
func TestTransientPoolIsKeptBeforeItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStorageWorld(true, passing)
		w.pools[0].Transient = true
		dir := t.TempDir()
		file := filepath.Join(dir, "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		task, _ := enginetest.Task(t, "storage-detach", upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: passing}}})
		err := (&StorageDetach{Host: w, Dir: file}).Do(t.Context(), task)
		if err == nil || storageFind(w.pools, passing) == nil ||
			!strings.Contains(err.Error(), "keep what the transient pool "+passing+" is made of") {
			t.Errorf("it was stopped although nothing was kept: %v", err)
		}
		if err := (&StorageDetach{Host: w, Dir: dir}).Do(t.Context(), task); err != nil || storageFind(w.pools, passing) != nil {
			t.Errorf("%+v, %v", w.pools, err)
		}
		if text, err := os.ReadFile(storageFile(dir, passing)); err != nil ||
			filepath.Dir(storageFile(dir, passing)) != dir || string(text) != storageMark("up-1")+passing+" 1" {
			t.Errorf("%s has %q, %v", storageFile(dir, passing), text, err)
		}
	})
}

// TestWhatWasKeptOfAnotherPool: a pool that is defined now is not made of what an
// earlier one of its name was.
func TestWhatWasKeptOfAnotherPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newStorageWorld(true, "a"), t.TempDir()
		if err := os.WriteFile(storageFile(dir, "a"), []byte(storageMark("up-1")+"a 1"), 0o600); err != nil {
			t.Fatal(err)
		}
		args := upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a"}}}
		task, _ := enginetest.Task(t, "storage-detach", args)
		if err := (&StorageDetach{Host: w, Dir: dir}).Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		w.pools = nil // somebody has undefined it
		err := (&StorageAttach{Host: w, Dir: dir, Wait: time.Second}).Do(t.Context(), task)
		if err == nil || !strings.Contains(err.Error(), "libvirt has no pool a any more: define it") {
			t.Errorf("got %v", err)
		}
	})
}

// TestWhatAnotherRunHasKept brings back nothing: the pool may have been given up since.
// What this run has kept does, even if its process ended before it knew of the stop.
func TestWhatAnotherRunHasKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, dir := newStorageWorld(true), t.TempDir()
		attach := &StorageAttach{Host: w, Dir: dir, Wait: time.Second}
		task, _ := enginetest.Task(t, "storage-attach", upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a"}}})
		for _, old := range []string{"a 1", storageMark("up-0") + "a 1", storageMark("up-11") + "a 1"} {
			if err := os.WriteFile(storageFile(dir, "a"), []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := (&StorageDetach{Host: w, Dir: dir}).Do(t.Context(), task); err != nil { // it is gone already
				t.Fatal(err)
			}
			err := attach.Do(t.Context(), task)
			if err == nil || len(w.pools) != 0 || !strings.Contains(err.Error(), "libvirt has no pool a any more: define it") {
				t.Errorf("%q: %+v, %v", old, w.pools, err)
			}
			v := newVerify()
			v.Dir, v.Pools = dir, w.List
			check, _ := enginetest.Task(t, "verify", upgrade.VerifyArgs{Reboot: "h1/reboot", Pools: []string{"a"}})
			if err := v.Do(t.Context(), check); err == nil || strings.Contains(err.Error(), "virsh pool-create") {
				t.Errorf("%q: verify: %v", old, err)
			}
		}
		if err := os.WriteFile(storageFile(dir, "a"), []byte(storageMark("up-1")+"a 1"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := attach.Do(t.Context(), task); err != nil || storageFind(w.pools, "a") == nil {
			t.Errorf("%+v, %v", w.pools, err)
		}
	})
}

// TestTransientPoolThatMultipathCanNotStart comes back as it was, which the step tells;
// one that needs a while gets the device.
func TestTransientPoolThatMultipathCanNotStart(t *testing.T) {
	const mapper = "/dev/mapper/mpatha"
	for name, c := range map[string]struct {
		fails time.Duration // with the device
		err   string        // "": none
		paths int
	}{
		"for good":    {time.Hour, "pool a stays on a single path although a multipath device is there: a: wrong file system: see to it", 1},
		"for a while": {10 * time.Second, "", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newStorageWorld(false)
				w.multi, w.fails["a 2"] = mapper, time.Now().Add(c.fails)
				w.pools = []pools.Pool{{Name: "a", Active: true, Transient: true, Paths: 1, Mapper: mapper}}
				task, _ := enginetest.Task(t, "storage-attach", upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a", Multipath: true}}})
				began := time.Now()
				err := (&StorageAttach{Host: w, Dir: t.TempDir()}).Do(t.Context(), task)
				if len(w.pools) != 1 || w.pools[0].Paths != c.paths || time.Since(began) > time.Minute {
					t.Fatalf("after %v: %s: %+v, %v", time.Since(began), w.said(), w.pools, err)
				}
				if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
			})
		})
	}
}

// TestTransientPoolWithASinglePath: with, without and with a late multipath device,
// and one that somebody has made with the host.
func TestTransientPoolWithASinglePath(t *testing.T) {
	const mapper = "/dev/mapper/mpatha"
	args := upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a", Multipath: true}}}
	for name, c := range map[string]struct {
		world func(*storageWorld)
		calls string
		err   string // "": none
		paths int
	}{
		"device":    {func(w *storageWorld) { w.multi = mapper }, "create a 2", "", 2},
		"no device": {func(*storageWorld) {}, "create a 1", "", 1},
		"device comes later": {func(w *storageWorld) {
			time.AfterFunc(time.Second, func() { w.mu.Lock(); defer w.mu.Unlock(); w.multi = mapper })
		}, "create a 2", "", 2},
		"made with the host": {func(w *storageWorld) {
			w.multi = mapper
			w.pools = []pools.Pool{{Name: "a", Active: true, Transient: true, Paths: 1, Mapper: mapper}}
		}, "read a, stop a, create a 2", "", 2},
		"made with the host, no device": {func(w *storageWorld) {
			w.pools = []pools.Pool{{Name: "a", Active: true, Transient: true, Paths: 1}}
		}, "", "", 1},
		"made with the host, in use": {func(w *storageWorld) {
			w.multi, w.users["a"] = mapper, time.Now().Add(time.Hour)
			w.pools = []pools.Pool{{Name: "a", Active: true, Transient: true, Paths: 1, Mapper: mapper}}
		}, "read a, stop a", "pool a stays on a single path although " + mapper, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, dir := newStorageWorld(false), t.TempDir()
				c.world(w)
				if err := os.WriteFile(storageFile(dir, "a"), []byte(storageMark("up-1")+"a 1"), 0o600); err != nil {
					t.Fatal(err)
				}
				task, heard := enginetest.Task(t, "storage-attach", args)
				err := (&StorageAttach{Host: w, Dir: dir}).Do(t.Context(), task)
				if (err == nil) != (c.err == "") || w.said() != c.calls || !w.pools[0].Active || w.pools[0].Paths != c.paths {
					t.Fatalf("%s: %+v, %v; want %s", w.said(), w.pools, err, c.calls)
				}
				if err != nil {
					enginetest.Has(t, "error", err.Error(), c.err)
				} else if c.paths == 1 {
					enginetest.Has(t, "log", heard.Log(), "WARN pool a stays on a single path: no multipath device")
				}
			})
		})
	}
}

// TestVerifyTellsOfATransientPool: by name, and how it is made again.
func TestVerifyTellsOfATransientPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVerify()
		v.Dir = t.TempDir()
		v.Pools = func(context.Context) ([]pools.Pool, error) { return []pools.Pool{{Name: "a", Active: true}}, nil }
		if err := os.WriteFile(storageFile(v.Dir, "passing"), []byte(storageMark("up-1")+"passing 1"), 0o600); err != nil {
			t.Fatal(err)
		}
		task, _ := enginetest.Task(t, "verify", upgrade.VerifyArgs{Reboot: "h1/reboot", Pools: []string{"a", "passing", "lost"}})
		err := v.Do(t.Context(), task)
		if err == nil {
			t.Fatal("no error")
		}
		enginetest.Has(t, "error", err.Error(), "no storage pool passing, which was a transient one: make it again "+
			"(virsh pool-create "+storageFile(v.Dir, "passing")+"), then retry this step", "no storage pool lost")
	})
}
