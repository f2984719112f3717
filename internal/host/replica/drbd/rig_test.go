package drbd_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"holdfast/internal/host/replica/drbd"
	"holdfast/testbed/drbdnode"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// runDir is the driver's on a node, which boots with an empty one.
const runDir = "/run"

// TestMain is also what runs on the nodes: commands from afar, the driver, the handler, a
// client that writes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		var err error
		switch os.Args[1] {
		case "serve":
			err = drbdnode.Serve()
		case "fence":
			code, err := drbd.Handle(os.Args[2], os.Getenv("DRBD_RESOURCE"))
			fmt.Fprintln(os.Stderr, err)
			os.Exit(code)
		case "write":
			err = drbdnode.WriteRows(os.Args[2])
		case "do":
			err = do(os.Args[2])
		default:
			os.Exit(m.Run())
		}
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// config is the one device, as a node has it.
func config() (drbd.Config, error) {
	host, err := os.Hostname()
	c := drbd.Config{
		Resource: "r0", Disk: "/dev/vda", RunDir: runDir, Handler: []string{"/node", "fence", runDir},
		Secret: strings.Repeat("s", drbd.MaxSecret),
		Self:   drbd.Node{Name: "n1", Addr: netip.MustParseAddrPort("10.97.1.1:7789")},
		Peer:   drbd.Node{Name: "n2", Addr: netip.MustParseAddrPort("10.97.1.2:7789")},
	}
	if host == "n2" {
		c.Self, c.Peer = c.Peer, c.Self
	}
	return c, err
}

// do calls the driver on a node.
func do(what string) error {
	cfg, err := config()
	if err != nil {
		return err
	}
	d, err := drbd.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch what {
	case "ready":
		return drbd.Ready(ctx, cfg.Disk)
	case "create":
		return d.Create(ctx)
	case "first":
		return d.First(ctx)
	case "up":
		return d.Up(ctx, true)
	case "attach":
		return d.Up(ctx, false)
	case "connect":
		return d.Connect(ctx)
	case "promote":
		return d.Promote(ctx, "epoch 1")
	case "promote-bare":
		return d.Promote(ctx, "")
	case "demote":
		return d.Demote(ctx)
	case "alone":
		return d.Alone(ctx)
	case "join":
		return d.Join(ctx)
	case "resync":
		return d.Resync(ctx, false)
	case "resync-cut":
		return d.Resync(ctx, true)
	case "detach":
		return d.Detach(ctx)
	case "keep":
		return d.Retain(ctx)
	case "down":
		return d.Down(ctx)
	case "thaw":
		return d.Thaw(ctx)
	case "status":
		st, err := d.Status(ctx)
		if err != nil {
			return err
		}
		if err := sameAtAGlance(ctx, d, st); err != nil {
			return err
		}
		s := status{State: st}
		if s.Waits, err = d.Waits(st); err != nil {
			return err
		}
		if s.Split, err = d.Split(st); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(s)
	}
	return fmt.Errorf("no such call: %s", what)
}

// sameAtAGlance compares what the kernel's file tells with what drbdsetup has just told, which
// may have changed meanwhile.
func sameAtAGlance(ctx context.Context, d *drbd.Driver, st drbd.State) error {
	for range 20 {
		g, err := d.Glance(ctx)
		if err != nil {
			return err
		}
		if same(g, st) {
			return nil
		}
		was := st
		if st, err = d.Status(ctx); err != nil {
			return err
		}
		if st == was && !same(g, st) {
			switch again, err := d.Glance(ctx); {
			case err != nil:
				return err
			case again == g:
				return fmt.Errorf("at a glance %+v, and drbdsetup tells %+v", g, st)
			}
		}
	}
	return nil // it changes all the time
}

// same leaves out what only one of the two tells: why writes are held back, and what the peer
// was before there was no connection to it.
func same(g, st drbd.State) bool {
	if g.Alone() && st.Alone() {
		for _, s := range []*drbd.State{&g, &st} {
			s.Connection, s.PeerRole, s.PeerDisk, s.Replication, s.OutOfSync = "", "", "", "", 0
		}
	}
	if g.Frozen() && st.Frozen() {
		g.Suspended = st.Suspended
	}
	return g == st
}

type status struct {
	drbd.State
	Waits, Split bool
}

// node is one of two, with the driver on it.
type node struct {
	*drbdnode.Node
	t *testing.T
}

