package engine

import (
	"encoding/json"
	"fmt"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/lib/text"
	"holdfast/internal/store"
)

// Keys in the store.
const (
	keyAll   = "job/"
	keyRun   = keyAll + "run/"
	keyPlan  = keyAll + "plan/"
	keyStep  = keyAll + "step/"
	keyTodo  = keyAll + "todo/"
	keyWaits = keyAll + "waits/"
	keyOld   = keyAll + "old/"
)

// nobody stands for the coordinator in the keys of todos: no host has this name.
const nobody = "."

// word is the form of jobs' ids and kinds and of hosts' names: they become parts
// of keys and names of files.
var word = text.Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func runKey(k job.Kind) string         { return keyRun + string(k) }
func oldKey(id string) string          { return keyOld + id }
func waitsKey(k job.Kind) string       { return keyWaits + string(k) }
func stepsKey(id string) string        { return keyStep + id + "/" }
func stepKey(id, step string) string   { return stepsKey(id) + step }
func plansKey(id string) string        { return keyPlan + id + "/" }
func planKey(id string, n int) string  { return fmt.Sprintf("%s%04d", plansKey(id), n) }
func todosKey(h cluster.HostID) string { return keyTodo + hostWord(h) + "/" }

func hostWord(h cluster.HostID) string {
	if h == "" {
		return nobody
	}
	return string(h)
}

// todo says which steps a host has to look at. It has all that are granted or
// running there, and may have some that are over.
type todo struct {
	Job   string    `json:"job"`
	Kind  job.Kind  `json:"kind"`
	State job.State `json:"state"` // of the job
	Steps []string  `json:"steps"` // in order
	mod   int64
}

// encode never fails: what comes from a caller or a Planner and might not be JSON
// is checked where it comes in.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("engine: record can not be encoded: " + err.Error())
	}
	return b
}

// decode reads one value; text after it is an error.
func decode(what string, data []byte, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

func decodeJob(kv store.KV) (job.Job, error) {
	var j job.Job
	if err := decode("job "+kv.Key, kv.Value, &j); err != nil {
		return job.Job{}, err
	}
	j.Mod = kv.ModRev
	if err := checkNames(j); err != nil {
		return job.Job{}, fmt.Errorf("read job %s: %w", kv.Key, err)
	}
	switch j.State {
	case job.Active, job.Paused, job.Aborting, job.Ended:
		return j, nil
	}
	return job.Job{}, fmt.Errorf("read job %s: unknown state %q", kv.Key, j.State)
}

// checkNames looks at what becomes part of keys and names of files.
func checkNames(j job.Job) error {
	if !word().MatchString(j.ID) || !word().MatchString(string(j.Kind)) {
		return fmt.Errorf("id %q, kind %q: want letters, digits, '.', '_' and '-', at most 100", j.ID, j.Kind)
	}
	return nil
}

// decodeRecord reads the record of a step whose key is known. Errors do not say
// that the step is pending: it may have been done.
func decodeRecord(step string, kv store.KV) (job.Record, error) {
	var r job.Record
	if err := decode("record "+kv.Key, kv.Value, &r); err != nil {
		return job.Record{}, err
	}
	r.Mod = kv.ModRev
	switch {
	case r.Step != step:
		return job.Record{}, fmt.Errorf("read record %s: it is about step %q", kv.Key, r.Step)
	case r.Attempt < 0:
		return job.Record{}, fmt.Errorf("read record %s: attempt %d", kv.Key, r.Attempt)
	}
	switch r.State {
	case job.Pending, job.Done, job.Failed, job.Unknown, job.Skipped:
		return r, nil
	case job.Granted, job.Running:
		if r.Work == nil || r.Work.ID != step || r.Work.Timeout <= 0 || r.Attempt == 0 {
			return job.Record{}, fmt.Errorf("read record %s: it does not say what to do", kv.Key)
		}
		if err := job.CheckSteps([]job.Step{*r.Work}); err != nil {
			return job.Record{}, fmt.Errorf("read record %s: %w", kv.Key, err)
		}
		return r, nil
	}
	return job.Record{}, fmt.Errorf("read record %s: unknown state %q", kv.Key, r.State)
}

// recordOr reads a record. One that can not be read counts as unknown, so that
// the step is not done twice, and an operator is told.
func recordOr(step string, kv store.KV) job.Record {
	r, err := decodeRecord(step, kv)
	if err != nil {
		return job.Record{Step: step, State: job.Unknown, Why: err.Error(), Mod: kv.ModRev}
	}
	return r
}

func decodeTodo(kv store.KV) (todo, error) {
	var t todo
	if err := decode("todo "+kv.Key, kv.Value, &t); err != nil {
		return todo{}, err
	}
	t.mod = kv.ModRev
	if !word().MatchString(t.Job) || !word().MatchString(string(t.Kind)) || !strings.HasSuffix(kv.Key, "/"+string(t.Kind)) {
		return todo{}, fmt.Errorf("read todo %s: job %q, kind %q", kv.Key, t.Job, t.Kind)
	}
	return t, nil
}

// isOpen reports whether a host has to do with a step in this state.
func isOpen(s job.StepState) bool { return s == job.Granted || s == job.Running }
