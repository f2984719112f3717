package service

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
)

// guestsKept is how long a list of guests may be old that is asked for: thousands of hosts report all the time, and to
// sort 60,000 guests for each page that somebody looks at is too much.
const guestsKept = 2 * time.Second

// guestList is the last that was made.
type guestList struct {
	mu     sync.Mutex
	at     time.Time
	all    []inventory.Guest
	silent []cluster.HostID
}

// Guests lists those of the guests of all hosts that are asked for, as they were at most two seconds ago.
func (s *Service) Guests(_ context.Context, q inventory.GuestQuery) (inventory.GuestPage, error) {
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	if now := time.Now(); now.Sub(s.guests.at) >= guestsKept || s.guests.at.IsZero() {
		seen, ok := s.Seen()
		if !ok {
			return inventory.GuestPage{}, fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
		}
		s.guests.all, s.guests.silent = guestsOf(seen, now)
		s.guests.at = now
	}
	page := q.Of(s.guests.all)
	page.Silent = append(page.Silent, s.guests.silent...)
	return page, nil
}

// guestsOf are the guests that hosts tell of, each once, and the hosts that do not tell now.
func guestsOf(seen map[cluster.HostID]report.Seen, now time.Time) (all []inventory.Guest, silent []cluster.HostID) {
	for name, h := range seen {
		if !tellsNow(h, now) {
			silent = append(silent, name)
		}
	}
	slices.SortFunc(silent, func(a, b cluster.HostID) int { return inventory.Compare(string(a), string(b)) })
	for _, vm := range report.Inventory("", "", "", seen, now).VMs {
		g := inventory.Guest{Name: vm.Name, UUID: vm.UUID, Host: vm.Host, MemoryMiB: vm.MemoryMiB, CPUs: vm.CPUs,
			Addresses: vm.Addresses, System: vm.System, Fixed: vm.Fixed, Busy: vm.Busy, Protected: vm.Protected, State: inventory.GuestOff}
		switch h := seen[vm.Host]; {
		case !tellsNow(h, now):
			g.State, g.Silent = inventory.GuestUnknown, now.Sub(h.SeenAt)
		case vm.Halted:
			g.State = inventory.GuestPaused
		case vm.Running:
			g.State = inventory.GuestRuns
		}
		all = append(all, g)
	}
	return all, silent
}

// tellsNow reports whether what a host says of its guests is so now.
func tellsNow(h report.Seen, now time.Time) bool { return h.Up(now) && !h.Unobservable }
