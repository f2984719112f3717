package web

import (
	"os"
	"testing"
	"fmt"
	"strings"
	"holdfast/testbed/browser"
	"holdfast/testbed/try"
)

func TestZZPic(t *testing.T) {
	x := newSite(t)
	langs := strings.Split(os.Getenv("PICLANG"), ",")
	for _, l := range langs {
		b := browser.Open(t, l, x.URL)
		b.Go(t, x.URL, "input[name=password]")
		b.Fill(t, "input[name=name]", "the-admin")
		b.Fill(t, "input[name=password]", secret)
		b.Click(t, ".btn.main")
		b.Waits(t, "h1", "")
		b.Waits(t, ".by", "the-admin")
		shot := func(name, path string) {
			for _, w := range []int64{1280, 360} {
				theme := map[int64]string{1280: "light", 360: "dark"}[w]
				if os.Getenv("PICDARK") != "" { theme = map[int64]string{1280: "dark", 360: "light"}[w] }
				b.Look(t, w, theme)
				b.Go(t, x.URL+path, "main")
				if sw := browser.Value[int](t, b, "document.documentElement.scrollWidth"); int64(sw) > w {
					t.Errorf("%s at %d: %d wide", name, w, sw)
				}
				try.Must(t, os.WriteFile(fmt.Sprintf("/work/tmp/pics/%s-%s-%d.png", name, l[:2], w), b.Picture(t), 0o644))
			}
		}
		x.up.Show(underWay()); shot("under", "/upgrade")
		shot("overview", "/")
		shot("steps", "/jobs/upgrade-7?host=cvk-2")
		shot("abort", "/upgrade/jobs/upgrade-7/abort")
		x.up.Show(stuck()); shot("stuck", "/upgrade")
		x.up.Show(prepared()); shot("prepared", "/upgrade")
		x.up.Show(nil); shot("never", "/upgrade")
		shot("begin", "/upgrade/begin")
		for _, c := range b.Complaints() { t.Error(c) }
	}
}
