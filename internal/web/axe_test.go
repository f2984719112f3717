package web

import (
	_ "embed"
	"net/http"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/testbed/browser"
	"holdfast/testbed/need"
)

// axeSource is axe-core, for tests only; its licence stands beside it. Pages have no script of others: the browser's debugger
// evaluates it.
//
//go:embed testdata/axe.min.js
var axeSource string

// axeRun gives what axe-core finds, as sentences.
const axeRun = `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations
	.filter(v => v.impact === "serious" || v.impact === "critical")
	.flatMap(v => v.nodes.map(n => v.impact + " " + v.id + ": " + n.target.join(" ") + ": " + n.html.slice(0, 200) + " " + n.failureSummary)))`

// TestAccessible: axe-core finds nothing serious or critical on any page, light on a desk and dark on a telephone.
func TestAccessible(t *testing.T) {
	need.Drill(t, "console: axe-core finds no serious fault on any page, light and dark; every link answers")
	need.Real(t, need.Programs("chromium", "chromium"))
	x := furnished(t)
	b := browser.Open(t, "en", x.URL)
	audit := func(path string) {
		t.Helper()
		for theme, width := range map[string]int64{"light": 1280, "dark": 390} {
			b.Look(t, width, theme)
			b.Do(t, "load axe", chromedp.Evaluate[chromedp.Void](axeSource))
			for _, v := range browser.Promised[[]string](t, b, axeRun) {
				t.Errorf("%s, %s, %d wide: %s", path, theme, width, v)
			}
		}
	}
	b.Go(t, x.URL, "input[name=password]")
	audit("/login")
	b.Fill(t, "input[name=name]", "the-admin")
	b.Fill(t, "input[name=password]", secret)
	b.Click(t, ".btn.main")
	b.Waits(t, ".by", "the-admin")
	x.walk(func(path string) {
		b.Go(t, x.URL+path, "main")
		audit(path)
	})
}

// TestLinks: every link of every page answers, and what pages load.
func TestLinks(t *testing.T) {
	need.Seconds(t)
	x := furnished(t)
	c := x.as("the-admin")
	asked := map[string]bool{}
	x.walk(func(path string) {
		code, body, _ := x.get(c, path)
		if code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
		for _, to := range linksOf(t, body) {
			if asked[to] {
				continue
			}
			asked[to] = true
			if to == "/upgrade/report" { // of a run, which is not the one that is shown here: TestUpgradeOrders follows it
				continue
			}
			if code, body, _ := x.get(c, to); code >= http.StatusBadRequest {
				t.Errorf("%s leads to %s: %d: %.300s", path, to, code, body)
			}
		}
	})
	if len(asked) < len(pages) {
		t.Errorf("only %d links were found", len(asked))
	}
}
