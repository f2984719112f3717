package web

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/traces"
	"holdfast/internal/lib/traces/tracestest"
	"holdfast/testbed/try"
)

// TestTraces: a page is a span by its route, the calls that it makes are below it, and nothing that was typed is told.
func TestTraces(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	at := tracestest.New(t)
	stop, err := traces.Start(traces.Options{Endpoint: at.URL, CA: at.CA, Sample: 1, Log: slog.New(slog.DiscardHandler)})
	try.Must(t, err)
	x.get(c, "/hosts/node2/log?q=typed-by-somebody")
	x.aid.SetLog(cluster.HostLog{}, fail.Errorf(fail.Failed, "it broke: password=hunter2hunter2"))
	x.get(c, "/hosts/node2/log")
	x.post(x.browser(), "/login", "name", "the-operator", "password", "typed-password")
	x.get(c, "/static/console.css")
	stop()
	spans := at.Spans()
	var routes []string
	for _, s := range spans["console"] {
		routes = append(routes, tracestest.FactsOf(s)["http.route"]+" "+tracestest.FactsOf(s)["http.response.status_code"])
	}
	if got := strings.Join(routes, ", "); got != "GET /hosts/{host}/log 200, GET /hosts/{host}/log 200, POST /login 403" {
		t.Error(got)
	}
	calls := spans["holdfast.v1.HostService/GetHostLog"]
	if len(calls) != 2 || !bytes.Equal(calls[0].ParentSpanId, spans["console"][0].SpanId) ||
		tracestest.FactsOf(calls[0])["holdfast.user"] != "the-operator (console, 127.0.0.1)" {
		t.Fatalf("%v", calls)
	}
	if s := calls[1]; s.Status.GetMessage() == "" || tracestest.FactsOf(s)["rpc.connect_rpc.status"] == "ok" {
		t.Errorf("%v", s)
	}
	for name, all := range spans {
		for _, s := range all {
			for _, bad := range []string{"typed", "hunter2", secret} {
				if strings.Contains(s.String(), bad) {
					t.Errorf("%s tells %s: %v", name, bad, s)
				}
			}
		}
	}
	if code, _, _ := x.get(c, "/"); code != http.StatusOK {
		t.Error(code)
	}
}
