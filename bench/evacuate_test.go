//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

const (
	evacuateRounds = 8 // of each way, in turn
	evacuateGuests = 4
	evacuateAtOnce = 2 // moves, as a drain makes them

	emptied = "h1"

	evacuateLook   = 10 * time.Millisecond // between two looks at the process table
	evacuateWithin = 2 * time.Minute
	evacuateRest   = 4 * time.Second // between rounds: what a move left behind has settled
)

// TestEvacuation empties a host with four guests, in turn by `holdfast host drain`
// and by plain `virsh migrate` with as many moves at once, in one order, to the
// hosts that the drain before has chosen. The time counts from the command until
// the process table has no guest on the host.
func TestEvacuation(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	l := crowd(t)
	before, err := l.WaitVMs(t.Context(), evacuateWithin)
	if err != nil {
		t.Fatal(err)
	}
	var ours, theirs evacuations
	fill(t, l)
	places := drainHost(t, l, nil) // not counted: what is read for the first time comes from the disk
	fill(t, l)
	for i := range 2 * evacuateRounds {
		// ABBA: what grows with time burdens both alike.
		if i%4 == 0 || i%4 == 3 {
			places = drainHost(t, l, &ours)
		} else {
			virshHost(t, l, places, &theirs)
		}
		fill(t, l)
	}
	after, err := l.AskVMs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range before {
		if after[name].Boot != b.Boot {
			t.Errorf("%s was restarted: before %+v, after %+v", name, b, after[name])
		}
	}
	ratio := ours.empty.median() / theirs.empty.median()
	result(t, "host with %d guests emptied, %d moves at once, %d rounds each in turn, seconds, median (min-max): no "+
		"guest left: holdfast host drain %s, virsh migrate %s, ratio of medians %.2f; first move begins: %s, %s; "+
		"command returns: %s, %s; load %s",
		evacuateGuests, evacuateAtOnce, evacuateRounds, ours.empty, theirs.empty, ratio, ours.first, theirs.first,
		ours.whole, theirs.whole, loadNow())
}

// evacuations are the seconds from the command: until the first guest has a
// process on another host, until none has one on this, until the command returns.
type evacuations struct{ first, empty, whole series }

// crowd makes a laboratory with agents and guests, the management VM not on the
// host that is emptied.
func crowd(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Up(t.Context(), programs(lab.Options{Dir: labDir(t), Agents: true, Guests: evacuateGuests}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	if settled(t, l).Owner.Host == cluster.HostID(emptied) {
		must(t, l, "h3", l.Exe(), "migrate", "h2")
		settled(t, l)
	}
	return l
}

// fill brings all guests to the host that is to be emptied, and lets it rest.
func fill(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, g := range guests(t, l) {
		if g.Host == emptied {
			continue
		}
		if err := l.MoveVM(t.Context(), g.Name, emptied); err != nil {
			t.Fatal(err)
		}
	}
	clock.Sleep(t.Context(), evacuateRest)
	for _, g := range guests(t, l) {
		if g.Host != emptied || g.To != "" {
			t.Fatalf("%s is on %q, on its way to %q: want it on %s", g.Name, g.Host, g.To, emptied)
		}
	}
}

func guests(t *testing.T, l *lab.Lab) []lab.GuestInfo {
	t.Helper()
	all, err := l.Guests(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// drainHost empties the host by a drain, and returns where the guests are then.
func drainHost(t *testing.T, l *lab.Lab, to *evacuations) map[string]string {
	t.Helper()
	emptyHost(t, l, "drain", to, l.Exe(), "host", "drain", emptied)
	places := map[string]string{}
	for _, g := range guests(t, l) {
		places[g.Name] = g.Host
	}
	must(t, l, emptied, l.Exe(), "host", "enable", emptied)
	return places
}

// virshHost empties the host without Holdfast.
func virshHost(t *testing.T, l *lab.Lab, places map[string]string, to *evacuations) {
	t.Helper()
	var todo strings.Builder
	for _, g := range guests(t, l) {
		fmt.Fprintf(&todo, "%s %s\n", g.Name, l.Addr(places[g.Name]))
	}
	// --unsafe as in lab.MoveVM.
	one := `exec virsh -q migrate --live --p2p --persistent --undefinesource --unsafe "$1" "qemu+tcp://$2/system" "tcp://$2"`
	all := fmt.Sprintf(`printf %%s "$2" | xargs -P %d -L 1 sh -c "$1" sh`, evacuateAtOnce)
	emptyHost(t, l, "virsh", to, "sh", "-c", all, "sh", one, todo.String())
}

// evacuate runs a command on the host that it empties, and times it.
func emptyHost(t *testing.T, l *lab.Lab, name string, to *evacuations, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), evacuateWithin)
	defer cancel()
	var first, empty time.Duration
	done := make(chan error, 1)
	began := time.Now()
	var whole time.Duration // read after done
	go func() {
		_, err := l.Exec(ctx, emptied, argv...)
		whole = time.Since(began)
		done <- err
	}()
	var err error
	for empty == 0 && err == nil {
		var all []lab.GuestInfo
		if all, err = l.Guests(ctx); err != nil {
			break
		}
		now := time.Since(began)
		if first == 0 && slices.ContainsFunc(all, func(g lab.GuestInfo) bool { return g.Host != emptied || g.To != "" }) {
			first = now
		}
		if !slices.ContainsFunc(all, func(g lab.GuestInfo) bool { return g.Host == emptied }) {
			empty = now
			break
		}
		if !clock.Sleep(ctx, evacuateLook) {
			err = ctx.Err()
		}
	}
	if err != nil {
		cancel() // ends the command
	}
	if cerr := <-done; err != nil || cerr != nil {
		t.Fatalf("empty %s by %s: %v, %v", emptied, name, err, cerr)
	}
	t.Logf("%s: first move begins %.2f s, empty %.2f s, command returns %.2f s; load %s", name, first.Seconds(),
		empty.Seconds(), whole.Seconds(), loadNow())
	if to != nil {
		to.first, to.empty, to.whole = append(to.first, first.Seconds()), append(to.empty, empty.Seconds()), append(to.whole, whole.Seconds())
	}
}
