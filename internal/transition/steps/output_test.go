package steps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"holdfast/internal/cluster"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/transition"
	"holdfast/testbed/try"
)

// TestOutputOf: the end of a log is told from the beginning of a line on; a step without a log has said nothing.
func TestOutputOf(t *testing.T) {
	dir := t.TempDir()
	s := job.StepView{ID: "h1/install/app", Attempt: 2}
	got, err := outputOf(dir, "h1", "upgrade-1", s)
	if err != nil || got.Log != "" || got.LogBytes != 0 || got.Host != "h1" {
		t.Errorf("without a log: %+v, %v", got, err)
	}
	file := engine.LogFile(dir, "upgrade-1", s.ID, s.Attempt)
	try.Must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	line := strings.Repeat("x", 99) + "\n"
	whole := strings.Repeat(line, job.MaxOutput/100+50) + "the end \xff"
	try.Must(t, os.WriteFile(file, []byte(whole), 0o600))
	got, err = outputOf(dir, "h1", "upgrade-1", s)
	if err != nil || got.LogBytes != int64(len(whole)) || len(got.Log) > job.MaxOutput || !strings.HasPrefix(got.Log, line) ||
		!strings.HasSuffix(got.Log, "\nthe end \ufffd") {
		t.Errorf("%d of %d bytes, %.120q, %v", len(got.Log), got.LogBytes, got.Log, err)
	}
	s.Attempt = 1
	if got, err := outputOf(dir, "h1", "upgrade-1", s); err != nil || got.Log != "" {
		t.Errorf("of another attempt: %d bytes, %v", len(got.Log), err)
	}
	if _, err := outputOf(filepath.Join(file, "no"), "h1", "upgrade-1", s); err == nil {
		t.Error("of what is no directory: no error")
	}
}

// TestPartsOfAStep: a command of a transition tells its parts by a file of its attempt; one that is damaged is named.
func TestPartsOfAStep(t *testing.T) {
	dir := t.TempDir()
	s := job.StepView{ID: "align/copy", Attempt: 2, Kind: transition.KindCommand}
	file := progressFile(filepath.Join(CommandsDir(dir), "runs", "transition-1", "align_copy"), 2)
	try.Must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	try.Must(t, os.WriteFile(file, []byte(`{"line":"half","told":"2026-12-01T10:00:00Z","parts":[{"name":"nova.instances","done":7}]}`), 0o600))
	got, err := outputOf(dir, "h1", "transition-1", s)
	if err != nil || got.Line != "half" || got.Told.IsZero() || len(got.Parts) != 1 || got.Parts[0].Done != 7 {
		t.Errorf("%+v, %v", got, err)
	}
	s.Attempt = 3
	if got, err = outputOf(dir, "h1", "transition-1", s); err != nil || got.Line != "" || len(got.Parts) != 0 {
		t.Errorf("of the next attempt: %+v, %v", got, err)
	}
	s.Attempt = 2
	try.Must(t, os.WriteFile(file, []byte(`{"line":`), 0o600))
	if _, err = outputOf(dir, "h1", "transition-1", s); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("of a damaged one: %v", err)
	}
}

// TestProgressIsBounded: of a file of another version that tells more parts than are taken, those that are not done come first and
// the rest is counted; one that is longer than any of ours is not read.
func TestProgressIsBounded(t *testing.T) {
	file := filepath.Join(t.TempDir(), "progress-1.json")
	p := job.Progress{Parts: make([]job.Part, job.MaxParts+3)}
	for i := range p.Parts {
		p.Parts[i].State = "done"
	}
	p.Parts[job.MaxParts+2].State = "running"
	text, err := json.Marshal(p)
	try.Must(t, err)
	try.Must(t, os.WriteFile(file, text, 0o600))
	got, err := readProgress(file)
	if err != nil || len(got.Parts) != job.MaxParts || got.More != 3 || got.Parts[0].State != "running" {
		t.Errorf("%d parts, %d more, %v", len(got.Parts), got.More, err)
	}
	try.Must(t, os.Truncate(file, job.MaxProgress+1))
	if _, err := readProgress(file); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("of one that is too long: %v", err)
	}
}

// TestLast: what stands for bytes that are no UTF-8 is longer than they are, and the bound holds all the same.
func TestLast(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		cut  bool
		want string
	}{
		{"abc", 3, false, "abc"},
		{"a\nb", 3, false, "a\nb"},
		{"a\nb", 3, true, "b"},
		{"\xa4\xadb", 3, true, "b"}, // of a character whose beginning was left out
		{"\xa4\xadb", 6, false, "\ufffdb"},
		{"a\xffb\xff", 6, false, "b\ufffd"},
		{"a\xffb\xff", 5, false, "b\ufffd"},
		{"a\xff\nb\xff", 7, false, "b\ufffd"}, // from the beginning of a line on
		{"\xff", 2, false, ""},
	} {
		if got := last([]byte(c.in), c.most, c.cut); got != c.want {
			t.Errorf("%q, at most %d, cut %t: %q, want %q", c.in, c.most, c.cut, got, c.want)
		}
	}
}

