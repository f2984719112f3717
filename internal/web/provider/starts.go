package provider

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"holdfast/internal/lib/fail"
)

// starts bounds how often an address begins a login: each is kept in the store for a while.
type starts struct {
	now   func() time.Time
	mu    sync.Mutex
	of    map[string]*rate.Limiter
	swept time.Time
}

// Bounds of starts, of one address.
const (
	startsAtOnce = 20
	startEvery   = 3 * time.Second
	maxStarts    = 10_000 // addresses that are remembered
)

// may refuses an address that begins too often.
func (s *starts) may(from string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if len(s.of) >= maxStarts && now.Sub(s.swept) >= startEvery {
		s.swept = now
		for key, l := range s.of {
			if l.TokensAt(now) >= startsAtOnce {
				delete(s.of, key)
			}
		}
	}
	l := s.of[from]
	if l == nil {
		if len(s.of) >= maxStarts {
			return fail.Errorf(fail.Unavailable, "too many log in at once").With("try again in some seconds")
		}
		l = rate.NewLimiter(rate.Every(startEvery), startsAtOnce)
		if s.of == nil {
			s.of = map[string]*rate.Limiter{}
		}
		s.of[from] = l
	}
	if !l.AllowN(now, 1) {
		return fail.Errorf(fail.Denied, "too many logins were begun from %s", from).With("try again in some seconds")
	}
	return nil
}
