package health

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/try"
)

// server is a service on loopback.
type server struct {
	port int
	hits atomic.Int32
}

// serveTCP accepts connections and gives each to handle, in a goroutine that
// ends with the test.
func serveTCP(t *testing.T, handle func(net.Conn)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{port: l.Addr().(*net.TCPAddr).Port}
	var mu sync.Mutex
	var open []net.Conn
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.hits.Add(1)
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() { handle(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close() // handle may have closed it
		}
		mu.Unlock()
		wg.Wait()
	})
	return s
}

func serveHTTP(t *testing.T, handle http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		handle(w, r)
	}))
	t.Cleanup(srv.Close)
	s.port = srv.Listener.Addr().(*net.TCPAddr).Port
	return s
}

// closedPort is a port of loopback on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// hand is a clock that the test moves.
type hand struct{ now atomic.Int64 }

func (h *hand) read() cluster.Instant   { return cluster.Instant(h.now.Load()) }
func (h *hand) forward(d time.Duration) { h.now.Add(int64(d)) }

func loopback() string { return "127.0.0.1" }

// prober runs a Prober until the test ends. Its clock stands unless the test
// gives one.
func prober(t *testing.T, opt Options) *Prober {
	t.Helper()
	if opt.Addr == nil {
		opt.Addr = loopback
	}
	if opt.Interval == 0 {
		opt.Interval = time.Millisecond
	}
	if opt.Clock == nil {
		opt.Clock = new(hand).read
	}
	p, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

// until waits for a state.
func until(t *testing.T, p *Prober, what string, ok func(State) bool) State {
	t.Helper()
	var s State
	try.Until(t, what, func() bool { s = p.State(); return ok(s) })
	return s
}

func healthy(s State) bool  { return s.Checked && s.Healthy }
func failed(s State) bool   { return s.Checked && !s.Healthy }
func starting(s State) bool { return !s.Checked && s.Failures > 0 }

// TestOneProbe: what counts as an answer, and that each probe ends in time.
func TestOneProbe(t *testing.T) {
	idle := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) } // until one side hangs up
	reset := func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); _ = c.Close() }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	for _, c := range []struct {
		name string
		kind Kind
		make func(t *testing.T) *server
		want string // part of the error; "" for success
		hits int32
	}{
		{"tcp refuses", TCP, func(t *testing.T) *server { return &server{port: closedPort(t)} }, "connection refused", 0},
		{"tcp accepts and says nothing", TCP, func(t *testing.T) *server { return serveTCP(t, idle) }, "", 1},
		{"http refuses", HTTP, func(t *testing.T) *server { return &server{port: closedPort(t)} }, "connection refused", 0},
		{"http accepts and never answers", HTTP, func(t *testing.T) *server { return serveTCP(t, idle) }, "no whole answer in 150ms", 1},
		{"http resets", HTTP, func(t *testing.T) *server { return serveTCP(t, reset) }, "", 1},
		{"http 200", HTTP, func(t *testing.T) *server { return serveHTTP(t, status(200)) }, "", 1},
		{"http 204", HTTP, func(t *testing.T) *server { return serveHTTP(t, status(204)) }, "", 1},
		{"http 304", HTTP, func(t *testing.T) *server { return serveHTTP(t, status(304)) }, "", 1},
		{"http 404", HTTP, func(t *testing.T) *server { return serveHTTP(t, status(404)) }, "answers 404 Not Found", 1},
		{"http 500", HTTP, func(t *testing.T) *server { return serveHTTP(t, status(500)) }, "answers 500 Internal", 1},
		{"redirect loop", HTTP, func(t *testing.T) *server { return serveHTTP(t, redirect("/live")) }, "", 1},
		{"redirect to another host", HTTP, func(t *testing.T) *server {
			other := serveHTTP(t, func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") })
			return serveHTTP(t, redirect(fmt.Sprintf("http://127.0.0.1:%d/", other.port)))
		}, "", 1},
		{"slow body", HTTP, func(t *testing.T) *server {
			return serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write([]byte("so far"))
				w.(http.Flusher).Flush()
				<-r.Context().Done() // until the prober hangs up
			})
		}, "no whole answer in 150ms", 1},
		{"body cut short", HTTP, func(t *testing.T) *server {
			return serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = w.Write([]byte("so far"))
			})
		}, "unexpected EOF", 1},
		{"endless body", HTTP, func(t *testing.T) *server {
			return serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
				for block := make([]byte, 16<<10); ; {
					if _, err := w.Write(block); err != nil {
						return // the prober has hung up
					}
				}
			})
		}, "", 1},
		{"endless header", HTTP, func(t *testing.T) *server {
			return serveTCP(t, func(c net.Conn) {
				_, err := c.Read(make([]byte, 1<<10)) // an answer before the question would be another fault
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nX: "))
				for block := bytes.Repeat([]byte("x"), 16<<10); err == nil; {
					_, err = c.Write(block)
				}
			})
		}, "headers exceeded", 1},
		{"no HTTP", HTTP, func(t *testing.T) *server {
			return serveTCP(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1<<10))
				_, _ = c.Write([]byte("SSH-2.0-x\r\n\r\n"))
				_ = c.Close()
			})
		}, "malformed HTTP", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.make(t)
			opt := Options{Kind: c.kind, Addr: loopback, Port: s.port, Timeout: 150 * time.Millisecond}
			if c.kind == HTTP {
				opt.Path = "/live"
			}
			if !strings.Contains(c.want, "no whole answer") {
				opt.Timeout = 2 * time.Minute // a busy machine must not turn it into another failure
			}
			p, err := New(opt)
			if err != nil {
				t.Fatal(err)
			}
			err = p.probe(context.Background(), loopback())
			switch {
			case c.name == "http resets":
				if err == nil || strings.Contains(err.Error(), "no whole answer") {
					t.Errorf("got %v, want a reset or the end of the connection", err)
				}
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
			// The server may take up a connection after its client has gone.
			try.Until(t, "the server to take up what was asked", func() bool { return s.hits.Load() >= c.hits })
			if n := s.hits.Load(); n != c.hits {
				t.Errorf("asked %d times, want %d", n, c.hits)
			}
		})
	}
}

