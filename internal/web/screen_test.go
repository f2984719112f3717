package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/testbed/rfb"
	"holdfast/testbed/try"
)

const guestPath = "/guests/5eed0001/screen"

// ticket is one for a screen, or what speaks against it.
func (x *site) ticket(c *http.Client, path string) (code int, w word) {
	x.t.Helper()
	code, body, _ := x.post(c, path+"/ticket")
	if err := json.Unmarshal([]byte(body), &w); err != nil {
		x.t.Fatalf("%d: %s: %v", code, body, err)
	}
	return code, w
}

// watching is a browser with an open screen.
type watching struct {
	t  testing.TB
	ws *websocket.Conn
}

// socket asks for a screen by a ticket; "": as no browser does, without an origin.
func (x *site) socket(c *http.Client, path, ticket, origin string) (*watching, *http.Response) {
	x.t.Helper()
	h := http.Header{}
	if origin != "" {
		h.Set("Origin", origin)
	}
	plain := *c
	ws, resp, err := websocket.Dial(try.Context(x.t), x.URL+path+"/socket?ticket="+ticket,
		&websocket.DialOptions{HTTPClient: &plain, HTTPHeader: h})
	if err != nil {
		if resp == nil {
			x.t.Fatal(err)
		}
		return nil, resp
	}
	ws.SetReadLimit(1 << 20)
	x.t.Cleanup(func() { ws.CloseNow() })
	return &watching{x.t, ws}, resp
}

// watch opens a screen.
func (x *site) watch(c *http.Client, path string) *watching {
	x.t.Helper()
	_, w := x.ticket(c, path)
	s, resp := x.socket(c, path, w.Ticket, x.URL)
	if s == nil {
		x.t.Fatalf("it was not opened: %d", resp.StatusCode)
	}
	return s
}

// next is the next message that is no beat.
func (s *watching) next() (word, []byte) {
	s.t.Helper()
	for {
		kind, b, err := s.ws.Read(try.Context(s.t))
		try.Must(s.t, err)
		if kind == websocket.MessageBinary {
			return word{}, b
		}
		var w word
		try.Must(s.t, json.Unmarshal(b, &w))
		if w != (word{}) {
			return w, nil
		}
	}
}

// last is why it was closed.
func (s *watching) last() word {
	s.t.Helper()
	for {
		if w, b := s.next(); b == nil {
			return w
		}
	}
}

// Read and Write are for a viewer, once the screen is open.
func (s *watching) Write(b []byte) (int, error) {
	return len(b), s.ws.Write(try.Context(s.t), websocket.MessageBinary, b)
}

type stream struct {
	*watching
	left []byte
}

func (s *stream) Read(p []byte) (int, error) {
	for len(s.left) == 0 {
		w, b := s.next()
		if w != (word{}) {
			return 0, fmt.Errorf("closed: %+v", w)
		}
		s.left = b
	}
	n := copy(p, s.left)
	s.left = s.left[n:]
	return n, nil
}

// open waits until the screen is shown, and types there.
func (s *watching) open(x *site) {
	x.t.Helper()
	if w, _ := s.next(); w.Open != "node2" {
		x.t.Fatalf("%+v", w)
	}
	before := len(x.guest.Keys())
	in := &stream{watching: s}
	if _, _, name, err := rfb.Look(in); err != nil || name != "stand-in" {
		x.t.Fatalf("%q, %v", name, err)
	}
	try.Must(x.t, rfb.Press(in, 'k'))
	try.Until(x.t, "the key arrives", func() bool { return len(x.guest.Keys()) > before })
}

// TestScreen: an operator sees the screen of a guest and of the management VM, and types there.
func TestScreen(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	for _, path := range []string{guestPath, vmScreenPage.path} {
		code, body, _ := x.get(c, path)
		if code != http.StatusOK || !strings.Contains(body, `src="/static/screen.js`) {
			t.Errorf("%s: %d: %s", path, code, body)
		}
		s := x.watch(c, path)
		s.open(x)
		try.Must(t, s.ws.Close(websocket.StatusNormalClosure, ""))
	}
	try.Until(t, "both are closed", func() bool { return x.screens.Closed() == 2 && x.guest.Open() == 0 })
	for i, want := range []string{"5eed0001", "mnvm"} {
		if got := x.screens.Opened()[i]; got != "the-operator (console, 127.0.0.1): "+want {
			t.Errorf("opened: %q", got)
		}
	}
	resp, err := c.Do(x.request(http.MethodGet, guestPath))
	try.Must(t, err)
	try.Must(t, resp.Body.Close())
	policy := resp.Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "script-src 'self';") || !strings.Contains(policy, "connect-src 'self';") ||
		strings.Contains(policy, "unsafe") {
		t.Error(policy)
	}
	for _, path := range []string{"/guests", "/"} {
		_, body, _ := x.get(c, path)
		_, looks, _ := x.get(x.as("the-viewer"), path)
		if !strings.Contains(body, `/screen">`) || strings.Contains(looks, `/screen">`) {
			t.Errorf("%s: an operator is led to screens, and nobody else", path)
		}
	}
}

