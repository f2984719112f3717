package web

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"holdfast/internal/lib/fail"
)

// Bounds of tickets and of open screens, on one member.
const (
	ticketLasts    = 30 * time.Second
	ticketsEach    = 16   // of one user that were not used
	ticketsOfAll   = 1024 // of all
	screensOfOne   = 8    // of one user, whatever his addresses; for all see package server
	screensEndWait = drainTime
)

// screens are what is open in browsers, and the tickets for more. A ticket opens one screen of one guest, once, in the
// session that has asked for it.
type screens struct {
	now   func() time.Time
	under sync.WaitGroup // sockets

	mu      sync.Mutex
	tickets map[string]ticket
	open    map[string]int // by user
}

// ticket is what one is good for.
type ticket struct {
	user, session, guest string
	until                time.Time
}

func newScreens() *screens {
	return &screens{now: time.Now, tickets: map[string]ticket{}, open: map[string]int{}}
}

// give makes a ticket. Who has too many loses the oldest.
func (s *screens) give(user, session, guest string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(user)
	id := rand.Text()
	s.tickets[id] = ticket{user, session, guest, s.now().Add(ticketLasts)}
	return id
}

// sweep makes room for a ticket of a user. The caller holds mu.
func (s *screens) sweep(user string) {
	now, mine, oldest, ofMine := s.now(), 0, "", ""
	before := func(id, than string) bool { return than == "" || s.tickets[id].until.Before(s.tickets[than].until) }
	for id, t := range s.tickets {
		if !now.Before(t.until) {
			delete(s.tickets, id)
			continue
		}
		if before(id, oldest) {
			oldest = id
		}
		if t.user != user {
			continue
		}
		if mine++; before(id, ofMine) {
			ofMine = id
		}
	}
	if mine >= ticketsEach {
		delete(s.tickets, ofMine)
	} else if len(s.tickets) >= ticketsOfAll {
		delete(s.tickets, oldest)
	}
}

// take uses a ticket up, and reports whether it was for that.
func (s *screens) take(id, user, session, guest string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, found := s.tickets[id]
	delete(s.tickets, id)
	return found && s.now().Before(t.until) && t.user == user && t.session == session && t.guest == guest
}

// enter counts an open screen of a user, until leave.
func (s *screens) enter(user string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[user] >= screensOfOne {
		return nil, fail.Errorf(fail.Unavailable, "You have %d screens open, the most that there may be.", screensOfOne).
			With("close one of them")
	}
	s.open[user]++
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.open[user]--; s.open[user] == 0 {
			delete(s.open, user)
		}
	}), nil
}

// wait waits until no socket is open any more, at most a while: who does not answer does not hold the agent.
func (s *screens) wait() {
	ctx, cancel := context.WithTimeout(context.Background(), screensEndWait)
	defer cancel()
	go func() {
		defer cancel()
		s.under.Wait()
	}()
	<-ctx.Done()
}
