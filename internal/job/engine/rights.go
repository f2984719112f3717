package engine

import (
	"bytes"
	"fmt"
	"strings"

	"holdfast/internal/job"
	"holdfast/internal/store"
)

// maxRecord bounds the record of a step as its host writes it, bytes: the end of its log has
// job.MaxTail, its work and what was found some lines.
const maxRecord = 256 << 10

// Permits says of a write below job/ whether a host may make it that never
// coordinates: the records of steps that were granted to it are its own, from the
// claim to the end. known is false for other keys.
func Permits(a store.Attempt) (known bool, err error) {
	if !strings.HasPrefix(a.Key, keyAll) {
		return false, nil
	}
	if err := a.Within(maxRecord); err != nil {
		return true, err
	}
	id, step, ok := strings.Cut(strings.TrimPrefix(a.Key, keyStep), "/")
	switch {
	case !strings.HasPrefix(a.Key, keyStep), !ok, id == "", a.Value == nil:
		return true, store.ErrNotYours
	case !a.Looked:
		return true, store.ErrLook
	case !a.Guarded:
		return true, fmt.Errorf("%w: want the revision of the record as a condition", store.ErrNotYours)
	}
	old, err := decodeRecord(step, store.KV{Key: a.Key, Value: a.Old})
	if err != nil {
		return true, err
	}
	next, err := decodeRecord(step, store.KV{Key: a.Key, Value: a.Value})
	if err != nil {
		return true, err
	}
	if !holds(old, a.Host) || string(next.Host) != a.Host || next.Work != nil && string(next.Work.Host) != a.Host {
		return true, store.ErrNotYours
	}
	// Others go by what a host was told to do (drain.Awaits).
	if w := next.Work; w != nil && (w.Kind != old.Work.Kind || !bytes.Equal(w.Args, old.Work.Args)) {
		return true, fmt.Errorf("%w: what is to be done is not the host's to say", store.ErrNotYours)
	}
	return true, nil
}

// holds reports whether a step was granted to a host, or claimed by it.
func holds(r job.Record, host string) bool {
	switch r.State {
	case job.Granted, job.Running:
		return string(r.Work.Host) == host
	}
	return false
}
