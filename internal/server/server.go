package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// Cluster is what the server needs of the agent. All methods may be called
// concurrently.
type Cluster interface {
	// Status returns what the agent knows. It is cached; no I/O.
	Status() cluster.Status
	// Changed delivers a value after each change of the status or of the event
	// log, coalesced. The channel closes when ctx ends.
	Changed(ctx context.Context) <-chan struct{}
	// Events returns at most limit events after a revision of the store, oldest
	// first, and the value of after for the next page. after 0 begins with the
	// oldest kept; -1 returns the newest limit events. The next page of an empty
	// log after -1 is never negative.
	Events(ctx context.Context, after int64, limit int) ([]cluster.Event, int64, error)
	// Request changes what is asked for: it reads the want record, applies change
	// and writes it, with an event that names the user, in one transaction that
	// it repeats when it raced. An error of change ends it and is returned
	// wrapped. A key that was carried out before is done: change is not called.
	Request(ctx context.Context, user string, key string, change func(*cluster.Want, cluster.Status) error) error
	// HostMod returns the revision of a host's record; 0: it has none.
	HostMod(host cluster.HostID) int64
	// ReadConfig returns the configuration of a number; 0: the current one.
	ReadConfig(ctx context.Context, number int) (config.Revision, error)
	// Configs returns what is kept of the configurations, newest first, without text.
	Configs(ctx context.Context) ([]config.Revision, error)
	// ImportConfig gives the cluster another configuration, with an event that names
	// the user, or says what that would do.
	ImportConfig(ctx context.Context, user string, in config.Import) (config.Imported, error)
	// ResetPassword gives root of the guest another password, wherever it runs.
	ResetPassword(ctx context.Context, user, password string) (cluster.Reset, error)
	// StoreStatus asks every member of the store.
	StoreStatus(ctx context.Context) (cluster.StoreStatus, error)
	// BackUpStore writes a snapshot of the store into a file on this host.
	BackUpStore(ctx context.Context) (cluster.Backup, error)
	// TestFence asks the fence devices of a host for their state, by another member where one is alive, and orders nothing.
	TestFence(ctx context.Context, user string, host cluster.HostID) (cluster.FenceTest, error)
}

const (
	maxMessage    = 1 << 20          // bytes of one answer; for requests see RequestBound
	maxJob        = 4 << 20          // bytes of a job with its steps
	maxDocument   = 64 << 20         // bytes of a document: the plan for 3,000 hosts has some 20 MB
	minCompressed = 1 << 20          // bytes of one answer: chunks of bundles are compressed already
	maxHeader     = 16 << 10         // bytes
	maxStreams    = 32               // at once on one connection
	maxReceived   = 256 << 10        // bytes of a connection that nobody has read: 5 MiB/s over 50 ms
	headerTime    = 5 * time.Second  // to read a header, or for a TLS handshake
	idleTime      = 2 * time.Minute  // of a connection without a stream
	pingAfter     = 15 * time.Second // silence before a connection is probed
	writeTime     = 10 * time.Second // without a byte taken by the client
	bodyTime      = 10 * time.Second // see patience
	takeTime      = 10 * time.Second // see patience
	unaryTime     = 15 * time.Second // of one call that returns once
	upgradeTime   = 2 * time.Hour    // of one of the upgrades' calls: a guest of much memory is sent that long
	pairTime      = time.Minute      // of one call about a pair: a database may have to start
	partitionTime = 15 * time.Minute // of one that makes a file system on both nodes, or takes it away
	noticeTime    = time.Minute      // of one call that has a service of messages be asked
	fenceTime     = 35 * time.Second // of one call that has another host ask fence devices
	drainTime     = 3 * time.Second  // for calls to end when the server does
	defaultGrace  = 5 * time.Second  // see Server.grace
	beat          = time.Second      // longest silence of a stream
)

