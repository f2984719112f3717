package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// silence is how long the tests watch that nothing comes.
const silence = 60 * time.Millisecond

// testNet is a network with one echoing service, on h2, and a relay to it.
type testNet struct {
	*network
	relay  string
	target net.Listener

	mu   sync.Mutex
	from map[netip.AddrPort]cluster.HostID
}

func newTestNet(t *testing.T, who identify) *testNet {
	t.Helper()
	n := &testNet{from: map[netip.AddrPort]cluster.HostID{}}
	if who == nil {
		who = n.who
	}
	n.network = newNetwork(who, slog.New(slog.DiscardHandler))
	n.target = must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	var echoes sync.WaitGroup
	echoes.Go(func() {
		for {
			conn, err := n.target.Accept()
			if err != nil {
				return
			}
			echoes.Go(func() {
				_, _ = io.Copy(conn, conn) // ends with the connection, in whatever way
				_ = conn.Close()
			})
		}
	})
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	n.relay = listener.Addr().String()
	n.Relay(t.Context(), "h2", listener, n.target.Addr().String(), false)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		_ = n.target.Close() // a test may have closed it
		echoes.Wait()
	})
	return n
}

// who answers for connections that dial has announced.
func (n *testNet) who(ctx context.Context, client, _ netip.AddrPort) (cluster.HostID, error) {
	for {
		n.mu.Lock()
		host := n.from[client]
		n.mu.Unlock()
		if host == "nobody" {
			return "", errNobody
		}
		if host != "" {
			return host, nil
		}
		if !clock.Sleep(ctx, time.Millisecond) {
			return "", ctx.Err()
		}
	}
}

// dial connects to the service as a process of a host.
func (n *testNet) dial(t *testing.T, host cluster.HostID) *caller {
	t.Helper()
	conn := must[net.Conn](t)(net.Dial("tcp", n.relay))
	t.Cleanup(func() { _ = conn.Close() }) // the test may have closed it
	n.mu.Lock()
	n.from[netip.MustParseAddrPort(conn.LocalAddr().String())] = host
	n.mu.Unlock()
	return &caller{TCPConn: conn.(*net.TCPConn), lines: bufio.NewReader(conn)}
}

type caller struct {
	*net.TCPConn
	lines *bufio.Reader
}

// echoes fails unless what is sent comes back.
func (c *caller) echoes(t *testing.T) {
	t.Helper()
	c.send(t)
	if got, err := c.read(limit); err != nil || got != "hello\n" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func (c *caller) send(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
}

func (c *caller) read(within time.Duration) (string, error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	return c.lines.ReadString('\n')
}

// silent fails if anything comes, the end of the connection included.
func (c *caller) silent(t *testing.T) {
	t.Helper()
	got, err := c.read(silence)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() || got != "" {
		t.Fatalf("got %q, %v; want silence", got, err)
	}
}

// ended fails unless the connection ends.
func (c *caller) ended(t *testing.T) {
	t.Helper()
	got, err := c.read(limit)
	var timeout net.Error
	if err == nil || got != "" || errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("got %q, %v; want the end of the connection", got, err)
	}
}

func TestARelayForwardsBothWaysAndTheEndOfEach(t *testing.T) {
	n := newTestNet(t, nil)
	c := n.dial(t, "h1")
	c.echoes(t)
	c.send(t)
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.read(limit); err != nil || got != "hello\n" {
		t.Fatalf("after the end of one direction: %q, %v", got, err)
	}
	c.ended(t)
	eventually(t, "the relay forgets the connection", func() bool {
		n.network.mu.Lock()
		defer n.network.mu.Unlock()
		return len(n.links) == 0
	})
}

func TestACutIsSilentAndHealingEndsWhatWasCut(t *testing.T) {
	for _, isolated := range []cluster.HostID{"h1", "h2"} {
		t.Run(string(isolated), func(t *testing.T) {
			n := newTestNet(t, nil)
			old, own := n.dial(t, "h1"), n.dial(t, "h2")
			old.echoes(t)
			own.echoes(t)
			n.Isolate(isolated)
			if !n.Isolated(isolated) {
				t.Error("it is not reported as isolated")
			}
			old.send(t)
			old.silent(t)
			fresh := n.dial(t, "h1")
			fresh.send(t)
			fresh.silent(t)
			own.echoes(t) // a host always reaches itself
			n.Heal(isolated)
			old.ended(t)
			fresh.ended(t)
			own.echoes(t)
			n.dial(t, "h1").echoes(t)
		})
	}
}

