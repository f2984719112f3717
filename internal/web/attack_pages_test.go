package web

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/testbed/try"
)

// scripts are what of a page a browser would run that is not of the console.
func scripts(t *testing.T, page string) []string {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	try.Must(t, err)
	var out []string
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		src := ""
		for _, a := range n.Attr {
			switch v := strings.ToLower(strings.TrimSpace(a.Val)); {
			case a.Key == "src":
				src = v
			case strings.HasPrefix(a.Key, "on"), strings.HasPrefix(v, "javascript:"), a.Key == "srcdoc":
				out = append(out, n.Data+" "+a.Key+"="+a.Val)
			}
		}
		if n.Data == "script" && !strings.HasPrefix(src, "/static/") || n.Data == "img" && !strings.HasPrefix(src, "/") {
			out = append(out, n.Data+" of "+src)
		}
	}
	return out
}

// TestHostileNames: whatever hosts, guests, tokens and events are called, no page has a script or a picture of them.
func TestHostileNames(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(2)><a href="javascript:alert(3)">`
	x := furnished(t)
	x.cluster.Update(func(s *cluster.Status) {
		for i := range s.Hosts {
			h := &s.Hosts[i]
			h.Why, h.Version, h.Addr = evil, evil, evil
		}
		s.Hosts[2].Name, s.Cluster, s.Waiting, s.Owner.Host = evil, evil, evil, evil
	})
	x.up.Jobs.VMs = append(x.up.Jobs.VMs, inventory.Guest{Name: evil, Host: evil, UUID: "5eed0001", State: inventory.GuestUnknown,
		Fixed: []string{evil}})
	x.up.Jobs.Reported = []inventory.Summary{{Name: evil, Addr: evil, Problem: evil}, {Name: "node2", Addr: evil, Problem: evil}}
	for _, kind := range []cluster.EventKind{cluster.EvRefused, cluster.EvAccess, cluster.EvTakeover} {
		x.cluster.Log(cluster.Event{Kind: kind, Detail: evil, User: evil, Host: evil, To: evil, By: evil, Proof: evil})
	}
	x.aid.SetLog(cluster.HostLog{Host: evil, Lines: []cluster.LogLine{{Text: evil, Level: evil}}}, nil)
	_, _, err := x.access.CreateToken(t.Context(), "root", "<script>alert(1)</script>", cluster.Viewer, 1)
	try.Must(t, err)
	st := underWay()
	st.To, st.Version, st.Bundle.Name, st.Job.Title, st.Job.User = evil, evil, evil, evil, evil
	x.up.Show(st)
	c := x.as("the-admin")
	seen := 0
	visit := func(path string) {
		for _, at := range []string{path, path + "?q=" + url.QueryEscape(evil), path + "?host=" + url.QueryEscape(evil) + "&kind=" +
			url.QueryEscape(evil) + "&page=" + url.QueryEscape(evil)} {
			code, body, _ := x.get(c, at)
			if code >= http.StatusInternalServerError {
				t.Errorf("%s: %d: %.300s", at, code, body)
			}
			for _, s := range scripts(t, body) {
				t.Errorf("%s: %s", at, s)
			}
			seen += strings.Count(body, "&lt;script&gt;alert")
		}
	}
	try.Until(t, "it is shown", func() bool {
		_, body, _ := x.get(c, "/")
		return strings.Contains(body, "&lt;script&gt;alert")
	})
	x.walk(visit)
	for _, path := range []string{"/hosts/" + url.PathEscape(evil),
		"/guests/" + url.PathEscape(evil) + "/screen", "/help/" + url.PathEscape(evil),
		"/jobs/" + url.PathEscape(evil), "/" + url.PathEscape(evil), "/login"} {
		visit(path)
	}
	if seen < len(pages) {
		t.Errorf("the names are shown %d times on all pages", seen)
	}
}

// TestPathsAndMethods: no path leads out of what is served, and no method does what is not asked for by it.
func TestPathsAndMethods(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	for _, place := range []string{"/static/", "/help/", "/hosts/", "/guests/", "/export/events/", "/configuration/revisions/"} {
		for _, up := range []string{"../../etc/passwd", "%2e%2e/%2e%2e/etc/passwd", "..%2f..%2fetc%2fpasswd", "..%5c..%5cweb.go", "%00",
			"....//etc/passwd", "%2fetc%2fpasswd", "static.go", "novnc-1.7.0/../static.go"} {
			for _, end := range []string{"", "/screen", "/file", "/log"} {
				r := x.request(http.MethodGet, "/")
				r.URL.Opaque = strings.TrimPrefix(x.URL, "https:") + place + up + end // as it is written
				code, body, to := x.do(c, r)
				ofHost := place == "/hosts/" && end == "/log" // the stand-in knows logs of any host
				if strings.Contains(body, "root:") || strings.Contains(body, "package ") || code == http.StatusOK && !ofHost ||
					code >= http.StatusInternalServerError {
					t.Errorf("%s: %d: %.200s", place+up+end, code, body)
				}
				if to != "" && !strings.HasPrefix(to, "/") {
					t.Errorf("%s: leads to %s", place+up+end, to)
				}
			}
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodTrace, http.MethodConnect,
		"PROPFIND", "X"} {
		for _, path := range []string{"/", "/hosts", "/users", "/login", "/static/console.js", "/hosts/node3/maintenance", "/metrics"} {
			r := x.request(method, path)
			if method == http.MethodConnect {
				r.URL.Opaque = path
			}
			if code, body, _ := x.do(c, r); code < http.StatusBadRequest && code != http.StatusMovedPermanently {
				t.Errorf("%s %s: %d: %.200s", method, path, code, body)
			}
		}
	}
	for path := range x.console.orders() {
		path = strings.NewReplacer("{host}", "node3", "{name}", "mallory", "{id}", "a", "{uuid}", "5eed0001").Replace(path)
		if code, body, _ := x.get(c, path+"?on=true&sure=yes&again=node3"); code >= http.StatusInternalServerError {
			t.Errorf("GET %s: %d: %.200s", path, code, body)
		}
	}
	if got := x.cluster.Users(); len(got) != 0 {
		t.Errorf("something was ordered: %q", got)
	}
}

// TestHeadersAreNotSplit: no parameter makes a header of its own, or leads elsewhere.
func TestHeadersAreNotSplit(t *testing.T) {
	x := newSite(t)
	c := x.as("the-admin")
	const split = "/a\r\nX-Evil: 1\r\n\r\n<script>alert(1)</script>"
	check := func(what string, c *http.Client, r *http.Request) {
		t.Helper()
		resp, err := c.Do(r)
		try.Must(t, err)
		try.Must(t, resp.Body.Close())
		if resp.Header.Get("X-Evil") != "" || resp.StatusCode >= http.StatusInternalServerError {
			t.Errorf("%s: %d: %v", what, resp.StatusCode, resp.Header)
		}
		for _, vs := range resp.Header {
			for _, v := range vs {
				if strings.ContainsAny(v, "\r\n") || strings.Contains(v, "evil.example") {
					t.Errorf("%s: %v", what, resp.Header)
				}
			}
		}
	}
	for _, next := range []string{split, "/%0d%0aX-Evil: 1", "/\r//evil.example", "/\t/evil.example", "/\n/evil.example", "///evil.example",
		"/\\/evil.example"} {
		check("next "+next, x.browser(), x.request(http.MethodPost, "/login", "name", "the-admin", "password", secret, "next", next))
		check("back "+next, x.browser(), x.request(http.MethodPost, "/language", "language", "zh", "back", next))
	}
	q := url.QueryEscape(split)
	for _, path := range []string{"/export/events/csv?host=" + q, "/export/events/json?q=" + q,
		"/export/events/" + url.PathEscape("x\r\nX-Evil: 1"),
		"/configuration/revisions/" + url.PathEscape("1\r\nX-Evil: 1") + "/file",
		"/" + url.PathEscape("x\r\nX-Evil: 1"),
		"/hosts/" + url.PathEscape("x\r\nX-Evil: 1"), "/events?host=" + q} {
		check(path, c, x.request(http.MethodGet, path))
		check(path, x.browser(), x.request(http.MethodGet, path)) // it is led to the login
	}
	check("support", c, x.request(http.MethodPost, "/support", "host", split, "days", "1"))
	check("token", c, x.request(http.MethodPost, "/tokens", "name", split, "role", "viewer", "days", "1"))
	check("user", c, x.request(http.MethodPost, "/users", "name", split, "role", "viewer"))
}

// TestAChosenSession: a session cookie that an attacker has chosen does not become one of who logs in.
func TestAChosenSession(t *testing.T) {
	x := newSite(t)
	at, err := url.Parse(x.URL)
	try.Must(t, err)
	left := x.as("the-viewer")
	old := left.Jar.Cookies(at)[0].Value
	x.post(left, "/logout")
	for what, chosen := range map[string]string{"made up": "chosen-by-the-attacker", "logged out": old} {
		c, attacker := x.browser(), x.browser()
		for _, b := range []*http.Client{c, attacker} {
			b.Jar.SetCookies(at, []*http.Cookie{{Name: "__Host-holdfast", Value: chosen, Secure: true, Path: "/"}})
		}
		if code, _, to := x.post(c, "/login", "name", "the-admin", "password", secret); code != http.StatusSeeOther || to != "/" {
			t.Errorf("%s: %d, to %q", what, code, to)
		}
		if got := c.Jar.Cookies(at)[0].Value; got == chosen {
			t.Errorf("%s: it became the session", what)
		}
		if code, _, to := x.get(attacker, "/"); code != http.StatusSeeOther || to != "/login" {
			t.Errorf("%s: the attacker is in: %d, to %q", what, code, to)
		}
	}
}

// TestNoFrames: each answer, of pages and of errors, forbids frames and foreign scripts.
func TestNoFrames(t *testing.T) {
	x := furnished(t)
	c := x.as("the-admin")
	check := func(c *http.Client, method, path string) {
		t.Helper()
		resp, err := c.Do(x.request(method, path))
		try.Must(t, err)
		try.Must(t, resp.Body.Close())
		h := resp.Header
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") || strings.Contains(csp, "unsafe") ||
			h.Get("X-Frame-Options") != "DENY" && !strings.HasPrefix(path, "/api/") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %d: %v", method, path, resp.StatusCode, h)
		}
	}
	x.walk(func(path string) {
		check(c, http.MethodGet, path)
		check(x.browser(), http.MethodGet, path)
		check(c, http.MethodDelete, path)
		check(c, http.MethodPost, path)
	})
	for _, path := range []string{"/login", "/nothing", "/static/nothing", "/static/../x", "//evil", "/metrics", "/healthz", "/readyz",
		"/live/", "/hosts/nobody", "/api/v1/nothing", "/api/v1/status", "/export/events/x"} {
		if path != "/live/" && path != "/metrics" { // a stream; and what needs a member's store
			check(c, http.MethodGet, path)
		}
		check(x.browser(), http.MethodGet, path)
		check(c, http.MethodPost, path)
	}
}
