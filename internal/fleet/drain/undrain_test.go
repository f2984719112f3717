package drain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/job/engine"
	"holdfast/internal/job/engine/enginetest"
)

// undrainWorld is guests on hosts, which take 3 s to move.
type undrainWorld struct {
	mu    sync.Mutex
	at    map[string]cluster.HostID // by UUID
	stuck map[string]bool
	now   int
	most  int
	order []string // UUIDs, as they set out
	over  string   // the network of the last move
	rests []string
	fails int // so many writes of Rest
}

func newUndrainWorld() (*undrainWorld, *Undrain) {
	w := &undrainWorld{at: map[string]cluster.HostID{}, stuck: map[string]bool{}}
	return w, &Undrain{
		Host: "h1",
		SetMaintenance: func(_ context.Context, h cluster.HostID, on bool) error {
			w.rests = append(w.rests, fmt.Sprint(h, on))
			if len(w.rests) <= w.fails {
				return errors.New("no leader")
			}
			return nil
		},
		Where: func(uuid string) (cluster.HostID, bool) {
			w.mu.Lock()
			defer w.mu.Unlock()
			h, ok := w.at[uuid]
			return h, ok
		},
		Send: w.send,
	}
}

func (w *undrainWorld) send(ctx context.Context, from cluster.HostID, m evacuate.Move, network string) error {
	uuid, name := m.UUID, m.VM
	w.mu.Lock()
	w.over = network
	w.now++
	w.most = max(w.most, w.now)
	w.order = append(w.order, uuid)
	w.mu.Unlock()
	err := engine.Pause(ctx, 3*time.Second)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now--
	switch {
	case err != nil:
		return err
	case w.stuck[uuid]:
		return errors.New("it refuses")
	case w.at[uuid] != from || "u-"+name != uuid:
		return fmt.Errorf("%s is not on %s", name, from)
	}
	w.at[uuid] = "h1"
	return nil
}

func undrainBack(names ...string) []evacuate.Move {
	var out []evacuate.Move
	for _, n := range names {
		out = append(out, evacuate.Move{VM: n, UUID: "u-" + n, From: "h2", To: "h1", How: evacuate.Live})
	}
	return out
}

func TestUndrainEndsTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newUndrainWorld()
		task, _ := enginetest.Task(t, "undrain", evacuate.UndrainArgs{})
		enginetest.Probed(t, d, task, engine.NotDone)
		w.fails = 2
		if err := d.Do(t.Context(), task); err != nil || strings.Join(w.rests, ", ") != "h1false, h1false, h1false" {
			t.Errorf("%v: %v", w.rests, err)
		}
		w.fails = 100
		began := time.Now()
		if err := d.Do(t.Context(), task); err == nil || time.Since(began) != (undrainTries-1)*undrainPause {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		ctx, end := context.WithTimeoutCause(t.Context(), time.Second, engine.ErrTimeout)
		defer end()
		if err := d.Do(ctx, task); !errors.Is(err, engine.ErrTimeout) {
			t.Errorf("%v, want ErrTimeout", err)
		}
	})
}

func TestUndrainLeavesMaintenanceAlone(t *testing.T) {
	w, d := newUndrainWorld()
	w.at["u-a"] = "h2"
	for _, back := range [][]evacuate.Move{nil, undrainBack("a")} {
		task, heard := enginetest.Task(t, "undrain", evacuate.UndrainArgs{Maintenance: true, Back: back})
		if err := d.Do(t.Context(), task); err != nil || len(w.rests) != 0 || w.at["u-a"] != "h2" {
			t.Errorf("%v, %v: %v", w.rests, w.at, err)
		}
		enginetest.Has(t, "log", heard.Log(), "takes none now")
		enginetest.Probed(t, d, task, engine.ProbedDone)
	}
}

func TestUndrainBringsGuestsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newUndrainWorld()
		w.at = map[string]cluster.HostID{"u-a": "h2", "u-b": "h3", "u-c": "h1", "u-d": "h2", "u-e": "h2", "u-mgmt": "h2"}
		w.stuck["u-d"] = true
		back := undrainBack("a", "b", "c", "d", "e", "gone", "mgmt")
		back[6].How = evacuate.Protected
		task, heard := enginetest.Task(t, "back", evacuate.UndrainArgs{Back: back, Parallel: 2, Total: 8, Network: "10.0.0.0/8"})
		enginetest.Probed(t, d, task, engine.NotDone)
		err := d.Do(t.Context(), task)
		if err == nil {
			t.Fatal("d and gone do not return: no error")
		}
		enginetest.Has(t, "error", err.Error(), "d does not return: from h2: it refuses", "gone does not return: no host reports it")
		enginetest.Has(t, "log", heard.Log(), "c is here already", "mgmt stays where it is", "b is back")
		enginetest.Has(t, "note", heard.Noted(), "on their way: ", "5 of 7 guests are back")
		if w.most != 2 || len(w.rests) != 0 || w.over != "10.0.0.0/8" {
			t.Errorf("%d at once, rests %v, over %q; want 2, none and the network", w.most, w.rests, w.over)
		}
		for _, g := range []string{"u-a", "u-b", "u-c", "u-e"} {
			if w.at[g] != "h1" {
				t.Errorf("%s is on %s", g, w.at[g])
			}
		}
		w.stuck["u-d"], w.at["u-gone"] = false, "h2"
		w.order = nil
		if err := d.Do(t.Context(), task); err != nil || len(w.order) != 2 {
			t.Errorf("again: %v: %v; want d and gone only", w.order, err)
		}
		enginetest.Probed(t, d, task, engine.ProbedDone)
	})
}

func TestUndrainEndsWithItsStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newUndrainWorld()
		w.at = map[string]cluster.HostID{"u-a": "h2", "u-b": "h2", "u-c": "h2"}
		task, _ := enginetest.Task(t, "back", evacuate.UndrainArgs{Back: undrainBack("a", "b", "c"), Parallel: 4, Total: 1})
		ctx, end := context.WithCancelCause(t.Context())
		time.AfterFunc(4*time.Second, func() { end(engine.ErrCancelled) })
		began := time.Now()
		err := d.Do(ctx, task)
		if !errors.Is(err, engine.ErrCancelled) || time.Since(began) != 4*time.Second || w.most != 1 || len(w.order) != 2 {
			t.Errorf("after %v, %v: %v; want that c does not set out", time.Since(began), w.order, err)
		}
	})
}
