package steps

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/host/reboot"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
)

var (
	_ RebootHost = (*reboot.Host)(nil)
	_ PoolHost   = (*libvirt.Fleet)(nil)
	_ VMHost     = (*libvirt.Fleet)(nil)
)

// hostHeard is what a step has told.
type hostHeard struct {
	mu    sync.Mutex
	text  bytes.Buffer
	notes []string
	last  int // percent
}

func (h *hostHeard) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(b)
}

func (h *hostHeard) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.String()
}

func (h *hostHeard) noted() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.notes, "\n")
}

func (h *hostHeard) percent() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// hostTask is the first attempt of step h1/STEP, begun at boot b1.
func hostTask(t *testing.T, step string, args any) (engine.Task, *hostHeard) {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostHeard{}
	return engine.Task{
		Job: "up-1", Kind: job.Upgrade, Step: job.Step{ID: "h1/" + step, Host: "h1", Kind: step, Args: raw}, Attempt: 1, Host: "h1", Boot: "b1",
		Log: h,
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

// hostHas fails unless text holds all the words.
func hostHas(t *testing.T, what, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s is %q, want %q in it", what, text, w)
		}
	}
}

// hostProbed fails unless the probe answers want.
func hostProbed(t *testing.T, d engine.Executor, task engine.Task, want engine.Probed) {
	t.Helper()
	if got, err := d.Probe(context.Background(), task); err != nil || got != want {
		t.Errorf("probe: %v, %v; want %v", got, err, want)
	}
}

func TestStepsRefuseArgumentsThatAreNone(t *testing.T) {
	for name, d := range map[string]engine.Executor{
		"reboot": &Reboot{}, "verify": &Verify{}, "detach": &StorageDetach{}, "attach": &StorageAttach{},
		"stop": &VMStop{}, "start": &VMStart{}, "undrain": &Undrain{}, "o2cb": &O2CB{Root: t.TempDir()},
	} {
		task, _ := hostTask(t, name, nil)
		task.Step.Args = []byte("[1]")
		err := d.Do(t.Context(), task)
		if err == nil || !strings.Contains(err.Error(), "read the arguments of h1/"+name) {
			t.Errorf("%s: %v, want that its arguments can not be read", name, err)
		}
	}
}
