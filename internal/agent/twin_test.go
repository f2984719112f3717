package agent

import (
	"context"
	"errors"
	"strings"
	"testing"

	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/testbed/try"
)

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
