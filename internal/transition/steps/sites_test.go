package steps

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/testbed/try"
)

const twoSites = `format: 1
sites:
- {name: near, socket: /run/near.sock}
- {name: far, servers: ["https://10.1.0.1:7443"], ca: /c/ca.pem, cert: /c/me.pem, key: /c/me.key}
`

// sitesOf asks by ask, with a list of this text.
func sitesOf(t *testing.T, text string, ask func(context.Context, transition.Site, bool) transition.SiteState) *Sites {
	s := &Sites{File: filepath.Join(t.TempDir(), "sites.yaml"), Ask: ask, Now: time.Now}
	try.Must(t, os.WriteFile(s.File, []byte(text), 0o600))
	return s
}

// TestSitesAreAskedForAll: many who look at once ask a site once; one that hangs holds nobody up for longer than a
// moment, and then what it said before is told with its time.
func TestSitesAreAskedForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var near, losses atomic.Int32
		hangs := false
		s := sitesOf(t, twoSites, func(ctx context.Context, site transition.Site, lost bool) transition.SiteState {
			st := transition.SiteState{Site: site.Name, State: "active", Job: "j1", At: time.Now()}
			if site.Name == "near" {
				near.Add(1)
			} else if hangs {
				<-ctx.Done()
				return transition.SiteState{Site: site.Name, State: transition.SiteUnknown, Why: ctx.Err().Error(), At: time.Now()}
			}
			if lost {
				losses.Add(1)
				st.LostAt, st.Lost = time.Now(), &transition.SiteLoss{Guests: 1}
			}
			return st
		})
		look := func() transition.Sites {
			t.Helper()
			out, err := s.List(t.Context())
			if err != nil || len(out.Sites) != 2 || out.Sites[0].Site != "near" || out.Sites[1].Site != "far" {
				t.Errorf("%+v, %v", out, err)
				return transition.Sites{Sites: make([]transition.SiteState, 2)}
			}
			return out
		}
		for range 5 {
			go look()
		}
		look()
		if near.Load() != 1 || losses.Load() != 2 {
			t.Errorf("asked %d times, %d times for losses", near.Load(), losses.Load())
		}
		time.Sleep(siteKept)
		if out := look(); near.Load() != 2 || losses.Load() != 2 || out.Sites[0].Lost == nil {
			t.Errorf("asked %d times, %d times for losses: %+v", near.Load(), losses.Load(), out)
		}
		time.Sleep(lossesKept)
		hangs = true
		began := time.Now()
		if out := look(); time.Since(began) != siteWait || losses.Load() != 3 || out.Sites[1].State != "active" ||
			time.Since(out.Sites[1].At) < lossesKept {
			t.Errorf("after %s: %+v", time.Since(began), out)
		}
		time.Sleep(siteTime)
		if out := look(); out.Sites[1].State != transition.SiteUnknown || out.Sites[0].State != "active" {
			t.Errorf("%+v", out)
		}
		time.Sleep(siteTime)
	})
}

// TestSitesOfAList: none, one that says nothing yet, and lists that can not be asked.
func TestSitesOfAList(t *testing.T) {
	ask := func(context.Context, transition.Site, bool) transition.SiteState {
		t.Error("a site is asked")
		return transition.SiteState{}
	}
	none := &Sites{File: filepath.Join(t.TempDir(), "sites.yaml"), Ask: ask, Now: time.Now}
	if out, err := none.List(t.Context()); err != nil || out.File != none.File || len(out.Sites) != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	for text, want := range map[string]string{
		"format: 1\nsites: []\n":                                                                      "sites: value 0: want 1 to 100 sites",
		"format: 2\nsites:\n- {name: a, socket: /a}\n":                                                "format: value 2: want 1",
		"format: 1\nsites:\n- {name: a, socket: run/a}\n":                                             "sites[0].socket: value run/a: want an absolute path",
		"format: 1\nsites:\n- {name: a, servers: [\"https://a:1\"], ca: ca.pem, cert: /b, key: /c}\n": "sites[0].ca: value ca.pem: want an absolute path",
		"[": "yaml",
	} {
		s := sitesOf(t, text, ask)
		_, err := s.List(t.Context())
		if err == nil || fail.ExitCode(err) != fail.ExitInvalid || !strings.Contains(strings.ReplaceAll(err.Error(), `"`, ""), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}
