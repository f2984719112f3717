package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/internal/host/replica"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/host/vip"
	"holdfast/internal/host/votedisk"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/network"
	"holdfast/internal/pair/arbitrate"
	"holdfast/internal/pair/group"
	"holdfast/internal/store"
)

// Options are what this host's part in a pair needs.
type Options struct {
	File    string // of the node's settings, named in errors
	Node    config.Node
	Cluster config.Cluster
	Exe     string // this program, which DRBD calls
	Store   store.Store
	// Dial connects to the agent of the other node; either: over the path that answers, not over the first one.
	Dial func(either bool) (Peer, error)
	// Silences is for how long nothing has come from the other node over the first and the second path;
	// false: that is not known.
	Silences func() (first, second time.Duration, heard bool)
	Now      func() cluster.Instant
	Log      *slog.Logger
}

// Peer is the agent of the other node.
type Peer interface {
	PairRows(ctx context.Context, q cluster.RowsQuery) (cluster.RowsPart, error)
	PeerStatus(ctx context.Context) (cluster.PeerStatus, error)
	// CopyPair writes a copy of that node's data, and tells before about how many bytes it has.
	CopyPair(ctx context.Context, w io.Writer, about func(bytes int64) error) error
	Close()
}

// Part is this host's part in a pair. What it is made of does not run yet: see Serve.
type Part struct {
	Options
	cfg    config.Pair            // with its defaults
	driver *group.Driver          // nil: this host votes only
	db     *group.Database        // of the driver, unless the copy is a device
	alone  *arbitrate.Arbitration // nil: there is a third voter
	votes  *votedisk.Disk         // nil: no disk arbitrates

	own      group.Data     // the group's own copy, without the partition
	first    []group.Member // of the group, which stand below the partition
	services []group.Member // of the group, which stand above it

	making  sync.Mutex                            // by whom the partition of this node is changed
	part    atomic.Pointer[partition]             // nil: there is none on this node
	checked atomic.Pointer[cluster.PairPartition] // what this node found of the disk for one that it does not have yet; nil: nothing
	odd     atomic.Pointer[string]                // what keeps it from what the configuration says; nil, "": nothing
}

// New makes this host's part in the pair of a configuration.
func New(opt Options) (p *Part, err error) {
	p = &Part{Options: opt, cfg: opt.Cluster.Pair.Full()}
	peer := p.cfg.Peer(p.Node.Host)
	if peer == "" {
		return p, nil
	}
	if p.Node.API.Listen == "" && (p.cfg.Device == nil || p.cfg.Arbiter != nil) {
		return nil, p.bad("api.listen", "", errors.New("want IP:PORT: the agents of a pair's nodes ask each other for copies and votes"))
	}
	if a := p.cfg.Arbiter; a != nil && a.Disk != "" {
		p.votes = votedisk.New(a.Disk, p.Node.Cluster, slices.Index(p.cfg.Nodes, p.Node.Host))
	}
	if p.services, err = p.members(); err != nil {
		return nil, err
	}
	if p.cfg.Device != nil {
		if p.own, p.services, err = p.onDevice(peer, p.services); err != nil {
			return nil, err
		}
	} else {
		if p.db, err = p.database(peer); err != nil {
			return nil, err
		}
		p.own = p.db
	}
	part, err := p.noted()
	if err != nil {
		return nil, err
	}
	p.part.Store(part)
	data, members := p.parts(part)
	lease := p.Cluster.Timings().Lease
	p.driver = group.New(group.Options{
		Self: cluster.HostID(p.Node.Host), Peer: cluster.HostID(peer), Resource: cluster.MgmtVM, Store: p.Store, Data: data, Members: members,
		Every: arbitrate.Every(lease, group.LookEvery), Within: max(lease/4, group.LookWithin), // leases are long where hosts are slow
		Patience: time.Duration(p.cfg.Patience), Hang: p.Cluster.HangTimeout(), RunDir: p.Node.RunDir, Clock: p.Now, Log: p.Log,
		Trouble: p.pathTrouble, Also: p.tellPartition,
		Seen: func() (uint64, error) { return loop.LoadGeneration(p.Node.DataDir) },
	})
	return p, nil
}

// bad is the error about one field of the node's settings, or of the configuration's.
func (p *Part) bad(field, value string, err error) error {
	return fmt.Errorf("%s: %s: value %q: %w", p.File, field, value, err)
}

// Driver is what the agent runs.
func (p *Part) Driver() loop.Driver {
	if p.driver == nil {
		return group.Voter{}
	}
	return p.driver
}

