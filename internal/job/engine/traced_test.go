package engine

import (
	"bytes"
	"log/slog"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/lib/traces"
	"holdfast/internal/lib/traces/tracestest"
)

// TestTraces: a job and the attempts at its steps are one trace, with who has done what, and why something has failed.
func TestTraces(t *testing.T) {
	at := tracestest.New(t)
	stop, err := traces.Start(traces.Options{Endpoint: at.URL, CA: at.CA, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Unix(1_800_000_000, 0)
	k := &task{job: "up-1", kind: job.Upgrade, step: "h2/nova/install"}
	r := job.Record{Step: k.step, Attempt: 1, Host: "h2", Began: began, Ended: began.Add(time.Minute), State: job.Failed, Why: "exit code 7"}
	toldStep(k, r, "action")
	r.Attempt, r.State, r.Why, r.Undo = 2, job.Done, "", true
	toldStep(k, r, "action")
	toldJob(job.Job{ID: "up-1", Kind: job.Upgrade, User: "root", Result: "aborted", Why: []reason.Reason{reason.AbortedBy.With("root")},
		Began: began, Changed: began.Add(time.Hour)})
	stop()
	jobs, steps := at.Spans()["job upgrade"], at.Spans()["step action"]
	if len(jobs) != 1 || len(steps) != 2 {
		t.Fatalf("%v, %v", jobs, steps)
	}
	if jobs[0].Status.GetMessage() != "aborted: "+reason.Text(reason.AbortedBy.With("root")) ||
		tracestest.FactsOf(jobs[0])["holdfast.user"] != "root" {
		t.Errorf("%v", jobs[0])
	}
	for i, s := range steps {
		f := tracestest.FactsOf(s)
		if !bytes.Equal(s.ParentSpanId, jobs[0].SpanId) || f["holdfast.host"] != "h2" || f["holdfast.step"] != "h2/nova/install" ||
			f["holdfast.step.attempt"] != []string{"1", "2"}[i] {
			t.Errorf("%v", s)
		}
	}
	if steps[0].Status.GetMessage() != "failed: exit code 7" || steps[1].Status.GetCode() == otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("%v", steps)
	}
}
