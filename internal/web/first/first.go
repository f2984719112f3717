package first

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/a-h/templ"

	"holdfast/internal/api"
	"holdfast/internal/install"
	"holdfast/internal/install/remote"
	"holdfast/internal/lib/admit"
	"holdfast/internal/lib/fail"
	"holdfast/internal/web/layout"
)

// Options are what the first run goes by.
type Options struct {
	Host       string // this one
	Version    string
	Undersized bool // accept a management VM for tests
	Program    remote.Program
	KnownHosts string                                    // file; "": the usual one
	Files      func(ofPair bool) ([]install.File, error) // that every host gets
	Dial       func() (*api.Client, error)               // the agent of this host, when it is installed
	Tell       func(string)                              // whoever has started it, of what happens
	Log        *slog.Logger
}

// Run is a first run. Make it with New, then Serve.
type Run struct {
	Options
	handler http.Handler
	done    chan struct{} // closed when somebody has said that it is finished

	mu     sync.Mutex
	code   string          // lets one browser in
	inside map[string]bool // sessions, by the digest of their cookie
	work   *work
	ctx    context.Context // of works; nil: it is not served
	ended  sync.Once
}

// Bounds of connections and requests: one person looks.
const (
	perAddress = 32
	ofAll      = 256
	headerTime = 5 * time.Second
	answerTime = 30 * time.Second
	maxForm    = 1 << 20
	drainTime  = 3 * time.Second
)

// New makes a first run that listens nowhere yet.
func New(o Options) *Run {
	r := &Run{Options: o, done: make(chan struct{}), inside: map[string]bool{}}
	r.renew()
	r.handler = r.routes()
	return r
}

// Code is the one that lets the next browser in.
func (r *Run) Code() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.code
}

// renew makes another code.
func (r *Run) renew() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.code = strings.ToLower(rand.Text()[:20])
}

// Serve serves pages until ctx ends or somebody has said that it is finished. A work that is under way is ended then, and
// waited for.
func (r *Run) Serve(ctx context.Context, ln net.Listener, cert tls.Certificate) error {
	work, end := context.WithCancel(ctx)
	r.mu.Lock()
	r.ctx = work
	r.mu.Unlock()
	defer r.drop()
	defer end()
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	let := admit.New(ln, conf, admit.Options{
		Bounds: admit.Bounds{All: ofAll, Address: perAddress, Net: perAddress}, Within: headerTime,
		Anybody: admit.Browsers(perAddress, ofAll),
		Log: func(level slog.Level, what string, err error) {
			r.Log.Log(context.Background(), min(level, slog.LevelDebug), "first run: "+what, "err", err)
		},
	})
	srv := &http.Server{Handler: r.handler, ReadHeaderTimeout: headerTime, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return work },
		ErrorLog:    slog.NewLogLogger(r.Log.Handler(), slog.LevelDebug)}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(let) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve the first run: %w", err)
	case <-ctx.Done():
	case <-r.done:
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	shut := make(chan error, 1)
	go func() { shut <- srv.Shutdown(within) }() // what is answered comes to its end, and streams then
	end()
	err := <-shut
	if err != nil {
		err = srv.Close()
	}
	if ferr := <-failed; !errors.Is(ferr, http.ErrServerClosed) {
		err = errors.Join(err, ferr)
	}
	return err
}

// drop ends the work that there is, and waits for its end.
func (r *Run) drop() {
	r.mu.Lock()
	w := r.work
	r.work = nil
	r.mu.Unlock()
	if w != nil {
		w.end()
	}
}

// finish ends the first run.
func (r *Run) finish() { r.ended.Do(func() { close(r.done) }) }

