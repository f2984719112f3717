package etcdstore

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"holdfast/internal/pki"
)

// front stands before all that a member answers at the port of its clients: who calls, and
// what, is known from the certificate and the headers, and is judged before a byte of the
// request is read. What a request holds is judged by the guard, behind it.
type front struct {
	g     *guard
	list  *pki.List // of revoked certificates; nil: there is none
	grpc  atomic.Pointer[grpc.Server]
	began chan struct{}                 // closed when grpc is there
	pages atomic.Pointer[http.ServeMux] // what etcd tells beside gRPC
	log   func(level slog.Level, what string, err error)
}

const (
	// answerWithin bounds a call of a host without a member, watches aside: to send the
	// request, and to take the answer. A list of 3,000 hosts takes less than a second.
	answerWithin = 30 * time.Second
	// messageWithin is how long a message of a stream, or a refusal, may take to be taken.
	messageWithin = 10 * time.Second
	// smallBody is what a message may have that writes nothing, bytes.
	smallBody = 16 << 10
	// guestTxn is what a transaction may have: a report of 512 KiB, or 128 words about guests, and as much again.
	guestTxn = 1 << 20
)

// allowed are the calls that hosts without a member may make, with the bytes that a request
// may have, or each message of a stream.
var allowed = map[string]int64{
	pb.KV_Range_FullMethodName:           smallBody,
	pb.KV_Txn_FullMethodName:             guestTxn,
	pb.Watch_Watch_FullMethodName:        smallBody,
	pb.Maintenance_Status_FullMethodName: smallBody,
	pb.Cluster_MemberList_FullMethodName: smallBody,
}

// install has etcd hand every request to the front: all paths but "/", which has neither
// a call nor a page.
func (f *front) install(cfg *embed.Config) {
	cfg.UserHandlers = map[string]http.Handler{"/{one}": f, "/{one}/{more...}": f}
	cfg.ServiceRegister = func(s *grpc.Server) { // once: a guarded member serves by TLS only
		f.grpc.Store(s)
		close(f.began)
	}
}

// serves gives the front the pages of a member that has started. They are for members.
func (f *front) serves(e *embed.Etcd) {
	pages := http.NewServeMux()
	etcdhttp.HandleDebug(pages)
	etcdhttp.HandleVersion(pages, e.Server)
	etcdhttp.HandleMetrics(pages)
	etcdhttp.HandleHealth(e.GetLogger(), pages, e.Server)
	f.pages.Store(pages)
}

// ServeHTTP judges a request by its certificate and headers, and passes it on.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	calls := r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
	refuse := func(code codes.Code, text string) {
		if calls {
			refuseCall(w, code, text)
			return
		}
		http.Error(w, text[:min(len(text), maxRefusal)], http.StatusForbidden)
	}
	name := callerOf(r)
	if name == "" {
		w.Header().Set("Connection", "close")
		refuse(codes.Unauthenticated, errNoName.Error())
		return
	}
	server, pages, member := f.grpc.Load(), f.pages.Load(), slices.Contains(f.g.members, name)
	switch {
	case calls && server == nil, !calls && member && pages == nil:
		refuse(codes.Unavailable, errStarting.Error())
	case !calls && !member:
		refuse(codes.PermissionDenied, fmt.Sprintf("host %s runs no member of the store and may not read %s", name, r.URL.Path))
	case !calls:
		pages.ServeHTTP(w, r)
	case member:
		server.ServeHTTP(w, r)
	default:
		f.limited(w, r, name, server)
	}
}

// limited passes on the call of a host without a member, within its bounds. Also what is refused is bounded: who asks for
// thousands of things and takes no answers has its connection closed.
func (f *front) limited(w http.ResponseWriter, r *http.Request, name string, server *grpc.Server) {
	done, err := f.g.bounds.request(name)
	if err != nil {
		f.cut(r, name, err)
		return
	}
	defer done()
	out := &timely{ResponseWriter: w, rc: http.NewResponseController(w), within: messageWithin, taken: &taken{more: make(chan struct{}, 1)}}
	refuse := func(code codes.Code, text string) {
		if err := out.rc.SetWriteDeadline(time.Now().Add(messageWithin)); err != nil {
			f.cut(r, name, err)
			return
		}
		refuseCall(w, code, text)
	}
	method := r.URL.Path
	size, may := allowed[method]
	if !may {
		refuse(codes.PermissionDenied, deniedText(name, "call %.100q", method))
		return
	}
	leave, err := f.g.bounds.enter(r.Context(), name, method)
	if err != nil {
		refuse(codes.ResourceExhausted, err.Error())
		return
	}
	defer leave()
	until := time.Now().Add(answerWithin)
	if method == pb.Watch_Watch_FullMethodName {
		m := newMessages(r.Context(), r.Body)
		r = r.WithContext(context.WithValue(context.WithValue(r.Context(), messagesKey{}, m), takenKey{}, out.taken))
		r.Body = m
	} else if !f.whole(r, out.rc, until, size, name, refuse) {
		return
	}
	if method == pb.Watch_Watch_FullMethodName {
		w = out
	} else if err := out.rc.SetWriteDeadline(until); err != nil {
		f.cut(r, name, err)
		return
	}
	r.Header = known(r.Header)
	server.ServeHTTP(w, r)
}

