package pinstep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/inventory/fact"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/pin"
	"holdfast/internal/upgrade"
)

// bridges stand for those of a host: what package bridge does to real ones is tested there.
type bridges struct {
	pinned  map[string]bool
	missing int // looks until the flows of a pinned bridge are complete
	bad     string
	said    []string
	undo    bool // the job is aborted
}

func (b *bridges) step() *Step {
	return &Step{Host: "h1",
		Has: func(_ context.Context, name string) (bool, error) {
			if name == "br-hangs" {
				return false, errors.New("no answer")
			}
			_, ok := b.pinned[name]
			return ok, nil
		},
		Pin: func(_ context.Context, o pin.Order) (*pin.Result, error) {
			if o.DryRun {
				if o.Bridge == b.bad {
					return nil, fail.Errorf(fail.Refused, "bridge %s can not be pinned", o.Bridge).With("mend it")
				}
				return &pin.Result{Bridge: o.Bridge, Ports: 3, Flows: 20, Groups: 1, Notes: []string{"a note"}}, nil
			}
			b.said = append(b.said, "pin "+o.Bridge)
			if o.Bridge == b.bad || b.pinned[o.Bridge] || o.For != Holds {
				return nil, fail.Errorf(fail.Refused, "bridge %s can not be pinned", o.Bridge)
			}
			b.pinned[o.Bridge] = true
			return &pin.Result{Bridge: o.Bridge, Pinned: true, Left: 3600}, nil
		},
		Unpin: func(_ context.Context, o pin.Order) (*pin.Result, error) {
			b.said = append(b.said, fmt.Sprint("unpin ", o.Bridge, o.Force))
			r := &pin.Result{Bridge: o.Bridge, Notes: []string{"what was found of " + o.Bridge}}
			switch {
			case !b.pinned[o.Bridge]:
				return r, nil
			case b.missing > 0 && !o.Force:
				b.missing--
				return nil, fail.Errorf(fail.Refused, "flows are missing")
			}
			b.pinned[o.Bridge] = false
			r.Removed = 3
			return r, nil
		},
	}
}

// do does a step of an upgrade, and gives its log.
func (b *bridges) do(t *testing.T, args upgrade.PinArgs, within time.Duration) (string, error) {
	t.Helper()
	text, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), within, engine.ErrTimeout)
	defer cancel()
	var log bytes.Buffer
	err = b.step().Do(ctx, engine.Task{Undo: b.undo, Step: job.Step{ID: "h1/pin/turn", Host: "h1", Args: text,
		Timeout: within}, Log: &log, Note: func(string, int) {}})
	return log.String(), err
}

// TestPinAndUnpin: a bridge is pinned once, also by a second attempt; it is let go when its flows are complete, and not before.
func TestPinAndUnpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &bridges{pinned: map[string]bool{"br-int": false, "br-ex": false}, missing: 0}
		begin, end := upgrade.PinArgs{Bridges: []string{"br-int", "br-none", "br-ex"}},
			upgrade.PinArgs{Bridges: []string{"br-int", "br-none", "br-ex"}, End: true}
		for range 2 { // the agent ended after the first
			log, err := b.do(t, begin, time.Minute)
			if err != nil || !b.pinned["br-int"] || !b.pinned["br-ex"] || !strings.Contains(log, "bridge br-none: this host has none of that name") {
				t.Fatalf("%v, %v: %s", b.pinned, err, log)
			}
		}
		b.missing = 4
		log, err := b.do(t, end, time.Minute)
		if err != nil || b.pinned["br-int"] || b.pinned["br-ex"] || strings.Count(log, "waits: flows are missing") != 1 {
			t.Errorf("%v, %v: %s", b.pinned, err, log)
		}
		if log, err := b.do(t, end, time.Minute); err != nil ||
			!strings.Contains(log, "is not pinned: if it was, packets may have been lost since that ended") {
			t.Errorf("a pin that has ended by itself: %v: %s", err, log)
		}
		if !strings.Contains(log, "note: what was found of br-ex") {
			t.Errorf("what an unpin tells is not told: %s", log)
		}
		b.pinned["br-int"], b.missing = true, 1000
		b.undo = true
		begun := time.Now()
		if _, err := b.do(t, end, time.Hour); !errors.Is(err, engine.ErrTimeout) ||
			!strings.Contains(err.Error(), "flows are missing") || !b.pinned["br-int"] || time.Since(begun) != undoWaits {
			t.Errorf("flows that never come, in an abort: %v after %s, pinned %v: want it told after %s, and the "+
				"bridge pinned", err, time.Since(begun), b.pinned, undoWaits)
		}
		b.undo, b.missing = false, 1000
		if _, err := b.do(t, end, 20*time.Second); !errors.Is(err, engine.ErrTimeout) ||
			!strings.Contains(err.Error(), "flows are missing") || !b.pinned["br-int"] {
			t.Errorf("flows that never come: %v, pinned %v: want it told, and the bridge pinned", err, b.pinned)
		}
		if _, err := b.do(t, begin, time.Minute); err == nil || !strings.Contains(err.Error(), "flows are missing") || !b.pinned["br-int"] {
			t.Errorf("a pin of somebody's whose flows are missing: %v, pinned %v: want it left", err, b.pinned)
		}
	})
}

// TestAPinThatFails: what the step had pinned is let go, and the reason is told.
func TestAPinThatFails(t *testing.T) {
	b := &bridges{pinned: map[string]bool{"br-int": false, "br-ex": false}, bad: "br-ex"}
	_, err := b.do(t, upgrade.PinArgs{Bridges: []string{"br-int", "br-ex"}}, time.Minute)
	if err == nil || !strings.Contains(err.Error(), "bridge br-ex can not be pinned") || b.pinned["br-int"] ||
		!slices.Contains(b.said, "unpin br-inttrue") {
		t.Errorf("%v, %v, %v", err, b.pinned, b.said)
	}
	s := b.step()
	s.Host = "h2"
	if err := s.Do(t.Context(), engine.Task{Step: job.Step{Host: "h1", Args: []byte("{}")}}); err == nil {
		t.Error("a step of another host is done here")
	}
}

// TestLook: nothing is pinned by a look, which tells of each bridge what an operator must know.
func TestLook(t *testing.T) {
	b := &bridges{pinned: map[string]bool{"br-int": false, "br-ex": false}, bad: "br-ex"}
	got := b.step().Look(t.Context(), []string{"br-int", "br-ex", "br-none", "br-hangs"})
	want := []fact.Bridge{
		{Name: "br-int", Ports: 3, Flows: 20, Groups: 1, Notes: []string{"a note"}},
		{Name: "br-ex", Why: "bridge br-ex can not be pinned", Remedy: "mend it"},
		{Name: "br-none", Missing: true}, {Name: "br-hangs", Why: "no answer"},
	}
	if !reflect.DeepEqual(got, want) || len(b.said) > 0 {
		t.Errorf("%+v, %v: want %+v", got, b.said, want)
	}
}
