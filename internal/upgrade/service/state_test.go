package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// prepared is the state of an upgrade to 2 that job commit-1 commits.
func prepared() State {
	return State{
		Versions: map[string]string{"app": "1", "db": "7"}, To: "2", Run: "upgrade-1", Last: "commit-1",
		Bundle: request.BundleInfo{Name: "app"}, Probe: true,
	}
}

// putState writes the record and returns it as it is read.
func putState(t *testing.T, st store.Store, s State) State {
	t.Helper()
	op, err := s.op()
	if err == nil {
		_, _, err = st.Txn(t.Context(), nil, []store.Op{op})
	}
	if err == nil {
		s, err = loadState(t.Context(), st)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func commitTask(t *testing.T, id, to string, log *bytes.Buffer) engine.Task {
	t.Helper()
	args, err := json.Marshal(upgrade.CommitArgs{From: "1", To: to})
	if err != nil {
		t.Fatal(err)
	}
	return engine.Task{Job: id, Step: job.Step{ID: "commit", Kind: upgrade.KindCommit, Args: args}, Log: log, Note: func(string, int) {}}
}

func TestCommitRaisesTheVersionOnce(t *testing.T) {
	mem := storetest.NewMem()
	c, log := &Commit{Store: mem.NewClient("h1")}, &bytes.Buffer{}
	putState(t, c.Store, prepared())
	task := commitTask(t, "commit-1", "2", log)
	if p, err := c.Probe(t.Context(), task); p != engine.NotDone || err != nil {
		t.Errorf("before: %v, %v", p, err)
	}
	for range 2 {
		if err := c.Do(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		if p, err := c.Probe(t.Context(), task); p != engine.ProbedDone || err != nil {
			t.Errorf("after: %v, %v", p, err)
		}
	}
	s, err := loadState(t.Context(), c.Store)
	want := prepared()
	want.Versions, want.Committed, want.mod = map[string]string{"app": "2", "db": "7"}, true, s.mod
	if !reflect.DeepEqual(s, want) || err != nil {
		t.Errorf("state %+v, %v; want %+v", s, err, want)
	}
	if log.String() != "version 1 -> 2\n" || mem.Rev() != s.mod {
		t.Errorf("it was written twice: log %q", log)
	}
}

// TestCommitRefuses another job, another version, and what can not be read. Nothing
// is written then.
func TestCommitRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		record string
		job    string
		to     string
		says   string
		probe  engine.Probed
	}{
		"another job": {`{"versions":{"":"1"},"to":"2","run":"u","last":"rollback-9"}`, "commit-1", "2",
			"the last job is rollback-9", engine.NotDone},
		"another version": {`{"versions":{"":"1"},"to":"3","run":"u","last":"commit-1"}`, "commit-1", "2", "to version 3", engine.NotDone},
		"no upgrade":      {"", "commit-1", "2", "the last job is ", engine.NotDone},
		"committed before, to another": {
			`{"versions":{"":"1"},"to":"3","run":"u","last":"commit-1","committed":true}`, "commit-1", "2", "to version 3", engine.NotDone,
		},
		"garbage":    {`{"to":`, "commit-1", "2", "read record upgrade/state", engine.CanNotTell},
		"wrong type": {`{"to":7}`, "commit-1", "2", "read record upgrade/state", engine.CanNotTell},
	} {
		mem := storetest.NewMem()
		d := &Commit{Store: mem.NewClient("h1")}
		if c.record != "" {
			if _, _, err := d.Store.Txn(t.Context(), nil, []store.Op{{Key: keyState, Value: []byte(c.record)}}); err != nil {
				t.Fatal(err)
			}
		}
		rev, task := mem.Rev(), commitTask(t, c.job, c.to, &bytes.Buffer{})
		if err := d.Do(t.Context(), task); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
		if p, err := d.Probe(t.Context(), task); p != c.probe || (err != nil) != (p == engine.CanNotTell) {
			t.Errorf("%s: probe %v, %v", what, p, err)
		}
		if mem.Rev() != rev {
			t.Errorf("%s: something was written", what)
		}
		task.Step.Args = []byte("{")
		if err := d.Do(t.Context(), task); err == nil || !strings.Contains(err.Error(), "arguments of commit") {
			t.Errorf("%s: bad arguments: %v", what, err)
		}
	}
}

// TestCommitOverABadStore: what was lost is looked for, and done once.
func TestCommitOverABadStore(t *testing.T) {
	for what, fault := range map[string]func(*storetest.Client, bool){
		"refusing": (*storetest.Client).Refuse, "partitioned": (*storetest.Client).Partition,
		"writes on their way": (*storetest.Client).HoldWrites,
		"losing replies":      (*storetest.Client).LoseReplies,
	} {
		synctest.Test(t, func(t *testing.T) {
			mem := storetest.NewMem()
			client := mem.NewClient("h1")
			c := &Commit{Store: client}
			before := putState(t, client, prepared())
			fault(client, true)
			time.AfterFunc(20*time.Second, func() { fault(client, false) })
			if err := c.Do(t.Context(), commitTask(t, "commit-1", "2", &bytes.Buffer{})); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			synctest.Wait()
			if s, err := loadState(t.Context(), client); err != nil || !s.Committed || s.version() != "2" || mem.Rev() != before.mod+1 {
				t.Errorf("%s: %+v, %v, %d writes", what, s, err, mem.Rev()-before.mod)
			}
		})
	}
	// Only the answer of the write is lost, and the time is over before another look.
	synctest.Test(t, func(t *testing.T) {
		client := storetest.NewMem().NewClient("h1")
		c := &Commit{Store: client}
		putState(t, client, prepared())
		client.HoldWrites(true)
		ctx, cancel := context.WithTimeoutCause(t.Context(), 1500*time.Millisecond, engine.ErrTimeout)
		defer cancel()
		task := commitTask(t, "commit-1", "2", &bytes.Buffer{})
		if err := c.Do(ctx, task); !errors.Is(err, engine.ErrUnclear) || !errors.Is(err, engine.ErrTimeout) {
			t.Errorf("got %v", err)
		}
		if p, err := c.Probe(t.Context(), task); p != engine.NotDone || err != nil {
			t.Errorf("before it arrives: %v, %v", p, err)
		}
		client.HoldWrites(false)
		if p, err := c.Probe(t.Context(), task); p != engine.ProbedDone || err != nil {
			t.Errorf("when it has arrived: %v, %v", p, err)
		}
		client.Refuse(true)
		if p, err := c.Probe(t.Context(), task); p != engine.CanNotTell || err == nil {
			t.Errorf("without the store: %v, %v", p, err)
		}
	})
}

// raced is a store in which somebody else writes before each transaction.
type raced struct {
	store.Store
	before func()
}

func (r *raced) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	r.before()
	return r.Store.Txn(ctx, conds, ops)
}

