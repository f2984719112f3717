package group

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/pair"
	"holdfast/testbed/drbdnode"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestMain is also what runs on the emulated hosts: commands from afar, the copy and the
// mount, the handler, a client that writes.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		os.Exit(m.Run())
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = drbdnode.Serve()
	case "fence":
		code, err := drbd.Handle("/run", os.Getenv("DRBD_RESOURCE"))
		fmt.Fprintln(os.Stderr, err)
		os.Exit(code)
	case "write":
		err = drbdnode.WriteRows("/mnt/rows")
	case "insert":
		err = insertRows()
	default:
		err = onNode(os.Args[1])
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// onNode calls the copy or the mount on a node.
func onNode(what string) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	cfg := drbd.Config{
		Resource: "r0", Disk: "/dev/vda", RunDir: "/run", Handler: []string{"/node", "fence"},
		Self: drbd.Node{Name: "n1", Addr: netip.MustParseAddrPort("10.97.1.1:7789")},
		Peer: drbd.Node{Name: "n2", Addr: netip.MustParseAddrPort("10.97.1.2:7789")},
	}
	if host == "n2" {
		cfg.Self, cfg.Peer = cfg.Peer, cfg.Self
	}
	db, err := drbd.New(cfg)
	if err != nil {
		return err
	}
	d := &Device{DB: db, Dir: "/var/lib"}
	m := &Mount{Name: "data", Device: cfg.Device(), Dir: "/mnt", Type: "ext4", Thaw: db.Thaw, Frozen: db.Frozen, Hold: db.Hold}
	server := &OnMount{Member: emulatedServer(), Mount: m}
	d.Make = func(ctx context.Context) error { return makeOnNode(ctx, m) }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	switch what {
	case "create":
		return db.Create(ctx)
	case "first":
		return db.First(ctx)
	case "begin":
		return d.First(ctx)
	case "start":
		return server.Start(ctx)
	case "stop":
		return server.Stop(ctx, false)
	case "kill-server":
		return server.Stop(ctx, true)
	case "look":
		l := deviceLook{Mount: m.State(ctx), Server: server.State(ctx)}
		told := ""
		if l.Replica, told, err = d.Look(ctx, pair.Sync{}); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(told), &l.Copy); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(l)
	case "promote":
		return d.Promote(ctx, pair.Sync{Host: cluster.HostID(host), Epoch: cluster.Epoch{Gen: 1, Seq: 2}})
	case "demote":
		return d.Demote(ctx, false)
	case "drain":
		return d.Drain(ctx, "")
	case "alone":
		return d.Alone(ctx)
	case "join":
		_, err := d.Join(ctx, "")
		return err
	case "follow":
		return d.Follow(ctx, false)
	case "cut":
		return d.Follow(ctx, true)
	case "unfollow":
		return d.Unfollow(ctx)
	case "mount":
		return m.Start(ctx)
	case "umount":
		return m.Stop(ctx, false)
	case "kill":
		return m.Stop(ctx, true)
	}
	return fmt.Errorf("no such call: %s", what)
}

// deviceLook is what a node says of itself.
type deviceLook struct {
	Replica pair.Replica
	Copy    Copy
	Mount   pair.State
	Server  pair.State
}

// deviceNode is one of two emulated hosts.
type deviceNode struct {
	*drbdnode.Node
	t *testing.T
}

func (n deviceNode) do(whats ...string) {
	n.t.Helper()
	for _, what := range whats {
		n.t.Log(n.Name(), what)
		n.Run("/node", what)
	}
}

func (n deviceNode) look() (l deviceLook) {
	n.t.Helper()
	try.Must(n.t, json.Unmarshal([]byte(n.Run("/node", "look")), &l))
	return l
}

// follows gives up what this copy alone has, follows the other one, and waits until it has everything.
func (n deviceNode) follows(other deviceNode) {
	n.t.Helper()
	for i := 0; ; i++ {
		other.do("look") // it connects anew when this one has refused, which it may learn later
		out, code := n.Try("/node", "cut")
		if code == 0 {
			break
		}
		if i == 20 {
			n.t.Fatalf("%s does not follow: %s", n.Name(), out)
		}
	}
	n.until("a good copy", func(l deviceLook) bool { return l.Replica.Linked && l.Replica.Whole && !l.Replica.Wrote })
	other.until("the peer", func(l deviceLook) bool { return l.Replica.Linked })
	other.do("join")
}

func (n deviceNode) until(what string, ok func(deviceLook) bool) {
	n.t.Helper()
	var l deviceLook
	defer func() {
		if n.t.Failed() {
			n.t.Logf("%s: looked last when it was %+v", n.Name(), l)
		}
	}()
	try.Until(n.t, n.Name()+": "+what, func() bool {
		if l = n.look(); ok(l) {
			return true
		}
		time.Sleep(drbdnode.LookAgain)
		return false
	})
}

