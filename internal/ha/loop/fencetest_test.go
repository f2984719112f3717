package loop

import (
	"errors"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// TestFenceDevicesAreTested by another host, and nothing is ordered.
func TestFenceDevicesAreTested(t *testing.T) {
	sceneWith(t, devices, func(w *world) {
		ctx, h1 := w.t.Context(), w.hosts["h1"]
		got, err := h1.agent.TestFence(ctx, "tester", "h2")
		if err != nil || got.By != "h1" || got.Host != "h2" || !got.Works() || len(got.Answers) != 1 || !got.Answers[0].On {
			t.Errorf("%+v, %v", got, err)
		}
		_, err = h1.agent.TestFence(ctx, "tester", "h1")
		wantKind(t, err, fail.Refused, "another host must ask the fence devices of h1")
		h1.agent.Peer = func(id cluster.HostID) (Peer, error) { return reached{w.hosts[id].agent}, nil }
		if got, err = h1.agent.TestFence(ctx, "tester", "h1"); err != nil || got.By != "h2" || got.Host != "h1" {
			t.Errorf("of itself: %+v, %v", got, err)
		}
		h1.agent.Peer = func(cluster.HostID) (Peer, error) { return nil, errors.New("no way") }
		if _, err = h1.agent.TestFence(ctx, "tester", "h1"); err == nil {
			t.Error("nobody could be asked")
		}
		w.locked(func() { w.refuse = errors.New("no answer") })
		if got, err = h1.agent.TestFence(ctx, "tester", "h2"); err != nil || got.Works() || got.Answers[0].Error != "no answer" {
			t.Errorf("a dead device: %+v, %v", got, err)
		}
		_, err = h1.agent.TestFence(ctx, "tester", "h9")
		wantKind(t, err, fail.Invalid, "want a member of the cluster")
		if orders := w.given(); len(orders) != 0 {
			t.Errorf("orders: %v", orders)
		}
	})
	sceneWith(t, func(*config.Cluster) {}, func(w *world) {
		_, err := w.hosts["h1"].agent.TestFence(w.t.Context(), "tester", "h2")
		wantKind(t, err, fail.Refused, "has no fence device")
	})
}
