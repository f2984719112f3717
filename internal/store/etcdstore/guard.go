package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/pki"
	"holdfast/internal/store"
)

// Guard says what callers may do that run no member of the store. Who they are
// tells the common name of their certificate: the members are those of the
// configuration's Initial, and may do everything (docs/adr/0026). Keys are without
// the cluster's prefix.
type Guard struct {
	// Secret are keys that the others never see; one that ends in a slash stands for all below it.
	Secret []string
	// Permits returns nil for a write that the others may make, or why not; or
	// store.ErrLook, to be asked again with what is there. It has no side effects, and
	// is called from many goroutines.
	Permits func(store.Attempt) error
	// Rates bound how often one of the others writes keys of a kind.
	Rates []store.Rate
}

// guard stands before the handlers of a member. What a caller may do depends on its
// certificate, the request and the record that is there, and on what it has taken lately.
type guard struct {
	rules   Guard
	prefix  string
	members []string
	bounds  *bounds
	front   *front
	ranges  atomic.Pointer[ranger] // the member, when it has started
	feed    *feed
	secrets secrets                                            // with the prefix
	header  atomic.Pointer[func(rev int64) *pb.ResponseHeader] // of the member's answers, likewise
}

// ranger is the linearizable read of a member.
type ranger func(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error)

// newGuard makes the guard of a member, nil for one that lets everybody do all. The
// members are those of the settings: how this one joined says only who was there then.
func newGuard(settings MemberConfig) *guard {
	if settings.Guard == nil || settings.TLS == nil {
		return nil
	}
	g := &guard{rules: *settings.Guard, prefix: root + settings.Cluster + "/", bounds: newBounds(settings.Guard.Rates)}
	for _, key := range settings.Guard.Secret {
		g.secrets = append(g.secrets, g.prefix+key)
	}
	g.feed = newFeed(g.secrets...)
	g.front = &front{g: g, began: make(chan struct{})}
	g.members = append(slices.Sorted(maps.Keys(settings.Initial)), settings.Also...)
	return g
}

// install puts the guard before both ports of a member: that of the clients, and
// that of the peers, where a forged message of raft would do what a client may not.
func (g *guard) install(c MemberConfig, cfg *embed.Config) error {
	if g == nil {
		return nil
	}
	_, own, err := pki.Load(c.TLS.CA, c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return err
	}
	if name := own.Certificates[0].Leaf.Subject.CommonName; name != c.Name {
		return fmt.Errorf("%s: its common name is %q, want the member's name, %q: the other members would refuse it", c.TLS.Cert, name, c.Name)
	}
	cfg.PeerTLSInfo.AllowedCNs = g.members
	cfg.GRPCAdditionalServerOptions = append(cfg.GRPCAdditionalServerOptions,
		grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream))
	if c.TLS.CRL != "" {
		if g.front.list, err = pki.OpenList(c.TLS.CA, c.TLS.CRL); err != nil {
			return err
		}
	}
	cfg.MaxConcurrentStreams = maxStreams
	g.front.install(cfg)
	return nil
}

// serves gives the guard the member that it stands before.
func (g *guard) serves(e *embed.Etcd) {
	if g == nil {
		return
	}
	r := ranger(e.Server.Range)
	g.ranges.Store(&r)
	header := func(rev int64) *pb.ResponseHeader {
		s := e.Server
		return &pb.ResponseHeader{ClusterId: uint64(s.Cluster().ID()), MemberId: uint64(s.MemberID()), Revision: rev, RaftTerm: s.Term()}
	}
	g.header.Store(&header)
	g.bounds.serves(e)
	g.front.serves(e)
}

// caller is the common name of the client's certificate, and whether it is one of a
// member. TLS has verified it.
func (g *guard) caller(ctx context.Context) (name string, member bool, err error) {
	p, ok := peer.FromContext(ctx)
	if ok {
		if info, tls := p.AuthInfo.(credentials.TLSInfo); tls && len(info.State.VerifiedChains) > 0 && len(info.State.VerifiedChains[0]) > 0 {
			name = info.State.VerifiedChains[0][0].Subject.CommonName
		}
	}
	if name == "" {
		return "", false, status.Error(codes.Unauthenticated, errNoName.Error())
	}
	return name, slices.Contains(g.members, name), nil
}

// denied is the answer to what a host without a member may not do.
func denied(name, format string, args ...any) error {
	return status.Error(codes.PermissionDenied, deniedText(name, format, args...))
}

func deniedText(name, format string, args ...any) string {
	return fmt.Sprintf("host %s runs no member of the store and may not %s; ask the agent of a member", name, fmt.Sprintf(format, args...))
}

