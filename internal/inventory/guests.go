package inventory

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
)

// GuestState is how a guest is, by the last report of its host.
type GuestState string

// States of guests.
const (
	GuestRuns    GuestState = "running"
	GuestPaused  GuestState = "paused" // it stands still until somebody lets it go on
	GuestOff     GuestState = "off"
	GuestUnknown GuestState = "unknown" // its host is not heard, or can not list its guests
)

// GuestStates are all.
var GuestStates = []GuestState{GuestRuns, GuestPaused, GuestOff, GuestUnknown}

// Guest is a guest as its host tells of it.
type Guest struct {
	Name      string         `json:"name"`
	UUID      string         `json:"uuid"`
	Host      cluster.HostID `json:"host"`
	State     GuestState     `json:"state"`
	MemoryMiB int64          `json:"memory_mib"`
	CPUs      int            `json:"cpus"`
	Addresses []string       `json:"addresses,omitempty"` // at which other hosts reach it
	System    string         `json:"system,omitempty"`    // such as centos6.5
	Fixed     []string       `json:"fixed,omitempty"`     // why it can not move live
	Busy      string         `json:"busy,omitempty"`      // what holds it for now, such as a backup
	Protected bool           `json:"protected,omitempty"` // Holdfast's own HA moves it
	Silent    time.Duration  `json:"silent,omitzero"`     // of an unknown one, since its host was heard
}

// GuestQuery asks for a part of all guests. What is zero does not count.
type GuestQuery struct {
	Search string // words, each of which stands in its name, UUID, host or addresses, whatever their case
	Host   cluster.HostID
	State  GuestState
	Offset int // how many are left out
	Limit  int // 0: 100; at most 1000
}

// Bounds of a query.
const (
	guestsShown   = 100
	maxGuests     = 1000
	maxGuestWords = 200 // bytes
)

// GuestPage is the answer.
type GuestPage struct {
	Guests []Guest          `json:"guests"` // by the names of hosts and of guests
	Total  int              `json:"total"`  // that are asked for, on all pages
	Silent []cluster.HostID `json:"silent"` // hosts whose guests are shown as they were told last
}

// Check refuses what can not be asked.
func (q GuestQuery) Check() error {
	switch {
	case len(q.Search) > maxGuestWords:
		return fmt.Errorf("search: %d bytes: want at most %d", len(q.Search), maxGuestWords)
	case q.State != "" && !slices.Contains(GuestStates, q.State):
		return fmt.Errorf("state %.70q: want running, paused, off or unknown", string(q.State))
	case q.Offset < 0:
		return fmt.Errorf("offset %d: want 0 or more", q.Offset)
	case q.Limit < 0 || q.Limit > maxGuests:
		return fmt.Errorf("limit %d: want 1 to %d, or 0 for %d", q.Limit, maxGuests, guestsShown)
	}
	return nil
}

// Of are those of all that are asked for.
func (q GuestQuery) Of(all []Guest) GuestPage {
	words := strings.Fields(strings.ToLower(q.Search))
	out := GuestPage{Guests: []Guest{}, Silent: []cluster.HostID{}}
	limit := q.Limit
	if limit == 0 {
		limit = guestsShown
	}
	for _, g := range all {
		if q.Host != "" && g.Host != q.Host || q.State != "" && g.State != q.State || !g.has(words) {
			continue
		}
		if out.Total++; out.Total > q.Offset && len(out.Guests) < limit {
			out.Guests = append(out.Guests, g)
		}
	}
	return out
}

// has reports whether each of the words, of small letters, stands in what tells guests apart.
func (g Guest) has(words []string) bool {
	in := func(text, word string) bool { return strings.Contains(strings.ToLower(text), word) }
	return !slices.ContainsFunc(words, func(w string) bool {
		return !in(g.Name, w) && !in(g.UUID, w) && !in(string(g.Host), w) &&
			!slices.ContainsFunc(g.Addresses, func(a string) bool { return in(a, w) })
	})
}
