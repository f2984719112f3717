package nettest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/try"
)

// Fault is what a Proxy does to one request.
type Fault uint8

// Faults.
const (
	None Fault = iota
	Busy       // 429, and Neutron does not get it
	Down       // 503, and Neutron does not get it
	Cut        // Neutron carries it out, and the connection ends without an answer
	Late       // the connection ends at once, and Neutron carries it out afterwards
)

// lateWithin is how long a late request may take: beside another one for the same object it can wait for that one's
// locks, and longer than anybody else; on a busy machine each takes many seconds.
const lateWithin = 2 * time.Minute

// Proxy stands before a real Neutron, and counts what changes something there.
type Proxy struct {
	URL string
	// of a request; write is the number of requests that change something, with this one; nil: none
	Fault func(r *http.Request, write int) Fault

	to     string
	mu     sync.Mutex
	writes int
	made   map[string]int // objects that a POST has made, by ID, without address scopes
	late   sync.WaitGroup
}

// NewProxy begins to serve before a server, on 127.0.0.1. It ends with the test.
func NewProxy(t testing.TB, s *Server) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	return NewProxyAt(t, s, l)
}

// NewProxyAt is NewProxy on a listener, which may be one that others reach who do not reach the server.
func NewProxyAt(t testing.TB, s *Server, l net.Listener) *Proxy {
	p := &Proxy{URL: "http://" + l.Addr().String(), to: s.Endpoint(), made: map[string]int{}}
	srv := httptest.NewUnstartedServer(p)
	try.Must(t, srv.Listener.Close())
	srv.Listener = l
	srv.Start()
	t.Cleanup(func() {
		srv.Close()
		p.late.Wait()
	})
	return p
}

// Writes is how many requests would have changed something.
func (p *Proxy) Writes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writes
}

// Made says how often an object was made, by ID: once, if all is well.
func (p *Proxy) Made() map[string]int {
	p.late.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

// ServeHTTP passes a request on, or does what is wrong with it.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client has gone
	}
	p.mu.Lock()
	if r.Method != http.MethodGet {
		p.writes++
	}
	n := p.writes
	p.mu.Unlock()
	fault := None
	if p.Fault != nil {
		fault = p.Fault(r, n)
	}
	switch fault {
	case Busy:
		w.Header().Set("Retry-After", "0")
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	case Down:
		http.Error(w, "no server", http.StatusServiceUnavailable)
		return
	case Late:
		p.late.Go(func() {
			time.Sleep(300 * time.Millisecond)
			ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), lateWithin)
			defer cancel()
			p.pass(ctx, r, body) // nobody waits for what it answers
		})
		panic(http.ErrAbortHandler)
	}
	// It goes on when the client has gone: Neutron does not take a request back.
	status, header, answer := p.pass(context.WithoutCancel(r.Context()), r, body)
	if fault == Cut || status == 0 {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", header.Get("Content-Type"))
	w.WriteHeader(status)
	_, _ = w.Write(answer) // a client that has gone says so itself
}

// pass has Neutron carry a request out; status 0: it did not answer.
func (p *Proxy) pass(ctx context.Context, r *http.Request, body []byte) (status int, h http.Header, answer []byte) {
	out, err := http.NewRequestWithContext(ctx, r.Method, p.to+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil
	}
	out.Header = r.Header.Clone()
	out.Header.Del("Accept-Encoding") // the answer is passed on as it is read
	res, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		return 0, nil, nil
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		return 0, nil, nil
	}
	if r.Method == http.MethodPost && res.StatusCode == http.StatusCreated {
		var objects map[string]struct {
			ID string `json:"id"`
		}
		if json.Unmarshal(answer, &objects) == nil {
			p.mu.Lock()
			for key, o := range objects {
				if key != "address_scope" { // by which it is looked whose database it is
					p.made[o.ID]++
				}
			}
			p.mu.Unlock()
		}
	}
	return res.StatusCode, res.Header, answer
}
