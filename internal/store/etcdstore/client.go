// Package etcdstore is the store on etcd: a client that keeps the promises of
// package store, and the member itself, which runs in a child process of its
// own (RunMember) so that its panics do not take the agent down.
//
// What never belongs here: decisions, and the meaning of keys and values.
package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/stats"

	"holdfast/internal/store"
)

const (
	// callTimeout bounds a call whose context has no deadline.
	callTimeout = 10 * time.Second
	// readAttempt bounds the first attempt of a read; it doubles with each one, so
	// that a member that hangs is left soon and one that is slow is not left for ever.
	readAttempt = time.Second
	// retryPause is the time between two attempts.
	retryPause = 50 * time.Millisecond
	// maxTxnBytes bounds the keys and values of one transaction, with room for the
	// rest of the request below etcd's limit of 1.5 MiB.
	maxTxnBytes = 3<<19 - 16<<10
)

// Options say where the store is and how to reach it.
type Options struct {
	Endpoints   []string      // URLs of the members: https://host:port, http for tests
	TLS         *tls.Config   // client side, mutual; nil with http only
	Prefix      string        // before every key, invisible to callers; ends with a slash
	DialTimeout time.Duration // of one connection; default 2 s
	Log         *slog.Logger  // attempts that failed, at debug level
}

// Client is a connection to the store. It uses all endpoints in turn and leaves
// out those it can not connect to.
//
// Get and List are repeated until ctx ends. A Txn is repeated as long as it was
// certainly not applied and ctx lives. A ctx without a deadline gets one of 10 s.
type Client struct {
	etcd    *clientv3.Client
	prefix  string
	log     *slog.Logger
	done    chan struct{} // closed by Close
	mu      sync.Mutex
	closed  bool
	watches sync.WaitGroup
	streams atomic.Int64 // names the watches' streams
}

var _ store.Store = (*Client)(nil)

// Open makes a client. It does not wait for a connection.
func Open(o Options) (*Client, error) {
	if len(o.Endpoints) == 0 {
		return nil, fmt.Errorf("open store: no endpoints: %w", store.ErrDefinite)
	}
	if !strings.HasSuffix(o.Prefix, "/") {
		return nil, fmt.Errorf("open store: prefix %q does not end with a slash: %w", o.Prefix, store.ErrDefinite)
	}
	if o.Log == nil {
		return nil, fmt.Errorf("open store: no logger given: %w", store.ErrDefinite)
	}
	if o.DialTimeout <= 0 {
		o.DialTimeout = 2 * time.Second
	}
	for _, e := range o.Endpoints {
		if o.TLS != nil && !strings.HasPrefix(e, "https://") {
			return nil, fmt.Errorf("open store: endpoint %q does not begin with https://: %w", e, store.ErrDefinite)
		}
	}
	etcd, err := clientv3.New(config(o))
	if err != nil {
		return nil, fmt.Errorf("open store at %s: %w", strings.Join(o.Endpoints, ", "), classify(err, reading))
	}
	return &Client{etcd: etcd, prefix: o.Prefix, log: o.Log, done: make(chan struct{})}, nil
}

func config(o Options) clientv3.Config {
	return clientv3.Config{
		Endpoints:   o.Endpoints,
		TLS:         o.TLS,
		DialTimeout: o.DialTimeout,
		// gRPC pings every 10 s at least, whatever is asked for. The timeout is also
		// that of unacknowledged data (TCP_USER_TIMEOUT), which is what finds a host
		// without power within 2 s when calls are made.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 2 * time.Second,
		// One attempt. The library repeats a write when the server answers with an
		// expired deadline, and the second attempt of a write that was applied finds
		// its conditions broken: "not applied" would be a lie. We repeat what is safe.
		MaxUnaryRetries: 1,
		Logger:          zap.NewNop(), // all errors come back to us
		DialOptions: []grpc.DialOption{
			grpc.WithStatsHandler(sentHandler{}),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: o.DialTimeout,
			}),
		},
	}
}

// sentKey is the context key of a request's mark.
type sentKey struct{}

// sentHandler marks requests of which something was handed to a connection. A
// failed write without the mark certainly was not applied.
type sentHandler struct{}

func (sentHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (sentHandler) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); !ok {
		return
	}
	if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
		sent.Store(true)
	}
}

func (sentHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (sentHandler) HandleConn(context.Context, stats.ConnStats)                       {}

// Get implements store.Store.
func (c *Client) Get(ctx context.Context, key string) (store.KV, bool, error) {
	if key == "" {
		return store.KV{}, false, fmt.Errorf("get: empty key: %w", store.ErrDefinite)
	}
	resp, err := read(ctx, c, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.etcd.Get(ctx, c.prefix+key, consistency(ctx)...)
	})
	if err != nil {
		return store.KV{}, false, fmt.Errorf("get %s: %w", key, err)
	}
	if len(resp.Kvs) == 0 {
		return store.KV{}, false, nil
	}
	return c.kv(resp.Kvs[0]), true, nil
}

// List implements store.Store.
func (c *Client) List(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	resp, err := read(ctx, c, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return c.etcd.Get(ctx, c.prefix+prefix, append(consistency(ctx), clientv3.WithPrefix())...)
	})
	if err != nil {
		return nil, 0, fmt.Errorf("list %s: %w", prefix, err)
	}
	kvs := make([]store.KV, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		kvs[i] = c.kv(kv)
	}
	return kvs, resp.Header.GetRevision(), nil
}