// Options are the settings of a server.
type Options struct {
	Socket  string       // path of the unix socket; required
	Listen  string       // host:port for TLS; empty: none
	TLS     *tls.Config  // with the agent's certificate and ClientCAs; required with Listen
	Log     *slog.Logger // required
	Version string       // of the build, for GetVersion
	// Settings is the file that has the agent's, for GetVersion.
	Settings string
	Jobs     Jobs     // nil: this host takes no part in jobs
	Upgrade  Upgrades // nil: this host takes no part in upgrades
	Agents   Agents   // nil: it answers no other agents
	Pair     Pair     // nil: this host belongs to no pair
	Access   Access   // nil: there are no users and tokens
	Notices  Notices  // nil: this host tells nobody of events
	Aid      Aid      // nil: this host tells nothing of itself to those who look for a fault
	Screens  Screens  // nil: it shows no screens of guests
	// Certificates are those of the hosts. nil: nobody renews any.
	Certificates Certificates
	Hosts        Hosts // which names are hosts'; nil: nobody is limited
	// Counts says of a chain that was verified, leaf first, whether it still does: open
	// connections are ended some seconds after it does not. nil: each does.
	Counts func(chain []*x509.Certificate) error
}

// Server serves the API of one agent.
type Server struct {
	cluster Cluster
	opts    Options
	budgets *budgets
	calls   patience
	// grace is how long a migration may be missing from the status after its
	// request before it counts as gone.
	grace time.Duration

	handler func() http.Handler     // of all calls, made once
	stop    context.Context         // ends with the cause that streams report when the server ends
	end     context.CancelCauseFunc // of stop

	again Again // of the listener for TLS
}

// Works reports whether this host takes part in jobs and upgrades.
func (s *Server) Works() bool { return s.opts.Jobs != nil && s.opts.Upgrade != nil }

// Trouble tells why the API is not served over TLS though it should be; "" when
// it is.
func (s *Server) Trouble() string { return s.again.Trouble() }

// New checks the options. It does no I/O.
func New(c Cluster, opts Options) (*Server, error) {
	switch {
	case opts.Socket == "":
		return nil, errors.New("serve the api: no socket path")
	case opts.Log == nil:
		return nil, errors.New("serve the api: no logger")
	case opts.Listen != "" && (opts.TLS == nil || opts.TLS.ClientCAs == nil):
		return nil, fmt.Errorf("serve the api at %s: clients must be proved by certificate, but no CA for them is given", opts.Listen)
	}
	s := &Server{cluster: c, opts: opts, budgets: newBudgets(), calls: patience{bodyTime, takeTime}, grace: defaultGrace}
	s.stop, s.end = context.WithCancelCause(context.Background())
	s.handler = sync.OnceValue(s.routes)
	return s, nil
}

// Serve listens and serves until ctx ends, then lets calls end for at most 3 s
// and returns nil. It returns an error when it can not listen on the socket
// (another agent that lives behind it is one), or when a listener breaks. An
// address for TLS that can not be had is tried again and again: the agent has
// more important things to do than to answer there. Trouble tells of it.
func (s *Server) Serve(ctx context.Context) error {
	defer s.end(nil)
	local, err := listenUnix(ctx, s.opts.Socket)
	if err != nil {
		return err
	}
	defer local.Close()
	ends := []*end{{http: s.httpServer(), listen: func(context.Context) (net.Listener, error) { return local, nil }}}
	if s.opts.Listen != "" {
		ends = append(ends, &end{http: s.httpServer(), listen: s.awaitTLS})
	}
	failed := make(chan error, len(ends))
	for _, e := range ends {
		go func() { failed <- e.serve(ctx, s.opts.Log) }()
	}
	running := len(ends)
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	s.end(errStopping) // streams end by themselves and say why
	err = errors.Join(err, shutdown(ctx, ends))
	for range running {
		err = errors.Join(err, <-failed)
	}
	return err
}

// end is one listener with its HTTP server.
type end struct {
	http   *http.Server
	listen func(context.Context) (net.Listener, error) // waits until it can; nil without an error when ctx has ended
}

func (e *end) serve(ctx context.Context, log *slog.Logger) error {
	ln, err := e.listen(ctx)
	if ln == nil || err != nil {
		return err
	}
	defer ln.Close()
	log.Info("api is served", "at", ln.Addr().String())
	if err := e.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the api at %s: %w", ln.Addr(), err)
	}
	return nil
}

// shutdown ends the servers: first asks, then closes what is left.
func shutdown(ctx context.Context, ends []*end) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	var errs []error
	for _, e := range ends {
		if e.http.Shutdown(ctx) == nil {
			continue
		}
		if err := e.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close the api: %w", err))
		}
	}
	return errors.Join(errs...)
}

