package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"holdfast/internal/cluster"
)

const (
	askEvery = 20 * time.Millisecond  // between two questions to the VM, and two looks at the processes
	askLimit = 500 * time.Millisecond // for one answer
)

// observer sees the VM from outside the agents: who answers on which host, and
// which processes of it exist. It is also the VM's client: what is answered on a
// host that a client can reach counts for the outage.
type observer struct {
	least time.Duration // the shortest silence that counts, see limits.noise

	mu         sync.Mutex
	lives      map[string]*life
	runs       []running // where the VM ran at the last look
	maxHolders int
	last       time.Time // the client's last answer
	lastFrom   Answer
	gaps       []gap
}

// running is a process of the VM, as the process table shows it.
type running struct {
	Host  cluster.HostID
	Epoch cluster.Epoch // zero when the table does not tell
}

// life is what is known of one boot of the VM: it was alive from its first
// answer to the moment at which the last question that it answered was sent.
type life struct {
	first, last time.Time
	client      time.Time // first answer to the client; zero for none
}

// gap is a time without any answer to the client. It is open while to is zero.
type gap struct{ from, to time.Time }

func newObserver(least time.Duration) *observer {
	return &observer{least: least, lives: map[string]*life{}}
}

// Answered takes in an answer to a question that was sent at sent and answered at
// now. client says that a client could have asked there. It reports the gap that
// the answer has ended.
func (o *observer) Answered(a Answer, sent, now time.Time, client bool) (gap, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.lives[a.Boot]
	if l == nil {
		l = &life{first: now, last: now}
		o.lives[a.Boot] = l
	}
	if sent.After(l.last) {
		l.last = sent
	}
	o.maxHolders = max(o.maxHolders, o.overlap())
	if !client {
		return gap{}, false
	}
	if l.client.IsZero() {
		l.client = now
	}
	from := o.last
	o.last, o.lastFrom = now, a
	if n := len(o.gaps); n > 0 && o.gaps[n-1].to.IsZero() {
		o.gaps[n-1].to = now
		return o.gaps[n-1], true
	}
	if !from.IsZero() && now.Sub(from) >= o.least { // nobody looked meanwhile
		g := gap{from: from, to: now}
		o.gaps = append(o.gaps, g)
		return g, true
	}
	return gap{}, false
}

// overlap is the largest number of lives that were alive at one instant. The
// number can only grow at the first answer of a life. The caller holds mu.
func (o *observer) overlap() int {
	most := 0
	for _, at := range o.lives {
		n := 0
		for _, l := range o.lives {
			if !l.first.After(at.first) && !l.last.Before(at.first) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// Saw takes in where the VM's processes are now. It is for the screen and for
// the drill's next step; the verdict rests on Held.
func (o *observer) Saw(runs []running) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.runs = runs
}

// Held takes in that n VMs ran at one instant.
func (o *observer) Held(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.maxHolders = max(o.maxHolders, n)
}

// Silent tells whether the client has just lost the VM: once per gap, with the
// time of the last answer.
func (o *observer) Silent(now time.Time) (time.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(o.gaps)
	open := n > 0 && o.gaps[n-1].to.IsZero()
	if open || o.last.IsZero() || now.Sub(o.last) < o.least {
		return time.Time{}, false
	}
	o.gaps = append(o.gaps, gap{from: o.last})
	return o.last, true
}

// Outage is the longest time after from without an answer to the client, 0 when
// there was none that counts. One that goes on counts up to now.
func (o *observer) Outage(from, now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	var longest time.Duration
	for _, g := range o.gaps {
		end := g.to
		if end.IsZero() {
			end = now
		}
		if end.After(from) {
			longest = max(longest, end.Sub(g.from))
		}
	}
	return longest
}

// LostBefore returns since when the client had no answer before the one that came at a moment; zero: it had.
func (o *observer) LostBefore(answered time.Time) (from time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, g := range o.gaps {
		if g.to.Equal(answered) {
			from = g.from
		}
	}
	return from
}

// Client returns the client's last answer and when it came; zero for none.
func (o *observer) Client() (Answer, time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lastFrom, o.last
}

// FirstOther returns when another life of the VM than boot first answered the
// client after a moment.
func (o *observer) FirstOther(boot string, after time.Time) (first time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for name, l := range o.lives {
		if name != boot && l.client.After(after) && (!ok || l.client.Before(first)) {
			first, ok = l.client, true
		}
	}
	return first, ok
}

// Holders returns where the VM's processes are and the most at any instant so
// far.
func (o *observer) Holders() ([]running, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.runs, o.maxHolders
}

// guestClient asks the VM on one host.
type guestClient struct {
	http *http.Client

	mu     sync.Mutex
	socket string
}

func newGuestClient(socket string) *guestClient {
	g := &guestClient{socket: socket}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.path())
	}
	g.http = &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1}}
	return g
}

func (g *guestClient) path() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.socket
}

// Use sets the socket to ask at.
func (g *guestClient) Use(socket string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.socket = socket
}

// Ask asks once.
func (g *guestClient) Ask(ctx context.Context) (a Answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guest/", nil)
	if err != nil {
		return a, fmt.Errorf("ask the VM: %w", err)
	}
	resp, err := g.http.Do(req)
	if err != nil {
		return a, fmt.Errorf("ask the VM: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil {
		return a, fmt.Errorf("ask the VM: %w", err)
	}
	return a, nil
}

// Close closes the connection.
func (g *guestClient) Close() { g.http.CloseIdleConnections() }
