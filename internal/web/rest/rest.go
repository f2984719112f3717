package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/vanguard"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"holdfast/internal/api"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server"
	"holdfast/internal/web/access"
)

// DocumentPath is where the document of the API is, for everybody: it has nothing of the cluster.
const DocumentPath = "/api/openapi.json"

const (
	keyField  = "idempotency_key"
	keyHeader = "Idempotency-Key"

	maxAnswer  = 64 << 20 // bytes: the plan for 3,000 hosts has some 20 MB
	wider      = 3        // times the bytes of a message, in JSON
	bodyTime   = 10 * time.Second
	answerTime = 30 * time.Second // to take an answer
)

// handler serves the resources.
type handler struct {
	as      func(server.Caller) http.RoundTripper // to the API, in a caller's name
	users   *access.Service
	log     *slog.Logger
	unary   http.Handler
	matches []match
}

// match is a route with what paths it has.
type match struct {
	route
	path   *regexp.Regexp
	method protoreflect.MethodDescriptor
	key    protoreflect.FieldDescriptor // of idempotency; nil: it has none
}

// New makes the handler of all paths below /api/, for users whose tokens are in a service. It reads no cookie.
func New(to *server.Server, users *access.Service, log *slog.Logger) http.Handler {
	return newHandler(to.As, users, log)
}

func newHandler(as func(server.Caller) http.RoundTripper, users *access.Service, log *slog.Logger) *handler {
	h := &handler{as: as, users: users, log: log}
	all := methods()
	for _, r := range routes {
		m := all[r.procedure]
		h.matches = append(h.matches, match{r, pattern(root + r.path), m, m.Input().Fields().ByName(keyField)})
	}
	h.unary = transcoder(h)
	return h
}

