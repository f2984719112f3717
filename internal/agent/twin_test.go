package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/testbed/try"
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
	never, lives := every(time.Hour), every(2*sec)
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
			rec: before, renews: every(sec), fails: func(since time.Duration, _ int) bool { return since > 2*sec }, atMost: 12 * sec,
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
				w := twin{host: "h1", addr: "192.0.2.7", identity: "id", boot: "now", machine: "m", lease: 6 * time.Second, keepalive: 2 * time.Second,
					read: func(ctx context.Context) (cluster.Host, bool, error) {
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
				err := w.look(t.Context())
				if c.found == "" && err != nil || c.found != "" && (!errors.Is(err, loop.ErrConflict) || !strings.Contains(err.Error(), c.found)) {
					t.Errorf("found %v, want %q", err, c.found)
				}
				if took := time.Since(began); took < c.atLeast || took > c.atMost {
					t.Errorf("it took %s, want %s to %s", took, c.atLeast, c.atMost)
				}
			})
		})
	}
}

// every renews at an interval.
func every(d time.Duration) func(time.Duration) uint64 {
	return func(since time.Duration) uint64 { return uint64(since / d) }
}

// TestARefusedAgentEndsItsMember: also one that an agent before has started.
func TestARefusedAgentEndsItsMember(t *testing.T) {
	dir := try.ShortDir(t)
	file := settings(t, dir, func(n *config.Node) {
		client, peer := "http://127.0.0.1:1", "http://127.0.0.1:2"
		n.Store.Member = &config.Member{
			ListenPeer: peer, PeerURL: peer, ListenClient: client, ClientURL: client, Initial: map[string]string{"h1": peer},
		}
	})
	nd, err := load(options(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := nd.endMember(loop.ErrConflict); err != loop.ErrConflict {
		t.Errorf("no member was ever started: %v", err)
	}
	spec := nd.spec(storeChild, "1000")
	spec.Exe = "/bin/sleep"
	t.Cleanup(func() {
		if err := supervise.Stop(context.Background(), spec.Dir, spec.Name); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- nd.keepChild(ctx, spec, "id") }() // there is no other member to ask
	pid := 0
	try.Until(t, "the member to run", func() bool {
		st, err := supervise.Read(spec.Dir, spec.Name)
		pid = st.PID
		return err == nil && pid != 0
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	err = nd.endMember(loop.ErrConflict)
	if !errors.Is(err, loop.ErrConflict) || !strings.Contains(err.Error(), "was ended") {
		t.Errorf("got %v", err)
	}
	if st, err := supervise.Read(spec.Dir, spec.Name); err != nil || st.PID != 0 {
		t.Errorf("the member lives: %+v, %v", st, err)
	}
	if err := nd.endMember(loop.ErrConflict); err != loop.ErrConflict {
		t.Errorf("once more: %v", err)
	}
	// The loop may find the other agent before the look at the other members is over.
	if err := nd.keepChild(ctx, spec, "id"); err != nil {
		t.Error(err)
	}
	if st, err := supervise.Read(spec.Dir, spec.Name); err != nil || st.PID != 0 {
		t.Errorf("a member is started by an agent that ends: %+v, %v", st, err)
	}
}
