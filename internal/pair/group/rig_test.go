package group

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/replica"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/pair"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/internal/transition/db/aligntest"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

const (
	adminPassword = "an admin's"
	replPassword  = "a replica's"
)

// rig is two nodes with a store that both reach, and package ha played by the test.
type rig struct {
	t     *testing.T
	store store.Store
	mem   *storetest.Mem
	node  map[cluster.HostID]*node
	owner cluster.Owner
}

// node is a node with its server, and its driver while its power is on.
type node struct {
	*Driver
	r      *rig
	name   cluster.HostID
	id     uint32
	cmd    *mariadb.Command
	port   int
	dir    string
	run    string // a directory that a boot empties
	root   *sql.DB
	db     *Database
	cancel context.CancelFunc
	done   chan error
	vip    *flag
}

// flag is a member that is a file, as an address is one entry of the kernel.
type flag struct {
	path string
}

func (f *flag) Spec() pair.Member { return pair.Member{Name: "vip", Restarts: 2} }

func (f *flag) State(context.Context) pair.State {
	if _, err := os.Stat(f.path); err != nil {
		return pair.Down
	}
	return pair.Up
}

func (f *flag) Start(context.Context) error      { return os.WriteFile(f.path, nil, 0o600) }
func (f *flag) Stop(context.Context, bool) error { return os.Remove(f.path) }

// newRig makes two servers with the same accounts; a is the one that the pair begins with.
func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOn(t, nil)
}

// newRigOn gives nodes a disk of their own, of a size as tmpfs takes it.
func newRigOn(t *testing.T, size map[cluster.HostID]string) *rig {
	t.Helper()
	need.Real(t, need.Programs("mariadb-server", "mariadbd"))
	mem := storetest.NewMem()
	r := &rig{t: t, mem: mem, store: mem.NewClient("test"), node: map[cluster.HostID]*node{}}
	ctx := try.Context(t)
	for i, name := range []cluster.HostID{"a", "b"} {
		r.node[name] = r.newNode(name, uint32(i+1), size[name])
	}
	err := r.node["a"].birth(ctx) // b gets its accounts with the data
	try.Must(t, err)
	for _, n := range r.node {
		n.boot()
	}
	try.Until(t, "a pair to begin", func() bool {
		err = r.node["a"].Begin(ctx)
		return err == nil || !strings.Contains(err.Error(), errNotReady.Error()) && !strings.Contains(err.Error(), "busy")
	})
	try.Must(t, err)
	if err := r.node["b"].Begin(ctx); err == nil {
		t.Error("a pair was begun twice")
	}
	return r
}