// TestTickets: one is for one socket of its session, of its guest, from the console's own page, and soon.
func TestTickets(t *testing.T) {
	x := newSite(t)
	now := time.Now()
	x.console.screens.now = func() time.Time { return now }
	c := x.as("the-operator")
	refused := func(what string, c *http.Client, path, ticket, origin string, want int) {
		t.Helper()
		s, resp := x.socket(c, path, ticket, origin)
		if s != nil || resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", what, resp.StatusCode, want)
		}
	}
	give := func() string { _, w := x.ticket(c, guestPath); return w.Ticket }
	refused("none", c, guestPath, "", x.URL, http.StatusForbidden)
	refused("made up", c, guestPath, "ABCDEFGHIJKLMNOPQRSTUVWXYZ", x.URL, http.StatusForbidden)
	refused("of another guest", c, vmScreenPage.path, give(), x.URL, http.StatusForbidden)
	refused("of another session", x.as("the-operator"), guestPath, give(), x.URL, http.StatusForbidden)
	refused("of another user", x.as("the-admin"), guestPath, give(), x.URL, http.StatusForbidden)
	refused("of nobody", x.browser(), guestPath, give(), x.URL, http.StatusSeeOther)
	refused("from another site", c, guestPath, give(), "https://evil.example", http.StatusForbidden)
	refused("from no page", c, guestPath, give(), "", http.StatusForbidden)
	old := give()
	now = now.Add(ticketLasts)
	refused("too old", c, guestPath, old, x.URL, http.StatusForbidden)
	used := give()
	s, _ := x.socket(c, guestPath, used, x.URL)
	s.open(x)
	refused("used", c, guestPath, used, x.URL, http.StatusForbidden)
	if code, w := x.ticket(x.as("the-viewer"), guestPath); code != http.StatusForbidden || w.Ticket != "" || w.Again || w.Why == "" {
		t.Errorf("a viewer: %d, %+v", code, w)
	}
	if n := len(x.screens.Opened()); n != 1 {
		t.Errorf("opened: %q", x.screens.Opened())
	}
	r := x.request(http.MethodPost, guestPath+"/ticket")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	if code, body, _ := x.do(c, r); code != http.StatusForbidden || strings.Contains(body, "ticket\"") {
		t.Errorf("another site has a ticket: %d: %s", code, body)
	}
}

// TestTicketsAreFew: those that nobody uses are bounded; the oldest go.
func TestTicketsAreFew(t *testing.T) {
	s := newScreens()
	now := time.Now()
	s.now = func() time.Time { now = now.Add(time.Millisecond); return now }
	first := s.give("alice", "a", "g")
	for range ticketsEach {
		s.give("alice", "a", "g")
	}
	bob := s.give("bob", "b", "g")
	if len(s.tickets) != ticketsEach+1 || s.take(first, "alice", "a", "g") || !s.take(bob, "bob", "b", "g") || s.take(bob, "bob", "b", "g") {
		t.Errorf("%d tickets", len(s.tickets))
	}
	for i := range 2 * ticketsOfAll {
		s.give(fmt.Sprint("user", i), "s", "g")
	}
	if len(s.tickets) != ticketsOfAll {
		t.Errorf("%d tickets", len(s.tickets))
	}
	now = now.Add(ticketLasts)
	if s.give("alice", "a", "g"); len(s.tickets) != 1 {
		t.Errorf("%d tickets", len(s.tickets))
	}
}

