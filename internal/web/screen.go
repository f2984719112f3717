package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/a-h/templ"
	"github.com/coder/websocket"

	"holdfast/internal/api"
	"holdfast/internal/api/told"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/fail"
)

// Pages with the screen of a guest, and of the management VM.
var (
	guestScreenPage = &page{path: "/guests/{uuid}/screen", title: "Screen", least: cluster.Operator, works: true, guests: true, still: true,
		in: guestsPage, help: "console#screens", part: guestScreenPart}
	vmScreenPage = &page{path: "/vm/screen", title: "Screen", least: cluster.Operator, works: true, guests: true, still: true,
		in: overviewPage, help: "console#screens", part: vmScreenPart}

	screenPages = []*page{guestScreenPage, vmScreenPage}
)

// Bounds of a screen in a browser.
const (
	screenTyped = 64 << 10         // bytes of one message of a browser
	screenTake  = 10 * time.Second // for a browser to take 32 KiB, and to answer a ping
	screenBeat  = 2 * time.Second  // longest silence of the console; it also looks then whether the user still may
	screenWords = 2 * time.Second  // to take the last words, of a screen that was closed
)

// screenPath is the page with the screen of a guest.
func screenPath(uuid string) templ.SafeURL {
	return templ.SafeURL("/guests/" + url.PathEscape(uuid) + "/screen")
}

// guestScreenPart is the page of the screen of a guest.
func guestScreenPart(ctx context.Context, v *view) (templ.Component, error) {
	uuid := v.arg("uuid")
	p, err := v.api.Guests(ctx, inventory.GuestQuery{Search: uuid[:min(len(uuid), maxUUID)]})
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(p.Guests, func(g inventory.Guest) bool { return g.UUID == uuid })
	if i < 0 {
		return nil, errNoPage
	}
	return guestScreen(v, p.Guests[i].Name), nil
}

const maxUUID = 36 // characters

// vmScreenPart is the page of the screen of the management VM.
func vmScreenPart(_ context.Context, v *view) (templ.Component, error) {
	return guestScreen(v, v.T("the management VM")), nil
}

// screenOf is whose screen a request is about, as the API takes it.
func screenOf(r *http.Request) string {
	if uuid := r.PathValue("uuid"); uuid != "" {
		return uuid
	}
	return string(cluster.MgmtVM)
}

// screenRoutes are what the pages of screens ask for.
func (c *Console) screenRoutes(mux *http.ServeMux) {
	for _, p := range screenPages {
		mux.Handle("GET "+p.path+"/socket", c.loggedIn(func(w http.ResponseWriter, r *http.Request, v *view) { c.screenSocket(p, w, r, v) }))
	}
}

// screenOrders give tickets, by path.
func (c *Console) screenOrders() map[string]func(http.ResponseWriter, *http.Request, *view) {
	out := map[string]func(http.ResponseWriter, *http.Request, *view){}
	for _, p := range screenPages {
		out[p.path+"/ticket"] = func(w http.ResponseWriter, r *http.Request, v *view) { c.screenTicket(p, w, r, v) }
	}
	return out
}

// word is what the console tells the page of a screen, beside what is shown.
type word struct {
	Ticket string `json:"ticket,omitempty"`
	Open   string `json:"open,omitempty"` // host that runs the guest: its screen is open
	Why    string `json:"why,omitempty"`  // it was not opened, or was closed
	Remedy string `json:"remedy,omitempty"`
	Again  bool   `json:"again,omitempty"` // it may be open when it is asked for again
}

// words say why a screen is not open.
func (v *view) words(err error) word {
	v.Fail(err)
	var e *fail.Error
	known := errors.As(err, &e)
	return word{Why: v.Message, Remedy: v.Remedy, Again: !known || e.Kind != fail.Denied && e.Kind != fail.Invalid}
}

