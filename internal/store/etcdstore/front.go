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

	"holdfast/internal/lib/pki"
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
	name := callerOf(r)
	switch server, pages := f.grpc.Load(), f.pages.Load(); {
	case name == "":
		w.Header().Set("Connection", "close")
		refuseRequest(w, calls, codes.Unauthenticated, errNoName.Error())
	case !slices.Contains(f.g.members, name):
		f.limited(w, r, name, calls, server)
	case calls && server == nil, !calls && pages == nil:
		refuseRequest(w, calls, codes.Unavailable, errStarting.Error())
	case calls:
		server.ServeHTTP(w, r)
	default:
		pages.ServeHTTP(w, r)
	}
}

// limited passes on the call of a host without a member, within its bounds. Also what is refused is bounded: who asks for
// thousands of things and takes no answers has its connection closed. server is nil while the member starts.
func (f *front) limited(w http.ResponseWriter, r *http.Request, name string, calls bool, server *grpc.Server) {
	done, err := f.g.bounds.request(name)
	if err != nil {
		f.cut(r, name, err)
		return
	}
	defer done()
	out := &timely{ResponseWriter: w, rc: http.NewResponseController(w), within: messageWithin, taken: newTaken()}
	refuse := func(code codes.Code, text string) {
		if err := out.begin(); err != nil {
			f.cut(r, name, err)
			return
		}
		refuseRequest(w, calls, code, text)
	}
	switch {
	case !calls:
		refuse(codes.PermissionDenied, fmt.Sprintf("host %s runs no member of the store and may not read %s", name, r.URL.Path))
		return
	case server == nil:
		refuse(codes.Unavailable, errStarting.Error())
		return
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
	if method == pb.Watch_Watch_FullMethodName {
		m := newMessages(r.Context(), r.Body)
		r = r.WithContext(context.WithValue(r.Context(), streamKey{}, &streamed{m, out.taken}))
		r.Body, w = m, out
	} else if !f.whole(r, out.rc, size, name, refuse) {
		return
	}
	r.Header = known(r.Header)
	server.ServeHTTP(w, r)
}

// known are the headers that gRPC and etcd need. Others are not passed on: etcd counts calls by the version that a client
// says it has, and keeps a counter for each that it was told.
func known(all http.Header) http.Header {
	out := http.Header{}
	leader := http.CanonicalHeaderKey(rpctypes.MetadataRequireLeaderKey)
	for _, h := range []string{"Content-Type", "Te", "User-Agent", "Grpc-Timeout", "Grpc-Accept-Encoding", leader} {
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
// was refused. From now on the call has its time, its answer too.
func (f *front) whole(r *http.Request, rc *http.ResponseController, size int64, name string, refuse func(codes.Code, string)) bool {
	until := time.Now().Add(answerWithin)
	if err := errors.Join(rc.SetReadDeadline(until), rc.SetWriteDeadline(until)); err != nil {
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
	taken  *slot
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
	t.taken.add()
}

func (t *timely) begin() error {
	if err := t.rc.SetWriteDeadline(time.Now().Add(t.within)); err != nil {
		return fmt.Errorf("bound a message in time: %w", err)
	}
	return nil
}

// refuseRequest answers one that is not begun: to a call as gRPC does, by headers only.
func refuseRequest(w http.ResponseWriter, call bool, code codes.Code, text string) {
	if !call {
		http.Error(w, text[:min(len(text), maxRefusal)], http.StatusForbidden)
		return
	}
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
