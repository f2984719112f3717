package loop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// SetAddresses is that of an agent in the guest.
func (h *host) SetAddresses(_ context.Context, cards []cluster.Card) ([]string, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.calls++
	if h.mute != nil {
		return nil, h.mute
	}
	now := fmt.Sprint(cards)
	if h.w.cards == now {
		return nil, nil
	}
	h.w.cards = now
	return []string{cards[0].Addr.String()}, nil
}

func TestTheGuestGetsTheAddressesOfItsHost(t *testing.T) {
	perNode := func(c *config.Cluster) {
		wholly(c)
		c.Network[0].Ipaddr = "192.0.2.21@h1, 192.0.2.22@h2, 192.0.2.23@h3"
		c.Network[0].Netmask = "255.255.255.0@h1, 255.255.255.0@h2, 255.255.255.0@h3"
		c.Network[0].Gateway = "192.0.2.1@h1, 192.0.2.1@h2, 192.0.2.1@h3"
	}
	sceneWith(t, perNode, func(w *world) {
		set := func() (n int) {
			events, _, err := w.home().agent.Events(t.Context(), -1, 100)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if e.Kind == cluster.EvAddresses {
					n++
				}
			}
			return n
		}
		wants := func(calls, events int) {
			t.Helper()
			home := w.home()
			n := strings.TrimPrefix(string(home.id), "h")
			w.locked(func() {
				if want := "192.0.2.2" + n + "/24 192.0.2.1 ["; !strings.Contains(w.cards, want) ||
					strings.Count(w.cards, "192.0.2.2"+n) != 1 || strings.Count(w.cards, "192.0.2.2") != 3 {
					t.Errorf("the cards are %s, want %s and the addresses of the two other hosts", w.cards, want)
				}
				if home.calls != calls {
					t.Errorf("the guest's agent was called %d times, want %d", home.calls, calls)
				}
			})
			if got := set(); got != events {
				t.Errorf("%d events tell of addresses, want %d", got, events)
			}
		}
		time.Sleep(30 * time.Second)
		wants(1, 1) // once for each run of the guest

		for i, why := range []error{fmt.Errorf("%w: none", cluster.ErrNoAgent), errors.New("it names no such card")} {
			for _, h := range w.hosts {
				w.locked(func() { h.mute, h.calls = why, 0 })
			}
			w.locked(func() { w.cards = "" })
			w.request("h1", func(want *cluster.Want) { want.Run = false })
			w.await("nowhere", 20*time.Second)
			w.request("h1", func(want *cluster.Want) { want.Run = true })
			w.await("another", time.Minute)
			time.Sleep(27 * time.Second)
			home := w.home()
			w.locked(func() {
				if home.calls < 4 {
					t.Errorf("%v: the guest's agent was called %d times in 27 s", why, home.calls)
				}
				home.mute, home.calls = nil, 0
			})
			time.Sleep(12 * time.Second)
			wants(1, 2+i)
		}
	})
}