// known are the headers that gRPC and etcd need. Others are not passed on: etcd counts calls by the version that a client
// says it has, and keeps a counter for each that it was told.
func known(all http.Header) http.Header {
	out := http.Header{}
	for _, h := range []string{"Content-Type", "Te", "User-Agent", "Grpc-Timeout", "Grpc-Accept-Encoding", http.CanonicalHeaderKey(rpctypes.MetadataRequireLeaderKey)} {
		if v, ok := all[h]; ok {
			out[h] = v
		}
	}
	return out
}

// connKey is the context key of the connection of a request.
type connKey struct{}

// cut closes the connection of a request.
func (f *front) cut(r *http.Request, name string, why error) {
	if c, ok := r.Context().Value(connKey{}).(*tls.Conn); ok {
		why = errors.Join(why, c.NetConn().Close())
		f.g.bounds.tell(name, func() { f.log(slog.LevelWarn, "connection ended", fmt.Errorf("%s: %w", r.RemoteAddr, why)) })
	}
}

// whole reads the message of a call, and looks at its form as far as that says what it takes to decode it. false: it
// was refused.
func (f *front) whole(r *http.Request, rc *http.ResponseController, until time.Time, size int64, name string, refuse func(codes.Code, string)) bool {
	if err := rc.SetReadDeadline(until); err != nil {
		f.cut(r, name, err)
		return false
	}
	msg, err := readMessage(r.Body, size)
	if err != nil {
		refuse(codes.ResourceExhausted, err.Error())
		return false
	}
	if r.URL.Path == pb.KV_Txn_FullMethodName {
		if err := checkTxn(msg[envelope:]); err != nil {
			refuse(codes.PermissionDenied, deniedText(name, "%v", err))
			return false
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(msg))
	return true
}

// timely ends a stream whose messages are not taken in time, and counts those that are.
type timely struct {
	http.ResponseWriter
	rc     *http.ResponseController
	within time.Duration // of a message
	taken  *taken
}

// Write begins a message, or goes on with it.
func (t *timely) Write(p []byte) (int, error) {
	if err := t.begin(); err != nil {
		return 0, err
	}
	return t.ResponseWriter.Write(p)
}

// Flush ends a message, or the headers. Who flushes is told of no error: the stream has ended then.
func (t *timely) Flush() {
	if t.begin() == nil && t.rc.Flush() == nil {
		_ = t.rc.SetWriteDeadline(time.Time{}) // it has worked before; else the stream ends, and its client begins another
	}
	t.taken.n.Add(1)
	select {
	case t.taken.more <- struct{}{}:
	default:
	}
}

func (t *timely) begin() error {
	if err := t.rc.SetWriteDeadline(time.Now().Add(t.within)); err != nil {
		return fmt.Errorf("bound a message in time: %w", err)
	}
	return nil
}

// refuseCall is the answer of gRPC to a call that is not begun: headers only.
func refuseCall(w http.ResponseWriter, code codes.Code, text string) {
	h := w.Header()
	h.Set("Content-Type", "application/grpc")
	h.Set("Grpc-Status", fmt.Sprint(uint32(code)))
	h.Set("Grpc-Message", escape(text))
	w.WriteHeader(http.StatusOK)
}

// maxRefusal bounds the text of a refusal, bytes: a caller chooses what is refused.
const maxRefusal = 500

// escape writes a text, or its begin, as gRPC has it in a header: what is not printable ASCII, and %, in percents.
func escape(text string) string {
	var b strings.Builder
	const hex = "0123456789ABCDEF"
	for _, c := range []byte(text[:min(len(text), maxRefusal)]) {
		if c < ' ' || c > '~' || c == '%' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// callerOf is the name in the certificate of who makes a request at the gate, which has verified it; "": there is none.
func callerOf(r *http.Request) string {
	if _, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "" // at etcd's socket
	}
	return r.TLS.VerifiedChains[0][0].Subject.CommonName
}
