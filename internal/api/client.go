package api

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"iter"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	plain "holdfast/internal/lib/text"
)

// DefaultPort is the TCP port of an agent's API over TLS.
const DefaultPort = "7443"

const (
	maxMessage  = 4 << 20          // bytes of one answer
	maxDocument = 64 << 20         // bytes of one answer with a document: the plan for 3,000 hosts has some 20 MB
	callTimeout = 10 * time.Second // of a unary call whose context has no deadline
	dialTimeout = 5 * time.Second
	pingAfter   = 5 * time.Second // silence of a connection before it is probed
)

// Client calls one agent. All methods may be used concurrently. Every error is
// an *Error. Calls that return once get a deadline of 10 s when the context has
// none; the iterators end with their context.
type Client struct {
	target    string
	rpc       apiv1connect.ClusterServiceClient
	jobs      apiv1connect.JobServiceClient
	upgrades  apiv1connect.UpgradeServiceClient
	agents    apiv1connect.AgentServiceClient
	pair      apiv1connect.PairServiceClient
	access    apiv1connect.AccessServiceClient
	notices   apiv1connect.NotificationServiceClient
	hosts     apiv1connect.HostServiceClient
	transport *http.Transport // nil: another one, that needs no end
	base      string
	screens   func() (rt http.RoundTripper, hangUp func()) // by a connection of its own
	old       func(time.Duration)
	older     sync.Once // asks an agent whose status does not tell its type
	olderType string    // what came of it
}

// AgeHeader of an answer has the age of what it tells, ns, -1 where nobody knows it: the store has no quorum.
const AgeHeader = "Holdfast-Age-Ns"

// OnOld has f called for each answer that is old, as the store has no quorum. It is set before the first call.
func (c *Client) OnOld(f func(age time.Duration)) { c.old = f }

// noteAge tells of an answer that is old.
func (c *Client) noteAge(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		resp, err := next(ctx, req)
		if err != nil || c.old == nil {
			return resp, err
		}
		if ns, perr := strconv.ParseInt(resp.Header().Get(AgeHeader), 10, 64); perr == nil { // else it is not old
			c.old(time.Duration(ns))
		}
		return resp, nil
	}
}

// Progress is one step of a live migration as Migrate reports it.
type Progress struct {
	Percent int                `json:"percent"`        // of the memory copy, 0 to 100
	State   cluster.OwnerState `json:"state"`          // of the owner record
	Note    string             `json:"note,omitempty"` // what is waited for
	Done    bool               `json:"done"`           // the guest runs on Host; the last value
	Host    cluster.HostID     `json:"host"`           // the target
	Epoch   cluster.Epoch      `json:"epoch"`
}

// Cancelled is the migration that was asked to end.
type Cancelled struct {
	From     cluster.HostID `json:"from"` // the source, where the guest is
	To       cluster.HostID `json:"to"`
	OwnerMod int64          `json:"owner_mod"` // see cluster.Status; 0: it had not begun
}

// EventPage is a part of the event log, oldest first.
type EventPage struct {
	Events []cluster.Event
	Next   int64 // the revision after which the next page begins
}

// Dial prepares calls to the agent at target: "unix:PATH", or "https://IP:7443"
// with the TLS settings of a client (certificate and the cluster's CA). It does
// no I/O; the first call connects. An unusable target is KindInvalid.
func Dial(target string, tlsConf *tls.Config) (*Client, error) {
	return DialBy(target, tlsConf, (&net.Dialer{Timeout: dialTimeout}).DialContext)
}

// DialHost is Dial for the agent of a host, whose address the host has told itself: nothing is sent to a server
// whose certificate is another one's (KindDenied). dial makes the connections; nil: as Dial does.
func DialHost(host cluster.HostID, target string, tlsConf *tls.Config,
	dial func(ctx context.Context, network, addr string) (net.Conn, error)) (*Client, error) {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if tlsConf == nil {
		return DialBy(target, nil, dial) // which says what is missing
	}
	conf := tlsConf.Clone()
	conf.VerifyConnection = func(s tls.ConnectionState) error {
		if name := s.PeerCertificates[0].Subject.CommonName; name != string(host) {
			return fail.Errorf(fail.Denied, "host %s: the agent at %s has the certificate of %q, and nothing was sent to it", host, target, name).
				With("see api.listen and tls.cert in the settings of both hosts; a host that reports another one's address may be in wrong hands")
		}
		if tlsConf.VerifyConnection == nil {
			return nil
		}
		return tlsConf.VerifyConnection(s)
	}
	return DialBy(target, conf, dial)
}

