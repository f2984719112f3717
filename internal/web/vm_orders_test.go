package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// TestOrdersToTheVM: what is grave is asked for, what can not be is refused with its reason, and the overview offers what is possible.
func TestOrdersToTheVM(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	want := func() cluster.Want { return x.cluster.Status().Want }
	offers := func(what string) {
		t.Helper()
		try.Until(t, "the overview offers "+what, func() bool { _, body, _ := x.get(c, "/"); return strings.Contains(body, what) })
	}
	offers(`href="/vm/stop"`)
	if code, _, to := x.post(c, "/vm/stop"); code != http.StatusSeeOther || to != "/vm/stop" || !want().Run {
		t.Errorf("it was stopped without being asked: %d, to %s", code, to)
	}
	for _, step := range []struct{ path, then string }{{"/vm/stop", "/vm/start"}, {"/vm/start", "/vm/suspend"},
		{"/vm/suspend", "End the suspension of HA"}, {"/vm/start", "/vm/move"}} {
		if code, body, to := x.post(c, step.path, "sure", "yes"); code != http.StatusSeeOther || to != "/" {
			t.Fatalf("%s: %d: %s", step.path, code, body)
		}
		offers(step.then)
	}
	if w := want(); !w.Run || w.HandsOff {
		t.Errorf("%+v", w)
	}
	holder := string(x.cluster.Status().Owner.Holder())
	if _, body, _ := x.get(c, "/vm/move"); strings.Contains(body, `value="`+holder+`"`) || strings.Count(body, `type="radio"`) != 2 {
		t.Errorf("%s is offered, where it is: %s", holder, body)
	}
	const no = "is not in this cluster"
	for host, says := range map[string]string{holder: "runs on " + holder, "": no, "<script>": no} {
		if code, body, _ := x.post(c, "/vm/move", "sure", "yes", "host", host); code < 400 || !strings.Contains(body, says) ||
			strings.Contains(body, "<script>\"") {
			t.Errorf("to %q: %d: %s", host, code, body)
		}
	}
	code, body, to := x.post(c, "/vm/move", "sure", "yes", "host", "node2")
	if code != http.StatusSeeOther || to != "/" || want().MoveTo != "node2" {
		t.Errorf("%d, to %s, %+v: %s", code, to, want(), body)
	}
	offers("/vm/move/cancel")
	if _, body, _ := x.get(x.as("the-viewer"), "/"); strings.Contains(body, "/vm/") {
		t.Error("a viewer is offered orders")
	}
}

// TestAWordThatAHostIsOff: it is taken for a silent host only, whose name is typed again.
func TestAWordThatAHostIsOff(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	const off = `href="/hosts/node3/off"`
	if _, body, _ := x.get(c, "/hosts/node3"); strings.Contains(body, off) {
		t.Error("it is asked of a host that renews")
	}
	if code, body, _ := x.post(c, "/hosts/node3/off", "again", "node3"); code != http.StatusConflict || !strings.Contains(body, "is not off") {
		t.Errorf("%d: %s", code, body)
	}
	x.cluster.Update(func(s *cluster.Status) {
		for i := range s.Hosts {
			if s.Hosts[i].Name == "node3" {
				s.Hosts[i].Alive, s.Hosts[i].Silent = false, time.Hour
			}
		}
	})
	try.Until(t, "it is asked for", func() bool { _, body, _ := x.get(c, "/hosts/node3"); return strings.Contains(body, off) })
	if code, body, _ := x.get(c, "/hosts/node3/off"); code != http.StatusOK || !strings.Contains(body, "two hosts will write to one disk") {
		t.Errorf("%d: %s", code, body)
	}
	if code, _, _ := x.post(c, "/hosts/node3/off", "again", "node2"); code != http.StatusBadRequest || len(x.cluster.Status().Want.Off) != 0 {
		t.Errorf("%d: %+v", code, x.cluster.Status().Want)
	}
	if code, body, to := x.post(c, "/hosts/node3/off", "again", "node3"); code != http.StatusSeeOther || to != "/" ||
		len(x.cluster.Status().Want.Off) != 1 {
		t.Errorf("%d: %s, %+v", code, body, x.cluster.Status().Want)
	}
}

// TestAHostIsEmptiedAndForgotten: the job that empties it is shown; one that reports is not forgotten.
func TestAHostIsEmptiedAndForgotten(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	if code, _, to := x.post(c, "/hosts/node3/drain"); code != http.StatusSeeOther || to != "/hosts/node3/drain" {
		t.Errorf("%d, to %s", code, to)
	}
	if code, body, to := x.post(c, "/hosts/node3/drain", "sure", "yes"); code != http.StatusSeeOther || !strings.HasPrefix(to, "/jobs/") {
		t.Errorf("%d, to %s: %s", code, to, body)
	}
	if code, body, _ := x.post(c, "/hosts/node4/forget", "again", "node4"); code != http.StatusConflict || !strings.Contains(body, "reports") {
		t.Errorf("%d: %s", code, body)
	}
	if code, _, _ := x.post(c, "/hosts/node4/forget", "again", "node"); code != http.StatusBadRequest {
		t.Error(code)
	}
}

// TestASilentHolder: where it runs is not said of a host that is silent.
func TestASilentHolder(t *testing.T) {
	x := newSite(t)
	c := x.as("the-viewer")
	if _, body, _ := x.get(c, "/"); !strings.Contains(body, "<h1>The management VM runs on node1.</h1>") {
		t.Fatal(body)
	}
	x.cluster.Update(func(s *cluster.Status) { s.Hosts[0].Alive, s.Hosts[0].Silent = false, time.Hour })
	try.Until(t, "it says so", func() bool {
		_, body, _ := x.get(c, "/")
		return strings.Contains(body, "<h1>The management VM was last known on node1, which is silent.</h1>")
	})
}
