package drain

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/job"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func putRecord(t testing.TB, st store.Store, key, value string) {
	t.Helper()
	if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(value)}}); err != nil {
		t.Fatal(err)
	}
}

// tells has a job tell a host to do one step.
func tells(t testing.TB, st store.Store, host cluster.HostID, kind string, state job.StepState, args any) {
	t.Helper()
	raw, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	step := string(host) + "/" + kind
	r, err := json.Marshal(job.Record{Step: step, State: state, Attempt: 1,
		Work: &job.Step{ID: step, Host: host, Kind: kind, Args: raw, Timeout: 1e9}})
	if err != nil {
		t.Fatal(err)
	}
	putRecord(t, st, "job/step/j1/"+step, string(r))
	putRecord(t, st, "job/todo/"+string(host)+"/host", `{"job":"j1","kind":"host","state":"active","steps":["`+step+`"]}`)
}

// emptied has a job empty h1.
func emptied(t testing.TB, st store.Store, state job.StepState, args evacuate.DrainArgs) {
	t.Helper()
	tells(t, st, "h1", evacuate.KindDrain, state, args)
}

// TestWordsOfAHostThatRunsGuestsOnly: it begins one only while a job has the guest leave it, and
// about a guest that the other host does not have. What it has said before it may change.
func TestWordsOfAHostThatRunsGuestsOnly(t *testing.T) {
	const key, word = "fleet-carry/h2/u1", `{"uuid":"u1","from":"h1","start":true}`
	const free, has = `{"host":{"name":"h2"}}`, `{"host":{"name":"h2"},"vms":[{"uuid":"u1","running":false}]}`
	back := evacuate.UndrainArgs{Back: []evacuate.Move{{UUID: "u1", To: "h2"}}}
	for name, c := range map[string]struct {
		have func(t *testing.T, st store.Store)
		h2   string // its report
		old  string
		want string // part of the refusal; "": it is permitted
	}{
		"nobody moves guests": {func(*testing.T, store.Store) {}, free, "", "no job empties host h1"},
		"it is emptied":       {func(t *testing.T, st store.Store) { emptied(t, st, job.Running, evacuate.DrainArgs{}) }, free, "", ""},
		"it was emptied": {func(t *testing.T, st store.Store) {
			emptied(t, st, job.Done,
				evacuate.DrainArgs{})
		}, free, "", "no job empties host h1"},
		"another one is emptied": {func(t *testing.T, st store.Store) {
			tells(t, st, "h3", evacuate.KindDrain,
				job.Running, nil)
		}, free, "", "no job empties host h1"},
		"the target is emptied": {func(t *testing.T, st store.Store) {
			tells(t, st, "h2", evacuate.KindDrain,
				job.Running, nil)
		}, free, "", "no job empties host h1"},
		"the target brings it": {func(t *testing.T, st store.Store) {
			tells(t, st, "h2", evacuate.KindUndrain,
				job.Granted, back)
		}, free, "", ""},
		"the target brings other": {func(t *testing.T, st store.Store) {
			tells(t, st, "h2", evacuate.KindUndrain, job.Running, evacuate.UndrainArgs{})
		}, free, "", "no job empties host h1"},
		"another one brings it": {func(t *testing.T, st store.Store) {
			tells(t, st, "h3", evacuate.KindUndrain,
				job.Running, back)
		}, free, "", "no job empties host h1"},
		"the target has it": {func(t *testing.T, st store.Store) {
			emptied(t, st, job.Running,
				evacuate.DrainArgs{})
		}, has, "", "h2 reports that it has guest"},
		"the target is blind": {func(t *testing.T, st store.Store) {
			emptied(t, st, job.Running,
				evacuate.DrainArgs{})
		}, `{"host":{"name":"h2"},"blind":true}`, "", "which guests host h2 has"},
		"the target is no host": {func(t *testing.T, st store.Store) {
			emptied(t, st, job.Running,
				evacuate.DrainArgs{})
		}, "", "", "no host h2 reports"},
		"it has said so before": {func(*testing.T, store.Store) {}, has, word, ""},
		"another has said so": {func(t *testing.T, st store.Store) {
			emptied(t, st, job.Running,
				evacuate.DrainArgs{})
		}, free, `{"uuid":"u1","from":"h3"}`, "not this host's own"},
	} {
		t.Run(name, func(t *testing.T) {
			st := storetest.NewMem().NewClient("test")
			c.have(t, st)
			for k, v := range map[string]string{"fleet/h2": c.h2, key: c.old} {
				if v != "" {
					putRecord(t, st, k, v)
				}
			}
			var refused error
			limited := storetest.Limited{
				Store: st, Host: "h1", Permits: func(a store.Attempt) error { _, err := PermitsCarry(a); return err },
				Refused: func(_ store.Attempt, err error) { refused = err },
			}
			_, _, err := limited.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(word)}})
			if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, store.ErrDefinite) || !strings.Contains(refused.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// TestAGuestIsNotSentWhereItIsReported: what an earlier move has left at the target is in its report for
// some seconds more, and members refuse the word for that long. The move waits, and not for ever.
func TestAGuestIsNotSentWhereItIsReported(t *testing.T) {
	for name, goes := range map[string]bool{"what came is ended": true, "it is defined there": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				p.stop("h1")
				refused := 0
				p.sender = NewSender(&Sender{Host: "h1", Guests: pairSide{p, "h1"}, Seen: p.seen,
					Log: slog.New(slog.DiscardHandler), Store: storetest.Limited{
						Store: p.client["h1"], Host: "h1", Permits: func(a store.Attempt) error { _, err := PermitsCarry(a); return err },
						Refused: func(store.Attempt, error) { refused++ },
					}})
				p.set(func() {
					p.states["h2"] = guests.VMOff
					p.ends, p.at = func() { p.leaves(); p.states["h2"] = guests.VMRunning }, guests.Left
				})
				putRecord(t, p.client["h2"], "fleet/h2", `{"host":{"name":"h2"},"vms":[{"uuid":"uuid-a"}]}`)
				time.Sleep(10 * time.Second)
				var ended sync.WaitGroup
				if goes {
					ended.Go(func() {
						time.Sleep(10 * time.Second)
						putRecord(t, p.client["h2"], "fleet/h2", `{"host":{"name":"h2"}}`)
						p.set(func() { delete(p.states, "h2") })
					})
				}
				began := time.Now()
				err := p.send()
				took := time.Since(began)
				ended.Wait()
				if refused == 0 || goes && err != nil || !goes &&
					(err == nil || !strings.Contains(err.Error(), "virsh undefine") || took > 2*freeWithin) {
					t.Errorf("refused %d times, then %v after %s", refused, err, took)
				}
			})
		})
	}
}