func TestHealingOneOfTwoIsolatedHostsLeavesTheirLinkCut(t *testing.T) {
	n := newTestNet(t, nil)
	c, third := n.dial(t, "h1"), n.dial(t, "h3")
	c.echoes(t)
	third.echoes(t)
	n.Isolate("h1")
	third.echoes(t)
	n.Isolate("h2")
	n.Heal("h1")
	c.send(t)
	c.silent(t)
	third.silent(t)
	n.Heal("h2")
	c.ended(t)
	third.ended(t)
}

func TestAPeerThatDiesBehindACutIsNotNoticed(t *testing.T) {
	n := newTestNet(t, nil)
	c := n.dial(t, "h1")
	c.echoes(t)
	n.Isolate("h2")
	n.network.mu.Lock()
	for l := range n.links {
		for _, conn := range l.conns[1:] {
			_ = conn.Close() // as if the target's process had died
		}
	}
	n.network.mu.Unlock()
	c.silent(t)
}

func TestARelayRefusesWhomItDoesNotKnow(t *testing.T) {
	n := newTestNet(t, nil)
	n.dial(t, "nobody").ended(t)
}

func TestARelayRefusesWhereNothingListens(t *testing.T) {
	n := newTestNet(t, nil)
	if err := n.target.Close(); err != nil {
		t.Fatal(err)
	}
	n.dial(t, "h1").ended(t)
}

func TestCloseEndsHeldConnections(t *testing.T) {
	n := newTestNet(t, nil)
	c := n.dial(t, "h1")
	c.echoes(t)
	n.Isolate("h1")
	n.network.mu.Lock()
	held := len(n.links)
	n.network.mu.Unlock()
	if held != 1 {
		t.Fatalf("%d connections are held, want 1", held)
	}
	c.silent(t)
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	c.ended(t)
	n.network.mu.Lock()
	n.listeners = nil // so that the clean-up does not close it again
	n.network.mu.Unlock()
}

func TestTheOwnerOfAConnectionIsFoundByItsSocket(t *testing.T) {
	m := testMarks(t)
	n := newTestNet(t, ownerOf(m))
	_, out1, in1 := spawn(t, m.env("h1"), "play-caller", n.relay)
	_, out2, in2 := spawn(t, m.env("h2"), "play-caller", n.relay)
	_, outside, _ := spawn(t, "", "play-caller", n.relay)
	next := func(out *bufio.Scanner, want string) {
		t.Helper()
		if !out.Scan() || out.Text() != want {
			t.Fatalf("got %q, want %q", out.Text(), want)
		}
	}
	say := func(in io.Writer, text string) {
		t.Helper()
		if _, err := fmt.Fprintln(in, text); err != nil {
			t.Fatal(err)
		}
	}
	next(outside, "connected")
	next(outside, "closed")
	for _, out := range []*bufio.Scanner{out1, out2} {
		next(out, "connected")
	}
	say(in1, "one")
	next(out1, "one")
	say(in2, "two")
	next(out2, "two")
	n.Isolate("h1")
	say(in2, "own")
	next(out2, "own")
	say(in1, "lost")
	n.Heal("h1")
	if !out1.Scan() || strings.Contains(out1.Text(), "lost") {
		t.Fatalf("what was sent behind the cut has arrived: %q", out1.Text())
	}
}

func TestAddressesAreWrittenAsTheKernelDoes(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp", "127.1.2.3:0"))
	defer func() { _ = l.Close() }()
	conn := must[net.Conn](t)(net.Dial("tcp", l.Addr().String()))
	defer func() { _ = conn.Close() }()
	client, relay := netip.MustParseAddrPort(conn.LocalAddr().String()), netip.MustParseAddrPort(l.Addr().String())
	if socket, err := socketOf(client, relay); err != nil || socket.Inode == 0 {
		t.Errorf("%+v, %v", socket, err)
	}
	if _, err := socketOf(relay, relay); !errors.Is(err, errNobody) {
		t.Errorf("a connection that does not exist: %v", err)
	}
}
