package traces

import (
	"bytes"
	"context"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	otlp "go.opentelemetry.io/proto/otlp/trace/v1"

	"holdfast/internal/lib/traces/tracestest"
	"holdfast/testbed/try"
)

// options are those of a stand-in of a collector.
func options(s *tracestest.Collector) Options {
	return Options{Endpoint: s.URL, CA: s.CA, TokenFile: s.TokenFile, Sample: 1, Host: "h1", Cluster: "lab", Version: "1.2.3",
		Log: slog.New(slog.DiscardHandler)}
}

// TestSpans: a collector gets requests, with what they ask for below them, and jobs with their steps as one trace.
func TestSpans(t *testing.T) {
	s := tracestest.New(t)
	if On() {
		t.Error("it is on before it was begun")
	}
	stop, err := Start(options(s))
	try.Must(t, err)
	ctx, end := Request(t.Context(), "console", Pair{"http.request.method", "GET"}, Pair{"empty", ""})
	_, below := Request(ctx, "holdfast.v1.ClusterService/GetStatus")
	below("it failed: password=hunter2hunter2 was wrong")
	end("", Pair{"http.route", "GET /hosts/{host}"})
	at := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	for i, host := range []string{"h1", "h2"} {
		Step(Work{Job: "job-7", Name: "step action", Began: at.Add(time.Duration(i) * time.Minute), Ended: at.Add(5 * time.Minute),
			Why: map[string]string{"h2": "failed: exit code 7"}[host], Facts: []Pair{{"holdfast.host", host}}})
	}
	Job(Work{Job: "job-7", Name: "job upgrade", Began: at, Ended: at.Add(time.Hour), Facts: []Pair{{"holdfast.job.result", "done"}}})
	Job(Work{Job: "of no time", Name: "never"})
	stop()
	spans := s.Spans()
	if s.Facts["service.name"] != "holdfast" || s.Facts["service.instance.id"] != "h1" || s.Facts["service.namespace"] != "lab" ||
		s.Facts["service.version"] != "1.2.3" {
		t.Errorf("%v", s.Facts)
	}
	if s.Request != "POST /v1/traces by Bearer "+tracestest.Token {
		t.Error(s.Request)
	}
	page, call := spans["console"][0], spans["holdfast.v1.ClusterService/GetStatus"][0]
	if !bytes.Equal(page.TraceId, call.TraceId) || !bytes.Equal(page.SpanId, call.ParentSpanId) ||
		page.Status.GetCode() != otlp.Status_STATUS_CODE_UNSET {
		t.Errorf("%v, %v", page, call)
	}
	if f := tracestest.FactsOf(page); f["http.route"] != "GET /hosts/{host}" || f["http.request.method"] != "GET" || len(f) != 2 {
		t.Errorf("%v", f)
	}
	if call.Status.Code != otlp.Status_STATUS_CODE_ERROR || strings.Contains(call.String(), "hunter2") ||
		!strings.Contains(call.Status.Message, "[removed]") {
		t.Errorf("%v", call)
	}
	root, steps := spans["job upgrade"][0], spans["step action"]
	id, span := numbers("job-7")
	if hex.EncodeToString(root.TraceId) != id.String() || hex.EncodeToString(root.SpanId) != span.String() || len(root.ParentSpanId) != 0 ||
		root.StartTimeUnixNano != uint64(at.UnixNano()) || root.EndTimeUnixNano != uint64(at.Add(time.Hour).UnixNano()) {
		t.Errorf("%v", root)
	}
	if len(steps) != 2 || len(spans["never"]) != 0 {
		t.Fatalf("%d steps, %v", len(steps), spans["never"])
	}
	for i, x := range steps {
		if !bytes.Equal(x.TraceId, root.TraceId) || !bytes.Equal(x.ParentSpanId, root.SpanId) ||
			tracestest.FactsOf(x)["holdfast.job"] != "job-7" ||
			(x.Status.GetCode() == otlp.Status_STATUS_CODE_ERROR) != (i == 1) {
			t.Errorf("%v", x)
		}
	}
	if On() {
		t.Error("it goes on after its end")
	}
}

// TestAShareOfRequests is told, jobs all are.
func TestAShareOfRequests(t *testing.T) {
	s := tracestest.New(t)
	o := options(s)
	o.Sample = 0
	stop, err := Start(o)
	try.Must(t, err)
	ctx, end := Request(t.Context(), "a request")
	_, below := Request(ctx, "below it")
	below("")
	end("")
	Job(Work{Job: "j", Name: "job", Began: time.Now(), Ended: time.Now()})
	Step(Work{Job: "j", Name: "step", Began: time.Now(), Ended: time.Now()})
	stop()
	spans := s.Spans()
	if len(spans["a request"])+len(spans["below it"]) != 0 || len(spans["job"]) != 1 || len(spans["step"]) != 1 {
		t.Errorf("%v", spans)
	}
}

// TestADeadCollector: nobody waits for it, nothing grows, and it is logged once.
func TestADeadCollector(t *testing.T) {
	hangs, release := make(chan struct{}, queue), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hangs <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	defer close(release)
	var log bytes.Buffer
	stop, err := Start(Options{Endpoint: s.URL + "/elsewhere/traces", Sample: 1, Log: slog.New(slog.NewTextHandler(&log, nil))})
	try.Must(t, err)
	for range 20 * queue { // each of these would wait for minutes if one waited
		_, end := Request(context.Background(), "a request")
		end("")
	}
	<-hangs
	stop()
	if n := strings.Count(log.String(), "traces are not taken"); n > 1 {
		t.Errorf("%d lines: %s", n, log.String())
	}
}

// TestBadFiles are named.
func TestBadFiles(t *testing.T) {
	s := tracestest.New(t)
	empty := filepath.Join(t.TempDir(), "empty")
	try.Must(t, os.WriteFile(empty, nil, 0o600))
	for want, change := range map[string]func(*Options){
		"traces.ca: value":                 func(o *Options) { o.CA = empty },
		"traces.ca: value \"/nothing":      func(o *Options) { o.CA = "/nothing" },
		"traces.token_file: value":         func(o *Options) { o.TokenFile = empty },
		"traces.token_file: value \"/none": func(o *Options) { o.TokenFile = "/none" },
	} {
		o := options(s)
		change(&o)
		if stop, err := Start(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s", err, want)
			stop()
		}
	}
}
