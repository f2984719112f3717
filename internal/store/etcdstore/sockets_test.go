package etcdstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"holdfast/internal/store"
	"holdfast/testbed/need"
	"holdfast/testbed/nettest"
)

// A connection whose packets were lost is tried again by the kernel after twice
// the time each: it does so 6.2 s after the first loss, and then not before 12.6 s. Votes that wait for that
// are what made elections slow.
func TestAMemberThatWasCutOffIsBackSoon(t *testing.T) {
	need.Drill(t, "P3: a member whose packets were lost is back before the kernel would try its connections again",
		need.Root, need.Programs("iproute2", "ip"), need.Programs("nftables", "nft"))
	const cut, bound = 7500 * time.Millisecond, 4 * time.Second
	hosts := nettest.New(t, 3)
	ms := startApart(t, hosts)
	c := &cluster{members: ms}
	var clients []*Client
	for i, m := range ms {
		clients = append(clients, openOn(t, hosts, i, m.conf.ClientURL, nil))
	}
	for _, cl := range clients {
		written(t, c, cl, 0)
	}
	lead := leaderOn(t, c, clients)

	hosts.CutFrom(t, lead) // all that it sends is lost, and it is not told
	began := time.Now()
	for i, cl := range clients {
		if i != lead {
			written(t, c, cl, 0)
		}
	}
	t.Logf("the others wrote again after %s", time.Since(began).Round(time.Millisecond))
	time.Sleep(time.Until(began.Add(cut))) // the kernel's pause has to grow
	hosts.Heal(t, lead)
	healed := time.Now()
	written(t, c, clients[lead], bound)
	t.Logf("the one that was cut off wrote again after %s", time.Since(healed).Round(time.Millisecond))
}

// startApart starts a member on each host.
func startApart(t *testing.T, hosts *nettest.Net) []*member {
	t.Helper()
	dir := t.TempDir()
	initial := map[string]string{}
	for i := range 3 {
		initial[fmt.Sprintf("h%d", i+1)] = fmt.Sprintf("http://%s:2380", hosts.Addr(i))
	}
	var ms []*member
	for i := range 3 {
		name, client := fmt.Sprintf("h%d", i+1), fmt.Sprintf("http://%s:2379", hosts.Addr(i))
		m := &member{
			file: filepath.Join(dir, name+".json"), log: filepath.Join(dir, name+".log"),
			conf: MemberConfig{
				Name: name, Cluster: "apart", DataDir: filepath.Join(dir, name), Initial: initial,
				LogFile: filepath.Join(dir, name+".log"), LogLevel: "info",
				ListenPeer: initial[name], PeerURL: initial[name], ListenClient: client, ClientURL: client,
			},
		}
		m.write(t)
		cmd := m.command(t)
		if err := hosts.Start(i, cmd); err != nil {
			t.Fatal(err)
		}
		m.cmd = cmd
		t.Cleanup(func() { m.end(t, unix.SIGKILL) })
		ms = append(ms, m)
	}
	return ms
}

// openOn makes a client that lives on a host.
func openOn(t *testing.T, hosts *nettest.Net, host int, at string, secret *tls.Config) *Client {
	t.Helper()
	o := Options{Endpoints: []string{at}, TLS: secret, Prefix: "/", DialTimeout: 2 * time.Second, Log: discard()}
	conf := config(o)
	conf.DialOptions = append(conf.DialOptions, grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return hosts.Dial(ctx, host, addr)
	}))
	etcd, err := clientv3.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{etcd: etcd, prefix: o.Prefix, log: o.Log, done: make(chan struct{})}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// written writes until it is done. within: in this time, which is one of the kernel's timers or of the product's; 0: some time.
func written(t *testing.T, c *cluster, cl *Client, within time.Duration) {
	t.Helper()
	if within == 0 {
		c.until(t, func() error { return tryWrite(t, cl, 2*time.Second) })
		return
	}
	end := time.Now().Add(within)
	for {
		err := tryWrite(t, cl, min(time.Until(end), 500*time.Millisecond))
		if err == nil {
			return
		}
		if time.Now().After(end) {
			c.fail(t, "no write by %s within %s: %v", cl.etcd.Endpoints(), within, err)
		}
	}
}

// tryWrite writes once.
func tryWrite(t *testing.T, cl *Client, within time.Duration) error {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_, _, err := cl.Txn(ctx, nil, []store.Op{{Key: "k", Value: []byte("v")}})
	return err
}

// leaderOn finds the leader's host.
func leaderOn(t *testing.T, c *cluster, clients []*Client) (host int) {
	t.Helper()
	c.until(t, func() error {
		for i, cl := range clients {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			st, err := cl.etcd.Status(ctx, c.members[i].conf.ClientURL)
			cancel()
			if err == nil && st.Leader == st.Header.MemberId {
				host = i
				return nil
			}
		}
		return errors.New("no leader")
	})
	return host
}

func TestLimitsOfSockets(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range 2 { // and again when the one who dialled has set options of its own
		fds, err := descriptors()
		if err == nil {
			err = limitSockets(fds)
		}
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]int{unix.SO_KEEPALIVE: 1, unix.TCP_KEEPIDLE: 1, unix.TCP_KEEPINTVL: 1, unix.TCP_USER_TIMEOUT: 2000}
		for name, value := range want {
			if have := option(t, conn, name); have != value {
				t.Errorf("option %d is %d, want %d", name, have, value)
			}
		}
		if err := conn.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Minute,
			Interval: time.Minute}); err != nil {
			t.Fatal(err)
		}
	}
}

func option(t *testing.T, conn net.Conn, name int) (value int) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	level := unix.IPPROTO_TCP
	if name == unix.SO_KEEPALIVE {
		level = unix.SOL_SOCKET
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { value, failed = unix.GetsockoptInt(int(fd), level, name) }); err != nil || failed != nil {
		t.Fatal(err, failed)
	}
	return value
}
