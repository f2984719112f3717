package access

import (
	"crypto/rand"
	"crypto/subtle"
	"strings"
	"sync"
	"time"

	"holdfast/internal/lib/fail"
)

// guesses counts wrong passwords, in the memory of each agent. The first few cost nothing but the time to compare one.
// Then who asks waits: an address for a user for a minute, twice as long each time, at most a quarter of an hour; and an
// address that tries many users, likewise. Nobody can shut a user out from elsewhere: other addresses are counted apart.
type guesses struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[string]*guess
}

type guess struct {
	wrong int
	until time.Time // nobody is let in before
	last  time.Time
}

// Bounds of guessing.
const (
	freeGuesses = 5  // of one address for one user
	freeNames   = 20 // of one address for any users
	firstWait   = time.Minute
	mostWait    = 15 * time.Minute
	forgetAfter = time.Hour
	maxGuesses  = 10_000 // that are remembered; then those of all are forgotten that do not wait
)

func (g *guesses) keys(name, from string) map[string]int {
	return map[string]int{from + " " + name: freeGuesses, from: freeNames}
}

// may refuses who has to wait.
func (g *guesses) may(name, from string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	for key := range g.keys(name, from) {
		if x := g.of[key]; x != nil && now.Before(x.until) {
			return fail.Errorf(fail.Denied, "too many wrong passwords from %s: wait %s", from, x.until.Sub(now).Round(time.Second)).
				With("an admin can give a new password: holdfast user set NAME --new-password")
		}
	}
	return nil
}

func (g *guesses) wrong(name, from string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if g.of == nil {
		g.of = map[string]*guess{}
	}
	if len(g.of) >= maxGuesses {
		for key, x := range g.of {
			if now.After(x.until) {
				delete(g.of, key)
			}
		}
	}
	for key, free := range g.keys(name, from) {
		x := g.of[key]
		if x == nil || now.Sub(x.last) > forgetAfter {
			x = &guess{}
			g.of[key] = x
		}
		x.wrong, x.last = x.wrong+1, now
		if over := x.wrong - free; over >= 0 {
			x.until = now.Add(min(firstWait<<min(over, 10), mostWait))
		}
	}
}

func (g *guesses) right(name, from string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.of, from+" "+name)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// oneTime makes a password that is read out and typed: 100 bits, in groups.
func oneTime() string {
	t := strings.ToLower(rand.Text()[:20])
	return t[:5] + "-" + t[5:10] + "-" + t[10:15] + "-" + t[15:]
}