// consistency are the options of a read.
func consistency(ctx context.Context) []clientv3.OpOption {
	if store.IsStale(ctx) {
		return []clientv3.OpOption{clientv3.WithSerializable()}
	}
	return nil
}

// read repeats a read until it is done, is refused, or ctx ends.
func read[T any](ctx context.Context, c *Client, do func(context.Context) (T, error)) (T, error) {
	var zero T
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.usable(ctx); err != nil {
		return zero, err
	}
	for limit := readAttempt; ; limit *= 2 {
		attempt, cancel := context.WithTimeout(ctx, limit)
		if !store.IsStale(ctx) {
			attempt = clientv3.WithRequireLeader(attempt)
		}
		resp, err := do(attempt)
		cancel()
		if err == nil {
			return resp, nil
		}
		err = classify(err, reading)
		if !errors.Is(err, store.ErrRetry) || !c.again(ctx, err) {
			return zero, c.closedOr(err)
		}
	}
}

// Txn implements store.Store. One transaction has at most 128 ops and 1.4 MiB.
func (c *Client) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	if store.IsStale(ctx) {
		return 0, false, fmt.Errorf("transaction: by what may be old: %w", store.ErrDefinite)
	}
	cmps, puts, err := c.request(conds, ops)
	if err != nil {
		return 0, false, fmt.Errorf("transaction: %w", err)
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := c.usable(ctx); err != nil {
		return 0, false, fmt.Errorf("transaction: %w", err)
	}
	for before := error(nil); ; {
		var sent atomic.Bool
		attempt := context.WithValue(clientv3.WithRequireLeader(ctx), sentKey{}, &sent)
		resp, err := c.etcd.Txn(attempt).If(cmps...).Then(puts...).Commit()
		if err == nil {
			return resp.Header.GetRevision(), resp.Succeeded, nil
		}
		how := writing
		switch {
		case len(ops) == 0:
			how = reading
		case !sent.Load():
			how = writeNotSent
		}
		err = classify(err, how)
		if errors.Is(err, store.ErrRetry) && c.again(ctx, err) {
			before = err
			continue
		}
		if before != nil && ctx.Err() != nil { // the last attempt ended with ctx, and says nothing
			err = fmt.Errorf("%w; before: %v", err, before)
		}
		if !errors.Is(err, store.ErrUnknown) {
			err = c.closedOr(err)
		}
		return 0, false, fmt.Errorf("transaction: %w", err)
	}
}

func (c *Client) request(conds []store.Cmp, ops []store.Op) ([]clientv3.Cmp, []clientv3.Op, error) {
	var cmps []clientv3.Cmp
	for _, cond := range conds {
		if cond.Key == "" {
			return nil, nil, fmt.Errorf("condition on an empty key: %w", store.ErrDefinite)
		}
		what := clientv3.ModRevision(c.prefix + cond.Key)
		if cond.Create {
			what = clientv3.CreateRevision(c.prefix + cond.Key)
		}
		cmps = append(cmps, clientv3.Compare(what, "=", cond.Rev))
	}
	var out []clientv3.Op
	size := 0
	for _, op := range ops {
		if op.Key == "" {
			return nil, nil, fmt.Errorf("write of an empty key: %w", store.ErrDefinite)
		}
		size += len(c.prefix) + len(op.Key) + len(op.Value)
		if op.Value == nil {
			out = append(out, clientv3.OpDelete(c.prefix+op.Key))
		} else {
			out = append(out, clientv3.OpPut(c.prefix+op.Key, string(op.Value)))
		}
	}
	if size > maxTxnBytes {
		return nil, nil, fmt.Errorf("%d bytes, at most %d are possible: %w", size, maxTxnBytes, store.ErrDefinite)
	}
	return cmps, out, nil
}

// Compact makes the store forget the changes before rev. Members do so by
// themselves every two minutes.
func (c *Client) Compact(ctx context.Context, rev int64) error {
	_, err := read(ctx, c, func(ctx context.Context) (*clientv3.CompactResponse, error) {
		return c.etcd.Compact(ctx, rev)
	})
	if errors.Is(err, store.ErrCompacted) {
		return nil // by somebody else, or by an attempt whose answer was lost
	}
	if err != nil {
		return fmt.Errorf("compact to revision %d: %w", rev, err)
	}
	return nil
}

// Close ends the connection and all watches. It may be called more than once.
func (c *Client) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	close(c.done)
	c.watches.Wait()
	if err := c.etcd.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close store connection: %w: %w", store.ErrDefinite, err)
	}
	return nil
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, callTimeout)
}

// usable returns nil when a call may begin.
func (c *Client) usable(ctx context.Context) error {
	if err := c.closedOr(nil); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", store.ErrRetry, context.Cause(ctx))
	}
	return nil
}

// closedOr replaces what the library says when its connection is closed.
func (c *Client) closedOr(err error) error {
	select {
	case <-c.done:
		return fmt.Errorf("store connection is closed: %w", store.ErrDefinite)
	default:
		return err
	}
}

// again waits before the next attempt. false: there is none.
func (c *Client) again(ctx context.Context, err error) bool {
	t := time.NewTimer(retryPause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-c.done:
		return false
	case <-t.C:
		c.log.DebugContext(ctx, "store call is tried again", "err", err)
		return true
	}
}
