package explore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

func explore(t *testing.T, o Options) Result {
	t.Helper()
	o.Limit = 10 * time.Minute // a slow machine must not turn into a result
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// With one fault there are so few states that all of them are met: the result
// does not depend on a depth.
func TestNoViolationWithAnyOneFault(t *testing.T) {
	o := Options{Depth: 1000, Faults: 1, Delays: -1}
	if try.Race {
		o.Depth = 10
	}
	r := explore(t, o)
	for _, v := range r.Violations {
		t.Errorf("%s: %s\n%s", v.Rule, v.Detail, strings.Join(v.Path, "\n"))
	}
	if !r.Complete || !try.Race && (!r.Closed || r.States < 10_000) {
		t.Errorf("closed %t, complete %t, %d states: want all of some 60,000", r.Closed, r.Complete, r.States)
	}
	t.Logf("%d states, %d transitions, depth %d", r.States, r.Transitions, r.Depth)
}

// TestNoViolationInSmallScopes looks at what is near the beginning.
func TestNoViolationInSmallScopes(t *testing.T) {
	need.Seconds(t)
	smallScopes(t, func(depth int) int { return depth/2 + 1 })
}

func TestNoViolationInSmallScopesAtLength(t *testing.T) {
	need.Drill(t, "P1, P2: no order of events breaks a rule, of all that are possible with few faults")
	smallScopes(t, func(depth int) int { return depth })
}

func smallScopes(t *testing.T, far func(depth int) int) {
	for _, c := range []struct {
		name string
		o    Options
	}{
		{"faults and delays", Options{Depth: 6, Faults: 2, Delays: 1}},
		{"a request of an operator", Options{Depth: 14, Faults: 1, Delays: -1, Orders: 1}},
		{"any order", Options{Depth: 8, Faults: 1, Delays: -1, AnyOrder: true}},
		{"a slow clock", Options{Depth: 18, Faults: 1, Delays: -1, Skew: 1}},
		{"a guest that arrives unseen", Options{Depth: 40, Faults: 1, Delays: 1, Begin: []string{"migrating"},
			Only: []string{"slow", "stall", "freeze"}}},
		{"a restored store", Options{Depth: 120, Faults: 1, Delays: -1, Restores: 1, Only: []string{"stall"}}},
		{"a restored store, and a host that was away",
			Options{Depth: 30, Faults: 2, Delays: -1, Restores: 1, Only: []string{"stall", "power", "freeze"}, Begin: []string{"running"}}},
		{"two losses", Options{Depth: 36, Faults: 2, Delays: -1, Only: []string{"power", "freeze"}, Begin: []string{"running"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.o.Depth = far(c.o.Depth); try.Race {
				c.o.Depth = c.o.Depth/3 + 1 // the race detector costs a factor of ten
			}
			r := explore(t, c.o)
			for _, v := range r.Violations {
				t.Errorf("%s: %s\n%s", v.Rule, v.Detail, strings.Join(v.Path, "\n"))
			}
			if !r.Complete {
				t.Errorf("complete %t at depth %d", r.Complete, r.Depth)
			}
			t.Logf("%d states, depth %d, %.1f s", r.States, r.Depth, r.Seconds)
		})
	}
}

// The set of states does not depend on who met them first.
func TestSameStatesWithOneAndTwoWorkers(t *testing.T) {
	need.Seconds(t)
	o := Options{Depth: 7, Faults: 1, Delays: 1, Begin: []string{"nothing", "fence", "migrating"}}
	if try.Race {
		o.Depth = 5
	}
	var all []Result
	for _, workers := range []int{1, 2, 2, 3} {
		o.Workers = workers
		r := explore(t, o)
		r.Seconds = 0
		all = append(all, r)
	}
	for _, r := range all[1:] {
		if !reflect.DeepEqual(r, all[0]) {
			t.Errorf("%+v\nwant %+v", r, all[0])
		}
	}
}

// A world is compared by its bytes: none of them may be padding or a pointer.
func TestWorldHasNoPadding(t *testing.T) {
	var sum func(reflect.Type) uintptr
	sum = func(ty reflect.Type) uintptr {
		switch ty.Kind() {
		case reflect.Struct:
			n := uintptr(0)
			for i := range ty.NumField() {
				n += sum(ty.Field(i).Type)
			}
			return n
		case reflect.Array:
			return uintptr(ty.Len()) * sum(ty.Elem())
		case reflect.Uint8, reflect.Int8, reflect.Bool, reflect.Uint16:
			return ty.Size()
		}
		t.Fatalf("a world holds a %s", ty)
		return 0
	}
	ty := reflect.TypeFor[world]()
	if got := sum(ty); got != ty.Size() {
		t.Errorf("fields have %d bytes, a world has %d: it has padding", got, ty.Size())
	}
}

func TestPackAndUnpack(t *testing.T) {
	m := newMover(newNames(false))
	begins, err := m.begins(nil, world{faults: 3, delays: 2, orders: 1, skews: 1})
	if err != nil {
		t.Fatal(err)
	}
	if len(begins) != len(BeginNames()) {
		t.Errorf("%d begin states: want %d", len(begins), len(BeginNames()))
	}
	for _, b := range begins {
		var got world
		unpack(pack(&b.world, nil), &got)
		if got != b.world {
			t.Errorf("%s: %+v\nwant %+v", b.name, got, b.world)
		}
	}
}

// The canonical form of a canonical state is the state itself, along a course
// with faults.
func TestCanonicalFormIsStable(t *testing.T) {
	m := newMover(newNames(false))
	begins, err := m.begins(nil, world{faults: 2, delays: 2, orders: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range begins {
		m.w = b.world
		for i := range 400 {
			steps := m.next(true, nil)
			m.apply(steps[i*7919%len(steps)])
			was := m.w
			if m.canon(); m.w != was {
				t.Fatalf("%s, step %d: %s", b.name, i, m.describe())
			}
		}
	}
}

func TestMainPrintsJSONAndFails(t *testing.T) {
	var out bytes.Buffer
	err := Main(t.Context(), &out, Options{Depth: 40, Faults: 1, Delays: -1, Skew: 2, Begin: []string{"apart"},
		Only: []string{"stop"}}, "json")
	if v := (ViolationError{}); !errors.As(err, &v) || v.Count == 0 {
		t.Errorf("error %v: want a ViolationError", err)
	}
	var r struct {
		Depth      int
		States     int64
		Violations []struct{ Rule, Detail string }
	}
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if r.States == 0 || len(r.Violations) == 0 || r.Violations[0].Rule != ruleFalseProof {
		t.Errorf("%+v", r)
	}
	out.Reset()
	if err := Main(t.Context(), &out, Options{Depth: 4, Faults: 1, Delays: -1}, "text"); err != nil ||
		!strings.Contains(out.String(), "depth 4 (complete), ") {
		t.Errorf("%v: %s", err, out.String())
	}
	if err := Main(t.Context(), &out, Options{}, "xml"); err == nil {
		t.Error("format xml is accepted")
	}
}

func TestRunRefusesAndEnds(t *testing.T) {
	for _, o := range []Options{{Begin: []string{"no-such"}}, {Only: []string{"no-such"}}, {Depth: -1}, {Workers: 99}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v is accepted", o)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v: want that the context has ended", err)
	}
	r, err := Run(t.Context(), Options{Depth: 60, Limit: 50 * time.Millisecond})
	if err != nil || r.Complete {
		t.Errorf("with a limit of 50 ms: %v, complete %t", err, r.Complete)
	}
	r, err = Run(t.Context(), Options{Depth: 60, MaxStates: 500})
	if err != nil || r.Complete || r.States > 50_000 {
		t.Errorf("with 500 states: %v, complete %t, %d states", err, r.Complete, r.States)
	}
}
