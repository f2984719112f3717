package web

import (
	"strings"
	"testing"

	"holdfast/internal/upgrade/request"
	"holdfast/testbed/browser"
	"holdfast/testbed/need"
)

// TestUpgradesInABrowser: on a telephone nothing but a table scrolls sideways, light and dark, in both languages; a command is
// given by a click, and the page shows what has become of it by itself.
func TestUpgradesInABrowser(t *testing.T) {
	need.Drill(t, "console: pages of an upgrade in Chromium: orders by a click, at the width of a telephone, in both languages, light and dark")
	need.Real(t, need.Programs("chromium", "chromium"))
	x := newSite(t)
	operator := x.as("the-operator")
	_, _, begin := x.upload(operator, "unsigned", "yes", "bundle", string(unsigned(t)))
	const width = 360
	for lang, theme := range map[string]string{"en": "dark", "zh-CN": "light"} {
		b := browser.Open(t, lang, x.URL)
		b.Look(t, width, theme)
		b.Go(t, x.URL, "input[name=password]")
		b.Fill(t, "input[name=name]", "the-operator")
		b.Fill(t, "input[name=password]", secret)
		b.Click(t, ".btn.main")
		b.Waits(t, ".by", "the-operator")
		for _, c := range []struct {
			show *request.Standing
			path string
		}{{underWay(), "/upgrade"}, {stuck(), "/upgrade"}, {prepared(), "/upgrade"}, {underWay(), "/jobs/upgrade-7"}, {underWay(), "/"},
			{underWay(), "/upgrade/jobs/upgrade-7/abort"}, {nil, "/upgrade"}, {nil, "/upgrade/begin"}, {nil, begin + "&mode=rolling"}} {
			x.up.Show(c.show)
			b.Go(t, x.URL+c.path, "main")
			if wide := browser.Value[int64](t, b, "document.documentElement.scrollWidth"); wide > width {
				t.Errorf("%s, %s: it is %d wide on %d", lang, c.path, wide, width)
			}
		}
		for _, c := range b.Complaints() {
			t.Error(c)
		}
	}
	b := browser.Open(t, "en", x.URL)
	x.up.Show(nil)
	x.up.FailStep("node1/install/app")
	x.post(operator, "/upgrade/run", "bundle", strings.TrimPrefix(begin, "/upgrade/begin?bundle="), "mode", "rolling", "sure", "yes")
	b.Go(t, x.URL+"/upgrade", "input[name=password]")
	b.Fill(t, "input[name=name]", "the-operator")
	b.Fill(t, "input[name=password]", secret)
	b.Click(t, ".btn.main")
	b.Waits(t, "main", "node1/install/app: exit code 7")
	b.Click(t, ".stuck form button")
	b.Waits(t, "main", "Resume")
	b.Click(t, `form[action$="/resume"] button`)
	b.Waits(t, "h1", "The upgrade to 1.1.0 is done, and not committed yet.")
}