// Why an agent does not have a service.
var (
	errNoHypervisor = fail.Errorf(fail.Refused, "this agent runs no hypervisor, and so has no jobs, upgrades, guests and screens")
	errGuestsOnly   = fail.Errorf(fail.Refused, "this host runs guests only: users and notifications are those of the other hosts").With(
		"ask an agent with a member of the store")
)

// routes makes the handler of all calls.
func (s *Server) routes() http.Handler {
	h := &handler{cluster: s.cluster, version: s.opts.Version, settings: s.opts.Settings, jobs: s.opts.Jobs,
		certificates: s.opts.Certificates, grace: s.grace, stop: s.stop}
	// options bound the answers of a service, bytes, and its calls.
	options := func(send int, within time.Duration) connect.HandlerOption {
		return connect.WithHandlerOptions(bounded(), connect.WithSendMaxBytes(send),
			connect.WithCompressMinBytes(minCompressed), connect.WithInterceptors(&gate{s.opts.Log, within, s.cluster.Status}))
	}
	refused := refuser{connect.NewErrorWriter(), s.opts.Log}
	mux := http.NewServeMux()
	// without answers the calls of a service that this agent does not have.
	without := func(service string, why error) {
		mux.Handle("/"+service+"/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { refused.answer(w, r, why) }))
	}
	mux.Handle(apiv1connect.NewClusterServiceHandler(h, options(maxMessage, unaryTime)))
	if s.opts.Jobs != nil {
		mux.Handle(apiv1connect.NewJobServiceHandler(&jobHandler{s.opts.Jobs}, options(maxJob, unaryTime)))
	} else {
		without(apiv1connect.JobServiceName, errNoHypervisor)
	}
	if s.opts.Upgrade != nil {
		mux.Handle(apiv1connect.NewUpgradeServiceHandler(&upgradeHandler{s.opts.Upgrade}, options(maxDocument, upgradeTime)))
	} else {
		without(apiv1connect.UpgradeServiceName, errNoHypervisor)
	}
	if s.opts.Agents != nil {
		mux.Handle(apiv1connect.NewAgentServiceHandler(&agentHandler{s.opts.Agents, s.opts.Certificates, s.opts.Pair,
			screensHere{s.opts.Screens, s.stop}},
			options(maxDocument, upgradeTime)))
	} else {
		without(apiv1connect.AgentServiceName, errNoHypervisor)
	}
	if s.opts.Access != nil {
		mux.Handle(apiv1connect.NewAccessServiceHandler(&accessHandler{s.opts.Access}, options(maxMessage, unaryTime)))
	} else {
		without(apiv1connect.AccessServiceName, errGuestsOnly)
	}
	if s.opts.Notices != nil {
		mux.Handle(apiv1connect.NewNotificationServiceHandler(&noticesHandler{s.opts.Notices}, options(maxMessage, noticeTime)))
	} else {
		without(apiv1connect.NotificationServiceName, errGuestsOnly)
	}
	mux.Handle(apiv1connect.NewHostServiceHandler(&hostHandler{s.cluster, s.opts.Aid}, options(maxMessage, unaryTime)))
	if s.opts.Screens != nil {
		mux.Handle(apiv1connect.NewScreenServiceHandler(&screenHandler{s.opts.Screens, s.cluster, s.stop}, options(maxMessage, unaryTime)))
	} else {
		without(apiv1connect.ScreenServiceName, errNoHypervisor)
	}
	if s.opts.Pair != nil {
		mux.Handle(apiv1connect.NewPairServiceHandler(&pairHandler{s.opts.Pair}, options(maxJob, pairTime)))
	} else {
		without(apiv1connect.PairServiceName,
			fail.Errorf(fail.Refused, "this cluster is no pair: it keeps a management VM").With("see: holdfast status"))
	}
	return &admission{s.opts.Hosts, s.budgets, s.calls, refused, mux}
}

// httpServer makes the server of one listener.
func (s *Server) httpServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           withPeer(s.handler()),
		ConnContext:       connPeer,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		Protocols:         protocols,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,

			MaxReceiveBufferPerConnection: maxReceived,
			MaxReceiveBufferPerStream:     maxReceived,

			SendPingTimeout:  pingAfter,
			PingTimeout:      pingAfter,
			WriteByteTimeout: writeTime,
		},
		ErrorLog: slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelDebug),
	}
}