// DialBy is Dial by connections that dial makes. A unix socket needs none.
func DialBy(target string, tlsConf *tls.Config, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (*Client, error) {
	base, transport := "", newTransport()
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		if path == "" {
			return nil, fail.Errorf(fail.Invalid, "target %q: the socket's path is missing", target)
		}
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, fail.Errorf(fail.Invalid, "target %q: %w", target, err)
		}
		base = "http://agent"
		transport.Protocols.SetUnencryptedHTTP2(true)
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: dialTimeout}
			return d.DialContext(ctx, "unix", abs)
		}
	} else {
		var err error
		if base, err = tlsBase(target, tlsConf); err != nil {
			return nil, err
		}
		transport.Protocols.SetHTTP2(true)
		transport.TLSClientConfig = tlsConf.Clone()
		transport.DialContext = dial
	}
	c := through(target, base, transport)
	c.transport = transport
	c.screens = func() (http.RoundTripper, func()) { return screensBy(transport) }
	return c, nil
}

// Through makes a client whose calls another transport carries, such as one to a server in the same process.
func Through(target string, rt http.RoundTripper) *Client { return through(target, "http://agent", rt) }

func through(target, base string, rt http.RoundTripper) *Client {
	hc := httpClient(rt)
	c := &Client{target: target, base: base}
	c.screens = func() (http.RoundTripper, func()) { return rt, func() {} }
	// options bound the messages of a service, bytes.
	options := func(most int) connect.ClientOption {
		return connect.WithClientOptions(connect.WithReadMaxBytes(most), connect.WithInterceptors(connect.UnaryInterceptorFunc(c.noteAge)))
	}
	c.rpc = apiv1connect.NewClusterServiceClient(hc, base, options(maxMessage))
	c.jobs = apiv1connect.NewJobServiceClient(hc, base, options(maxMessage))
	c.upgrades = apiv1connect.NewUpgradeServiceClient(hc, base, options(maxDocument))
	c.agents = apiv1connect.NewAgentServiceClient(hc, base, options(maxDocument))
	c.pair = apiv1connect.NewPairServiceClient(hc, base, options(maxMessage))
	c.access = apiv1connect.NewAccessServiceClient(hc, base, options(maxMessage))
	c.notices = apiv1connect.NewNotificationServiceClient(hc, base, options(maxMessage))
	c.hosts = apiv1connect.NewHostServiceClient(hc, base, options(maxMessage))
	return c
}

func httpClient(rt http.RoundTripper) *http.Client {
	return &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// newTransport returns a transport without a proxy, with no protocol yet, whose
// connections are probed so that a frozen agent is noticed.
func newTransport() *http.Transport {
	return &http.Transport{
		Protocols:           new(http.Protocols),
		TLSHandshakeTimeout: dialTimeout,
		IdleConnTimeout:     time.Minute,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  pingAfter,
			PingTimeout:      pingAfter,
			WriteByteTimeout: callTimeout,
		},
	}
}

func tlsBase(target string, tlsConf *tls.Config) (string, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.Port() != "" && !plain.Port(u.Port()) ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", fail.Errorf(fail.Invalid, "target %q: want unix:PATH or https://ADDRESS[:%s]", target, DefaultPort)
	}
	if tlsConf == nil {
		return "", fail.Errorf(fail.Invalid, "target %q: an agent wants a client certificate over TLS, none is given", target).
			With("give --ca, --cert and --key")
	}
	port := u.Port()
	if port == "" {
		port = DefaultPort
	}
	return "https://" + net.JoinHostPort(u.Hostname(), port), nil
}

// Target returns what the client was made for.
func (c *Client) Target() string { return c.target }

// Close ends idle connections.
func (c *Client) Close() {
	if c.transport != nil {
		c.transport.CloseIdleConnections()
	}
}

// NewKey returns a random idempotency key.
func NewKey() string { return rand.Text() }

