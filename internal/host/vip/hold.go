package vip

import (
	"context"
	"fmt"
	"net"
	"time"

	"holdfast/internal/lib/clock"
)

// How Hold announces. Once would be enough on a network that loses nothing. A frame may be
// lost, a port of a switch may not forward yet that has just come up, and a neighbour may heed
// none within a second after it has learned another (Linux's locktime, before 4.12): so five
// times over two seconds. After that every 30 s, as who has missed all of them would send to
// the former holder until its entry ends, which takes some 20 minutes on routers and longer where
// something keeps it fresh; a table of a switch forgets in 5 minutes.
const (
	burst    = 5
	burstGap = 500 * time.Millisecond
	again    = 30 * time.Second
)

// look is how often Hold asks the kernel whether the address is still there.
const look = time.Second

// quiet is how long Hold does not repeat that the same machine claims the address: the
// DEFEND_INTERVAL of RFC 5227.
const quiet = 10 * time.Second

// Kind is what an Event tells.
type Kind string

// Kinds of events.
const (
	Conflict    Kind = "conflict"    // another machine says that it has the address: MAC
	Gone        Kind = "gone"        // the address is not on this host, although nobody called Remove
	Unannounced Kind = "unannounced" // the neighbours can not be told, others can not be heard: Err
	Announced   Kind = "announced"   // the neighbours were told, for the first time or again after one of the others
)

// Event is what Hold has noticed.
type Event struct {
	Kind Kind
	MAC  net.HardwareAddr
	Err  error
}

// Hold announces the address while this host has it, and tells of what happens to it, until
// ctx ends. It neither adds nor defends: what a conflict means is decided elsewhere. A state
// is told once, also when it lasts; a conflict every 10 s while it lasts. Hold does not wait for
// events to be taken: one for which there is no room is told later, if it still holds then.
func (v *VIP) Hold(ctx context.Context, events chan<- Event) {
	h := holder{v: v, events: events, left: burst, heard: map[string]time.Time{}}
	defer h.drop()
	for ctx.Err() == nil {
		if !h.step(ctx) {
			clock.Sleep(ctx, look)
		}
	}
}

// holder is what Hold knows.
type holder struct {
	v      *VIP
	events chan<- Event
	w      *wire // nil: the address is not there, or its interface can not be listened on
	state  Kind  // the last that was told
	due    time.Time
	left   int // announcements of a burst
	heard  map[string]time.Time
}

// step looks, announces when it is time, and listens for up to a second. It reports false when
// it could not listen.
func (h *holder) step(ctx context.Context) bool {
	dev, there, err := h.v.where()
	if err != nil || !there || h.w != nil && h.w.dev.Index != dev.Index {
		h.drop()
	}
	switch {
	case err != nil:
		h.tell(Event{Kind: Unannounced, Err: err})
		return false
	case !there:
		h.tell(Event{Kind: Gone})
		return false
	}
	if h.w == nil {
		if h.w, err = listen(ctx, dev, h.v.a.Prefix.Addr()); err != nil {
			h.w = nil
			h.tell(Event{Kind: Unannounced, Err: err})
			return false
		}
	}
	h.w.dev = dev // its MAC may have changed
	if err := h.announce(); err != nil {
		h.left, h.due = burst, time.Time{} // all of it when there is a link again
		h.tell(Event{Kind: Unannounced, Err: err})
	}
	end := time.Now().Add(look)
	if h.due.After(time.Now()) && h.due.Before(end) {
		end = h.due
	}
	if err := h.listen(ctx, end); err != nil && ctx.Err() == nil {
		h.drop()
		h.tell(Event{Kind: Unannounced, Err: err})
		return false
	}
	return true
}

// where finds the interface on which this host has the address by Add.
func (v *VIP) where() (dev net.Interface, there bool, err error) {
	found, err := entries(v.a.Prefix.Addr())
	if err != nil {
		return net.Interface{}, false, err
	}
	for _, e := range found {
		if !e.ours {
			continue
		}
		i, err := net.InterfaceByIndex(e.index)
		if err != nil {
			return net.Interface{}, false, fmt.Errorf("find interface %d: %w", e.index, err)
		}
		return *i, true, nil
	}
	return net.Interface{}, false, nil
}

// announce announces when it is time.
func (h *holder) announce() error {
	if err := link(h.w.dev); err != nil {
		return err
	}
	now := time.Now()
	if now.Before(h.due) {
		return nil
	}
	if err := h.w.announce(); err != nil {
		return err
	}
	h.due = now.Add(again)
	if h.left--; h.left > 0 {
		h.due = now.Add(burstGap)
	}
	h.tell(Event{Kind: Announced})
	return nil
}

// listen tells of conflicts until end.
func (h *holder) listen(ctx context.Context, end time.Time) error {
	for {
		c, err := h.w.hear(ctx, end)
		if c == nil || err != nil {
			return err
		}
		if !c.asks { // who asks is answered by the kernel
			h.conflict(c.mac)
		}
		if time.Now().After(end) { // also when frames come faster than they are read
			return nil
		}
	}
}

// conflict tells that another machine claims the address.
func (h *holder) conflict(mac net.HardwareAddr) {
	now := time.Now()
	for m, at := range h.heard {
		if now.Sub(at) >= quiet {
			delete(h.heard, m)
		}
	}
	if _, told := h.heard[mac.String()]; !told && h.send(Event{Kind: Conflict, MAC: mac}) {
		h.heard[mac.String()] = now
	}
}

// tell tells a state, unless it is the one that was told last.
func (h *holder) tell(e Event) {
	if h.state != e.Kind && h.send(e) {
		h.state = e.Kind
	}
}

func (h *holder) send(e Event) bool {
	select {
	case h.events <- e:
		return true
	default:
		return false
	}
}

// drop ends to listen; when there is something to listen on again, all is announced again.
func (h *holder) drop() {
	if h.w != nil {
		h.w.close()
	}
	h.w, h.left, h.due = nil, burst, time.Time{}
}