// database is this node's server.
func (p *Part) database(peer string) (*group.Database, error) {
	d := p.cfg.Database
	dir := p.dir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := home(filepath.Dir(d.Socket), d.User); err != nil {
		return nil, p.bad("Pair.Database.Socket", d.Socket, err)
	}
	server := p.server()
	db, err := mariadb.New(mariadb.Config{
		EventScheduler: server.EventScheduler, ServerID: p.id(), Socket: d.Socket, Datadir: d.Datadir,
		Admin:       mariadb.Account{User: d.Admin.User, PasswordFile: d.Admin.File()},
		Replication: mariadb.Account{User: d.Replication.User, PasswordFile: d.Replication.File()},
	}, server)
	if err != nil {
		return nil, err
	}
	addr, _ := p.Cluster.Member(cluster.HostID(peer))
	rows := func() (mariadb.Ask, func(), error) {
		c, err := p.Dial(false)
		if err != nil {
			return nil, nil, err
		}
		return c.PairRows, c.Close, nil
	}
	return &group.Database{DB: db, Dir: dir, Self: cluster.HostID(p.Node.Host), Other: cluster.HostID(peer),
		Addr: p.Node.Addr, SaveDir: d.Datadir + ".saved", PeerRows: rows, Peer: replica.Source{
			Host: addr, Port: d.Port, Seed: p.fetch,
		}}, nil
}

func (p *Part) dir() string { return filepath.Join(p.Node.DataDir, group.DirName) }

// id is the number of this node's server.
func (p *Part) id() uint32 { return uint32(1 + slices.Index(p.cfg.Nodes, p.Node.Host)) }

// server is the process of this node's database.
func (p *Part) server() *mariadb.Command {
	d := p.cfg.Database
	args := []string{"--defaults-file=" + d.OptionFile, "--user=" + d.User, "--datadir=" + d.Datadir, "--socket=" + d.Socket,
		"--port=" + strconv.Itoa(d.Port), "--bind-address=*"}
	if p.cfg.Device == nil {
		for _, o := range mariadb.Options(p.id()) {
			args = append(args, "--"+o)
		}
	}
	return &mariadb.Command{Path: d.Program, Args: args, Datadir: d.Datadir, Log: filepath.Join(p.dir(), "database.log"), User: d.User}
}

// home makes the directory of a server's socket, which a boot may have emptied.
func home(dir, owner string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	c, err := mariadb.Credential(owner)
	if err != nil {
		return err
	}
	if err := durable.MakeDirs(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, int(c.Uid), int(c.Gid))
}

// other is the other node.
func (p *Part) other() cluster.HostID { return cluster.HostID(p.cfg.Peer(p.Node.Host)) }

// fetch has the agent of the other node send a copy of its data.
func (p *Part) fetch(ctx context.Context, w io.Writer, about func(bytes int64) error) error {
	c, err := p.Dial(false)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.CopyPair(ctx, w, about)
}

// members are the parts of the group on this node, in the order in which they start.
func (p *Part) members() (out []group.Member, err error) {
	var others []netip.Addr
	for _, n := range p.Cluster.Nodes() {
		if a, err := netip.ParseAddr(n.IP); err == nil && string(n.Host) != p.Node.Host {
			others = append(others, a)
		}
	}
	for i, m := range p.cfg.Group {
		switch {
		case m.VIP != "":
			a, err := network.ParseVIP(m.VIP)
			if err != nil {
				return nil, fmt.Errorf("Pair.Group[%d].VIP: %w", i, err)
			}
			out = append(out, &group.Address{Name: m.Name, Restarts: *m.Restarts, VIP: vip.New(a, others, p.Log), Log: p.Log})
		case m.Unit != "":
			out = append(out, &group.Unit{Name: m.Name, Unit: m.Unit, Restarts: *m.Restarts, Systemctl: "systemctl", Cgroups: "/sys/fs/cgroup"})
		default:
			out = append(out, &group.Program{Name: m.Name, Restarts: *m.Restarts, StartCmd: m.Start, StopCmd: m.Stop,
				KillCmd: m.Kill, Status: m.Status})
		}
	}
	return out, nil
}

// pathSilent is for how long nothing has come over a path that is told to be down.
const pathSilent = 3 * time.Second

// pathTrouble names the one path from the other node that brings nothing; "": both do, or
// none, and then that node is silent.
func (p *Part) pathTrouble() string {
	_, there, ok := p.cfg.Second(p.Node.Host)
	if !ok || p.Silences == nil {
		return ""
	}
	first, second, heard := p.Silences()
	peer := p.cfg.Peer(p.Node.Host)
	switch addr, _ := p.Cluster.Member(cluster.HostID(peer)); {
	case !heard || (first < pathSilent) == (second < pathSilent):
		return ""
	case first < pathSilent:
		return fmt.Sprintf("the second path is down: nothing comes from %s at %s; a cut of the first one would part the nodes", peer, there)
	default:
		return fmt.Sprintf("the first path is down: nothing comes from %s at %s; the nodes hear each other over the second one only", peer, addr)
	}
}