// Status returns what the agent knows now.
func (c *Client) Status(ctx context.Context) (cluster.Status, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.GetStatus(ctx, &apiv1.GetStatusRequest{})
	if err != nil {
		return cluster.Status{}, fromWire(ctx, c.target, err)
	}
	return c.typed(ctx, resp.Status), nil
}

// MayBeOff refuses a person's word, as the agent does, that a host is off: of one that is not of this cluster, that
// renews, or that nothing waits for.
func MayBeOff(s cluster.Status, host cluster.HostID) error {
	known := slices.Contains(s.Members, host)
	for _, x := range s.Hosts {
		if x.Name != host {
			continue
		}
		if x.Alive {
			return fail.Errorf(fail.Refused, "host %s is not off: it renewed %s ago", host, x.Silent.Round(time.Second/10)).
				With("wait until it is silent, or look at the right host")
		}
		if !x.Expelled.IsZero() {
			return fail.Errorf(fail.Refused, "host %s: what it ran before the takeover to epoch %s is proved stopped "+
				"already, so nothing waits for your word", host, x.Expelled).
				With("bring the host back, or replace it; see: holdfast status")
		}
		known = true
	}
	if !known {
		return fail.Errorf(fail.Invalid, "host %q: no host of this cluster has that name", host)
	}
	return nil
}

// typed is the status that an agent has sent. One whose status does not tell the type of the
// configuration is older, and is asked whether it is of a pair: of another kind it refuses.
func (c *Client) typed(ctx context.Context, m *apiv1.Status) cluster.Status {
	s := Decode[cluster.Status](m)
	if s.Type == "" {
		c.older.Do(func() {
			_, err := c.Pair(ctx)
			var e *fail.Error
			if err == nil || errors.As(err, &e) && e.Kind == fail.Unavailable {
				c.olderType = cluster.PairConf
			}
		})
		s.Type = c.olderType
	}
	return s
}

// WatchStatus yields the whole status at once, at each change and at least every
// second, until ctx ends, the caller stops or an error, which is yielded last.
func (c *Client) WatchStatus(ctx context.Context) iter.Seq2[cluster.Status, error] {
	return follow(ctx, c.target,
		func(ctx context.Context) (*connect.ServerStreamForClient[apiv1.WatchStatusResponse], error) {
			return c.rpc.WatchStatus(ctx, &apiv1.WatchStatusRequest{})
		},
		func(m *apiv1.WatchStatusResponse) (cluster.Status, bool) {
			return c.typed(ctx, m.Status), false
		})
}

// Start asks that the guest runs and that decisions are made again. It returns
// when the request is recorded. A call repeated under the same key is carried
// out once; "" makes a new key.
func (c *Client) Start(ctx context.Context, key string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.rpc.Start(ctx, &apiv1.StartRequest{IdempotencyKey: keyOr(key)})
	return fromWire(ctx, c.target, err)
}

// Stop asks that the guest is shut down; with handsOff that all decisions are
// frozen and the guest is left as it is. Keys as with Start.
func (c *Client) Stop(ctx context.Context, handsOff bool, key string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.rpc.Stop(ctx, &apiv1.StopRequest{IdempotencyKey: keyOr(key), HandsOff: handsOff})
	return fromWire(ctx, c.target, err)
}

// ConfirmOff records the caller's word that a host is off. Keys as with Start.
func (c *Client) ConfirmOff(ctx context.Context, host, key string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.rpc.ConfirmOff(ctx, &apiv1.ConfirmOffRequest{IdempotencyKey: keyOr(key), Host: host})
	return fromWire(ctx, c.target, err)
}

// SetMaintenance says that a host is to be emptied and kept so, or that it is of
// use again. Keys as with Start.
func (c *Client) SetMaintenance(ctx context.Context, host string, on bool, key string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	_, err := c.rpc.SetMaintenance(ctx, &apiv1.SetMaintenanceRequest{IdempotencyKey: keyOr(key), Host: host, On: on})
	return fromWire(ctx, c.target, err)
}

