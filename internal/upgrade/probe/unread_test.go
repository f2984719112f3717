package probe

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
)

// wrongValues are values that a host can write in place of counts, of addresses, of the time of a run and of what its guests had lost.
var wrongValues = map[string]string{
	"bad JSON":           `{"run":`,
	"no JSON":            "\x00\x1b[2J",
	"empty":              "",
	"wrong types":        `{"run":7,"guests":"all","passed":"long"}`,
	"a list":             `[1,2]`,
	"a huge number":      `{"passed":1e400,"guests":[{"lost":1e400}]}`,
	"1 MB of text":       strings.Repeat("x", 1<<20),
	"1 MB in a string":   `{"run":"` + strings.Repeat("x", 1<<20) + `"}`,
	"control characters": `{"run":"` + "\x1b[2J" + `"}`,
}

// TestOneHostsWrongRecordsStopNobody: a host that runs guests only writes what it likes wherever it may; all others are pinged, found
// and summed up, and its own counts are named as those that can not be read.
func TestOneHostsWrongRecordsStopNobody(t *testing.T) {
	for name, value := range wrongValues {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 3, []cluster.HostID{"h1", "h2", "h3"}, func(t *testing.T, w *world) {
				w.put(clockKey("up1"), value)
				w.put(addrKey("h2"), value)
				w.put(addrKey("h9"), value)
				w.put(baseKey("up1", "h2"), value)
				w.put(recordKey("up1", "h3"), value) // h3 begins anew, and finds that
				w.set(func() { w.run = "up1" })
				time.Sleep(30 * time.Second)
				w.put(clockKey("up1"), value)
				x := newWatcher(w.hosts["h1"].service, "up1")
				if addrs := x.addressesOf(t.Context(), "h9", "u2"); addrs != nil || x.deaf {
					t.Errorf("addresses %v of h9; it asks others no more: %t", addrs, x.deaf)
				}
				w.begin("h1")
				w.begin("h2") // its own note is written anew
				time.Sleep(30 * time.Second)
				s, guests := w.sum("up1")
				for _, g := range []string{"g1", "g2", "g3"} {
					if x := guests[g]; x.Sent < 40 || x.Lost != 0 || x.Note != "" {
						t.Errorf("%s: %+v", g, x)
					}
				}
				if took := s.Ended.Sub(s.Began); took < 40*time.Second || took > 2*time.Minute {
					t.Errorf("the run took %s", took)
				}
				w.crash("h1") // which pings the guests of h2; nobody writes over this
				w.put(recordKey("up1", "h1"), value)
				s, guests = w.sum("up1")
				const note = "what host h1, which was to ping it, has counted can not be read: "
				if x := guests["g2"]; x.Sent != 0 || !strings.Contains(x.Note, note) || len(x.Note) > 600 {
					t.Errorf("g2, whose counts can not be read: %+v", x)
				}
				if x := guests["g1"]; x.Sent < 40 || x.Note != "" {
					t.Errorf("g1, which h3 pings: %+v", x)
				}
				if _, err := json.Marshal(s); err != nil {
					t.Errorf("the sum: %v", err)
				}
				var again atomic.Bool
				again.Store(true)
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					for again.Load() {
						time.Sleep(2 * time.Second)
						w.put(recordKey("up1", "h1"), value)
					}
				}()
				log, err := w.turn("h2", upgrade.LossesArgs{Work: "turn", Limit: 1})
				again.Store(false)
				<-ended
				const says = "nobody can tell whether g2 answers: h1, which pings it, says: read upgrade-probe/up1/h1: "
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("the end of a turn: %v, %s", err, log)
				}
			})
		})
	}
}

// TestNumbersThatCanNotBe are read as no record: later than ten years after its begin, a run has no time that JSON can tell.
func TestNumbersThatCanNotBe(t *testing.T) {
	for name, text := range map[string]string{
		"a negative time":     `{"passed":-1}`,
		"a time without end":  `{"passed":9223372036854775807}`,
		"a negative count":    `{"guests":[{"uuid":"u","sent":-1}]}`,
		"a count without end": `{"guests":[{"uuid":"u","lost":9223372036854775807}]}`,
		"a negative gap":      `{"guests":[{"uuid":"u","unwatched":-5}]}`,
		"no address":          `{"guests":[{"uuid":"u","addr":"\u001b[2J"}]}`,
		"too many guests":     `{"guests":[` + strings.Repeat(`{},`, maxGuests) + `{}]}`,
	} {
		if r, err := formed[record](store.KV{Key: "k", Value: []byte(text)}); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
	long := store.KV{Value: []byte(`{"problem":"` + strings.Repeat("x", 10<<10) + `"}`)}
	if r, err := formed[record](long); err != nil || len(r.problem()) > maxProblem {
		t.Errorf("a long problem: %d bytes, %v", len(r.problem()), err)
	}
}
