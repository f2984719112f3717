package drain

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// TestReportsAreReadBeforeAGuestThatArrivesIsHere: it stands still then, and must not
// wait for them.
func TestReportsAreReadBeforeAGuestThatArrivesIsHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(t)
		c := &storetest.Counted{Store: b.other}
		v := &report.View{Store: c, Asked: true, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { v.Run(ctx) })
		r := b.receiver()
		r.Seen = v.Seen
		b.runs(r)
		b.put(carry{UUID: "uuid-b", Name: "b", Start: true})
		time.Sleep(10 * time.Second)
		if n := c.Now(); n != 0 {
			t.Errorf("%d watches for a guest that arrives off", n)
		}
		b.put(carry{UUID: "uuid-a", Name: "a", Live: true, ID: "x"})
		time.Sleep(2 * time.Minute) // it is large
		if n := c.Now(); n != 1 {
			t.Errorf("%d watches while a guest arrives, want one", n)
		}
		if _, _, err := b.other.Txn(t.Context(), nil, []store.Op{{Key: "fleet-carry/h2/uuid-a"}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if n := c.Now(); n != 0 {
			t.Errorf("%d watches when nothing arrives any more", n)
		}
	})
}
