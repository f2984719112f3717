package web

import (
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"holdfast/internal/cluster"
	"holdfast/internal/upgrade/request"
	"holdfast/testbed/browser"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
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
			{underWay(), "/jobs/upgrade-7/abort"}, {nil, "/upgrade"}, {nil, "/upgrade/begin"}, {nil, begin + "&mode=rolling"}} {
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

// TestScreenInABrowser: the page shows what the guest does, asks for the password of its VNC server, types there, goes on when the
// guest's server was closed, and says why it is cut off.
func TestScreenInABrowser(t *testing.T) {
	need.Drill(t, "console: the page of a screen in Chromium: drawn, typed on, with a password, opened again, and cut with the user's role")
	need.Real(t, need.Programs("chromium", "chromium"))
	x := newSite(t)
	x.guest.Password = "s3cret-7"
	b := browser.Open(t, "en", x.URL)
	b.Go(t, x.URL+guestPath, "input[name=password]")
	b.Fill(t, "input[name=name]", "the-operator")
	b.Fill(t, "input[name=password]", secret)
	b.Click(t, ".btn.main")
	grey := func() int {
		return browser.Value[int](t, b, `((document.querySelector("#screen canvas")||{}).width ?
			document.querySelector("#screen canvas").getContext("2d").getImageData(5, 5, 1, 1).data[0] : 0)`)
	}
	enter := func(password string) {
		t.Helper()
		b.Waits(t, "#screen-why", "asks for its password")
		b.Fill(t, "#screen-ask input[name=password]", password)
		b.Click(t, "#screen-ask button")
	}
	enter("another")
	b.Waits(t, "#screen-why", "does not let you in: it is another <password>")
	b.Waits(t, "#screen-state", "not connected since")
	b.Click(t, "#screen-again")
	enter(x.guest.Password)
	b.Waits(t, "#screen-state", "by host node2")
	try.Until(t, "it is drawn", func() bool { return grey() == 0x40 })
	b.Do(t, "type", chromedp.KeyEvent("k"))
	try.Until(t, "the key arrives, and is seen", func() bool { return len(x.guest.Keys()) == 1 && grey() == 0x60 })
	if x.guest.Keys()[0] != 'k' {
		t.Errorf("keys: %x", x.guest.Keys())
	}
	b.Click(t, "#screen-keys")
	try.Until(t, "Ctrl-Alt-Del arrives", func() bool { return slices.Contains(x.guest.Keys(), 0xffff) })
	const kept = `JSON.stringify([localStorage, sessionStorage]) + document.querySelector("#screen-ask").elements.password.value`
	if kept := browser.Value[string](t, b, kept); strings.Contains(kept, x.guest.Password) || !strings.HasSuffix(kept, "]") {
		t.Errorf("it keeps %s", kept)
	}
	x.guest.Hang()
	b.Waits(t, "#screen-state", "not connected since")
	enter(x.guest.Password)
	b.Waits(t, "#screen-state", "by host node2")
	_, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: "the-operator", Role: cluster.Viewer})
	try.Must(t, err)
	b.Waits(t, "#screen-why", "Your session has ended, or you may not see screens any more; log in again.")
	if x.guest.Open() != 0 {
		t.Error("it is still open")
	}
	for _, c := range b.Complaints() {
		if !strings.Contains(c, "Failed when connecting: Security negotiation") { // noVNC tells of the wrong password
			t.Error(c)
		}
	}
}
