package loop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// SetPassword is that of an agent in the guest.
func (h *host) SetPassword(_ context.Context, user, password string) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.failing != nil {
		return h.failing
	}
	h.passwords = append(h.passwords, user+":"+password)
	return nil
}

// reached is the agent of another host of the world.
type reached struct{ *Agent }

func (r reached) ResetPassword(ctx context.Context, password string) (cluster.Reset, error) {
	return r.Agent.ResetPassword(ctx, "an agent", password)
}
func (r reached) TestFence(ctx context.Context, host cluster.HostID) (cluster.FenceTest, error) {
	return r.Agent.TestFence(ctx, "an agent", host)
}
func (reached) Close() {}

func TestThePasswordIsResetWhereTheGuestRuns(t *testing.T) {
	sceneWith(t, wholly, func(w *world) {
		home := w.home()
		other := w.hosts["h2"]
		if home == other {
			other = w.hosts["h3"]
		}
		ctx := w.t.Context()
		_, err := home.agent.ResetPassword(ctx, "tester", "s3cret")
		wantKind(t, err, fail.Refused, "AllowResetRootPassword of the cluster's configuration is false")
		if _, err := home.imports(config.Import{}, `"CPU": 4`, `"CPU": 4, "AllowResetRootPassword": true`); err != nil {
			t.Fatal(err)
		}
		_, err = other.agent.ResetPassword(ctx, "tester", "s3cret")
		wantKind(t, err, fail.Refused, "the management VM runs on "+string(home.id))
		other.agent.Peer = func(id cluster.HostID) (Peer, error) { return reached{w.hosts[id].agent}, nil }
		got, err := other.agent.ResetPassword(ctx, "tester", "s3cret")
		if want := (cluster.Reset{Host: home.id, Addr: string(home.id), UUID: GuestUUID("test")}); err != nil || got != want {
			t.Errorf("%+v, %v: want %+v", got, err, want)
		}
		home.w.locked(func() { home.failing = fmt.Errorf("%w: no answer", cluster.ErrNoAgent) })
		_, err = home.agent.ResetPassword(ctx, "tester", "s3cret2")
		wantKind(t, err, fail.Failed, "does not answer")
		w.locked(func() {
			home.failing = nil
			if fmt.Sprint(home.passwords) != "[root:s3cret]" || len(other.passwords) != 0 {
				t.Errorf("passwords set: %v, elsewhere %v", home.passwords, other.passwords)
			}
		})
		events, _, err := home.agent.Events(ctx, -1, 20)
		if all := fmt.Sprintf("%+v", events); err != nil || !strings.Contains(all, string(cluster.EvPassword)) ||
			strings.Contains(all, "s3cret") {
			t.Errorf("events %s, %v", all, err)
		}
		w.request("h1", func(want *cluster.Want) { want.Run = false })
		w.await("nowhere", 20*time.Second)
		w.settle()
		_, err = home.agent.ResetPassword(ctx, "tester", "s3cret")
		wantKind(t, err, fail.Refused, `its state is "released"`)
	})
}
