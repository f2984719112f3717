package loop

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
)

// TestAnotherAgentOfTheNameIsFound: before the member of the store is started, the other members say whether another agent renews the
// record of this host.
func TestAnotherAgentOfTheNameIsFound(t *testing.T) {
	before := cluster.Host{Name: "h1", Identity: "id", Boot: "before", Machine: "m"}
	same, clone, stranger := before, before, before
	same.Boot = "now"
	clone.Boot, clone.Machine = "now", "another"
	stranger.Identity = "another"
	const sec = time.Second
	never, lives := renewsEvery(time.Hour), renewsEvery(2*sec)
	once := func(since time.Duration) uint64 { return uint64(min(since, 3*sec) / (3 * sec)) }
	always := func(time.Duration, int) bool { return true }
	for name, c := range map[string]struct {
		rec             cluster.Host                              // "": there is none
		renews          func(since time.Duration) uint64          // its sequence
		fails           func(since time.Duration, reads int) bool // the others do not answer
		found           string                                    // in the error
		atLeast, atMost time.Duration
	}{
		"nobody answers":                 {fails: always, atMost: twinAnswer},
		"the host is new":                {},
		"it is this agent's earlier run": {rec: same, renews: lives},
		"it was rebooted":                {rec: before, renews: never, atLeast: 6 * sec, atMost: 7 * sec},
		"its last renewal comes late":    {rec: before, renews: once, atLeast: 9 * sec, atMost: 10 * sec},
		"the store is lost meanwhile": {
			rec: before, renews: renewsEvery(sec), fails: func(since time.Duration, _ int) bool { return since > 2*sec }, atMost: 12 * sec,
		},
		"the data directory was copied": {rec: before, renews: lives, found: "the data directory was copied", atLeast: 6 * sec, atMost: 9 * sec},
		"two hosts have one name":       {rec: stranger, renews: lives, found: "two hosts have one name", atLeast: 6 * sec, atMost: 9 * sec},
		"a clone was resumed":           {rec: clone, renews: lives, found: "the data directory was copied", atLeast: 6 * sec, atMost: 9 * sec},
		"it lives, and half of the answers are lost": {
			rec: before, renews: lives, fails: func(_ time.Duration, reads int) bool { return reads%2 == 0 }, found: "copied", atMost: 20 * sec,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, reads := time.Now(), 0
				w := Twin{Host: "h1", Addr: "192.0.2.7", Identity: "id", Boot: "now", Machine: "m", Lease: 6 * time.Second, Keepalive: 2 * time.Second,
					Read: func(ctx context.Context) (cluster.Host, bool, error) {
						reads++
						if c.fails != nil && c.fails(time.Since(began), reads) {
							<-ctx.Done()
							return cluster.Host{}, false, ctx.Err()
						}
						if c.renews != nil {
							c.rec.Seq = c.renews(time.Since(began))
						}
						return c.rec, c.rec.Name != "", nil
					}}
				err := w.Look(t.Context())
				if c.found == "" && err != nil || c.found != "" && (!errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), c.found)) {
					t.Errorf("found %v, want %q", err, c.found)
				}
				if took := time.Since(began); took < c.atLeast || took > c.atMost {
					t.Errorf("it took %s, want %s to %s", took, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// renewsEvery renews at an interval.
func renewsEvery(d time.Duration) func(time.Duration) uint64 {
	return func(since time.Duration) uint64 { return uint64(since / d) }
}