func (n node) do(what string) {
	n.t.Helper()
	n.t.Log(n.Name(), what)
	n.Run("/node", "do", what)
}

// insist calls until it goes well, as the core does: a busy machine keeps peers from one another.
func (n node) insist(what string) {
	n.t.Helper()
	try.Until(n.t, n.Name()+" to "+what, func() bool { _, code := n.Try("/node", "do", what); return code == 0 })
}

// refuses reports that a call failed, and why.
func (n node) refuses(what string) string {
	n.t.Helper()
	out, code := n.Try("/node", "do", what)
	if code == 0 {
		n.t.Fatalf("%s: %s went well", n.Name(), what)
	}
	n.t.Log(n.Name(), what, "refused:", out)
	return out
}

func (n node) status() (s status) {
	n.t.Helper()
	try.Must(n.t, json.Unmarshal([]byte(n.Run("/node", "do", "status")), &s))
	return s
}

// until waits for a state.
func (n node) until(what string, ok func(status) bool) {
	n.t.Helper()
	try.Until(n.t, what+" on "+n.Name(), func() bool {
		if ok(n.status()) {
			return true
		}
		time.Sleep(drbdnode.LookAgain) // a look takes an emulated processor long
		return false
	})
}

func linked(s status) bool { return s.Linked() && s.Disk == "UpToDate" }
func frozen(s status) bool { return s.Frozen() && s.Connection != "Connected" }

// TestTwoNodes has its parts on the same two nodes, one after the other.
func TestTwoNodes(t *testing.T) {
	need.Drill(t, "P1, P2: a copy by the real DRBD on two emulated hosts: its life, a cut link that freezes the "+
		"primary, and a person who keeps the older one", need.Root,
		need.Programs("qemu-system-x86", "qemu-system-x86_64"), need.Programs("busybox-static", "busybox"))
	nodes := drbdnode.New(t, "holdfast/internal/host/replica/drbd")
	for i, part := range []struct {
		name string
		do   func(t *testing.T, a, b node)
	}{{"the life of a copy", life}, {"a cut link freezes the primary until alone", cutLink},
		{"a person keeps the older copy", keepsTheOlder}} {
		t.Run(part.name, func(t *testing.T) {
			for _, n := range nodes {
				n.In(t)
				if i > 0 {
					n.Anew()
				}
			}
			a, b := node{nodes[0], t}, node{nodes[1], t}
			start(a, b)
			part.do(t, a, b)
		})
	}
}

// start makes the copies of two nodes the same. They have no file system.
func start(a, b node) {
	a.t.Helper()
	for _, n := range []node{a, b} {
		n.do("ready")
		n.do("create")
		n.do("ready")
		n.do("up")
		n.do("ready")
	}
	b.until("the peer", func(s status) bool { return s.Connection == "Connected" && s.PeerDisk == "Inconsistent" })
	b.do("first")
	a.until("a good copy", linked)
}

// follows gives up what this copy alone has, follows the other one, and waits until it has everything.
func (n node) follows(other node) {
	n.t.Helper()
	for i := 0; ; i++ {
		other.do("connect") // it may have refused, or stopped once more, which it may learn later
		out, code := n.Try("/node", "do", "resync-cut")
		if code == 0 {
			break
		}
		if i == 20 {
			n.t.Fatalf("%s does not follow: %s", n.Name(), out)
		}
	}
	n.until("a good copy", linked)
	other.insist("join")
}

// client writes on a node.
type client struct {
	t     *testing.T
	lines <-chan string
	got   []string // acknowledged
}

func (n node) client(ctx context.Context) *client {
	return &client{t: n.t, lines: n.Stream(ctx, "/node", "write", "/mnt/rows")}
}

// more waits for rows, and reports whether they came: it is false when the client has ended.
func (c *client) more(n int) bool {
	for ; n > 0; n-- {
		line, ok := <-c.lines
		if !ok {
			return false
		}
		c.got = append(c.got, line)
	}
	return true
}

// comes reports whether a row comes within a time, in which many do unless writes are frozen.
func (c *client) comes(within time.Duration) bool {
	select {
	case line, ok := <-c.lines:
		if ok {
			c.got = append(c.got, line)
		}
		return ok
	case <-time.After(within):
		return false
	}
}

// rest takes in what was acknowledged until the end.
func (c *client) rest() []string {
	for line := range c.lines {
		c.got = append(c.got, line)
	}
	return c.got
}
