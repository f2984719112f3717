package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/lib/clock"
)

// What executors of all tools need.

// Args reads the arguments of a step.
func Args[A any](t Task) (A, error) {
	var args A
	if err := json.Unmarshal(t.Step.Args, &args); err != nil {
		return args, fmt.Errorf("read the arguments of %s: %w", t.Step.ID, err)
	}
	return args, nil
}

// Pause waits for d. An error is why ctx has ended.
func Pause(ctx context.Context, d time.Duration) error {
	if !clock.Sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

// Waits tells what a step waits for; the log gets it when it changes.
type Waits struct {
	Task Task
	last string
}

// Say tells it.
func (w *Waits) Say(format string, args ...any) {
	text := "waits: " + fmt.Sprintf(format, args...)
	w.Task.Note(text, -1)
	if text != w.last {
		fmt.Fprintln(w.Task.Log, text)
	}
	w.last = text
}