// pattern matches the paths of a route: a field is one part of a path, up to its verb.
func pattern(path string) *regexp.Regexp {
	quoted := regexp.QuoteMeta(path)
	return regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z_]+\\\}`).ReplaceAllString(quoted, `([^/:]+)`) + "$")
}

// transcoder makes calls of the API of what has one answer. The table is ours: what is wrong in it is a fault of the program.
func transcoder(h *handler) http.Handler {
	var services []*vanguard.Service
	for _, f := range files {
		for i := range f.Services().Len() {
			services = append(services, vanguard.NewServiceWithSchema(f.Services().Get(i), http.HandlerFunc(h.call),
				vanguard.WithTargetProtocols(vanguard.ProtocolConnect), vanguard.WithTargetCodecs(vanguard.CodecProto),
				vanguard.WithNoTargetCompression(), vanguard.WithMaxMessageBufferBytes(maxAnswer)))
		}
	}
	options := []vanguard.TranscoderOption{vanguard.WithCodec(func(vanguard.TypeResolver) vanguard.Codec { return codec{} })}
	for _, m := range h.matches {
		if !m.method.IsStreamingServer() {
			options = append(options, vanguard.WithRules(m.rule()))
		}
	}
	t, err := vanguard.NewTranscoder(services, options...)
	if err != nil {
		panic(fmt.Sprintf("rest: %v", err))
	}
	return t
}

// call is what a request is about.
type call struct {
	match
	by          server.Caller
	most        int64       // bytes of its body
	large       atomic.Bool // it has more
	cut         atomic.Bool // the call has ended without its whole answer, which must not pass for one
	front, back []byte      // of the request's message: a key of idempotency, before or after what the body has
}

type callKey struct{}

// call has the agent answer in the name of the token that the request came with. The transcoder has made the request, and
// makes the answer of what is written to w.
func (h *handler) call(w http.ResponseWriter, r *http.Request) {
	c, is := r.Context().Value(callKey{}).(*call)
	if !is || c.procedure != r.URL.Path {
		h.log.Error("rest: a request was taken for another one", "path", r.URL.Path)
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	body := &lent{r: io.MultiReader(bytes.NewReader(c.front), r.Body, bytes.NewReader(c.back))}
	defer body.end()
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.Body = "http", "agent", body
	resp, err := h.as(c.by).RoundTrip(out)
	if err != nil { // the caller has gone
		h.log.Debug("rest: a call has ended", "call", c.procedure, "err", err)
		c.cut.Store(true)
		return
	}
	defer resp.Body.Close()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	whole := &ending{Reader: resp.Body}
	_, err = io.Copy(w, whole) // it also fails where the transcoder has told already what is wrong in the request
	if whole.err != nil {
		h.log.Warn("rest: an answer was cut short", "call", c.procedure, "err", whole.err)
		c.cut.Store(true)
	} else if err != nil {
		h.log.Debug("rest: an answer was not taken", "call", c.procedure, "err", err)
	}
}

// ending notes why reading has ended before the end.
type ending struct {
	io.Reader
	err error
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		e.err = err
	}
	return n, err
}

// lent is the body of a request while its handler runs: the call of it may read on for a moment.
type lent struct {
	mu   sync.Mutex
	r    io.Reader
	over bool
}

func (l *lent) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return 0, io.ErrClosedPipe
	}
	return l.r.Read(p)
}

// Close has nothing to do: who lends it closes it.
func (l *lent) Close() error { return nil }

func (l *lent) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
}

// ServeHTTP answers a request.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	head.Set("Cache-Control", "no-store")
	rc := http.NewResponseController(w)
	if rc.SetWriteDeadline(time.Now().Add(answerTime)) != nil {
		return
	}
	if r.URL.Path == DocumentPath && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		h.answer(w, r, &recorded{code: http.StatusOK, body: *bytes.NewBuffer(document())})
		return
	}
	m, err := h.find(w, r)
	by, berr := h.caller(r)
	if berr != nil { // first: who has no token learns nothing of the rest
		if berr.Kind == fail.Denied {
			head.Set("WWW-Authenticate", `Bearer realm="holdfast"`)
			berr = berr.With("send the header Authorization: Bearer TOKEN; an admin makes a token: holdfast token create")
			h.refuse(w, http.StatusUnauthorized, "unauthenticated", berr)
			return
		}
		h.fails(w, berr)
		return
	}
	if err != nil {
		h.refuse(w, err.code, err.name, err.err)
		return
	}
	if coded := r.Header.Get("Content-Encoding"); coded != "" { // a small one may unpack to gigabytes
		h.refuse(w, http.StatusUnsupportedMediaType, "invalid_argument",
			fail.Errorf(fail.Invalid, "Content-Encoding %.40q: want a body as it is", coded))
		return
	}
	c := &call{by: by, match: *m}
	if kerr := c.takeKey(r); kerr != nil {
		h.fails(w, kerr)
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), callKey{}, c))
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		if rc.SetReadDeadline(time.Now().Add(bodyTime)) != nil {
			return
		}
		c.most = int64(wider * server.RequestBound(m.procedure))
		r.Body = &timed{http.MaxBytesReader(w, r.Body, c.most), rc, &c.large}
	}
	if rc.SetWriteDeadline(time.Time{}) != nil { // a call lasts as long as the API lets it
		return
	}
	if m.method.IsStreamingServer() {
		h.stream(w, r, c)
		return
	}
	h.once(w, r, c)
}

// timed is a body that must come in time. Afterwards the connection is only watched for its end.
type timed struct {
	io.ReadCloser
	rc    *http.ResponseController
	large *atomic.Bool // it was larger than it may be
}

func (t *timed) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	if err != nil {
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
			t.large.Store(true)
		}
		_ = t.rc.SetReadDeadline(time.Time{}) // it fails where the connection has ended, which the next use tells
	}
	return n, err
}

// notFound is why a request has no route.
type notFound struct {
	code int
	name string
	err  *fail.Error
}

// find finds the route of a request.
func (h *handler) find(w http.ResponseWriter, r *http.Request) (*match, *notFound) {
	var allowed []string
	for i, m := range h.matches {
		if !m.path.MatchString(r.URL.Path) {
			continue
		}
		if m.route.method == r.Method || m.route.method == http.MethodGet && r.Method == http.MethodHead {
			return &h.matches[i], nil
		}
		allowed = append(allowed, m.route.method)
	}
	if allowed != nil {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return nil, &notFound{http.StatusMethodNotAllowed, "invalid_argument", fail.Errorf(fail.Invalid, "%.20q of %.100q: want %s", r.Method,
			r.URL.Path, strings.Join(allowed, " or "))}
	}
	return nil, &notFound{http.StatusNotFound, "not_found", fail.Errorf(fail.Invalid, "%.100q: there is no such resource", r.URL.Path).
		With("see what there is: " + DocumentPath)}
}

// caller is the token of a request. Guesses are not counted, as those of passwords are: a secret has 130 random bits.
func (h *handler) caller(r *http.Request) (server.Caller, *fail.Error) {
	secret, is := access.Secret(r)
	if !is {
		return server.Caller{}, fail.Errorf(fail.Denied, "no token was sent")
	}
	t, err := h.users.Bearer(r.Context(), secret)
	if err != nil {
		return server.Caller{}, asError(err)
	}
	return server.Caller{User: t.Name + " (token, " + access.Address(r) + ")", Role: t.Role}, nil
}

// takeKey takes the key of idempotency. One that nobody would look at is refused: who sends it relies on it.
func (c *call) takeKey(r *http.Request) *fail.Error {
	if r.Header.Get("If-Match") != "" {
		return fail.Errorf(fail.Invalid, "If-Match: no resource takes it, and nothing was done").
			With("of the configuration, send base: the number of the one that it changes")
	}
	sent := r.Header.Get(keyHeader)
	sent = strings.Trim(sent, `"`) // the draft of the header has a quoted text
	switch {
	case c.match.key == nil && sent != "" && c.route.method != http.MethodGet:
		return fail.Errorf(fail.Invalid, "%s: %s %s takes none, and nothing was done", keyHeader, c.route.method, root+c.route.path).
			With("leave it out; after an answer that was lost, look what there is before you ask again")
	case c.match.key == nil:
		return nil
	case sent == "":
		c.front = keyOf(c.match.key, api.NewKey()) // carried out each time, unless the body has a key
	default:
		c.back = keyOf(c.match.key, sent)
	}
	return nil
}

