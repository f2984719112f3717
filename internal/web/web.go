package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/admit"
	"holdfast/internal/server"
	"holdfast/internal/store"
	"holdfast/internal/web/access"
	"holdfast/internal/web/layout"
	"holdfast/internal/web/notify"
	"holdfast/internal/web/provider"
	"holdfast/internal/web/rest"
)

// Options are what a console goes by. All are required, but for those of the store's member and OIDC.
type Options struct {
	Listen  string      // host:port
	TLS     *tls.Config // with the host's certificate
	Host    cluster.HostID
	Version string
	API     *server.Server // of the same process
	Users   *Users
	Log     *slog.Logger
	Store   store.Store
	Member  *config.Member // of the store on this host; nil: there is none
	Client  *tls.Config    // with the host's certificate, to ask the member; nil: by http
	OIDC    *config.OIDC   // the provider by which people may log in, too; nil: none
}

// Users are those who may log in, with their sessions, and tokens of programs.
type Users = access.Service

// NewUsers makes those of a store, which are known while Run of them runs.
func NewUsers(st store.Store, host cluster.HostID, log *slog.Logger) *Users {
	return access.New(st, host, log)
}

// Notices tell receivers of events.
type Notices = notify.Service

// NewNotices makes those of a cluster by its name, which are told while Run of them runs. Program is this one.
func NewNotices(a notify.Agent, st store.Store, host cluster.HostID, name, program string, log *slog.Logger) *Notices {
	return notify.New(a, st, host, name, program, log)
}

// Console serves the pages. Make it with New, then Serve.
type Console struct {
	Options
	access   *access.Service
	sessions *scs.SessionManager
	begun    *scs.SessionManager // logins by the provider that have begun
	provider *provider.Client    // nil: there is none
	live     *live
	contents contents
	screens  *screens
	handler  http.Handler

	archiving sync.Mutex // archives for those who help

	again server.Again // of the listener
}

// Bounds of connections and requests. A browser opens six connections at once; those of a network share an address.
const (
	perAddress = 32
	ofAll      = 1024
	headerTime = 5 * time.Second
	bodyTime   = layout.BodyTime
	answerTime = 30 * time.Second
	maxStreams = 64 // at once on one connection
	idleTime   = 2 * time.Minute
	maxHeader  = 16 << 10
	maxForm    = 64 << 10
	// of a configuration of config.MaxImport, each byte of which may take three
	maxConfigForm = 3*config.MaxImport + maxForm
	drainTime     = 3 * time.Second
	sessionHours  = 12
)

// shaking bounds connections in their handshakes.
var shaking = admit.Bounds{All: 256, Address: 32, Net: 64}

// New makes a console that listens nowhere yet.
func New(o Options) *Console {
	c := &Console{Options: o, access: o.Users, sessions: scs.New(), screens: newScreens(),
		live: newLive(o.client("console", cluster.Viewer), o.Log)}
	c.sessions.Store = access.Sessions{Service: o.Users}
	c.sessions.Lifetime = sessionHours * time.Hour
	c.sessions.Cookie = scs.SessionCookie{Name: "__Host-holdfast", Path: "/", HttpOnly: true, Secure: true,
		SameSite: http.SameSiteLaxMode, Persist: true}
	c.sessions.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
		c.Log.Debug("console: a session", "err", err)
		c.fails(w, r, err)
	}
	c.begun = begunSessions(access.Sessions{Service: o.Users})
	c.begun.ErrorFunc = c.sessions.ErrorFunc
	if o.OIDC != nil {
		c.provider = provider.New(*o.OIDC, o.Log)
	}
	c.handler = c.routes()
	return c
}

// Trouble tells why the console is not served though it should be; "" when it is, and of none.
func (c *Console) Trouble() string {
	if c == nil {
		return ""
	}
	return c.again.Trouble()
}

// Serve serves until ctx ends, and tries again and again where it can not listen: the agent has more important things to
// do than to end for that. Trouble tells of it.
func (c *Console) Serve(ctx context.Context) error {
	ln := c.again.Listen(ctx, c.listen, "the console is not served: %v; it is tried again", func(err error) {
		c.Log.Warn("console not served, trying again", "err", err, "every", server.ListenAgain.String())
	})
	if ln == nil {
		return nil
	}
	defer ln.Close()
	stop, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.live.run(stop) })
	srv := &http.Server{
		Handler: c.handler, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		BaseContext: func(net.Listener) context.Context { return stop },
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: idleTime, PingTimeout: bodyTime},
		ErrorLog:    slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	c.Log.Info("console is served", "at", ln.Addr().String())
	select {
	case err := <-failed:
		end()
		return fmt.Errorf("serve the console: %w", err)
	case <-ctx.Done():
	}
	end() // streams end, and screens
	defer c.screens.wait()
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := srv.Shutdown(within)
	if err != nil {
		err = srv.Close()
	}
	if ferr := <-failed; !errors.Is(ferr, http.ErrServerClosed) {
		err = errors.Join(err, ferr)
	}
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	return err
}

