package web

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"holdfast/internal/config"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// overheard tells where a console listens, by what it logs.
type overheard struct {
	slog.Handler
	at chan string
}

func (overheard) Enabled(context.Context, slog.Level) bool { return true }

func (h overheard) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "console is served" {
		r.Attrs(func(a slog.Attr) bool { h.at <- a.Value.String(); return false })
	}
	return nil
}

// newServed is a site whose console listens as an agent's does.
func newServed(t testing.TB) *site {
	t.Helper()
	x := newSiteBy(t, func(string) *config.OIDC { return nil })
	at := make(chan string, 1)
	o := x.console.Options
	o.Listen, o.TLS, o.Log = "127.0.0.1:0", x.TLS, slog.New(overheard{slog.DiscardHandler, at})
	x.console = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- x.console.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		try.Must(t, <-ended)
	})
	x.URL = "https://" + <-at
	try.Until(t, "the status is known", func() bool { _, known := x.console.live.now(); return known })
	return x
}

// trusts is the TLS of a client of the site.
func (x *site) trusts() *tls.Config {
	return x.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
}

// from is a browser at an address, by HTTP/2 or HTTP/1.1.
func (x *site) from(address string, two bool) *http.Client {
	c := x.browser()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	tr := &http.Transport{DialContext: d.DialContext, TLSClientConfig: x.trusts(), Protocols: new(http.Protocols), MaxConnsPerHost: 16,
		MaxIdleConnsPerHost: 16}
	tr.TLSClientConfig.NextProtos = nil
	tr.Protocols.SetHTTP1(!two)
	tr.Protocols.SetHTTP2(two)
	c.Transport = tr
	x.t.Cleanup(tr.CloseIdleConnections)
	return c
}

// raw is a connection from an address, after its handshake. More is asked of the dialer.
func (x *site) raw(address string, more ...func(*net.Dialer)) *tls.Conn {
	x.t.Helper()
	return x.shake(x.bare(address, more...))
}

func (x *site) shake(c net.Conn, protocols ...string) *tls.Conn {
	x.t.Helper()
	conf := x.trusts()
	conf.ServerName, conf.NextProtos = "127.0.0.1", protocols
	out := tls.Client(c, conf)
	try.Must(x.t, out.HandshakeContext(x.t.Context()))
	return out
}

// bare is a connection from an address, before its handshake.
func (x *site) bare(address string, more ...func(*net.Dialer)) net.Conn {
	x.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	for _, f := range more {
		f(&d)
	}
	c, err := d.DialContext(x.t.Context(), "tcp", strings.TrimPrefix(x.URL, "https://"))
	try.Must(x.t, err)
	x.t.Cleanup(func() { c.Close() })
	return c
}

// healthy has somebody else be served.
func (x *site) healthy(while string) {
	x.t.Helper()
	for _, two := range []bool{false, true} {
		c := x.from("127.0.8.8", two)
		if code, body, _ := x.get(c, "/login"); code != http.StatusOK || !strings.Contains(body, `name="password"`) {
			x.t.Errorf("while %s: %d: %s", while, code, body)
		}
		c.CloseIdleConnections()
	}
}

// heap is what is in use after what is garbage has gone, of pools too.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// keeps waits until what was taken is given back but for bound bytes.
func keeps(t *testing.T, before, bound uint64) {
	t.Helper()
	try.Until(t, fmt.Sprintf("at most %d bytes are kept", bound), func() bool { return heap() < before+bound })
}

// guessed is what became of wrong logins.
type guessed struct {
	compared, refused atomic.Int64
}

// guess tries n wrong passwords of a user from an address, by some workers.
func (g *guessed) guess(x *site, c *http.Client, user string, n, workers int) {
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(n))
	for range workers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				code, body, err := tried(x, c, user, "wrong")
				switch {
				case err != nil:
					x.t.Error(err)
					return
				case code == http.StatusForbidden && strings.Contains(body, "wrong name or password"):
					g.compared.Add(1)
				case code == http.StatusForbidden && strings.Contains(body, "too many wrong passwords"):
					g.refused.Add(1)
				default:
					x.t.Errorf("a wrong password: %d: %s", code, body)
				}
			}
		})
	}
	wg.Wait()
}

// tried is the answer to a login.
func tried(x *site, c *http.Client, user, password string) (int, string, error) {
	form := url.Values{"name": {user}, "password": {password}}
	r, err := http.NewRequestWithContext(x.t.Context(), http.MethodPost, x.URL+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := c.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// TestGuesses: who guesses passwords is refused after a few that are compared, keeps nobody out elsewhere, and takes no memory.
func TestGuesses(t *testing.T) {
	need.Drill(t, "console: 10,000 wrong logins from one address, and from 200: few are compared, others log in, memory stays")
	x := newServed(t)
	const (
		free    = 5 // wrong ones of one address for one user that cost nothing: see package access
		atOnce  = 2 // that are compared at once: one more may have begun before the last free one was found wrong
		allowed = free + atOnce - 1
		n       = 10_000
		many    = 200
		// At most 10,000 guesses are remembered, of two words and 80 bytes each with its place in a map; the rest is of
		// connections that have ended. 16 KiB for each of them would be more than 100 MiB.
		kept = 8 << 20
	)
	x.healthy("nothing happens")
	before := heap()
	for _, two := range []bool{false, true} {
		address := map[bool]string{false: "127.0.2.1", true: "127.0.2.2"}[two]
		c := x.from(address, two)
		var g guessed
		done := make(chan struct{})
		go func() {
			defer close(done)
			g.guess(x, c, "the-admin", n/2, 60)
		}()
		x.as("the-admin") // from 127.0.0.1, meanwhile
		<-done
		if got := g.compared.Load(); got > allowed {
			t.Errorf("HTTP/2 %v: of %d wrong passwords from one address %d were compared, want at most %d", two, n/2, got, allowed)
		}
		if code, _, err := tried(x, c, "the-admin", secret); err != nil || code != http.StatusForbidden {
			t.Errorf("who has guessed is let in at once: %d, %v", code, err)
		}
		c.CloseIdleConnections()
	}
	var g guessed
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				c := x.from(fmt.Sprintf("127.0.3.%d", i+1), i%2 == 0)
				g.guess(x, c, "the-admin", n/many, 8)
				c.CloseIdleConnections()
			}
		})
	}
	for i := range many {
		next <- i
		if i == many/2 {
			x.as("the-admin")
		}
	}
	close(next)
	wg.Wait()
	if got := g.compared.Load(); got > many*allowed || g.refused.Load()+got != n {
		t.Errorf("%d compared and %d refused, want at most %d compared of %d", got, g.refused.Load(), many*allowed, n)
	}
	x.as("the-admin")
	x.healthy("others have guessed")
	x.Client().CloseIdleConnections()
	keeps(t, before, kept)
}