// StoreStatus asks the agent for the state of every member of the store.
func (c *Client) StoreStatus(ctx context.Context) (cluster.StoreStatus, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.GetStoreStatus(ctx, &apiv1.GetStoreStatusRequest{})
	if err != nil {
		return cluster.StoreStatus{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.StoreStatus](resp), nil
}

// BackUpStore makes the agent write a snapshot of the store into a file of its
// host.
func (c *Client) BackUpStore(ctx context.Context) (cluster.Backup, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.BackUpStore(ctx, &apiv1.BackUpStoreRequest{})
	if err != nil {
		return cluster.Backup{}, fromWire(ctx, c.target, err)
	}
	return Decode[cluster.Backup](resp.Backup), nil
}

// Migrate asks for a live migration to the host of that name or IP address and
// yields its progress. The last value has Done set, or comes with an error.
// Ending ctx ends the report, not the migration. Keys as with Start.
func (c *Client) Migrate(ctx context.Context, host, key string) iter.Seq2[Progress, error] {
	key = keyOr(key)
	return func(yield func(Progress, error) bool) {
		done := false
		seq := follow(ctx, c.target,
			func(ctx context.Context) (*connect.ServerStreamForClient[apiv1.MigrateResponse], error) {
				return c.rpc.Migrate(ctx, &apiv1.MigrateRequest{IdempotencyKey: key, Host: host})
			},
			func(m *apiv1.MigrateResponse) (Progress, bool) { return Decode[Progress](m), m.Done })
		for p, err := range seq {
			done = p.Done || err != nil
			if !yield(p, err) {
				return
			}
		}
		if !done {
			yield(Progress{}, fail.Errorf(fail.Unknown, "the agent at %s ended its report before the move ended", c.target).
				With("the move may go on; see: holdfast status"))
		}
	}
}

// CancelMigration asks that the migration that is on ends, or that one which waits does
// not begin. It returns when that is recorded. Keys as with Start.
func (c *Client) CancelMigration(ctx context.Context, key string) (Cancelled, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.CancelMigration(ctx, &apiv1.CancelMigrationRequest{IdempotencyKey: keyOr(key)})
	if err != nil {
		return Cancelled{}, fromWire(ctx, c.target, err)
	}
	return Decode[Cancelled](resp), nil
}

// Events returns one page of the event log, oldest first: at most limit (0: 100)
// events after a revision of the store; after 0 begins with the oldest kept, -1
// returns the newest limit events. next is the value of after for the next page.
func (c *Client) Events(ctx context.Context, after int64, limit int) (events []cluster.Event, next int64, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.ListEvents(ctx, &apiv1.ListEventsRequest{After: after, Limit: int64(limit)})
	if err != nil {
		return nil, 0, fromWire(ctx, c.target, err)
	}
	return Decode[[]cluster.Event](resp.Events), resp.Next, nil
}

// WatchEvents yields pages of the event log after a revision, as they come,
// until ctx ends, the caller stops or an error, which is yielded last.
func (c *Client) WatchEvents(ctx context.Context, after int64) iter.Seq2[EventPage, error] {
	return follow(ctx, c.target,
		func(ctx context.Context) (*connect.ServerStreamForClient[apiv1.WatchEventsResponse], error) {
			return c.rpc.WatchEvents(ctx, &apiv1.WatchEventsRequest{After: after})
		},
		func(m *apiv1.WatchEventsResponse) (EventPage, bool) {
			return Decode[EventPage](m), false
		})
}

// Version returns the agent's build.
func (c *Client) Version(ctx context.Context) (Version, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	resp, err := c.rpc.GetVersion(ctx, &apiv1.GetVersionRequest{})
	if err != nil {
		return Version{}, fromWire(ctx, c.target, err)
	}
	return Decode[Version](resp), nil
}

// follow yields the messages of a server stream, converted, and its error. The
// stream ends with the loop. convert's second result ends it after its message.
func follow[M, T any](ctx context.Context, target string,
	open func(context.Context) (*connect.ServerStreamForClient[M], error),
	convert func(*M) (T, bool),
) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // ends the stream on the wire
		var none T
		stream, err := open(ctx)
		if err != nil {
			yield(none, fromWire(ctx, target, err))
			return
		}
		last := false
		for !last && stream.Receive() {
			var v T
			v, last = convert(stream.Msg())
			if !yield(v, nil) {
				return
			}
		}
		if last {
			return
		}
		if err := stream.Err(); err != nil {
			yield(none, fromWire(ctx, target, err))
		}
	}
}

// bounded bounds a call that takes no time by itself.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return within(ctx, callTimeout)
}

// within bounds a call whose context has no deadline.
func within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

func keyOr(key string) string {
	if key == "" {
		return NewKey()
	}
	return key
}
