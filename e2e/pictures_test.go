package e2e

import (
	"bytes"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/testbed/browser"
	"holdfast/testbed/demo"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// pictures are pages as they are shown: those of the documentation. go test -artifacts keeps them.
var pictures = []struct {
	name, path, has string // has: the selector of what it is about
	width           int64
	theme, lang     string
	then            func(*testing.T, *browser.Browser) // nil: it is looked at as it is
}{
	{"overview", "/", ".band", 1280, "light", "en", nil},
	{"failover", "", "main h1", 1280, "light", "en", toFailover},
	{"overview-phone", "/", ".band", 390, "dark", "zh-CN", nil},
	{"configuration", "/configuration/edit", "textarea", 1280, "light", "en", wrongSettings},
	{"events", "/events", "#filter", 1280, "dark", "zh-CN", nil},
	{"users", "/users", "#new-user", 1280, "dark", "en", nil},
}

// toFailover follows the overview's link to how the last failover went.
func toFailover(t *testing.T, b *browser.Browser) {
	b.Waits(t, `p a[href^="/failovers/"]`, "How it went")
	b.Click(t, `p a[href^="/failovers/"]`)
	b.Waits(t, "main", "proof")
}

// wrongSettings has a configuration with a fault checked.
func wrongSettings(t *testing.T, b *browser.Browser) {
	browser.Value[bool](t, b, `(() => { const a = document.querySelector("textarea");
		a.value = a.value.replace("MemorySizeInGB: ", "MemorySizeInGB: -"); a.dispatchEvent(new Event("input", {bubbles: true})); return true })()`)
	b.Click(t, "button[name=do][value=check]")
	b.Waits(t, "main", "MemorySizeInGB")
}

// TestPictures looks at pages after a failover: at the width of a desktop and of a phone, light and dark, in both languages.
// Nothing but a table scrolls sideways, and the browser complains of nothing.
func TestPictures(t *testing.T) {
	need.Drill(t, "console: pages of a cluster after a failover fit a desktop and a phone, light and dark, in both languages")
	need.Real(t, built, need.Programs("chromium", "chromium"))
	l := standing(t, "power-loss")
	first := enter(t, "en", l)
	first.Waits(t, "main", "How it went")
	first.Waits(t, "main", "possible within") // the host that failed is back
	dir := t.ArtifactDir()
	for _, p := range pictures {
		t.Run(p.name, func(t *testing.T) {
			b := enter(t, p.lang, l)
			b.Look(t, p.width, p.theme)
			if p.path != "" {
				b.Go(t, l.Console+p.path, p.has)
			}
			if p.then != nil {
				p.then(t, b)
			}
			if w := browser.Value[int64](t, b, "document.documentElement.scrollWidth"); w > p.width {
				t.Errorf("the page is %d wide, of %d", w, p.width)
			}
			for _, c := range b.Complaints() {
				if !strings.Contains(c, "400") { // of the fault
					t.Errorf("the browser says: %s", c)
				}
			}
			img, err := png.Decode(bytes.NewReader(b.Picture(t)))
			try.Must(t, err)
			var small bytes.Buffer
			try.Must(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, img))
			try.Must(t, os.WriteFile(filepath.Join(dir, p.name+".png"), small.Bytes(), 0o644))
		})
	}
}

// enter is a browser in which the demo's admin has logged in.
func enter(t *testing.T, lang string, l demo.Login) *browser.Browser {
	t.Helper()
	b := browser.Open(t, lang, l.Console)
	b.Go(t, l.Console, "input[name=password]")
	b.Fill(t, "input[name=name]", l.User)
	b.Fill(t, "input[name=password]", l.Password)
	b.Click(t, ".btn.main")
	b.Waits(t, "header", l.User)
	return b
}
