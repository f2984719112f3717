package loop

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"log/slog"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// TestAnEventThatCanNotBeReadIsShownAsSuch: whatever a host that runs guests only writes into the log, all other events are told, and
// one that can not be read is named with its key and its writer, in the log once.
func TestAnEventThatCanNotBeReadIsShownAsSuch(t *testing.T) {
	good := cluster.Event{Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Kind: cluster.EvWant, By: "h4", Detail: "h4 in maintenance"}
	with := func(edit func(*cluster.Event)) []byte { e := good; edit(&e); return records.Encode(e) }
	sealed := func(json string) []byte {
		return fmt.Appendf([]byte(json), "\n%08x", crc32.Checksum([]byte(json), crc32.MakeTable(crc32.Castagnoli)))
	}
	for name, c := range map[string]struct {
		value []byte
		why   string // "": it is shown
	}{
		"as it should be":           {records.Encode(good), ""},
		"a kind of a later version": {with(func(e *cluster.Event) { e.Kind = "weather-changed" }), ""},
		"more text than is shown":   {with(func(e *cluster.Event) { e.Detail = strings.Repeat("x", 1<<20) }), ""},
		"empty":                     {[]byte{}, "checksum"},
		"wrong sum":                 {[]byte(`{"kind":"requested","by":"h4"}` + "\n00000000"), "checksum"},
		"no JSON":                   {sealed(`{"kind":`), "JSON"},
		"wrong types":               {sealed(`{"kind":7,"by":["h4"]}`), "json"},
		"a list":                    {sealed(`[]`), "json"},
		"null":                      {sealed(`null`), "kind"},
		"a huge number":             {sealed(`{"kind":"requested","by":"h4","wait":1e400}`), "json"},
		"a negative wait":           {sealed(`{"kind":"requested","by":"h4","wait":-1}`), "time"},
		"a time that is none":       {sealed(`{"kind":"requested","by":"h4","time":"99999-01-01T00:00:00Z"}`), "9999"},
		"1 MB of text":              {[]byte(strings.Repeat("x", 1<<20)), "checksum"},
		"1 MB in the kind":          {with(func(e *cluster.Event) { e.Kind = cluster.EventKind(strings.Repeat("x", 1<<20)) }), "kind"},
		"1 MB in a name":            {with(func(e *cluster.Event) { e.Host = cluster.HostID(strings.Repeat("x", 1<<20)) }), "name"},
		"control characters":        {with(func(e *cluster.Event) { e.Kind = "\x1b[2Jrequested" }), "kind"},
		"in another host's name":    {with(func(e *cluster.Event) { e.By = "h1" }), "another host"},
	} {
		t.Run(name, func(t *testing.T) {
			mem := storetest.NewMem()
			st := mem.NewClient("h1")
			said := &spoken{}
			a := New(Parts{Host: "h1", Store: st, Log: slog.New(slog.NewTextHandler(said, nil))})
			put := func(key string, value []byte) {
				t.Helper()
				if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: value}}); err != nil {
					t.Fatal(err)
				}
			}
			others := cluster.Event{Time: good.Time, Kind: cluster.EvTakeover, By: "h1", Detail: "of h2"}
			bad := records.LogKey(good, 1)
			put(records.LogKey(others, 1), records.Encode(others))
			put(bad, c.value)
			put(records.LogKey(others, 2), records.Encode(others))
			for range 3 {
				got, _, err := a.Events(t.Context(), -1, 100)
				if err != nil || len(got) != 3 || got[0] != others || got[2] != others {
					t.Fatalf("got %+v, %v", got, err)
				}
				e := got[1]
				if raw, err := json.Marshal(e); err != nil || len(raw) > 4000 {
					t.Errorf("%d bytes, %v", len(raw), err)
				}
				if unread := e.Kind == cluster.EvUnread; unread != (c.why != "") || e.By != "h4" {
					t.Errorf("got %+v", e)
				} else if says := "a record of h4 that can not be read: " + bad + ": "; unread &&
					(!e.Time.IsZero() || !strings.HasPrefix(e.Detail, says) || !strings.Contains(e.Detail, c.why)) {
					t.Errorf("got %+v, want %q", e, c.why)
				}
			}
			lines, last := said.count()
			if c.why == "" && lines != 0 || c.why != "" && (lines != 1 || !strings.Contains(last, bad) || !strings.Contains(last, "writer=h4")) {
				t.Errorf("%d lines in the log, the last is %.300s", lines, last)
			}
		})
	}
}