// TestVerdict: failures in a row make it unhealthy, one success healthy.
func TestVerdict(t *testing.T) {
	var code atomic.Int32
	code.Store(200)
	s := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) })
	clk := &hand{}
	var said syncBuffer
	p := prober(t, Options{Kind: HTTP, Port: s.port, Failures: 5, Clock: clk.read, Log: slog.New(slog.NewTextHandler(&said, nil))})
	until(t, p, "healthy", healthy)
	clk.forward(time.Second)
	code.Store(503)
	bad := until(t, p, "failed", failed)
	if bad.Failures < 5 || !strings.Contains(bad.Why, "503") || bad.Since != cluster.Instant(time.Second) {
		t.Errorf("failed: %+v", bad)
	}
	clk.forward(time.Second)
	until(t, p, "failed more often", func(s State) bool { return s.Failures > bad.Failures && s.Since == bad.Since })
	code.Store(200)
	if s := until(t, p, "healthy again", healthy); s != (State{Checked: true, Healthy: true, Since: cluster.Instant(2 * time.Second)}) {
		t.Errorf("healthy again: %+v", s)
	}
	if n := strings.Count(said.String(), "fails its health check"); n != 1 {
		t.Errorf("the failure was told %d times:\n%s", n, said.String())
	}
}

// TestFailuresMustBeInARow goes through the results one by one.
func TestFailuresMustBeInARow(t *testing.T) {
	p, err := New(Options{Kind: TCP, Addr: loopback, Port: 1, Failures: 3, Clock: new(hand).read})
	if err != nil {
		t.Fatal(err)
	}
	bad := fmt.Errorf("refused")
	for i, step := range []struct {
		err      error
		healthy  bool
		failures int
	}{{nil, true, 0}, {bad, true, 1}, {bad, true, 2}, {nil, true, 0}, {bad, true, 1}, {bad, true, 2}, {bad, false, 3},
		{bad, false, 4}, {nil, true, 0}, {bad, true, 1}} {
		p.note(p.round, step.err)
		if s := p.State(); !s.Checked || s.Healthy != step.healthy || s.Failures != step.failures || (s.Why == "") != (s.Failures == 0) {
			t.Errorf("step %d: %+v, want healthy %v, %d failures", i, s, step.healthy, step.failures)
		}
	}
}

// TestGrace: before the first answer there is no verdict until the grace is over.
func TestGrace(t *testing.T) {
	clk := &hand{}
	p := prober(t, Options{Kind: TCP, Port: closedPort(t), Clock: clk.read})
	until(t, p, "starting for long", func(s State) bool { return starting(s) && s.Failures > 10 })
	clk.forward(defaultGrace - 1)
	n := p.State().Failures
	s := until(t, p, "still starting", func(s State) bool { return s.Failures > n+3 })
	if s.Checked || s.Healthy || !strings.HasPrefix(s.Why, "starting: ") {
		t.Errorf("at the end of the grace: %+v", s)
	}
	clk.forward(1)
	until(t, p, "failed", failed)
	p.restart(whyStarting)
	until(t, p, "starting after the reset", starting)
	clk.forward(defaultGrace)
	until(t, p, "failed again", failed)
}

// TestAnAnswerEndsTheGrace: what has answered once is judged at once.
func TestAnAnswerEndsTheGrace(t *testing.T) {
	var code atomic.Int32
	code.Store(500)
	s := serveHTTP(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) })
	p := prober(t, Options{Kind: HTTP, Port: s.port})
	until(t, p, "starting", starting)
	code.Store(200)
	until(t, p, "healthy", healthy)
	code.Store(500)
	until(t, p, "failed within the grace", failed)
	p.restart(whyStarting)
	if s := until(t, p, "starting", starting); s.Healthy {
		t.Errorf("after the reset: %+v", s)
	}
}