// unary guards calls that return once. What is not named here is for members only.
func (g *guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	name, member, err := g.caller(ctx)
	if err != nil {
		return nil, err
	}
	if member {
		return next(ctx, req)
	}
	switch r := req.(type) {
	case *pb.RangeRequest:
		if err := g.mayRead(name, r); err != nil {
			return nil, err
		}
		resp, err := next(ctx, req)
		if out, ok := resp.(*pb.RangeResponse); ok && err == nil {
			g.redact(out)
		}
		return resp, err
	case *pb.TxnRequest:
		failed, err := g.mayWrite(ctx, name, r)
		if err != nil {
			clock.Sleep(ctx, afterRefusal) // it holds one of the host's few writes at once
			return nil, err
		}
		if failed != nil {
			return failed, nil
		}
		return next(ctx, req)
	case *pb.MemberListRequest, *pb.StatusRequest:
		return next(ctx, req)
	}
	return nil, denied(name, "call %s", info.FullMethod)
}

// stream guards streams: the others may watch, and nothing else.
func (g *guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	name, member, err := g.caller(ss.Context())
	switch {
	case err != nil:
		return err
	case member:
		return next(srv, ss)
	case info.FullMethod != pb.Watch_Watch_FullMethodName:
		return denied(name, "call %s", info.FullMethod)
	}
	return g.watch(ss, name)
}

// covers reports whether a range holds a key. Without an end it is one key.
func covers[T string | []byte](from, end, key T) bool {
	if len(end) == 0 {
		return string(from) == string(key)
	}
	return string(from) <= string(key) && string(key) < string(end)
}

// within refuses ranges that leave the cluster's prefix, or hold nothing. An end of one zero byte
// means: no end.
func (g *guard) within(name string, from, end []byte) error {
	last := []byte(clientv3.GetPrefixRangeEnd(g.prefix))
	if !bytes.HasPrefix(from, []byte(g.prefix)) || bytes.Compare(end, last) > 0 || len(end) > 0 && bytes.Compare(from, end) >= 0 {
		return denied(name, "read %q to %q", from, end)
	}
	return nil
}

// mayRead allows what the cluster's prefix holds. What is secret is taken out of
// the answer; an order by values would tell of it all the same.
func (g *guard) mayRead(name string, r *pb.RangeRequest) error {
	if r.GetSortOrder() != pb.RangeRequest_NONE && r.GetSortTarget() == pb.RangeRequest_VALUE {
		return denied(name, "sort by values")
	}
	return g.within(name, r.GetKey(), r.GetRangeEnd())
}

// redact takes the secret keys out of an answer.
func (g *guard) redact(r *pb.RangeResponse) {
	for i := len(r.Kvs) - 1; i >= 0; i-- {
		if g.secrets.has(string(r.Kvs[i].Key)) {
			r.Kvs = slices.Delete(r.Kvs, i, i+1)
			r.Count--
		}
	}
}

