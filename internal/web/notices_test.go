package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

const hostile = `<script>alert(1)</script>`

// TestNotificationsPage: who is told of what, how it goes, and what a test has brought; viewers look, and can not test.
func TestNotificationsPage(t *testing.T) {
	x := newSite(t)
	if _, body, _ := x.get(x.as("the-viewer"), "/notifications"); !strings.Contains(body, "Nobody is told of events.") {
		t.Error(body)
	}
	now := time.Unix(1_800_000_000, 0)
	well := cluster.Receiver{Name: "ops", Service: "slack", Least: cluster.Warning, Group: 30 * time.Second, Sent: now.Add(-3 * time.Minute)}
	ill := cluster.Receiver{Name: "night", Service: "mail", To: "a@example.com", Least: cluster.Critical, Group: time.Minute,
		Kinds: []cluster.EventKind{cluster.EvTakeover}, Quiet: "22:00-07:00", Zone: "Asia/Shanghai", Failed: now.Add(-2 * time.Hour),
		Why: "535 wrong password " + hostile, Failing: true, Lost: 2, LostAt: now.Add(-time.Hour), Waiting: 7, Attempts: 4, Next: now}
	x.notices.Set(nil, well, ill)
	_, body, _ := x.get(x.as("the-viewer"), "/notifications")
	for _, want := range []string{"ops", "sent", "3m ago", "nothing was sent yet", "night", "a@example.com",
		"only these events from critical on: takeover",
		"only what is critical during 22:00-07:00",
		"Asia/Shanghai", "failing", "events that wait: 7", "attempts: 4", "messages given up: 2", "60m ago", "2h ago", "535 wrong password"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q: %s", want, body)
		}
	}
	if strings.Contains(body, hostile) || strings.Contains(body, "/notifications/ops/test") {
		t.Error("a viewer may not test, and nothing of a service is markup")
	}
	c := x.as("the-operator")
	if _, body, _ := x.get(c, "/notifications"); !strings.Contains(body, `action="/notifications/ops/test"`) {
		t.Error(body)
	}
	code, body, _ := x.post(c, "/notifications/ops/test")
	if code != http.StatusOK || !strings.Contains(body, "The service has taken the message.") ||
		!strings.Contains(body, "200 OK: &lt;b&gt;taken") {
		t.Errorf("%d: %s", code, body)
	}
	if got := x.notices.Tested(); len(got) != 1 || got[0] != "the-operator (console, 127.0.0.1): ops" {
		t.Errorf("%q", got)
	}
	x.notices.Set(fail.Errorf(fail.Failed, "the test of ops was not sent from node1: no answer within 20s %s", hostile), well)
	if code, body, _ := x.post(c, "/notifications/ops/test"); code < 400 || !strings.Contains(body, "no answer within 20s") ||
		strings.Contains(body, hostile) || strings.Contains(body, "has taken") {
		t.Errorf("%d: %s", code, body)
	}
	if code, body, _ := x.post(c, "/notifications/"+url.PathEscape(hostile)+"/test"); code < 400 ||
		strings.Contains(body, hostile) {
		t.Errorf("%d: %s", code, body)
	}
}