// routes has all pages.
func (r *Run) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /static/", layout.Static())
	mux.HandleFunc("POST /language", layout.SetLanguage)
	mux.HandleFunc("GET /login", r.loginPage)
	mux.HandleFunc("POST /login", r.login)
	for pattern, page := range map[string]func(http.ResponseWriter, *http.Request, *view){
		"GET /{$}":          r.choice,
		"GET /cluster":      r.clusterPage,
		"POST /cluster":     r.cluster,
		"GET /pair":         r.pairPage,
		"POST /pair":        r.pair,
		"GET /pair/size":    r.sizePage,
		"GET /paths":        r.pathsPage,
		"GET /work":         r.workPage,
		"GET /live/work":    r.workStream,
		"POST /work/keys":   r.confirmKeys,
		"POST /work/make":   r.makeIt,
		"POST /work/check":  r.checkAgain,
		"POST /work/stop":   r.stop,
		"POST /work/finish": r.finishPage,
		"/":                 r.notFound,
	} {
		mux.HandleFunc(pattern, r.insider(page))
	}
	protection := http.NewCrossOriginProtection()
	return layout.Timely(layout.Headers(layout.Compressed(protection.Handler(bounded(mux)))))
}

// bounded bounds the body of a request, and the time for its answer; a stream goes on by a time of its own.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime)); err != nil {
			http.Error(w, "the connection has ended", http.StatusServiceUnavailable)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// view is what a page is made of.
type view struct {
	layout.View
	r *http.Request
}

func (r *Run) view(q *http.Request) *view {
	return &view{View: layout.New(q, r.Host, r.Version), r: q}
}

// cookieName is of the session: this host sets it, for all paths, and only where TLS is.
const cookieName = "__Host-holdfast-first"

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// insider has a page answer who has shown the code.
func (r *Run) insider(page func(http.ResponseWriter, *http.Request, *view)) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		k, err := q.Cookie(cookieName)
		r.mu.Lock()
		in := err == nil && r.inside[digest(k.Value)]
		r.mu.Unlock()
		if !in {
			http.Redirect(w, q, "/login", http.StatusSeeOther)
			return
		}
		page(w, q, r.view(q))
	}
}

// loginPage asks for the code.
func (r *Run) loginPage(w http.ResponseWriter, q *http.Request) {
	v := r.view(q)
	v.Title = v.T("First run")
	r.show(w, q, http.StatusOK, loginForm(v))
}

// login lets in who has the code, once.
func (r *Run) login(w http.ResponseWriter, q *http.Request) {
	v := r.view(q)
	v.Title = v.T("First run")
	typed := strings.ToLower(strings.TrimSpace(q.FormValue("code")))
	r.mu.Lock()
	right := subtle.ConstantTimeCompare([]byte(typed), []byte(r.code)) == 1
	session := rand.Text()
	if right {
		r.inside[digest(session)] = true
	}
	r.mu.Unlock()
	from, _, err := net.SplitHostPort(q.RemoteAddr)
	if err != nil {
		from = q.RemoteAddr
	}
	if !right {
		r.Tell("a wrong code was typed at " + from)
		v.Fail(fail.Errorf(fail.Denied, "This is not the code.").
			With("it stands where \"holdfast console\" was started; each one lets one browser in"))
		r.show(w, q, api.StatusOf(fail.Denied), loginForm(v))
		return
	}
	r.renew()
	r.Tell(fmt.Sprintf("a browser at %s was let in; the code of the next one is %s", from, r.Code()))
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: session, Path: "/", Secure: true, HttpOnly: true,
		SameSite: http.SameSiteStrictMode})
	http.Redirect(w, q, "/", http.StatusSeeOther)
}

// notFound answers what there is no page for.
func (r *Run) notFound(w http.ResponseWriter, q *http.Request, v *view) {
	v.Title, v.Message = v.T("No such page"), v.T("There is no such page.")
	r.show(w, q, http.StatusNotFound, whole(v, message(v)))
}

// fails answers with a page that says what has failed.
func (r *Run) fails(w http.ResponseWriter, q *http.Request, v *view, err error) {
	v.Title = v.T("It failed")
	v.Fail(err)
	r.show(w, q, statusOf(err), whole(v, message(v)))
}

// statusOf is the status of HTTP for an error.
func statusOf(err error) int {
	var e *fail.Error
	if errors.As(err, &e) {
		return api.StatusOf(e.Kind)
	}
	return http.StatusInternalServerError
}

// show writes a page.
func (r *Run) show(w http.ResponseWriter, q *http.Request, code int, body templ.Component) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	if err := body.Render(q.Context(), w); err != nil {
		r.Log.Debug("first run: a page was not taken", "path", q.URL.Path, "err", err)
	}
}
