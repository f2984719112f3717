package progress

import (
	"encoding/json"
	"fmt"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/lib/durable"
)

// tellEvery is the time between two tellings to an agent.
const tellEvery = time.Second

// Parts tells the agent that has this command run as a step of a job, if there is one, how far the parts of the work are, beside a
// line in words. It is told at most once a second, and at the end.
func (t *Ticker) Parts(line string, parts []job.Part) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.File == "" {
		return
	}
	t.parts = &job.Progress{Line: line, Told: time.Now().UTC(), Parts: parts}
	if time.Since(t.told) >= tellEvery {
		t.tell()
	}
}

// tell writes what was told last. That it can not be is said once: the work goes on.
func (t *Ticker) tell() {
	if t.parts == nil {
		return
	}
	text, err := json.Marshal(t.parts.Bounded())
	if err == nil {
		err = durable.WriteFile(t.File, text, 0o600)
	}
	t.parts, t.told = nil, time.Now()
	if err != nil && !t.deaf {
		t.deaf = true
		t.wipe()
		t.write(fmt.Sprintf("how far the parts are can not be told: %v\n", err))
	}
}