func FuzzLast(f *testing.F) {
	f.Add([]byte("a\xff\nb\xffc"), 4, true)
	f.Add([]byte("\xe4\xb8\xad\xe6"), 5, false)
	f.Fuzz(func(t *testing.T, b []byte, most int, cut bool) {
		if most < 0 {
			return
		}
		got := last(b, most, cut)
		if len(got) > most || !utf8.ValidString(got) || !strings.HasSuffix(strings.ToValidUTF8(string(b), "\ufffd"), got) {
			t.Errorf("%q, at most %d, cut %t: %q", b, most, cut, got)
		}
	})
}

// leading is a job of one step, of the coordinator.
type leading struct{ step job.Step }

func (l leading) Steps() []job.Step { return []job.Step{l.step} }

func (leading) Next(job.Job, map[string]job.Record, map[cluster.HostID]job.HostState, time.Time) job.Decision {
	return job.Decision{}
}

// answering is the agent of another host.
type answering struct {
	Peer
	host cluster.HostID
}

func (p answering) StepOutput(_ context.Context, id, step string) (job.Output, error) {
	return job.Output{Host: p.host, Log: id + " " + step}, nil
}

func (answering) Close() {}

// TestOutputOfTheCoordinatorsStep: it is asked of the host that has claimed the last attempt. One that is gone is named, and a step
// that nobody has claimed has said nothing.
func TestOutputOfTheCoordinatorsStep(t *testing.T) {
	ctx, st, dir := t.Context(), storetest.NewMem().NewClient("h1"), t.TempDir()
	plan := leading{job.Step{ID: "hosts/wait", Kind: "wait", Timeout: time.Minute}}
	planners := map[job.Kind]func([]byte) (job.Planner, error){"led": func([]byte) (job.Planner, error) { return plan, nil }}
	j := job.Job{ID: "led-1", Kind: "led", User: "ann", Began: time.Now()}
	try.Must(t, engine.Submit(ctx, st, j, []byte("{}"), plan.Steps(), engine.Also{}))
	o := &Orders{Self: "h1", Dir: dir, Submit: &engine.Jobs{Store: st, Planners: planners}, Reach: func(h cluster.HostID) (Peer, error) {
		if h == "h3" {
			return nil, errors.New("no host h3 reports")
		}
		return answering{host: h}, nil
	}}
	for attempt := 1; attempt <= 2; attempt++ {
		file := engine.LogFile(dir, "led-1", plan.step.ID, attempt)
		try.Must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		try.Must(t, os.WriteFile(file, fmt.Appendf(nil, "here, %d\n", attempt), 0o600))
	}
	record := func(r job.Record) []byte {
		r.Step = plan.step.ID
		text, err := json.Marshal(r)
		try.Must(t, err)
		return text
	}
	for _, c := range []struct {
		what   string
		record []byte
		want   job.Output // its Host and Log
		fails  string     // a part of the error
	}{
		{"never begun", nil, job.Output{}, ""},
		{"granted", record(job.Record{State: job.Granted, Attempt: 1, Work: &plan.step}), job.Output{}, ""},
		{"claimed here", record(job.Record{State: job.Running, Attempt: 1, Host: "h1", Work: &plan.step}),
			job.Output{Host: "h1", Log: "here, 1\n"}, ""},
		{"its second attempt", record(job.Record{State: job.Failed, Attempt: 2, Host: "h1"}), job.Output{Host: "h1", Log: "here, 2\n"}, ""},
		{"retried by the next one", record(job.Record{State: job.Done, Attempt: 3, Host: "h2"}),
			job.Output{Host: "h2", Log: "led-1 hosts/wait"}, ""},
		{"of a host that is gone", record(job.Record{State: job.Done, Attempt: 3, Host: "h3"}),
			job.Output{}, "hosts/wait is of host h3: no host h3 reports"},
		{"not to be read", []byte("{"), job.Output{}, "is not known"},
	} {
		if c.record != nil {
			_, ok, err := st.Txn(ctx, nil, []store.Op{{Key: "job/step/led-1/hosts/wait", Value: c.record}})
			if try.Must(t, err); !ok {
				t.Fatal("the record was not written")
			}
		}
		got, err := o.StepOutput(ctx, "led-1", plan.step.ID)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		if err != nil || got.Host != c.want.Host || got.Log != c.want.Log {
			t.Errorf("%s: %+v, %v", c.what, got, err)
		}
	}
	try.Must(t, st.Close())
	if _, err := o.StepOutput(ctx, "led-1", plan.step.ID); err == nil {
		t.Error("without a store: no error")
	}
	gone := new(fail.Error)
	o.Submit.Store = storetest.NewMem().NewClient("h1")
	if _, err := o.StepOutput(ctx, "led-2", plan.step.ID); !errors.As(err, &gone) || gone.Kind != fail.Invalid {
		t.Errorf("of no job: %v", err)
	}
}