// mayWrite allows transactions of our own form: conditions on revisions, writes of
// single keys of which each is permitted, nothing otherwise. What the transaction has is
// taken from the bounds before it is judged: to be judged and refused costs as well.
// failed: it fails by itself, this is the answer, and it must not reach etcd, which puts
// each transaction with writes through raft, whole.
func (g *guard) mayWrite(ctx context.Context, name string, r *pb.TxnRequest) (failed *pb.TxnResponse, err error) {
	if len(r.GetFailure()) > 0 {
		return nil, denied(name, "write when conditions do not hold")
	}
	for _, c := range r.GetCompare() {
		if t := c.GetTarget(); t == pb.Compare_VALUE || t == pb.Compare_LEASE || len(c.GetRangeEnd()) > 0 {
			return nil, denied(name, "compare anything but the revision of a key")
		}
	}
	var attempts []store.Attempt
	var keys []string
	with := map[string][]byte{}
	for _, op := range r.GetSuccess() {
		a, err := g.attempt(name, op)
		if err != nil {
			return nil, err
		}
		if attempts, keys = append(attempts, a), append(keys, a.Key); a.Value != nil {
			with[a.Key] = a.Value
		}
	}
	// All of it is in the log of raft: conditions and fields that nobody knows, too.
	if err := g.bounds.write(name, time.Now(), len(keys), proto.Size(r)); err != nil {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	for _, a := range attempts {
		a.With = with
		if failed, err := g.judge(ctx, a, r.GetCompare()); err != nil || failed != nil {
			return failed, err
		}
	}
	if err := g.bounds.kinds(name, time.Now(), keys); err != nil {
		return nil, status.Error(codes.ResourceExhausted, err.Error())
	}
	return nil, g.few(ctx, name, with)
}

// judge puts a write to the rules. failed: the transaction fails by itself.
func (g *guard) judge(ctx context.Context, a store.Attempt, conds []*pb.Compare) (failed *pb.TxnResponse, err error) {
	var at *pb.ResponseHeader // of the read by which it fails
	void, refused, err := store.Judge(a, g.rules.Permits,
		func(a *store.Attempt) (void bool, err error) {
			at, void, err = g.look(ctx, a, conds)
			return void, err
		},
		func(key string) (kvs []store.KV, void bool, err error) {
			kvs, at, err = g.beside(ctx, key)
			void = len(kvs) == 0 && slices.ContainsFunc(conds, func(c *pb.Compare) bool { // it wants what is not there
				return string(c.GetKey()) == g.prefix+key && c.GetResult() == pb.Compare_EQUAL && c.GetModRevision()+c.GetCreateRevision() != 0
			})
			return kvs, void && err == nil, err
		})
	switch {
	case refused != nil:
		return nil, denied(a.Host, "write %.200q: %v", a.Key, refused)
	case err != nil || !void:
		return nil, err
	}
	return &pb.TxnResponse{Header: at}, nil
}

// attempt reads one write.
func (g *guard) attempt(name string, op *pb.RequestOp) (store.Attempt, error) {
	var key, value []byte
	switch put, del := op.GetRequestPut(), op.GetRequestDeleteRange(); {
	case put != nil && put.GetLease() == 0 && !put.GetIgnoreValue() && !put.GetIgnoreLease() && !put.GetPrevKv():
		key, value = put.GetKey(), put.GetValue()
		if value == nil {
			value = []byte{}
		}
	case del != nil && len(del.GetRangeEnd()) == 0 && !del.GetPrevKv():
		key = del.GetKey()
	default:
		return store.Attempt{}, denied(name, "%v", errForm)
	}
	short, ok := strings.CutPrefix(string(key), g.prefix)
	if !ok {
		return store.Attempt{}, denied(name, "write %q", key)
	}
	return store.Attempt{Host: name, Key: short, Value: value}, nil
}

var errStarting = errors.New("the member is starting")

// beside reads a key, or all that begin with one that ends with "/". Keys are without the prefix.
func (g *guard) beside(ctx context.Context, key string) (kvs []store.KV, at *pb.ResponseHeader, err error) {
	resp, err := g.read(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	for _, kv := range resp.Kvs {
		kvs = append(kvs, store.KV{Key: strings.TrimPrefix(string(kv.Key), g.prefix), Value: kv.Value, ModRev: kv.ModRevision})
	}
	return kvs, resp.GetHeader(), nil
}

// few refuses a host to have more keys of a kind at a time than it may. It is asked after the
// bounds in time: those bound how often this reads. What its other calls write meanwhile may
// come on top of it once.
func (g *guard) few(ctx context.Context, name string, puts map[string][]byte) error {
	for _, r := range g.rules.Rates {
		more := map[string]bool{} // that it would have beside those that are there
		for k := range puts {
			if r.Most > 0 && strings.HasPrefix(k, r.Prefix) {
				more[k] = true
			}
		}
		if len(more) == 0 {
			continue
		}
		kvs, _, err := g.beside(ctx, r.Prefix)
		if err != nil {
			return err
		}
		has := 0
		for _, kv := range kvs {
			delete(more, kv.Key)
			if host, _ := r.Writer(kv); host == name {
				has++
			}
		}
		if len(more) > 0 && has+len(more) > r.Most {
			err := forNow(name, "has too many of %s: at most %d are allowed at a time", r.Prefix, r.Most)
			return status.Error(codes.ResourceExhausted, err.Error())
		}
	}
	return nil
}

// read reads a key, or all that begin with one that ends with "/", linearizably.
func (g *guard) read(ctx context.Context, key string) (*pb.RangeResponse, error) {
	read := g.ranges.Load()
	if read == nil {
		return nil, status.Error(codes.Unavailable, errStarting.Error())
	}
	req := &pb.RangeRequest{Key: []byte(g.prefix + key)}
	if strings.HasSuffix(key, "/") {
		req.RangeEnd = []byte(clientv3.GetPrefixRangeEnd(g.prefix + key))
	}
	resp, err := (*read)(ctx, req)
	if err != nil {
		return nil, status.Error(codes.Unavailable, fmt.Sprintf("look what %s is: %v", key, err))
	}
	return resp, nil
}

// look completes an attempt with what the store holds, by a linearizable read. void:
// the transaction can not succeed, because it wants a revision of the key that is
// over. One of the future is no guard: what is there then has not been looked at.
func (g *guard) look(ctx context.Context, a *store.Attempt, conds []*pb.Compare) (at *pb.ResponseHeader, void bool, err error) {
	resp, err := g.read(ctx, a.Key)
	if err != nil {
		return nil, false, err
	}
	var now int64
	if len(resp.Kvs) > 0 {
		now = resp.Kvs[0].ModRevision
		if a.Old = resp.Kvs[0].Value; a.Old == nil {
			a.Old = []byte{}
		}
	}
	for _, c := range conds {
		if c.GetTarget() != pb.Compare_MOD || c.GetResult() != pb.Compare_EQUAL || string(c.GetKey()) != g.prefix+a.Key {
			continue
		}
		switch want := c.GetModRevision(); {
		case want == now:
			a.Guarded = true
		case want != 0 && want <= resp.GetHeader().GetRevision():
			return resp.GetHeader(), true, nil
		}
	}
	return resp.GetHeader(), false, nil
}
