package probe

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"holdfast/internal/store"
)

// Times and bounds of asking for addresses.
const (
	tellEvery = 5 * time.Second
	askAgain  = time.Minute      // a guest whose addresses are known
	askSoon   = 10 * time.Second // one whose are not
	askWithin = 20 * time.Second // all of a round
	oneWithin = 8 * time.Second  // one guest
	askers    = 4
)

// teller writes the addresses of the guests that run here.
type teller struct {
	*Service
	run string

	known map[string]lastTold // by UUID
	last  []byte              // as written
}

type lastTold struct {
	addrs []string
	at    time.Time
}

func (t *teller) loop(ctx context.Context) {
	t.known = map[string]lastTold{}
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		if err := t.tell(ctx); err != nil && ctx.Err() == nil {
			t.Log.Debug("addresses of guests", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (t *teller) tell(ctx context.Context) error {
	seen, ok := t.Seen()
	if !ok {
		return nil
	}
	here := map[string]bool{}
	for _, v := range seen.VMs {
		if v.Running && v.Host == t.Host {
			here[v.UUID] = true
		}
	}
	maps.DeleteFunc(t.known, func(uuid string, _ lastTold) bool { return !here[uuid] })
	t.ask(ctx, here)
	a := addresses{Run: t.run, Guests: map[string][]string{}}
	size := 0
	for _, uuid := range slices.Sorted(maps.Keys(t.known)) {
		addrs := t.known[uuid].addrs
		if len(addrs) == 0 {
			continue
		}
		if size += room(uuid) + room(addrs); size > maxBytes {
			a.Left++
			continue
		}
		a.Guests[uuid] = addrs
	}
	op, err := encode(addrKey(t.Host), a)
	if err != nil || ctx.Err() != nil || bytes.Equal(op.Value, t.last) {
		return err
	}
	wctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	if _, _, err := t.Store.Txn(wctx, nil, []store.Op{op}); err != nil {
		return fmt.Errorf("write the addresses of guests: %w", err)
	}
	t.last = op.Value
	return nil
}

// ask asks for the addresses that are not known, or not known of late, a few
// guests at a time: one that hangs must not keep the others waiting for long.
func (t *teller) ask(ctx context.Context, here map[string]bool) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	var due []string
	for uuid := range here {
		k, ok := t.known[uuid]
		again := askSoon
		if len(k.addrs) > 0 {
			again = askAgain
		}
		if !ok || time.Since(k.at) >= again {
			due = append(due, uuid)
		}
	}
	// Who has waited longest comes first, since the time may not suffice for all.
	slices.SortFunc(due, func(a, b string) int { return t.known[a].at.Compare(t.known[b].at) })
	next := make(chan string)
	var mu sync.Mutex // guards known, from here on
	var wg sync.WaitGroup
	for range min(askers, len(due)) {
		wg.Go(func() {
			for uuid := range next {
				actx, cancel := context.WithTimeout(ctx, oneWithin)
				addrs, err := t.Addresses(actx, uuid)
				cancel()
				if err != nil {
					t.Log.Debug("addresses of a guest", "vm", uuid, "err", err)
				}
				mu.Lock()
				k := lastTold{texts(addrs), time.Now()}
				if err != nil {
					k.addrs = t.known[uuid].addrs // as they were
				}
				t.known[uuid] = k
				mu.Unlock()
			}
		})
	}
	for _, uuid := range due {
		if ctx.Err() != nil {
			break
		}
		select {
		case next <- uuid:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
}

// texts are the addresses that another host may reach.
func texts(addrs []netip.Addr) []string {
	var out []string
	for _, a := range addrs {
		a = a.Unmap()
		if a.IsGlobalUnicast() && a.Zone() == "" && !slices.Contains(out, a.String()) && len(out) < maxAddrs {
			out = append(out, a.String())
		}
	}
	return out
}
