package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/internal/transition"
)

// otherSites are one that has paused, and one that does not answer.
func otherSites() []transition.SiteState {
	at := time.Unix(1_800_000_000, 0)
	return []transition.SiteState{
		{Site: "east", State: "paused", Needs: true, Server: "https://east:7443", Job: "transition-1", Stage: "hosts", Step: "hosts/upgrade",
			Over: 3, Steps: 9, Percent: 40, Since: at, Why: "a step has failed", At: time.Now(), LostAt: time.Now(),
			Lost: &transition.SiteLoss{Guests: 2, Sent: 1000, Lost: 3, LongestMS: 300, Worst: "<b>web1</b>"}},
		{Site: "west", State: transition.SiteUnknown, Needs: true, Why: "https://west:7443: connection refused", At: time.Now()},
	}
}

// TestSites: each site with its state, what its guests have lost and why it waits; what it says is text. A host without a list
// says where it would be, and one who only looks asks no other cluster.
func TestSites(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	_, body, _ := x.get(c, sitesPath)
	for _, want := range []string{"This host has no list of sites.", "/etc/holdfast/sites.yaml"} {
		if !strings.Contains(text(t, body), want) {
			t.Errorf("without %q: %s", want, text(t, body))
		}
	}
	x.up.Other = otherSites()
	code, body, _ := x.get(c, sitesPath)
	for _, want := range []string{"Sites without an answer: 1 of 2", "/etc/holdfast/sites.yaml", "a step has failed",
		"hosts/upgrade", "3/9",
		"3 of 1,000", "longest gap 300 ms: <b>web1</b>", "connection refused"} {
		if code != http.StatusOK || !strings.Contains(text(t, body), want) {
			t.Errorf("without %q: %d: %s", want, code, text(t, body))
		}
	}
	if strings.Contains(body, "<b>web1") {
		t.Error("a guest's name is a part of the page")
	}
	if code, body, _ := x.get(x.as("the-viewer"), sitesPath); code != http.StatusForbidden {
		t.Errorf("a viewer: %d: %s", code, text(t, body))
	}
	if _, body, _ := x.get(c, transitionPath); !strings.Contains(body, `href="`+sitesPath+`"`) {
		t.Error("nothing leads there")
	}
}
