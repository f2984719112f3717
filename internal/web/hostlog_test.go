package web

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/try"
)

// TestHostLogPage: lines stand newest last, with their age and from when on they are; a host that does not tell is told of.
func TestHostLogPage(t *testing.T) {
	x := newSite(t)
	at := time.Now().Add(-3 * time.Minute)
	x.aid.SetLog(cluster.HostLog{Host: "node2", From: at.Add(-time.Hour), Left: 7, Next: 12, Lines: []cluster.LogLine{
		{Number: 11, Time: at.Add(-time.Minute), Level: "INFO", Text: "first", Fields: "host=" + hostile},
		{Number: 12, Time: at, Level: "ERROR", Text: "last " + hostile}}}, nil)
	c := x.as("the-operator")
	code, body, _ := x.get(c, "/hosts/node2/log?least=WARN&q=Some+Words")
	for _, want := range []string{"first", "last", "3m ago", "7 older lines fit", "The oldest one is of", `value="Some Words"`,
		`<option value="WARN" selected>`} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, without %q: %s", code, want, body)
		}
	}
	if strings.Contains(body, hostile) || strings.Index(body, "first") > strings.Index(body, "last &lt;script") {
		t.Error(body)
	}
	if q := x.aid.Queries(); q[len(q)-1] != (cluster.LogQuery{Host: "node2", Least: "WARN", Text: "Some Words"}) {
		t.Errorf("%+v", q)
	}
	x.aid.SetLog(cluster.HostLog{}, fail.Errorf(fail.Unavailable, "node2 does not answer %s", hostile))
	if code, body, _ := x.get(c, "/hosts/node2/log"); code != http.StatusOK || !strings.Contains(body, "node2 does not answer") ||
		strings.Contains(body, hostile) {
		t.Errorf("%d: %s", code, body)
	}
	x.aid.SetLog(cluster.HostLog{}, fail.Errorf(fail.Invalid, "host nobody: there is none"))
	if code, _, _ := x.get(c, "/hosts/nobody/log"); code != http.StatusBadRequest {
		t.Error(code)
	}
	for path, may := range map[string]bool{"the-viewer": false, "the-operator": true} {
		if _, body, _ := x.get(x.as(path), "/hosts/node2"); strings.Contains(body, `href="/hosts/node2/log"`) != may {
			t.Errorf("%s: %s", path, body)
		}
	}
}

// TestHostLogGoesOn: a page that is open gets new lines.
func TestHostLogGoesOn(t *testing.T) {
	x := newSite(t)
	say := func(text string) {
		x.aid.SetLog(cluster.HostLog{Host: "node2", Lines: []cluster.LogLine{{Number: 1, Time: time.Now(), Text: text}}}, nil)
		x.cluster.Update(func(s *cluster.Status) { s.Time = time.Now() })
	}
	say("the first")
	resp, err := x.as("the-operator").Get(x.URL + "/live/hosts/node2/log")
	try.Must(t, err)
	defer resp.Body.Close()
	_, until := follow(t, resp.Body)
	until("the first")
	say("the second")
	until("the second")
}

// TestFencePage: what a test does is said before, its answers with who has asked and how long it took; a refusal has its remedy.
func TestFencePage(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	_, body, _ := x.get(c, "/hosts/node3/fence")
	if !strings.Contains(body, "Nothing is ordered: the host stays as it is") || !strings.Contains(body, `action="/hosts/node3/fence"`) {
		t.Error(body)
	}
	if asked := x.cluster.FenceTests(); len(asked) != 0 {
		t.Errorf("to look at the page asks devices: %q", asked)
	}
	x.cluster.SetFence(nil, cluster.FenceAnswer{Device: "ipmi 192.0.2.9", Error: "wrong password " + hostile},
		cluster.FenceAnswer{Device: "redfish 192.0.2.10", On: true})
	code, body, _ := x.post(c, "/hosts/node3/fence")
	for _, want := range []string{"The host can be switched off by a fence device.", "ipmi 192.0.2.9", "not to be relied on",
		"wrong password &lt;script", "answers: the host is on", "asked by node2", "within 1.5s"} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, without %q: %s", code, want, body)
		}
	}
	if asked := x.cluster.FenceTests(); len(asked) != 1 || asked[0] != "the-operator (console, 127.0.0.1): node3" {
		t.Errorf("%q", asked)
	}
	x.cluster.SetFence(nil, cluster.FenceAnswer{Device: "ipmi", Error: "no answer"})
	if _, body, _ := x.post(c, "/hosts/node3/fence"); !strings.Contains(body, "No fence device of the host can be relied on.") {
		t.Error(body)
	}
	x.cluster.SetFence(fail.Errorf(fail.Refused, "host node3 has no fence device").With("see Fencing"))
	if code, body, _ := x.post(c, "/hosts/node3/fence"); code != http.StatusConflict || !strings.Contains(body, "see Fencing") {
		t.Errorf("%d: %s", code, body)
	}
	x.cluster.SetFence(errors.New("no answer " + hostile))
	if code, body, _ := x.post(c, "/hosts/node3/fence"); code < 500 || strings.Contains(body, hostile) {
		t.Errorf("%d: %s", code, body)
	}
}
