package probe

import (
	"testing"
	"time"

	"holdfast/internal/cluster"
)

// TestAddressesThatPeopleSay: a guest of which its host knows no address is watched at the one
// that somebody has given.
func TestAddressesThatPeopleSay(t *testing.T) {
	inWorld(t, 2, []cluster.HostID{"h2", "h2"}, func(t *testing.T, w *world) {
		w.set(func() {
			w.addrs["u1"], w.addrs["u2"] = nil, nil
			w.said = map[string][]string{"u1": {addr(1).String()}}
			w.run = "up1"
		})
		time.Sleep(2 * time.Minute)
		_, g := w.sum("up1")
		if x := g["g1"]; x.Addr != addr(1).String() || x.Sent < 90 || x.Lost != 0 {
			t.Errorf("said: %+v", x)
		}
		if x := g["g2"]; x.Addr != "" || x.Sent != 0 || x.Note == "" {
			t.Errorf("not said: %+v", x)
		}
	})
}
