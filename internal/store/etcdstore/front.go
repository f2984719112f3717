package etcdstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/etcdhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

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
}

const (
	// answerWithin bounds a call of a host without a member, watches aside: to send the
	// request, and to take the answer. A list of 3,000 hosts takes less than a second.
	answerWithin = 30 * time.Second
	// messageWithin bounds how long the messages in a stream of answers may wait to be taken, of each minute: the member
	// keeps what it has to say meanwhile, for each watch.
	messageWithin = 10 * time.Second
	// smallBody is what a message may have that writes nothing, bytes.
	smallBody = 16 << 10
)

// allowed are the calls that hosts without a member may make, with the bytes that a request
// may have, or each message of a stream.
var allowed = map[string]int64{
	pb.KV_Range_FullMethodName:           smallBody,
	pb.KV_Txn_FullMethodName:             maxTxnBytes + 512<<10, // as etcd adds to its own bound
	pb.Watch_Watch_FullMethodName:        smallBody,
	pb.Maintenance_Status_FullMethodName: smallBody,
	pb.Cluster_MemberList_FullMethodName: smallBody,
	healthpb.Health_Check_FullMethodName: smallBody,
	healthpb.Health_Watch_FullMethodName: smallBody,
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
		f.limited(w, r, name, server, refuse)
	}
}

// limited passes on the call of a host without a member, within its bounds.
func (f *front) limited(w http.ResponseWriter, r *http.Request, name string, server *grpc.Server, refuse func(codes.Code, string)) {
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
	until, rc := time.Now().Add(answerWithin), http.NewResponseController(w)
	if method == pb.Watch_Watch_FullMethodName {
		m := newMessages(r.Context(), r.Body)
		r = r.WithContext(context.WithValue(r.Context(), messagesKey{}, m))
		r.Body = m
	} else if !f.whole(r, rc, until, size, name, refuse) {
		return
	}
	if method == pb.Watch_Watch_FullMethodName || method == healthpb.Health_Watch_FullMethodName {
		w = &timely{ResponseWriter: w, rc: rc, left: messageWithin}
	} else if err := rc.SetWriteDeadline(until); err != nil {
		refuse(codes.Internal, unboundedText)
		return
	}
	server.ServeHTTP(w, r)
}

const unboundedText = "the call can not be bounded in time"

// whole reads the message of a call, and looks at its form as far as that says what it takes to decode it. false: it
// was refused.
func (f *front) whole(r *http.Request, rc *http.ResponseController, until time.Time, size int64, name string, refuse func(codes.Code, string)) bool {
	if err := rc.SetReadDeadline(until); err != nil {
		refuse(codes.Internal, unboundedText)
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

// timely ends a stream whose messages are not taken in time: the member keeps what it has to say meanwhile.
type timely struct {
	http.ResponseWriter
	rc    *http.ResponseController
	left  time.Duration // that messages may wait still; a sixth of the time comes back
	at    time.Time     // when the message under way began, or the last one ended
	under bool          // a message is under way
}

// Write begins a message, or goes on with it.
func (t *timely) Write(p []byte) (int, error) {
	if !t.under {
		now := time.Now()
		if !t.at.IsZero() {
			t.left = min(messageWithin, t.left+now.Sub(t.at)/6)
		}
		t.under, t.at = true, now
		if err := t.rc.SetWriteDeadline(now.Add(t.left)); err != nil {
			return 0, fmt.Errorf("bound a message in time: %w", err)
		}
	}
	return t.ResponseWriter.Write(p)
}

// Flush ends a message. Who flushes is told of no error: the stream has ended then.
func (t *timely) Flush() {
	if t.rc.Flush() == nil && t.under {
		now := time.Now()
		t.left, t.at = t.left-now.Sub(t.at), now
		t.under = t.rc.SetWriteDeadline(time.Time{}) != nil
	}
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