// listen listens for browsers.
func (c *Console) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	return c.admitted(ln), nil
}

// admitted bounds the connections of a listener.
func (c *Console) admitted(ln net.Listener) net.Listener {
	conf := c.TLS.Clone()
	conf.ClientAuth, conf.ClientCAs, conf.VerifyConnection, conf.VerifyPeerCertificate = tls.NoClientCert, nil, nil, nil
	conf.MinVersion, conf.NextProtos = tls.VersionTLS12, []string{"h2", "http/1.1"}
	return admit.New(ln, conf, admit.Options{
		Bounds: shaking, Within: headerTime,
		Anybody: admit.Browsers(perAddress, ofAll),
		Log: func(level slog.Level, what string, err error) {
			c.Log.Log(context.Background(), min(level, slog.LevelDebug), "console: "+what, "err", err)
		},
	})
}

// routes has all pages.
func (c *Console) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /static/", layout.Static())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { write(w, "ok\n") })
	mux.HandleFunc("GET /readyz", c.ready)
	mux.Handle("GET /metrics", c.readers(c.metrics()))
	mux.HandleFunc("GET /login", c.loginPage)
	mux.HandleFunc("POST /login", c.login)
	c.oidcRoutes(mux)
	mux.HandleFunc("POST /language", layout.SetLanguage)
	mux.Handle("POST /logout", c.loggedIn(c.logout))
	mux.Handle("GET /password", c.loggedIn(c.own(c.passwordPage)))
	mux.Handle("POST /password", c.loggedIn(c.own(c.password)))
	for _, p := range pages {
		mux.Handle("GET "+p.path, c.whole(p))
		if p.still {
			continue
		}
		mux.Handle("GET /live"+p.path, c.loggedIn(func(w http.ResponseWriter, r *http.Request, v *view) { c.stream(p, w, r, v) }))
	}
	mux.Handle("GET /export/events/{form}", c.loggedIn(c.eventsFile))
	mux.Handle("GET /configuration/revisions/{number}/file", c.loggedIn(c.configurationFile))
	mux.Handle("POST /configuration/edit", c.kept(c.loggedIn(c.editConfiguration)))
	mux.Handle("POST "+describePath, c.kept(c.loggedIn(c.describe)))
	mux.Handle("POST "+formPath, c.kept(c.loggedIn(c.fillForm)))
	for path, answer := range c.orders() {
		mux.Handle("POST "+path, c.loggedIn(answer))
	}
	c.upgradeRoutes(mux)
	c.screenRoutes(mux)
	mux.Handle("/", c.loggedIn(func(w http.ResponseWriter, r *http.Request, v *view) { c.notFound(w, r, v) }))
	protection := http.NewCrossOriginProtection()
	people := layout.Headers(layout.Compressed(protection.Handler(bounded(c.sessions.LoadAndSave(traced(mux))))))
	// Programs have a token in a header, which no browser sends by itself: another site can not have it do anything. Cookies
	// are not read there.
	programs := rest.New(c.API, c.access, c.Log)
	return layout.Timely(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			programs.ServeHTTP(w, r)
			return
		}
		people.ServeHTTP(w, r)
	}))
}

// ready answers 200 while the agent reaches a quorum of the store.
func (c *Console) ready(w http.ResponseWriter, _ *http.Request) {
	s, known := c.live.now()
	if !known || !s.Connected {
		w.WriteHeader(http.StatusServiceUnavailable)
		write(w, "no quorum of the store\n")
		return
	}
	write(w, "ok\n")
}

// bounded bounds the body of a request, and the time for its answer; streams go on by a time of their own.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
			http.Error(w, "the connection has ended", http.StatusServiceUnavailable)
			return
		}
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			switch r.URL.Path {
			case bundlePath:
				r.Body = &patient{r.Body, rc} // the agent bounds its size, and the fields beside it are bounded
			case editPage.path, describePath, formPath:
				r.Body = http.MaxBytesReader(w, r.Body, maxConfigForm)
			default:
				r.Body = http.MaxBytesReader(w, r.Body, maxForm)
			}
		}
		next.ServeHTTP(w, r)
	})
}

// write writes a short text; who does not take it has gone.
func write(w http.ResponseWriter, text string) { _, _ = w.Write([]byte(text)) }
