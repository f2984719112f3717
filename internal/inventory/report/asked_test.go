package report

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/inventory"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// reports writes the record of a host again and again.
func reports(ctx context.Context, t *testing.T, wg *sync.WaitGroup, mem *storetest.Mem, host, install, boot string,
	claims bool) <-chan error {
	t.Helper()
	rep := &Reporter{Store: mem.NewClient(host + install + boot), Log: slog.New(slog.DiscardHandler),
		Look: func(context.Context) (Record, error) {
			return Record{Host: inventory.Host{Name: "plain", MemoryMiB: 1, Install: install, Boot: boot}}, nil
		}}
	if claims {
		rep.Claims = &Claim{Host: "plain", Install: install, Boot: boot}
	}
	out := make(chan error, 1)
	wg.Go(func() {
		err := rep.Claim(ctx)
		if err == nil {
			err = rep.Run(ctx)
		}
		out <- err
	})
	return out
}

// TestRecordsAreFollowedWhileSomebodyAsks: who asks first waits for them, and a
// host that fell silent meanwhile is known to be so.
func TestRecordsAreFollowedWhileSomebodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		rctx, stop := context.WithCancel(ctx)
		reports(rctx, t, &wg, mem, "plain", "i1", "b1", false)
		time.Sleep(time.Second)
		c := &storetest.Counted{Store: mem.NewClient("view")}
		v := &View{Store: c, Asked: true, Log: slog.New(slog.DiscardHandler)}
		wg.Go(func() { v.Run(ctx) })
		time.Sleep(time.Minute)
		if n := c.Now(); n != 0 {
			t.Errorf("%d watches before anybody asks", n)
		}
		began := time.Now()
		seen, ok := v.Seen()
		if !ok || !seen["plain"].Up(time.Now()) || time.Since(began) > time.Second {
			t.Errorf("asked: %t, %+v after %s", ok, seen, time.Since(began))
		}
		if n := c.Now(); n != 1 {
			t.Errorf("%d watches, want one", n)
		}
		stop()
		time.Sleep(2 * idle)
		if n := c.Now(); n != 0 {
			t.Errorf("%d watches when nobody has asked for long", n)
		}
		if seen, ok = v.Seen(); !ok || seen["plain"].Up(time.Now()) {
			t.Errorf("a host that is silent for two minutes is up: %t, %+v", ok, seen)
		}
	})
}

func TestWhoAsksIsNotHeldForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := storetest.NewMem().NewClient("view")
		client.Partition(true)
		v := &View{Store: client, Asked: true, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { v.Run(ctx) })
		began := time.Now()
		if _, ok := v.Seen(); ok || time.Since(began) != readWithin {
			t.Errorf("without the store: %t after %s", ok, time.Since(began))
		}
	})
}

// TestAHostsNameIsUsedOnce: a second host of the name writes nothing, and ends; a
// new installation waits until the old one is silent; a copied disk is noticed.
func TestAHostsNameIsUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		first, stop := context.WithCancel(ctx)
		client := mem.NewClient("look")
		last := func() Record {
			kv, _, err := client.Get(t.Context(), RecordKey("plain"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := DecodeRecord(kv.Key, kv.Value)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		oldEnded := reports(first, t, &wg, mem, "plain", "i1", "b1", true)
		time.Sleep(time.Second)

		ended := reports(ctx, t, &wg, mem, "plain", "i2", "b2", true)
		if err := <-ended; !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "installation i1") {
			t.Errorf("the second of the name ended with %v", err)
		}
		time.Sleep(time.Minute)
		if last().Seq < 6 {
			t.Errorf("the first one reports no more: %+v", last())
		}
		stop()
		if err := <-oldEnded; err != nil {
			t.Errorf("the first ended with %v", err)
		}
		// Installed anew, after the old one went away: so after a reboot.
		for _, boot := range []string{"b3", "b4"} {
			next, end := context.WithCancel(ctx)
			ended := reports(next, t, &wg, mem, "plain", "i3", boot, true)
			time.Sleep(claimWithin - time.Second)
			if last().Host.Boot == boot {
				t.Error("it did not wait whether the one before lives")
			}
			time.Sleep(claimAgain + 2*time.Second)
			if last().Host.Boot != boot {
				t.Error("it waits for ever")
			}
			end()
			if err := <-ended; err != nil {
				t.Errorf("it ended with %v", err)
			}
		}
		// A copy of its disk, the same installation, is the one that ends.
		livesEnded := reports(ctx, t, &wg, mem, "plain", "i3", "b4", true)
		time.Sleep(time.Minute)
		if err := <-reports(ctx, t, &wg, mem, "plain", "i3", "b5", true); !errors.Is(err, ErrConflict) {
			t.Errorf("the copy ended with %v", err)
		}
		time.Sleep(time.Minute)
		select {
		case err := <-livesEnded:
			t.Errorf("the host that lives ended with %v", err)
		default:
		}
		// Somebody writes under its name all the same.
		raw, err := json.Marshal(Record{Host: inventory.Host{Name: "plain", Install: "i9"}})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := client.Txn(t.Context(), nil, []store.Op{{Key: RecordKey("plain"), Value: raw}}); err != nil {
			t.Fatal(err)
		}
		if err := <-livesEnded; !errors.Is(err, ErrConflict) {
			t.Errorf("it ended with %v", err)
		}
	})
}

// TestAReportWhoseAnswerIsLostIsNoConflict: it was this host's own.
func TestAReportWhoseAnswerIsLostIsNoConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		client := mem.NewClient("plain")
		rep := &Reporter{Store: storetest.AsGuestHost(t, "plain", client, Permits),
			Claims: &Claim{Host: "plain", Install: "i", Boot: "b"}, Log: slog.New(slog.DiscardHandler), Look: func(context.Context) (Record, error) {
				return Record{Host: inventory.Host{Name: "plain", MemoryMiB: 1, Install: "i", Boot: "b"}}, nil
			}}
		if err := rep.report(t.Context()); err != nil {
			t.Fatal(err)
		}
		rep.mod-- // as if the last answer had not come
		rep.written = time.Time{}
		if err := rep.report(t.Context()); err != nil {
			t.Errorf("got %v", err)
		}
		if _, mod, err := rep.read(t.Context()); err != nil || mod != rep.mod {
			t.Errorf("revision %d, the record has %d, %v", rep.mod, mod, err)
		}
	})
}

// TestWhoChangesAHostHasItReport: what was asked for is in the store when the asking ends, and nobody is held when the
// reporter ends.
func TestWhoChangesAHostHasItReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := storetest.NewMem()
		client := mem.NewClient("h1")
		defer client.Close()
		var guests atomic.Int64
		rep := &Reporter{Store: client, Log: slog.New(slog.DiscardHandler), Look: func(context.Context) (Record, error) {
			r := Record{Host: inventory.Host{Name: "h1"}}
			r.VMs = make([]inventory.VM, guests.Load())
			return r, nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- rep.Run(ctx) }()
		synctest.Wait()
		began := time.Now()
		for n := range int64(3) {
			guests.Store(n)
			rep.Soon()
			rep.Renew(ctx)
			kv, _, err := client.Get(ctx, RecordKey("h1"))
			rec, derr := DecodeRecord(kv.Key, kv.Value)
			if err := errors.Join(err, derr); err != nil || len(rec.VMs) != int(n) {
				t.Errorf("%d guests are reported, want %d, %v", len(rec.VMs), n, err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s", took)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		rep.Soon()
		rep.Renew(ctx)
	})
}