// keyOf is a message that has a key only. Joined to another one, the last key counts.
func keyOf(f protoreflect.FieldDescriptor, key string) []byte {
	return protowire.AppendString(protowire.AppendTag(nil, f.Number(), protowire.BytesType), key)
}

// once makes a call that has one answer.
func (h *handler) once(w http.ResponseWriter, r *http.Request, c *call) {
	out := &recorded{}
	asked := r.Clone(r.Context())
	if asked.Method == http.MethodHead {
		asked.Method = http.MethodGet
	}
	for _, name := range []string{"X-Server-Timeout", "Accept-Encoding"} { // of the transcoder, which nobody asked for
		asked.Header.Del(name)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		err = fail.Errorf(fail.Invalid, "the query: %w", err)
	}
	wanted := (*selection)(nil)
	if err == nil {
		wanted, err = takeSelection(c, query)
	}
	if err == nil {
		asked.URL.RawQuery = query.Encode()
		err = c.params(asked, dynamicpb.NewMessage(c.match.method.Input()))
	}
	if err != nil {
		h.fails(w, asError(err))
		return
	}
	h.unary.ServeHTTP(out, asked)
	if c.large.Load() {
		h.tooLarge(w, c)
		return
	}
	if c.cut.Load() {
		h.fails(w, fail.Errorf(fail.Unknown, "the agent ended in the middle of its answer, and may have done what was asked for").
			With("look what there is; the agent's log tells why: journalctl -u holdfast"))
		return
	}
	if out.code < http.StatusBadRequest {
		body, err := wanted.of(out.body.Bytes())
		if err != nil {
			h.fails(w, asError(err))
			return
		}
		out.body = *bytes.NewBuffer(body)
	}
	h.answer(w, r, out)
}

// recorded is an answer that is not sent yet.
type recorded struct {
	code   int
	header http.Header
	body   bytes.Buffer
}

// Header is the head.
func (a *recorded) Header() http.Header {
	if a.header == nil {
		a.header = http.Header{}
	}
	return a.header
}

// WriteHeader notes the code; the first one counts.
func (a *recorded) WriteHeader(code int) {
	if a.code == 0 && code >= 200 {
		a.code = code
	}
}

// Flush has nothing to do: it is sent when it is whole.
func (a *recorded) Flush() {}

// Write keeps what is written.
func (a *recorded) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

var document = sync.OnceValue(makeDocument)
