package group

import (
	"context"
	"errors"
	"testing"
	"time"
)

// TestSlowWorkIsNotBegunAnew: who gives up leaves it going on, and the next one gets its result; a failure is tried again,
// and what has succeeded is not.
func TestSlowWorkIsNotBegunAnew(t *testing.T) {
	var o outlast
	begun, results := make(chan bool, 9), make(chan error)
	do := func(ctx context.Context) error {
		begun <- ctx.Err() == nil
		return <-results
	}
	short, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- o.wait(short, time.Hour, do) }()
	<-begun
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Fatalf("who gave up got %v", err)
	}
	failed := errors.New("no")
	for _, want := range []error{failed, nil} {
		go func() { results <- want }()
		if err := o.wait(t.Context(), time.Hour, do); !errors.Is(err, want) {
			t.Fatalf("got %v, want %v", err, want)
		}
	}
	if err := o.wait(t.Context(), time.Hour, do); err != nil {
		t.Fatal(err)
	}
	if n := len(begun); n != 1 {
		t.Errorf("it was begun %d times more, want once, after it had failed", n)
	}
}