// screenTicket answers with a ticket.
func (c *Console) screenTicket(p *page, w http.ResponseWriter, r *http.Request, v *view) {
	c.live.fill(v)
	var out word
	code := http.StatusOK
	if err := p.may(v); err != nil {
		out, code = v.words(err), httpCode(err)
	} else {
		out.Ticket = c.screens.give(v.User.Name, c.sessions.Token(r.Context()), screenOf(r))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(out); err != nil {
		c.Log.Debug("console: a ticket was not taken", "err", err)
	}
}

// Why a screen ends here.
var (
	errScreenLeft = errors.New("the browser has closed it")
	errScreenSlow = fail.Errorf(fail.Unavailable, "Your browser, or the network to it, is too slow for this screen.")
	errScreenEnds = fail.Errorf(fail.Unavailable, "The agent of this host is stopping.")
	errScreenMay  = fail.Errorf(fail.Denied, "Your session has ended, or you may not see screens any more.").With("log in again")
)

// screenSocket shows a screen to the browser that has a ticket for it.
func (c *Console) screenSocket(p *page, w http.ResponseWriter, r *http.Request, v *view) {
	c.live.fill(v)
	token := c.sessions.Token(r.Context())
	err := p.may(v)
	if err == nil && (r.Header.Get("Origin") == "" || !c.screens.take(r.FormValue("ticket"), v.User.Name, token, screenOf(r))) {
		err = fail.Errorf(fail.Denied, "The ticket is none of this session, was used, or is too old.")
	}
	if err != nil {
		http.Error(w, v.T(err.Error()), httpCode(err))
		return
	}
	ws, err := websocket.Accept(w, r, nil) // which refuses any other origin than this address
	if err != nil {
		c.Log.Debug("console: a screen was not opened", "err", err)
		return
	}
	defer c.screens.under.Done()
	c.screens.under.Add(1)
	defer ws.CloseNow()
	ws.SetReadLimit(screenTyped)
	ctx, cancel := context.WithCancelCause(r.Context()) // it ends with the console, too
	defer cancel(nil)
	s := &socket{ws: ws, cancel: cancel}
	var end context.CancelFunc
	s.hard, end = context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(screenWords, end) })()
	err = c.showScreen(ctx, s, r, v, func() bool { return c.still(r, p, v, token) })
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	switch {
	case errors.Is(err, errScreenLeft):
		return
	case errors.Is(err, context.Canceled):
		err = errScreenEnds
	case errors.Is(err, io.EOF):
		err = fail.Errorf(fail.Unavailable, "The screen was closed.")
	}
	cancel(err)
	if s.tell(v.words(err)) == nil {
		_ = ws.Close(websocket.StatusNormalClosure, "") // who does not take it has gone
	}
}

// still reports whether the session of a screen goes on, and its user may see screens.
func (c *Console) still(r *http.Request, p *page, was *view, token string) bool {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), screenTake)
	defer cancel()
	ctx, err := c.sessions.Load(plain{ctx}, token)
	if err != nil {
		return false
	}
	u, is := c.user(ctx)
	return is && u.Name == was.User.Name && u.Provider == was.User.Provider && u.Role.May(p.least)
}

// plain is a context without the values of another one, such as a session.
type plain struct{ context.Context }

// Value is nil.
func (plain) Value(any) any { return nil }

// showScreen carries what a screen shows to a browser, and what is typed there back, until ctx ends, or one of them does. It
// returns why.
func (c *Console) showScreen(ctx context.Context, s *socket, r *http.Request, v *view, may func() bool) error {
	leave, err := c.screens.enter(v.User.Name)
	if err != nil {
		return err
	}
	defer leave()
	screen, err := v.api.OpenScreen(ctx, screenOf(r))
	if err != nil {
		return err
	}
	defer screen.Close()
	defer context.AfterFunc(ctx, func() { _ = screen.Close() })() // it has no more to say: the cause is known
	if err := s.tell(word{Open: told.Clean(string(screen.Host))}); err != nil {
		return errScreenLeft
	}
	go s.typed(screen)
	go s.beats(ctx, may)
	buf := make([]byte, api.ScreenChunk)
	for {
		n, err := screen.Read(buf)
		if err != nil {
			return err
		}
		if err := s.put(websocket.MessageBinary, buf[:n]); err != nil {
			return errScreenSlow
		}
	}
}

// socket is the WebSocket of a screen.
type socket struct {
	ws     *websocket.Conn
	hard   context.Context         // of what is sent: it ends a moment after the screen
	cancel context.CancelCauseFunc // ends the screen
}

// put sends a message, in bounded time.
func (s *socket) put(kind websocket.MessageType, b []byte) error {
	ctx, cancel := context.WithTimeout(s.hard, screenTake)
	defer cancel()
	return s.ws.Write(ctx, kind, b)
}

// tell sends words.
func (s *socket) tell(w word) error {
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	return s.put(websocket.MessageText, b)
}

// typed passes on what the browser sends, until the socket ends.
func (s *socket) typed(to io.Writer) {
	for {
		kind, b, err := s.ws.Read(context.WithoutCancel(s.hard))
		if err != nil {
			s.cancel(errScreenLeft)
			return
		}
		if kind != websocket.MessageBinary {
			continue
		}
		if _, err := to.Write(b); err != nil { // who reads the screen is told why
			return
		}
	}
}

// beats gives signs of life and wants them, and ends the screen of who may not see it any more.
func (s *socket) beats(ctx context.Context, may func() bool) {
	tick := time.NewTicker(screenBeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !may() {
			s.cancel(errScreenMay)
			return
		}
		wait, end := context.WithTimeout(s.hard, screenTake)
		err := s.tell(word{})
		if err == nil {
			err = s.ws.Ping(wait)
		}
		end()
		if err != nil {
			s.cancel(errScreenSlow)
			return
		}
	}
}