// TestOnTwoNodes has its parts on the same two emulated hosts, one after the other.
func TestOnTwoNodes(t *testing.T) {
	need.Drill(t, "P1, P2: a copy and a database on a real DRBD, on two emulated hosts", need.Root,
		need.Programs("qemu-system-x86", "qemu-system-x86_64"), need.Programs("mariadb-server", "mariadbd"))
	t.Parallel()
	template := filepath.Join(try.ShortDir(t), "database")
	drbdnode.EmptyDatabase(t, template)
	nodes := drbdnode.Make(t, drbdnode.Options{
		Pkg: "holdfast/internal/pair/group", Memory: 704, Disk: 112 << 20,
		Files: []string{"/usr/sbin/mariadbd", "/usr/share/mysql/english", "/usr/share/mysql/charsets", template},
	})
	for i, part := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"a copy on DRBD", func(t *testing.T) { copyOnDRBD(t, deviceNode{nodes[0], t}, deviceNode{nodes[1], t}) }},
		{"a database on DRBD", func(t *testing.T) {
			databaseOnDRBD(t, deviceNode{nodes[0], t}, deviceNode{nodes[1], t}, template)
		}},
	} {
		t.Run(part.name, func(t *testing.T) {
			for _, n := range nodes {
				n.In(t)
				if i > 0 {
					n.Anew()
				}
			}
			part.do(t)
		})
	}
}

// copyOnDRBD has the copy and the mount do what the core asks of them.
func copyOnDRBD(t *testing.T, a, b deviceNode) {
	for _, n := range []deviceNode{a, b} {
		n.do("create", "look") // the first look attaches and connects
	}
	a.until("the peer", func(l deviceLook) bool { return l.Copy.Connection == "Connected" })
	if l := a.look(); l.Replica.Whole || l.Replica.Role != pair.RoleStandby || l.Mount != pair.Down {
		t.Errorf("a copy that has nothing: %+v", l)
	}
	a.do("first")
	b.until("a good copy", func(l deviceLook) bool { return l.Replica.Whole && l.Replica.Linked && !l.Replica.Wrote })

	// Active, with a user of the file system that an orderly end does not end.
	a.do("promote")
	a.Run("mkfs.ext4", "-q", "/dev/drbd0")
	a.do("mount")
	want := deviceLook{Mount: pair.Up, Replica: pair.Replica{Role: pair.RoleActive, Waits: true, Linked: true, Whole: true, Wrote: true}}
	if l := a.look(); l.Replica != want.Replica || l.Mount != want.Mount {
		t.Errorf("active: %+v", l)
	}
	rows := a.Stream(t.Context(), "/node", "write")
	acked := 0
	for acked < 20 {
		if _, ok := <-rows; !ok {
			t.Fatal("no row is acknowledged")
		}
		acked++
	}
	if out, code := a.Try("/node", "umount"); code == 0 {
		t.Errorf("unmounted with a user: %s", out)
	}
	if l := a.look(); l.Mount != pair.Up {
		t.Errorf("in use: %+v", l)
	}

	// The peer is lost: it ends while its writes are frozen, and tells nobody of them.
	a.Cut(true)
	a.until("frozen writes", func(l deviceLook) bool { return l.Copy.Frozen() && !l.Replica.Linked && l.Replica.Waits })
	for quiet := false; !quiet; {
		select {
		case _, ok := <-rows:
			if !ok {
				t.Fatal("the client has ended by itself")
			}
			acked++
		case <-time.After(2 * time.Second):
			quiet = true
		}
	}
	a.do("kill")
	for row := range rows {
		if strings.TrimSpace(row) != "" {
			t.Errorf("row %s was acknowledged after the peer was lost", row)
		}
	}
	if l := a.look(); l.Mount != pair.Down || !l.Replica.Waits || !l.Copy.Frozen() {
		t.Errorf("nobody uses it any more, and the next one would write alone: %+v", l)
	}
	a.do("demote")
	if l := a.look(); l.Mount != pair.Down || l.Replica.Role != pair.RoleStandby || l.Replica.Linked || !l.Replica.Wrote {
		t.Errorf("ended: %+v", l)
	}

	// The other one takes over, and has all that was acknowledged.
	b.until("the loss", func(l deviceLook) bool { return l.Copy.Connection != "Connected" })
	b.do("promote")
	if l := b.look(); l.Replica.Role != pair.RoleActive || !l.Replica.Waits || l.Replica.Linked {
		t.Errorf("promoted without the peer: %+v", l)
	}
	b.do("alone", "mount")
	if l := b.look(); l.Replica.Waits || l.Mount != pair.Up {
		t.Errorf("alone: %+v", l)
	}
	if got := len(strings.Fields(b.Run("cat", "/mnt/rows"))); got < acked {
		t.Errorf("%d rows are there, %d were acknowledged", got, acked)
	}
	b.Run("sh", "-c", "echo new >/mnt/new && sync")

	// The former active follows when it is told to, not before.
	a.Cut(false)
	b.do("look")
	if out, code := a.Try("/node", "follow"); code == 0 {
		t.Errorf("follows without a cut: %s", out)
	}
	a.follows(b)

	// A planned change, and back to who follows by itself.
	b.do("umount", "drain")
	a.do("promote", "mount")
	if got := a.Run("cat", "/mnt/new"); got != "new" {
		t.Errorf("the other one has %q", got)
	}
	b.until("that it follows", func(l deviceLook) bool { return l.Replica.Linked && !l.Replica.Wrote })
	b.do("unfollow")
	if l := b.look(); l.Replica.Linked || l.Copy.Problem != "" {
		t.Errorf("does not follow any more: %+v", l)
	}
}