// TestScreenIsCut: an open screen ends with its session, its user, and his role, and says so.
func TestScreenIsCut(t *testing.T) {
	x := newSite(t)
	for what, end := range map[string]func(c *http.Client, name string){
		"logged out": func(c *http.Client, _ string) { x.post(c, "/logout") },
		"removed":    func(_ *http.Client, name string) { try.Must(t, x.access.RemoveUser(t.Context(), "root", name)) },
		"a viewer now": func(_ *http.Client, name string) {
			_, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: name, Role: cluster.Viewer})
			try.Must(t, err)
		},
		"with another password": func(_ *http.Client, name string) {
			_, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: name, Password: secret + "!"})
			try.Must(t, err)
		},
	} {
		name := strings.ReplaceAll("u-"+what, " ", "-")
		_, err := x.access.SetUser(t.Context(), "root", cluster.UserChange{Name: name, Role: cluster.Operator, Password: secret})
		try.Must(t, err)
		c := x.as(name)
		s := x.watch(c, guestPath)
		s.open(x)
		end(c, name)
		if w := s.last(); w.Why != errScreenMay.Error() || w.Again {
			t.Errorf("%s: %+v", what, w)
		}
		try.Until(t, "the guest's side is closed", func() bool { return x.guest.Open() == 0 })
	}
}

// TestScreenIsRefused: the page is told in words what speaks against it, and whether it is of use to try again.
func TestScreenIsRefused(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	for _, e := range []struct {
		err   *fail.Error
		again bool
	}{
		{fail.Errorf(fail.Refused, "vm1 has a screen of SPICE only").With("give it VNC"), true},
		{fail.Errorf(fail.Unavailable, "host node3 is not reached"), true},
		{fail.Errorf(fail.Invalid, "guest: no host tells of one"), false},
	} {
		x.screens.Set(e.err)
		if w := x.watch(c, guestPath).last(); w.Why != e.err.Message || w.Remedy != e.err.Remedy || w.Again != e.again {
			t.Errorf("%+v, want %+v", w, e)
		}
	}
	x.screens.Set(nil)
	s := x.watch(c, guestPath)
	s.open(x)
	x.guest.Hang() // as the server of a guest that has moved does
	if w := s.last(); !strings.Contains(w.Why, "VNC server has closed") || !w.Again {
		t.Errorf("%+v", w)
	}
	x.watch(c, guestPath).open(x)
}

// TestScreensOfOne: a user has so many at once, and one that he closes makes room.
func TestScreensOfOne(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	var all []*watching
	for range screensOfOne {
		all = append(all, x.watch(c, guestPath))
		all[len(all)-1].open(x)
	}
	if w := x.watch(c, guestPath).last(); w.Why != fmt.Sprintf("You have %d screens open, the most that there may be.", screensOfOne) {
		t.Errorf("%+v", w)
	}
	try.Must(t, all[0].ws.Close(websocket.StatusNormalClosure, ""))
	try.Until(t, "one is closed", func() bool { return x.guest.Open() < screensOfOne })
	x.watch(c, guestPath).open(x)
}

// TestHostileBrowser: what is too large, and no screen at all, ends that screen only.
func TestHostileBrowser(t *testing.T) {
	x := newSite(t)
	c := x.as("the-operator")
	s := x.watch(c, guestPath)
	s.open(x)
	_, err := s.Write(make([]byte, screenTyped+1))
	try.Must(t, err)
	try.Until(t, "it is closed", func() bool { return x.guest.Open() == 0 })
	s = x.watch(c, guestPath)
	s.open(x)
	try.Must(t, s.ws.Write(try.Context(t), websocket.MessageText, []byte(`{"open":"me"}`))) // it is nothing to the guest
	try.Must(t, rfb.Press(s, 'x'))
	try.Until(t, "a key still arrives", func() bool { k := x.guest.Keys(); return k[len(k)-1] == 'x' })
	for _, uuid := range []string{"<script>alert(1)</script>", strings.Repeat("5eed0001", 50), "..%2f..", "%00"} {
		code, body, _ := x.get(c, "/guests/"+url.PathEscape(uuid)+"/screen")
		if code != http.StatusNotFound || strings.Contains(body, "<script>alert") {
			t.Errorf("%q: %d", uuid, code)
		}
	}
}

// TestScreensEndWithTheConsole: an open screen ends with the agent, and is told so.
func TestScreensEndWithTheConsole(t *testing.T) {
	x := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	other := httptest.NewUnstartedServer(x.console.handler) // whose requests end when the test says so
	other.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	other.StartTLS()
	defer other.Close()
	c := x.as("the-operator")
	x.URL = other.URL
	s := x.watch(c, guestPath)
	s.open(x)
	cancel()
	if w := s.last(); w.Why != errScreenEnds.Error() || !w.Again {
		t.Errorf("%+v", w)
	}
	if _, _, err := s.ws.Read(try.Context(t)); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Error(err)
	}
	x.console.screens.wait()
	try.Until(t, "the guest's side is closed", func() bool { return x.guest.Open() == 0 })
}
