// Package enginetest asks executors of steps as the engine does.
package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/job"
	"holdfast/internal/job/engine"
)

// Heard is what a step has told.
type Heard struct {
	mu    sync.Mutex
	text  bytes.Buffer
	notes []string
	last  int // percent
}

func (h *Heard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

func (h *Heard) Log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

func (h *Heard) Noted() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.notes, "\n")
}

func (h *Heard) Percent() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// Task is the first attempt of step h1/STEP, begun at boot b1.
func Task(t *testing.T, step string, args any) (engine.Task, *Heard) {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	h := &Heard{}
	return engine.Task{
		Job: "up-1", Kind: job.Upgrade, Step: job.Step{ID: "h1/" + step, Host: "h1", Kind: step, Args: raw}, Attempt: 1, Host: "h1", Boot: "b1",
		Log: h, Count: func(int64) {},
		Note: func(what string, percent int) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.notes = append(h.notes, what)
			if percent >= 0 {
				h.last = percent
			}
		},
	}, h
}

// Has fails unless text holds all the words.
func Has(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s is %q, want %q in it", what, text, w)
		}
	}
}

// Probed fails unless the probe answers want.
func Probed(t *testing.T, d engine.Executor, task engine.Task, want engine.Probed) {
	t.Helper()
	if got, err := d.Probe(context.Background(), task); err != nil || got != want {
		t.Errorf("probe: %v, %v; want %v", got, err, want)
	}
}