// TestProbeFromBeforeAReset: its result belongs to the guest's earlier life.
func TestProbeFromBeforeAReset(t *testing.T) {
	asked, answer := make(chan struct{}, 100), make(chan struct{})
	var late atomic.Bool
	s := serveHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		if late.Load() {
			w.WriteHeader(500)
			return
		}
		asked <- struct{}{}
		select {
		case <-answer:
		case <-r.Context().Done():
		}
	})
	p := prober(t, Options{Kind: HTTP, Port: s.port, Timeout: 2 * time.Minute})
	<-asked
	p.restart(whyStarting)
	late.Store(true)
	close(answer) // with 200
	try.Until(t, "more probes", func() bool {
		s := p.State()
		if s.Checked {
			t.Fatalf("judged by a probe from before the reset: %+v", s)
		}
		return s.Failures > 0
	})
}

// TestHangingProbesDoNotBlock: one that hangs is followed by others, and by a
// healthy verdict when the service comes back.
func TestHangingProbesDoNotBlock(t *testing.T) {
	var works atomic.Bool
	s := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		if !works.Load() {
			<-r.Context().Done() // until the prober hangs up
		}
	})
	clk := &hand{}
	p := prober(t, Options{Kind: HTTP, Port: s.port, Timeout: 20 * time.Millisecond, Grace: time.Second, Clock: clk.read})
	until(t, p, "starting", starting)
	clk.forward(time.Second)
	if s := until(t, p, "failed", failed); !strings.Contains(s.Why, "no whole answer in 20ms") {
		t.Errorf("failed: %+v", s)
	}
	works.Store(true)
	until(t, p, "healthy", healthy)
}

// TestNothingToAsk: without an address there is no verdict, with one again the
// grace begins.
func TestNothingToAsk(t *testing.T) {
	s := serveTCP(t, func(c net.Conn) { _ = c.Close() })
	var addr atomic.Pointer[string]
	set := func(a string) { addr.Store(&a) }
	set("")
	clk := &hand{}
	p := prober(t, Options{Kind: TCP, Addr: func() string { return *addr.Load() }, Port: s.port, Failures: 1, Clock: clk.read})
	until(t, p, "idle", func(s State) bool { return s == State{Why: whyNothing} })
	clk.forward(2 * defaultGrace)
	set("not an address")
	until(t, p, "starting", starting)
	set(loopback())
	until(t, p, "healthy", healthy)
	set("")
	until(t, p, "idle again", func(s State) bool { return !s.Checked && s.Why == whyNothing })
	if s.hits.Load() == 0 {
		t.Error("the service was never asked")
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	before := runtime.NumGoroutine()
	s := serveHTTP(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	p, err := New(Options{Kind: HTTP, Addr: loopback, Port: s.port, Timeout: time.Minute, Failures: 1, Grace: 1})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); p.Run(ctx) }()
	try.Until(t, "it to be asked", func() bool { return s.hits.Load() > 0 })
	cancel()
	<-ended // the probe alone would take a minute
	if s := p.State(); s.Checked || s.Failures != 0 {
		t.Errorf("a probe that was called off counts: %+v", s)
	}
	try.Until(t, "no goroutine to be left", func() bool { return runtime.NumGoroutine() <= before+1 }) // the server's own
}

func TestNewRefusesBadOptions(t *testing.T) {
	good := Options{Kind: HTTP, Addr: loopback, Port: 80}
	p, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if o := p.opt; o.Path != "/" || o.Interval != 10*time.Second || o.Timeout != 5*time.Second || o.Failures != 3 ||
		o.Grace != 5*time.Minute || o.Clock() == 0 {
		t.Errorf("defaults: %+v", o)
	}
	for name, edit := range map[string]func(*Options){
		"kind":     func(o *Options) { o.Kind = "icmp" },
		"address":  func(o *Options) { o.Addr = nil },
		"port 0":   func(o *Options) { o.Port = 0 },
		"port":     func(o *Options) { o.Port = 65536 },
		"path":     func(o *Options) { o.Path = "live" },
		"blank":    func(o *Options) { o.Path = "/a b" },
		"tcp path": func(o *Options) { o.Kind, o.Path = TCP, "/" },
		"interval": func(o *Options) { o.Interval = -1 },
		"timeout":  func(o *Options) { o.Timeout = -1 },
		"failures": func(o *Options) { o.Failures = -1 },
		"grace":    func(o *Options) { o.Grace = -1 },
	} {
		opt := good
		edit(&opt)
		if _, err := New(opt); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestIPv6(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("skipped: no IPv6 on loopback: %v", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	p := prober(t, Options{Kind: TCP, Addr: func() string { return "::1" }, Port: n})
	until(t, p, "healthy", healthy)
}

// syncBuffer is a buffer that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
