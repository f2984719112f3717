package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/replica"
	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/host/vip"
	"holdfast/internal/host/votedisk"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/network"
	"holdfast/internal/pair"
	"holdfast/internal/pair/arbitrate"
	"holdfast/internal/pair/group"
	"holdfast/internal/store"
)

// pairWork is this host's part in a two-node pair.
type pairWork struct {
	nd     *node
	cfg    config.Pair // with its defaults
	agent  *loop.Agent
	driver *group.Driver          // nil: this host votes only
	db     *group.Database        // of the driver, unless the copy is a device
	alone  *arbitrate.Arbitration // nil: there is a third voter
	votes  *votedisk.Disk         // nil: no disk arbitrates

	own      group.Data     // the group's own copy, without the partition
	first    []group.Member // of the group, which stand below the partition
	services []group.Member // of the group, which stand above it

	adding  sync.Mutex                            // by whom AddPartition is at work
	making  sync.Mutex                            // by whom the partition of this node is changed
	part    atomic.Pointer[partition]             // nil: there is none on this node
	checked atomic.Pointer[cluster.PairPartition] // what this node found of the disk for one that it does not have yet; nil: nothing
	odd     atomic.Pointer[string]                // what keeps it from what the configuration says; nil, "": nothing
}

// pair makes this host's part in the pair of the configuration.
func (nd *node) pair(st store.Store) (p *pairWork, err error) {
	p = &pairWork{nd: nd, cfg: nd.cfg.Pair.Full()}
	peer := p.cfg.Peer(nd.n.Host)
	if peer == "" {
		return p, nil
	}
	if nd.n.API.Listen == "" && (p.cfg.Device == nil || p.cfg.Arbiter != nil) {
		return nil, nd.bad("api.listen", "", errors.New("want IP:PORT: the agents of a pair's nodes ask each other for copies and votes"))
	}
	if a := p.cfg.Arbiter; a != nil && a.Disk != "" {
		p.votes = votedisk.New(a.Disk, nd.n.Cluster, slices.Index(p.cfg.Nodes, nd.n.Host))
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
	lease := nd.cfg.Timings().Lease
	p.driver = group.New(group.Options{
		Self: cluster.HostID(nd.n.Host), Peer: cluster.HostID(peer), Resource: cluster.MgmtVM, Store: st, Data: data, Members: members,
		Every: arbitrate.Every(lease, group.LookEvery), Within: max(lease/4, group.LookWithin), // leases are long where hosts are slow
		Patience: time.Duration(p.cfg.Patience), Hang: nd.cfg.HangTimeout(), RunDir: nd.n.RunDir, Clock: nd.clock.Now, Log: nd.Log,
		Trouble: p.pathTrouble, Also: p.tellPartition,
		Tell: func(ctx context.Context, ev cluster.Event) error { return p.agent.Tell(ctx, ev) },
		Seen: func() (uint64, error) { return loop.LoadGeneration(nd.n.DataDir) },
	})
	return p, nil
}

// database is this node's server.
func (p *pairWork) database(peer string) (*group.Database, error) {
	nd, d := p.nd, p.cfg.Database
	dir := p.dir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := home(filepath.Dir(d.Socket), d.User); err != nil {
		return nil, nd.bad("Pair.Database.Socket", d.Socket, err)
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
	addr, _ := nd.cfg.Member(cluster.HostID(peer))
	rows := func() (mariadb.Ask, func(), error) {
		c, err := p.dial(addr)
		if err != nil {
			return nil, nil, err
		}
		return c.PairRows, c.Close, nil
	}
	return &group.Database{DB: db, Dir: dir, Self: cluster.HostID(nd.n.Host), Other: cluster.HostID(peer), Addr: nd.n.Addr, SaveDir: d.Datadir + ".saved", PeerRows: rows, Peer: replica.Source{
		Host: addr, Port: d.Port, Seed: func(ctx context.Context, w io.Writer, about func(int64) error) error {
			return p.fetch(ctx, addr, w, about)
		},
	}}, nil
}

func (p *pairWork) dir() string { return filepath.Join(p.nd.n.DataDir, group.DirName) }

// id is the number of this node's server.
func (p *pairWork) id() uint32 { return uint32(1 + slices.Index(p.cfg.Nodes, p.nd.n.Host)) }

// server is the process of this node's database.
func (p *pairWork) server() *mariadb.Command {
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
func (p *pairWork) other() cluster.HostID { return cluster.HostID(p.cfg.Peer(p.nd.n.Host)) }

// dial connects to the agent of the other node, over the first path.
func (p *pairWork) dial(addr string) (*api.Client, error) {
	at, err := p.nd.agentAt(addr)
	if err != nil {
		return nil, err
	}
	return api.DialHost(p.other(), "https://"+at, p.nd.client, nil)
}

// fetch has the agent of the other node send a copy of its data.
func (p *pairWork) fetch(ctx context.Context, addr string, w io.Writer, about func(bytes int64) error) error {
	c, err := p.dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.CopyPair(ctx, w, about)
}

// members are the parts of the group on this node, in the order in which they start.
func (p *pairWork) members() (out []group.Member, err error) {
	var others []netip.Addr
	for _, n := range p.nd.cfg.Nodes() {
		if a, err := netip.ParseAddr(n.IP); err == nil && string(n.Host) != p.nd.n.Host {
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
			out = append(out, &group.Address{Name: m.Name, Restarts: *m.Restarts, VIP: vip.New(a, others, p.nd.Log), Log: p.nd.Log})
		case m.Unit != "":
			out = append(out, &group.Unit{Name: m.Name, Unit: m.Unit, Restarts: *m.Restarts, Systemctl: "systemctl", Cgroups: "/sys/fs/cgroup"})
		default:
			out = append(out, &group.Program{Name: m.Name, Restarts: *m.Restarts, StartCmd: m.Start, StopCmd: m.Stop, KillCmd: m.Kill, Status: m.Status})
		}
	}
	return out, nil
}

// loopDriver is what the agent runs.
func (p *pairWork) loopDriver() loop.Driver {
	if p.driver == nil {
		return group.Voter{}
	}
	return p.driver
}

// recordsWithin is how long the state of the pair is waited for: a store without a quorum does not
// answer, and who asks wants to know that.
const recordsWithin = 2 * time.Second

// Pair tells the state of the pair, by what its nodes have told the store.
func (p *pairWork) Pair(ctx context.Context) (cluster.PairStatus, error) {
	st := p.agent.Status()
	out := cluster.PairStatus{
		Time: time.Now().UTC(), Owner: st.Owner, Want: st.Want, Takeover: st.Takeover, Waiting: st.Waiting, Guarantee: cluster.Safe,
	}
	if p.alone != nil {
		out.Arbiter = p.alone.Text()
		if p.cfg.Arbiter.Ping != nil {
			out.Guarantee = cluster.BestEffort
		}
		if why := p.alone.WhyNot(); why != "" && out.Takeover.Possible {
			out.Takeover = cluster.Takeover{Why: why}
		}
	}
	lctx, cancel := context.WithTimeout(ctx, recordsWithin)
	defer cancel()
	kvs, _, err := p.agent.Store.List(lctx, group.KeyPair)
	switch {
	case err != nil && p.alone != nil:
		return out, fail.Errorf(fail.Unavailable, "%s: %s (the pair's records can not be read: %w)", p.nd.n.Host, out.Arbiter, err)
	case err != nil:
		return out, fail.Errorf(fail.Unavailable, "the pair's records can not be read: %w", err)
	case !st.Connected && p.alone != nil:
		return out, fail.Errorf(fail.Unavailable, "%s: %s (it does not follow the store yet)", p.nd.n.Host, out.Arbiter)
	case !st.Connected:
		return out, fail.Errorf(fail.Unavailable, "%s does not follow the store yet", p.nd.n.Host)
	}
	return p.reported(out, st.Hosts, kvs)
}

// reported adds what the nodes have told the store.
func (p *pairWork) reported(out cluster.PairStatus, hosts []cluster.HostStatus, kvs []store.KV) (cluster.PairStatus, error) {
	var err error
	reports, judged := map[string]group.Report{}, int64(0)
	for _, kv := range kvs {
		host, of := strings.CutPrefix(kv.Key, group.KeyNode)
		switch {
		case kv.Key == group.KeySync:
			s, err := records.Decode[pair.Sync](kv, false)
			if err != nil {
				return out, err
			}
			out.Set, out.Complete, judged = true, s.Complete, kv.ModRev
		case of:
			if reports[host], err = records.Decode[group.Report](kv, false); err != nil {
				return out, err
			}
		}
	}
	alive, off := map[cluster.HostID]bool{}, map[cluster.HostID]bool{}
	for _, h := range hosts {
		alive[h.Name], off[h.Name] = h.Alive, !h.Alive && h.Fenced != ""
	}
	if p.alone != nil && !alive[p.other()] && p.alone.ShownOff() {
		off[p.other()] = true
	}
	for _, n := range p.cfg.Nodes {
		h := cluster.PairHost{Host: cluster.HostID(n), Alive: alive[cluster.HostID(n)], Off: off[cluster.HostID(n)]}
		out.Nodes = append(out.Nodes, cluster.PairNode{PairHost: h, PairReport: reports[n].By(judged)})
	}
	for _, n := range out.Nodes {
		if n.Alive && n.Role == "standby" && n.LagKnown && out.Takeover.Possible { // it applies first what it has received
			out.Takeover.Within += n.Lag
		}
	}
	for _, n := range p.nd.cfg.Nodes() {
		if p.cfg.Peer(string(n.Host)) == "" {
			out.Voters = append(out.Voters, cluster.PairHost{Host: n.Host, Alive: alive[n.Host]})
		}
	}
	return out, nil
}

// Begin makes this host's copy the one that the pair begins with.
func (p *pairWork) Begin(ctx context.Context, user string) error {
	if p.driver == nil {
		return fail.Errorf(fail.Refused, "%s only votes in the store", p.nd.n.Host).With("begin on one of the two nodes: " + strings.Join(p.cfg.Nodes, ", "))
	}
	if p.votes != nil {
		if err := p.votes.Prepare(ctx); err != nil {
			return fail.Errorf(fail.Refused, "%w", err)
		}
	}
	if err := p.driver.Begin(ctx); err != nil {
		return err
	}
	p.nd.Log.Info("the pair begins with this host's data", "user", user)
	return nil
}

// Resolve makes this host's copy the one that is kept, by a person's word.
func (p *pairWork) Resolve(ctx context.Context, user, keep string) error {
	switch {
	case p.cfg.Peer(keep) == "":
		return fail.Errorf(fail.Invalid, "node %q: want one of %s", keep, strings.Join(p.cfg.Nodes, ", "))
	case keep != p.nd.n.Host:
		return fail.Errorf(fail.Refused, "this is %s", p.nd.n.Host).With("run it on " + keep + ", whose copy is kept")
	}
	if p.alone != nil {
		if chosen, err := p.alone.Resolve(user); chosen || err != nil {
			return err
		}
	}
	recorded, err := p.driver.Resolve(ctx, func(holder cluster.HostID) error { return p.mayResolve(ctx, keep, holder) })
	if recorded {
		err = errors.Join(err, p.agent.Tell(ctx, pair.Chosen(cluster.HostID(keep), user)))
	}
	return err
}

// mayResolve refuses a choice that nothing needs: the group is with a node that is there, or may
// come to a copy that has everything.
func (p *pairWork) mayResolve(ctx context.Context, keep string, holder cluster.HostID) error {
	st, err := p.Pair(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(st.Nodes, func(n cluster.PairNode) bool { return n.Host == holder && n.Alive }) {
		return fail.Errorf(fail.Refused, "the group is with %s, which is there; nothing was changed", holder)
	}
	for _, n := range st.Nodes {
		if n.Alive && string(n.Host) != keep && n.Fit && slices.Contains(st.Complete, n.Host) {
			return fail.Errorf(fail.Refused, "the copy on %s has every acknowledged write, and can be promoted; nothing was changed", n.Host).With("holdfast pair start, and where it does not start: holdfast pair status")
		}
	}
	return nil
}

// Copy writes a copy of this host's data, of one moment, and tells before about how many bytes
// it has. Only the other node may have it.
func (p *pairWork) Copy(ctx context.Context, user string, w io.Writer, about func(bytes int64) error) error {
	if err := p.mayRead(user); err != nil {
		return err
	}
	if p.db == nil {
		return fail.Errorf(fail.Refused, "this pair's copy is a DRBD device, which copies itself")
	}
	return p.db.DB.Seed(ctx, w, about)
}

// mayRead refuses whoever is not the other node.
func (p *pairWork) mayRead(user string) error {
	if p.driver == nil || user != p.cfg.Peer(p.nd.n.Host) {
		return fail.Errorf(fail.Denied, "not allowed: %s is not the other node of this pair", user)
	}
	return nil
}

// Rows reads rows of this host's database. Only the other node may have them.
func (p *pairWork) Rows(ctx context.Context, user string, q cluster.RowsQuery) (cluster.RowsPart, error) {
	if err := p.mayRead(user); err != nil {
		return cluster.RowsPart{}, err
	}
	if p.db == nil {
		return cluster.RowsPart{}, fail.Errorf(fail.Refused, "no database of this pair replicates")
	}
	return p.db.DB.Rows(ctx, q)
}

// Word tells the other node what this one has of the store of two voters.
func (p *pairWork) Word(user string) (cluster.PairWord, error) {
	if p.alone == nil || user != string(p.other()) {
		return cluster.PairWord{}, fail.Errorf(fail.Denied, "not allowed: %s is not the other node of a pair without a third voter", user)
	}
	return p.alone.Word()
}
