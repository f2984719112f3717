package loop

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/text"
	"holdfast/internal/store"
)

// Events returns at most limit events after a revision of the store, oldest
// first, and the revision for the next page; after -1 gives the newest. In place of an
// event that can not be read stands one that says so: hosts that run guests only write into the log.
func (a *Agent) Events(ctx context.Context, after int64, limit int) ([]cluster.Event, int64, error) {
	kvs, rev, err := a.Store.List(ctx, records.KeyLog)
	if err != nil {
		return nil, 0, fmt.Errorf("list the events: %w", err)
	}
	slices.SortStableFunc(kvs, func(x, y store.KV) int { return cmp.Compare(x.ModRev, y.ModRev) })
	if after < 0 {
		kvs = kvs[max(0, len(kvs)-limit):]
	} else {
		kvs = slices.DeleteFunc(kvs, func(kv store.KV) bool { return kv.ModRev <= after })
	}
	next := rev
	if len(kvs) > limit {
		kvs = kvs[:limit]
		next = kvs[limit-1].ModRev
	}
	events := make([]cluster.Event, 0, len(kvs))
	for _, kv := range kvs {
		e, writer, err := readEvent(kv)
		if err != nil {
			a.unread.Tell(a.Log, text.Cut(kv.Key, maxEventKey), writer, err)
			e = unread(kv.Key, writer, err)
		}
		events = append(events, e)
	}
	return events, next, nil
}

// Bounds of what is shown of an event, bytes.
const (
	maxEventName = 253 // of a host, the longest name that DNS knows
	maxEventText = 2000
	maxEventKey  = 300
	maxEventWhy  = 200
)

// eventKind is the form of a kind. One that this version does not know is of a later one.
var eventKind = regexp.MustCompile(`^[a-z][a-z-]{0,39}$`)

// readEvent reads a record of the log. writer is writerOf its key.
func readEvent(kv store.KV) (e cluster.Event, writer string, err error) {
	writer = writerOf(kv.Key)
	raw, err := records.Unseal(kv.Value)
	if err != nil {
		return e, writer, errors.New("its checksum is wrong")
	}
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, writer, err
	}
	names := []string{string(e.By), string(e.Host), string(e.To), string(e.Resource), string(e.Proof)}
	switch {
	case !eventKind.MatchString(string(e.Kind)):
		return e, writer, errors.New("it has no kind of event")
	case writer != string(e.By):
		return e, writer, errors.New("it is told in the name of another host")
	case slices.ContainsFunc(names, func(s string) bool { return len(s) > maxEventName }):
		return e, writer, fmt.Errorf("a name in it has more than %d bytes", maxEventName)
	case e.Wait < 0, e.Time.Year() < 0 || e.Time.Year() > 9999: // the latter can not be written as JSON again
		return e, writer, errors.New("a time in it is none")
	}
	e.User, e.Detail = text.Cut(e.User, maxEventName), text.Cut(e.Detail, maxEventText)
	return e, writer, nil
}

// EventOf reads a record of the log. In place of one that can not be read stands an event that says so.
func EventOf(kv store.KV) cluster.Event {
	e, writer, err := readEvent(kv)
	if err != nil {
		return unread(kv.Key, writer, err)
	}
	return e
}

// unread stands in place of an event that can not be read. When it happened is not known.
func unread(key, writer string, why error) cluster.Event {
	return cluster.Event{
		Kind: cluster.EvUnread, By: cluster.HostID(text.Cut(writer, maxEventName)),
		Detail: fmt.Sprintf("a record of %s that can not be read: %s: %s",
			cmp.Or(text.Cut(writer, maxEventName), "an unknown host"), text.Cut(key, maxEventKey), text.Cut(why.Error(), maxEventWhy)),
	}
}