func (r *rig) newNode(name cluster.HostID, id uint32, size string) *node {
	t := r.t
	t.Helper()
	dir := try.ShortDir(t)
	if size != "" {
		try.Must(t, unix.Mount("disk", dir, "tmpfs", 0, "size="+size))
		t.Cleanup(func() { try.Must(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	}
	own := aligntest.NewOwn(t, dir, mariadb.Options(id))
	n := &node{r: r, name: name, id: id, port: own.Port, dir: dir, run: filepath.Join(dir, "run"), vip: &flag{filepath.Join(dir, "vip")}}
	file := func(name, text string) {
		try.Must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	n.cmd = &mariadb.Command{Path: own.Program, Args: []string{"--defaults-file=" + own.Options},
		Datadir: filepath.Join(dir, "data"), Log: own.Log, Tied: true}
	c := mysql.NewConfig()
	c.User, c.Net, c.Addr = "root", "unix", own.Socket
	c.Logger = log{}
	connector, err := mysql.NewConnector(c)
	try.Must(t, err)
	n.root = sql.OpenDB(connector)
	file("admin", adminPassword)
	file("repl", replPassword)
	t.Cleanup(func() {
		n.off()
		if err := n.cmd.Kill9(context.Background()); err != nil {
			t.Error(err)
		}
		n.root.Close()
		own.Tell(t, string(name))
	})
	return n
}

// log keeps the driver of MySQL from telling that servers go away, which they shall.
type log struct{}

func (log) Print(...any) {}

// birth makes what an application has before there is a pair, beside the binary log.
func (n *node) birth(ctx context.Context) error {
	if err := n.cmd.Start(ctx, []string{"--skip-log-bin", "--read-only=OFF"}); err != nil {
		return err
	}
	for n.root.PingContext(ctx) != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, s := range []string{
		"CREATE USER app@'%' IDENTIFIED BY 'app'", "GRANT SELECT, INSERT ON *.* TO app@'%'",
		"CREATE DATABASE app", "CREATE TABLE app.log (id BIGINT PRIMARY KEY) ENGINE=InnoDB", "FLUSH TABLES",
	} {
		if _, err := n.root.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return n.cmd.Kill9(ctx)
}

// boot starts the agent of a node.
func (n *node) boot() {
	t := n.r.t
	t.Helper()
	try.Must(t, os.MkdirAll(n.run, 0o700))
	db, err := mariadb.New(mariadb.Config{
		ServerID: n.id, Socket: filepath.Join(n.dir, "s"), Datadir: filepath.Join(n.dir, "data"),
		Admin:       mariadb.Account{User: "hold", PasswordFile: filepath.Join(n.dir, "admin")},
		Replication: mariadb.Account{User: "repl", PasswordFile: filepath.Join(n.dir, "repl")},
	}, n.cmd)
	try.Must(t, err)
	peer := n.r.node[other(n.name)]
	n.db = &Database{DB: db, Dir: n.dir, Addr: fmt.Sprintf("192.0.2.%d", n.id), SaveDir: filepath.Join(n.dir, "saved"),
		Peer: replica.Source{Host: "127.0.0.1", Port: peer.port, Seed: func(ctx context.Context, w io.Writer, about func(int64) error) error {
			return peer.db.DB.Seed(ctx, w, about)
		}}}
	n.db.Self, n.db.Other, n.db.first = n.name, peer.name, time.Millisecond
	n.db.PeerRows = func() (mariadb.Ask, func(), error) { return peer.db.DB.Rows, func() {}, nil }
	begun := time.Now()
	n.Driver = New(Options{
		Self: n.name, Peer: peer.name, Resource: cluster.MgmtVM, Store: n.r.mem.NewClient(string(n.name)), Data: n.db, Members: []Member{n.vip},
		Patience: time.Second, RunDir: n.run, Clock: func() cluster.Instant { return cluster.Instant(time.Since(begun)) + 1 },
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", n.name),
	})
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.done = cancel, make(chan error, 1)
	go func(d *Driver, done chan error) { done <- d.Run(ctx, nil) }(n.Driver, n.done)
}

// end ends the agent; what it runs goes on.
func (n *node) end() {
	n.cancel()
	if err := <-n.done; err != nil {
		n.r.t.Error(err)
	}
	if err := n.Close(); err != nil {
		n.r.t.Error(err)
	}
	n.Driver = nil
}

// off is a loss of power.
func (n *node) off() {
	if n.Driver != nil {
		n.end()
	}
	if err := n.cmd.Kill9(context.Background()); err != nil {
		n.r.t.Error(err)
	}
	os.Remove(n.vip.path)
	os.RemoveAll(n.run)
}

func other(h cluster.HostID) cluster.HostID {
	if h == "a" {
		return "b"
	}
	return "a"
}

func (r *rig) put(key string, record any) {
	r.t.Helper()
	_, _, err := r.store.Txn(try.Context(r.t), nil, []store.Op{{Key: key, Value: records.Encode(record)}})
	try.Must(r.t, err)
}

// owns writes the owner record, as package ha does.
func (r *rig) owns(o cluster.Owner) {
	r.t.Helper()
	r.owner = o
	r.put(records.OwnerKey(cluster.MgmtVM), o)
}

// assign gives the group to a node, with a proof about the one before, and waits until it serves.
func (r *rig) assign(h cluster.HostID, proof cluster.ProofKind) {
	t := r.t
	t.Helper()
	ctx := try.Context(t)
	n := r.node[h]
	try.Until(t, string(h)+" to be able", func() bool { return n.Check(ctx, cluster.GuestSpec{}) == nil })
	o := cluster.Owner{State: cluster.Assigned, Host: h, Epoch: cluster.Epoch{Gen: 1, Seq: r.owner.Epoch.Seq + 1},
		Proof: cluster.Proof{Kind: proof}}
	r.owns(o)
	try.Must(t, n.Start(ctx, cluster.GuestSpec{Epoch: o.Epoch}))
	o.State = cluster.Running // as package ha notes at once
	r.owns(o)
	r.serves(h)
}

func (r *rig) serves(h cluster.HostID) {
	r.t.Helper()
	n := r.node[h]
	try.Until(r.t, string(h)+" to serve", func() bool {
		g, err := n.Observe(try.Context(r.t))
		return err == nil && g.State == cluster.GuestRunning && g.Epoch == r.owner.Epoch && n.vip.State(r.t.Context()) == pair.Up
	})
}

// complete waits until both copies are, by a proof of the active one.
func (r *rig) complete() {
	r.t.Helper()
	try.Until(r.t, "both copies to be complete", func() bool {
		kv, ok, err := r.store.Get(try.Context(r.t), KeySync)
		if err != nil || !ok {
			return false
		}
		s, err := records.Decode[pair.Sync](kv, false)
		standby := r.node[other(r.owner.Host)]
		return err == nil && len(s.InSync) == 2 && strings.Contains(s.Proof,
			fmt.Sprintf("\"primary\":\"%d\"", r.node[r.owner.Host].id)) && s.Epoch == r.owner.Epoch && s.To == "" &&
			standby.Check(r.t.Context(), cluster.GuestSpec{}) == nil
	})
}

func (r *rig) sync() pair.Sync {
	r.t.Helper()
	kv, _, err := r.store.Get(try.Context(r.t), KeySync)
	try.Must(r.t, err)
	s, err := records.Decode[pair.Sync](kv, false)
	try.Must(r.t, err)
	return s
}

// pid is that of the server.
func (n *node) pid() int {
	n.r.t.Helper()
	id, err := n.cmd.Process(n.r.t.Context())
	try.Must(n.r.t, err)
	return id.PID
}

// move is a planned move, as package ha does it.
func (r *rig) move(from, to cluster.HostID) {
	t := r.t
	t.Helper()
	ctx := try.Context(t)
	o := r.owner
	o.State, o.To = cluster.Migrating, to
	r.owns(o)
	// It is refused as long as the peer does not have everything.
	try.Until(t, "the group to leave", func() bool { return r.node[from].Migrate(ctx, "", false) == nil })
	g, err := r.node[from].Observe(ctx)
	if err != nil || g.State != cluster.GuestAbsent || !g.Moved {
		t.Fatalf("after the move %s has %+v, %v", from, g, err)
	}
	try.Must(t, r.node[from].Kill(ctx))
	o.State, o.Host, o.To, o.Ready, o.Proof.Kind = cluster.Settling, to, "", true, cluster.ProofReleased
	r.owns(o)
	try.Until(t, "the group to arrive", func() bool {
		g, err := r.node[to].Observe(ctx)
		return err == nil && g.State == cluster.GuestArrived && g.Epoch == o.Epoch
	})
	try.Must(t, r.node[to].Resume(ctx))
	o.State, o.Ready = cluster.Running, false // as above
	r.owns(o)
	r.serves(to)
}