func TestCommitIsRaced(t *testing.T) {
	for _, c := range []struct {
		what string
		last string // in the record that another one writes
		ok   bool
	}{{"by a harmless change", "commit-1", true}, {"by another job", "rollback-2", false}} {
		synctest.Test(t, func(t *testing.T) {
			client := storetest.NewMem().NewClient("h1")
			putState(t, client, prepared())
			times := 0
			d := &Commit{Store: &raced{client, func() {
				if times++; times == 1 {
					other := prepared()
					other.Last, other.Probe = c.last, false
					putState(t, client, other)
				}
			}}}
			err := d.Do(t.Context(), commitTask(t, "commit-1", "2", &bytes.Buffer{}))
			s, lerr := loadState(t.Context(), client)
			if (err == nil) != c.ok || lerr != nil || s.Committed != c.ok || s.Probe || s.Last != c.last {
				t.Errorf("%s: %v, state %+v, %v", c.what, err, s, lerr)
			}
		})
	}
}

func TestStateIsRead(t *testing.T) {
	client := storetest.NewMem().NewClient("h1")
	if s, err := loadState(t.Context(), client); !reflect.DeepEqual(s, State{}) || err != nil || s.guard() != (store.Cmp{Key: keyState}) {
		t.Errorf("none: %+v, %v", s, err)
	}
	s := putState(t, client, prepared())
	if s.mod == 0 || s.guard() != (store.Cmp{Key: keyState, Rev: s.mod}) {
		t.Errorf("%+v", s)
	}
	for _, bad := range []string{"", "null x", "[]", `{"bundle":3,"hosts":3}`} {
		for key, read := range map[string]func() error{
			keyState:            func() error { _, err := loadState(t.Context(), client); return err },
			keyPlatform + "app": func() error { _, err := platform(t.Context(), client, "app"); return err },
		} {
			if _, _, err := client.Txn(t.Context(), nil, []store.Op{{Key: key, Value: []byte(bad)}}); err != nil {
				t.Fatal(err)
			}
			if err := read(); err == nil || !strings.Contains(err.Error(), "read record "+key) {
				t.Errorf("%s %q: %v", key, bad, err)
			}
		}
	}
}
