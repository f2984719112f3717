package steps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/host/libvirt/pools"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
	"holdfast/internal/upgrade"
)

// storageWorld is libvirt's pools, with the behaviour of guests.Fleet as far as
// these steps use it.
type storageWorld struct {
	mu    sync.Mutex
	pools []pools.Pool
	calls []string
	users map[string]time.Time // guests use the pool until then
	fails map[string]time.Time // it, or what is made of that XML, can not be started until then
	lame  map[string]bool      // it is started, and is not active
	multi string               // the multipath device over the disks of pools that are made of XML, "" for none
}

// newStorageWorld has pools with a device, each by a single path.
func newStorageWorld(active bool, names ...string) *storageWorld {
	w := &storageWorld{users: map[string]time.Time{}, fails: map[string]time.Time{}, lame: map[string]bool{}}
	for _, n := range names {
		w.pools = append(w.pools, pools.Pool{Name: n, Kind: "ocfs2", Active: active, Shared: true, Paths: 1})
	}
	return w
}

func (w *storageWorld) List(context.Context) ([]pools.Pool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]pools.Pool{}, w.pools...), nil
}

func (w *storageWorld) Start(_ context.Context, name string) error {
	return w.set("start "+name, name, true)
}

func (w *storageWorld) Stop(_ context.Context, name string) error {
	return w.set("stop "+name, name, false)
}

func (w *storageWorld) set(call, name string, active bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
	p := storageFind(w.pools, name)
	switch {
	case p == nil:
		return fmt.Errorf("libvirt has no pool %s", name)
	case active && time.Now().Before(w.fails[name]):
		return fmt.Errorf("%s: no route to the target", name)
	case !active && time.Now().Before(w.users[name]):
		return fmt.Errorf("stop pool %s: %w by guest x", name, pools.ErrBusy)
	}
	p.Active = active && !w.lame[name]
	if p.Transient && !p.Active {
		w.pools = slices.DeleteFunc(w.pools, func(p pools.Pool) bool { return p.Name == name })
	}
	return nil
}

// XML gives the name and the number of paths.
func (w *storageWorld) XML(_ context.Context, name string) (string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, "read "+name)
	p := storageFind(w.pools, name)
	if p == nil {
		return "", fmt.Errorf("libvirt has no pool %s", name)
	}
	return fmt.Sprint(p.Name, " ", p.Paths), nil
}

func (w *storageWorld) Create(_ context.Context, xml string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, "create "+xml)
	p := pools.Pool{Transient: true, Active: true, Shared: true}
	if _, err := fmt.Sscan(xml, &p.Name, &p.Paths); err != nil {
		return err
	}
	if time.Now().Before(w.fails[p.Name]) {
		return fmt.Errorf("%s: no route to the target", p.Name)
	}
	if time.Now().Before(w.fails[xml]) {
		return fmt.Errorf("%s: wrong file system", p.Name)
	}
	w.pools = append(w.pools, p)
	return nil
}

func (w *storageWorld) MultipathXML(xml string) (string, bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.multi == "" {
		return xml, false, errors.New("no multipath device is over it")
	}
	name, paths, _ := strings.Cut(xml, " ")
	return name + " 2", paths == "1", nil
}

// reboot is what a host does to its pools.
func (w *storageWorld) reboot() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = nil
	w.pools = slices.DeleteFunc(w.pools, func(p pools.Pool) bool { return p.Transient })
}

func (w *storageWorld) RedefineMultipath(_ context.Context, name string) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, "redefine "+name)
	p := storageFind(w.pools, name)
	switch {
	case p.Paths > 1:
		return false, nil
	case p.Mapper == "":
		return false, errors.New("no multipath device is over it")
	case p.Active:
		return false, fmt.Errorf("%w: stop it first", pools.ErrBusy)
	}
	p.Paths, p.Mapper = 2, ""
	return true, nil
}

func (w *storageWorld) said() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.calls, ", ")
}

func (w *storageWorld) change(name string, f func(*pools.Pool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(storageFind(w.pools, name))
}

var storageThree = upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a"}, {Name: "b"}, {Name: "tpl", Use: "template"}}}

func TestStorageGoesAndComesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStorageWorld(true, "a", "b", "tpl", "other")
		detach, attach := &StorageDetach{Host: w, Dir: t.TempDir()}, &StorageAttach{Host: w, Dir: t.TempDir()}
		task, heard := enginetest.Task(t, "storage-detach", storageThree)
		began := time.Now()
		enginetest.Probed(t, detach, task, engine.NotDone)
		enginetest.Probed(t, attach, task, engine.ProbedDone)
		if err := detach.Do(t.Context(), task); err != nil || w.said() != "stop tpl, stop a, stop b" {
			t.Fatalf("%s: %v", w.said(), err)
		}
		enginetest.Probed(t, detach, task, engine.ProbedDone)
		enginetest.Probed(t, attach, task, engine.NotDone)
		if err := detach.Do(t.Context(), task); err != nil || w.said() != "stop tpl, stop a, stop b" {
			t.Errorf("again: %s: %v", w.said(), err)
		}
		w.calls = nil
		if err := attach.Do(t.Context(), task); err != nil || w.said() != "start b, start a, start tpl" {
			t.Errorf("%s: %v", w.said(), err)
		}
		if heard.Percent() != 100 || time.Since(began) > time.Second || strings.Contains(heard.Noted(), "waits") {
			t.Errorf("after %v, %d %%: %s", time.Since(began), heard.Percent(), heard.Noted())
		}
		enginetest.Has(t, "log", heard.Log(), "pool tpl is stopped", "pool tpl is active")
	})
}

func TestStorageInUseIsNotStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStorageWorld(true, "a", "b", "tpl")
		w.users["a"] = time.Now().Add(20 * time.Second)
		d := &StorageDetach{Host: w, Dir: t.TempDir()}
		task, heard := enginetest.Task(t, "storage-detach", storageThree)
		if err := d.Do(t.Context(), task); err != nil {
			t.Errorf("a guest leaves in 20 s: %v", err)
		}
		enginetest.Has(t, "note", heard.Noted(), "waits: stop pool a", "by guest x")

		w = newStorageWorld(true, "a", "b", "tpl")
		w.users["a"] = time.Now().Add(time.Hour)
		d.Host = w
		err := d.Do(t.Context(), task)
		if !errors.Is(err, pools.ErrBusy) {
			t.Errorf("a guest stays: %v, want pools.ErrBusy", err)
		}
		if w.pools[1].Active || w.pools[2].Active {
			t.Error("the other pools were not stopped")
		}
		enginetest.Probed(t, d, task, engine.NotDone)
		ctx, end := context.WithTimeoutCause(t.Context(), 5*time.Second, engine.ErrTimeout)
		defer end()
		began := time.Now()
		if err := d.Do(ctx, task); !errors.Is(err, engine.ErrTimeout) || time.Since(began) != 5*time.Second {
			t.Errorf("after %v: %v, want ErrTimeout after 5 s", time.Since(began), err)
		}
	})
}

func TestStorageComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStorageWorld(false, "a", "b", "tpl")
		w.fails["b"] = time.Now().Add(30 * time.Second)
		d := &StorageAttach{Host: w, Dir: t.TempDir()}
		task, heard := enginetest.Task(t, "storage-attach", storageThree)
		if err := d.Do(t.Context(), task); err != nil {
			t.Error(err)
		}
		enginetest.Has(t, "note", heard.Noted(), "waits: b: no route to the target")

		w = newStorageWorld(false, "a", "tpl")
		w.lame["tpl"] = true
		d.Host = w
		began := time.Now()
		err := d.Do(t.Context(), task)
		if err == nil || time.Since(began) < storageAttachWait || time.Since(began) > storageAttachWait+storagePoll {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
		enginetest.Has(t, "error", err.Error(), "libvirt has no pool b any more", "not active yet: tpl")
		if !w.pools[0].Active {
			t.Error("pool a was not started")
		}
		enginetest.Probed(t, d, task, engine.NotDone)
	})
}

func TestStorageWithASinglePath(t *testing.T) {
	const mapper = "/dev/mapper/mpatha"
	args := upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a", Multipath: true}}}
	for name, c := range map[string]struct {
		world func(*storageWorld)
		calls string
		err   string // "": none
		paths int
	}{
		"stopped": {func(w *storageWorld) { w.pools[0].Mapper = mapper }, "redefine a, start a", "", 2},
		"started with the host": {func(w *storageWorld) { w.pools[0].Active, w.pools[0].Mapper = true, mapper },
			"redefine a, stop a, redefine a, start a", "", 2},
		"done before": {func(w *storageWorld) { w.pools[0].Active, w.pools[0].Paths = true, 2 }, "redefine a, start a", "", 2},
		"device comes later": {func(w *storageWorld) {
			time.AfterFunc(time.Second, func() { w.change("a", func(p *pools.Pool) { p.Mapper = mapper }) })
		}, "redefine a, redefine a, redefine a, start a", "", 2},
		"no device, active": {func(w *storageWorld) { w.pools[0].Active = true }, "redefine a, start a", "", 1},
		"in use": {func(w *storageWorld) {
			w.pools[0].Active, w.pools[0].Mapper, w.users["a"] = true, mapper, time.Now().Add(time.Hour)
		}, "redefine a, stop a, start a", "stays on a single path although " + mapper, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newStorageWorld(false, "a")
				c.world(w)
				d := &StorageAttach{Host: w, Dir: t.TempDir()}
				task, heard := enginetest.Task(t, "storage-attach", args)
				err := d.Do(t.Context(), task)
				if (err == nil) != (c.err == "") || w.said() != c.calls || !w.pools[0].Active || w.pools[0].Paths != c.paths {
					t.Fatalf("%s: %+v, %v; want %s", w.said(), w.pools[0], err, c.calls)
				}
				if err != nil {
					enginetest.Has(t, "error", err.Error(), c.err)
					enginetest.Probed(t, d, task, engine.NotDone)
					return
				}
				enginetest.Probed(t, d, task, engine.ProbedDone)
				if c.paths == 1 {
					enginetest.Has(t, "log", heard.Log(), "WARN pool a stays on a single path: no multipath device")
				}
			})
		})
	}
}

func TestStorageWithoutMultipathIsStartedAfterAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStorageWorld(false, "a")
		task, heard := enginetest.Task(t, "storage-attach", upgrade.StorageArgs{Pools: []upgrade.StoragePool{{Name: "a", Multipath: true}}})
		began := time.Now()
		if err := (&StorageAttach{Host: w, Dir: t.TempDir()}).Do(t.Context(), task); err != nil || !w.pools[0].Active {
			t.Errorf("%+v, %v", w.pools[0], err)
		}
		if since := time.Since(began); since < storageMapperWait || since > storageMapperWait+2*storagePoll {
			t.Errorf("after %v", since)
		}
		enginetest.Has(t, "log", heard.Log(), "WARN pool a stays on a single path")
	})
}
