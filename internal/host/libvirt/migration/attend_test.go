package migration

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestAttend: what ends it, and that the progress is told meanwhile.
func TestAttend(t *testing.T) { synctest.Test(t, attend) }

func attend(t *testing.T) {
	failed := errors.New("the call failed")
	for _, c := range []struct {
		name        string
		ends, leave time.Duration // the call, the guest; 0: never
		over        bool
		err         error
	}{
		{"the call ends", 1200 * time.Millisecond, 0, true, failed},
		{"the guest has left before", 1200 * time.Millisecond, 700 * time.Millisecond, true, nil},
		{"the time is over", 0, 0, false, context.DeadlineExceeded},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 2100*time.Millisecond)
		began, told, done := time.Now(), 0, make(chan error, 1)
		if c.ends > 0 {
			time.AfterFunc(c.ends, func() { done <- failed })
		}
		left := func() bool { return c.leave > 0 && time.Since(began) >= c.leave }
		over, err := Attend(ctx, done, left, func() { told++ })
		cancel()
		took := time.Since(began)
		if over != c.over || !errors.Is(err, c.err) || told != int(took/Pause) {
			t.Errorf("%s: over %t, %v, told %d times in %v", c.name, over, err, told, took)
		}
		if c.leave > 0 && took != c.leave {
			t.Errorf("%s: it was seen after %v", c.name, took)
		}
	}
}

// TestAbortUntil: one request to abort may be without effect, so it is made until the call has returned.
func TestAbortUntil(t *testing.T) { synctest.Test(t, abortUntil) }

func abortUntil(t *testing.T) {
	cancelled, refused := errors.New("cancelled by client"), errors.New("not now")
	done, asked := make(chan error, 1), 0
	err := AbortUntil(t.Context(), done, func() error {
		if asked++; asked == 3 {
			done <- cancelled
		}
		return refused
	})
	if asked != 3 || !errors.Is(err, cancelled) || errors.Is(err, ErrCalled) {
		t.Errorf("asked %d times: %v", asked, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err = AbortUntil(ctx, nil, func() error { return refused })
	if !errors.Is(err, ErrCalled) || !errors.Is(err, refused) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that does not return: %v", err)
	}
}
