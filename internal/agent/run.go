package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/fleet/aid"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/ha/loop"
	"holdfast/internal/host/ceph"
	"holdfast/internal/host/facts"
	"holdfast/internal/host/firewall"
	"holdfast/internal/host/heartbeat"
	"holdfast/internal/host/libvirt/protected"
	"holdfast/internal/host/process"
	"holdfast/internal/host/storage"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/install/certificates"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/pki"
	pair "holdfast/internal/pair/host"
	"holdfast/internal/server"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/internal/transition/steps"
	"holdfast/internal/web"
)

// Options are what RunNode needs besides the node's file.
type Options struct {
	NodeFile string
	Exe      string // this program, for its children
	Version  string
	Log      *slog.Logger
	Insecure bool // the store's URLs may be http at addresses that others reach
	Recent   *aid.Ring
	Fits     steps.Fits // what commands of this program would refuse of a transition's file
}

// storeChild is the name of the process that is the store's member.
const storeChild = "store"

// dogChild is the name of the process that holds the watchdog.
const dogChild = "watchdog"

// BadInput wraps an error that the person who wrote the settings must mend.
type BadInput struct{ Err error }

func (e BadInput) Error() string { return e.Err.Error() }
func (e BadInput) Unwrap() error { return e.Err }

// node is an agent under construction.
type node struct {
	Options
	n       config.Node
	cfg     config.Cluster
	boot    string // the host's boot id
	server  *tls.Config
	client  *tls.Config
	clock   *clock.Clock
	keeper  *certificates.Service // nil without certificates
	pairing *pair.Part            // nil: it runs no pair's group
	heard   *heartbeat.Exchange   // nil: there are none
}

// RunNode runs the agent of a host until ctx ends: it keeps the store's member
// and the watchdog's holder running as processes of their own, serves the API,
// and runs the loop. All of the guest, member and holder outlive it.
func RunNode(ctx context.Context, opt Options) (err error) {
	nd, err := load(opt)
	if errors.Is(err, pki.ErrExpired) {
		if rerr := certificates.RenewExpired(nd.n.TLS, opt.Log); rerr != nil {
			return BadInput{fmt.Errorf("%w; it was not renewed: %w", err, rerr)}
		}
		nd, err = load(opt)
	}
	if err != nil {
		return BadInput{err}
	}
	unlock, err := nd.claim()
	if err != nil {
		return BadInput{err}
	}
	defer unlock()
	identity, err := nd.identity()
	if err != nil {
		return BadInput{err}
	}
	st, err := nd.store()
	if err != nil {
		return BadInput{err}
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	parts := nd.parts(st, identity)
	if parts.Admin, err = etcdstore.OpenAdmin(nd.storeOptions()); err != nil {
		return BadInput{err}
	}
	defer func() { err = errors.Join(err, parts.Admin.Close()) }()
	if parts.Seen, err = loop.LoadGeneration(nd.n.DataDir); err != nil {
		return BadInput{err}
	}
	view := nd.others(st)
	if view != nil {
		parts.Peer = func(host cluster.HostID) (loop.Peer, error) { return as[loop.Peer](view.reach(host)) }
	}
	if nd.n.GuestsOnly {
		return nd.serve(ctx, loop.New(parts), view, nil)
	}
	beats, err := nd.beats(parts.Rhythm)
	if err != nil {
		return BadInput{err}
	}
	if beats != nil {
		defer func() { err = errors.Join(err, beats.Close()) }()
		parts.Heartbeats, nd.heard = beats, beats
	}
	if nd.cfg.Type == config.PairConf {
		if nd.pairing, err = pair.New(nd.pairOptions(st)); err != nil {
			return BadInput{err}
		}
		if nd.cfg.Pair.Arbiter != nil {
			x, bad := nd.arbitrate(st, parts.Admin)
			if bad != nil {
				return BadInput{bad}
			}
			defer func() { err = errors.Join(err, x.Own.Close()) }()
			parts.Settled = x.Settled
			if err := x.Begin(ctx); err != nil {
				return err
			}
		}
		parts.Driver = nd.pairing.Driver()
	} else if parts.Driver, err = nd.driver(); err != nil {
		return BadInput{err}
	}
	if d, ok := parts.Driver.(*protected.Driver); ok {
		parts.Secure = func() bool { return d.MigrationSecurity().TLS }
	}
	defer func() { err = errors.Join(err, parts.Driver.Close()) }()
	return nd.serve(ctx, loop.New(parts), view, beats)
}

// asks reports whether the first agent of a cluster asks for the management VM to run.
func (nd *node) asks() bool {
	_, err := os.Lstat(filepath.Join(filepath.Dir(nd.n.ConfigFile), config.StoppedName))
	return errors.Is(err, fs.ErrNotExist) // what can not be told keeps it from running
}

// serve runs everything that an agent is made of, and ends it together.
func (nd *node) serve(ctx context.Context, a *loop.Agent, view *others, beats *heartbeat.Exchange) (err error) {
	opts := server.Options{Socket: nd.socket(), Listen: nd.n.API.Listen, TLS: nd.server, Log: nd.Log,
		Version: nd.Version, Settings: nd.NodeFile}
	help := &aid.Service{Host: a.Host, Node: nd.n, File: nd.NodeFile, Recent: nd.Recent, Exe: nd.Exe, Socket: nd.socket(),
		Config: a.ReadConfig, Log: nd.Log}
	opts.Aid, nd.keeper = help, nd.keep(a, view)
	if nd.keeper != nil {
		opts.Certificates, opts.Counts = nd.keeper, pki.Counts(nd.server)
	}
	var jobs *work
	if view != nil {
		if jobs, err = nd.work(a, view); err != nil {
			return BadInput{err}
		}
		defer func() { err = errors.Join(err, jobs.guests.Close()) }()
		help.Peer = func(host cluster.HostID) (aid.Peer, error) { return as[aid.Peer](view.reach(host)) }
		opts.Jobs, opts.Upgrade, opts.Agents, opts.Hosts, opts.Screens = jobs, jobs, jobs, jobs.IsHost, jobs.screens
	}
	var pairing *pair.Service
	if nd.pairing != nil {
		pairing = nd.pairing.Serve(a)
		opts.Pair = pairing
	}
	users := web.NewUsers(a.Store, a.Host, nd.Log)
	var notices *web.Notices
	if !nd.n.GuestsOnly { // to whom the store tells none
		opts.Access = users
		notices = web.NewNotices(a, a.Store, a.Host, nd.n.Cluster, nd.Exe, nd.Log)
		opts.Notices = notices
	}
	srv, err := server.New(a, opts)
	if err != nil {
		return BadInput{err}
	}
	var console *web.Console // nil: there is none
	if listen := nd.n.Console.Listen; listen != "" {
		console = web.New(web.Options{Listen: listen, TLS: nd.server, Host: a.Host, Version: nd.Version, API: srv, Users: users, Log: nd.Log,
			Store: a.Store, Member: nd.n.Store.Member, Client: nd.client, OIDC: nd.n.Console.OIDC})
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	run := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	for _, spec := range nd.children() {
		run("keep "+spec.Name, func(ctx context.Context) error { return nd.keepChild(ctx, spec, a.Identity) })
	}
	a.Trouble = func() string { return nd.troubles(srv, console, a) }
	if pairing != nil {
		pairing.Run(run)
	}
	run("serve the api", srv.Serve)
	if console != nil {
		run("serve the console", console.Serve)
	}
	if opts.Access != nil {
		run("follow users and tokens", users.Run)
		run("tell receivers of events", notices.Run)
	}
	if own, _, ok := nd.second(); ok {
		run("serve the api over the second path", func(ctx context.Context) error { return nd.serveSecond(ctx, own) })
	}
	run("keep the firewall open", func(ctx context.Context) error { firewall.Maintain(ctx, filepath.Dir(nd.NodeFile), nd.Log); return nil })
	if nd.keeper != nil {
		run("renew certificates", func(ctx context.Context) error { nd.keeper.Run(ctx); return nil })
	}
	if beats != nil {
		run("exchange heartbeats", beats.Run)
	}
	if jobs != nil {
		run("work on jobs", jobs.Run)
	}
	live := a.Run
	if nd.n.GuestsOnly {
		live = a.Watch
	} else {
		run("put the configuration into the store", func(ctx context.Context) error { return loop.Plant(ctx, a.Store, nd.cfg, nd.asks()) })
	}
	run("agent", func(ctx context.Context) error {
		err := live(ctx)
		cancel(err)
		return err
	})
	wg.Wait()
	switch err := context.Cause(ctx); {
	case errors.Is(err, loop.ErrConflict):
		return nd.endMember(err)
	case !errors.Is(err, context.Canceled):
		return err
	}
	return nil
}

// claim makes the directories and takes the data directory for this process, for
// this cluster.
func (nd *node) claim() (unlock func(), err error) {
	if err := makeDataDir(nd.n.DataDir); err != nil {
		return nil, nd.bad("data_dir", nd.n.DataDir, fmt.Errorf("make directory: %w", err))
	}
	lock := filepath.Join(nd.n.DataDir, "lock")
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, nd.bad("data_dir", nd.n.DataDir, fmt.Errorf("lock it: %w", err))
	}
	unlock = func() { f.Close() }
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		unlock()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nd.bad("data_dir", nd.n.DataDir, errors.New("it is in use by another running agent"))
		}
		return nil, fmt.Errorf("lock %s: %w", lock, err)
	}
	made, err := durable.Once(filepath.Join(nd.n.DataDir, clusterFile), nd.n.Cluster)
	if err == nil {
		err = nd.ours(made)
	}
	if err == nil {
		if err = os.MkdirAll(nd.n.RunDir, 0o700); err != nil {
			err = nd.bad("run_dir", nd.n.RunDir, fmt.Errorf("make directory: %w", err))
		}
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// makeDataDir makes the data directory, or lets others pass through one that is there:
// the VM's seed is in it, and distributions run QEMU as a user of its own. All else in it
// is private by its own mode.
func makeDataDir(dir string) error {
	const pass = 0o011
	if err := durable.MakeDirs(dir, 0o700|pass); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode()&pass == pass {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()|pass)
}

// identity is random, made with the data directory and kept with it.
func (nd *node) identity() (string, error) {
	b := make([]byte, 16)
	rand.Read(b)
	return durable.Once(filepath.Join(nd.n.DataDir, "identity"), hex.EncodeToString(b))
}

func (nd *node) socket() string    { return filepath.Join(nd.n.RunDir, "holdfast.sock") }
func (nd *node) dogSocket() string { return filepath.Join(nd.n.RunDir, "watchdog.sock") }

// MemberConfig gives the settings of the store's member on the host of a node
// file.
func MemberConfig(nodeFile string) (etcdstore.MemberConfig, error) {
	n, err := config.LoadNode(nodeFile)
	if err != nil {
		return etcdstore.MemberConfig{}, err
	}
	m := n.Store.Member
	if m == nil {
		return etcdstore.MemberConfig{}, fmt.Errorf("%s: store.member: there is none: this host runs no member", nodeFile)
	}
	c := etcdstore.MemberConfig{
		Name: n.Host, Cluster: n.Cluster, DataDir: filepath.Join(n.DataDir, "store"),
		ListenPeer: m.ListenPeer, ListenClient: m.ListenClient, PeerURL: m.PeerURL, ClientURL: m.ClientURL,
		Initial: m.Initial, Guard: guestsOnly(),
	}
	if n.TLS.CA != "" {
		c.TLS = &etcdstore.TLSFiles{CA: n.TLS.CA, Cert: n.TLS.Cert, Key: n.TLS.Key, CRL: n.TLS.CRL}
	}
	return c, nil
}

func (nd *node) storeOptions() etcdstore.Options {
	return etcdstore.Options{
		Endpoints: nd.n.Store.Endpoints, TLS: nd.client, Prefix: "/holdfast/" + nd.n.Cluster + "/", DialTimeout: 2 * time.Second, Log: nd.Log,
	}
}

// store connects to the cluster's store, by this host's own member where it has
// one.
func (nd *node) store() (store.Store, error) {
	opt := nd.storeOptions()
	all, err := etcdstore.Open(opt)
	if err != nil || nd.n.Store.Member == nil {
		return all, err
	}
	opt.Endpoints = []string{nd.n.Store.Member.ClientURL}
	own, err := etcdstore.Open(opt)
	if err != nil {
		return nil, errors.Join(err, all.Close())
	}
	return etcdstore.Prefer(own, all, func() bool { return nd.pairing.Together() }), nil
}

func (nd *node) driver() (loop.Driver, error) {
	uuid := loop.GuestUUID(nd.n.Cluster)
	if nd.n.Driver == "process" {
		return process.New(process.Options{
			Command: nd.n.Process.Command, Dir: filepath.Join(nd.n.RunDir, "guest"), Shared: nd.n.Process.Dir,
			Host: cluster.HostID(nd.n.Host), Resource: cluster.MgmtVM, UUID: uuid, Log: nd.Log,
		})
	}
	return protected.New(protected.Options{
		Socket: nd.n.Libvirt.Socket, MigrateURI: nd.n.Libvirt.MigrateURI, MigrateTLS: nd.n.Libvirt.MigrateTLS, RunDir: nd.n.RunDir,
		Resource: cluster.MgmtVM, UUID: uuid, Name: cluster.GuestName, Log: nd.Log,
		RBD: func(r cluster.RBD) protected.RBD { return ceph.New(ceph.Options{RBD: r}) },
	})
}

// StepHelper is the command of this program that is the helper of package
// host/action/program.
const StepHelper = "step-helper"

// apiAddr is where other agents reach this one: its address when it listens at
// all of them.
func (nd *node) apiAddr() string {
	host, port, err := net.SplitHostPort(nd.n.API.Listen)
	if err != nil {
		return nd.n.API.Listen // the settings' check has seen it
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = nd.n.Addr
	}
	return net.JoinHostPort(host, port)
}

func (nd *node) parts(st store.Store, identity string) loop.Parts {
	p := loop.Parts{
		Host: cluster.HostID(nd.n.Host), Addr: nd.n.Addr, Cluster: nd.n.Cluster, Identity: identity, Boot: nd.boot, Version: nd.Version,
		Store: st, Watchdog: loop.Watchdog(watchdog.None{}), Clock: nd.clock.Now, Config: nd.cfg, Log: nd.Log,
		Machine: facts.MachineUUID(nd.n.Machine), Fencer: loop.Controllers{Log: nd.Log}, Rhythm: &loop.Rhythm{},
		Probe: nd.storageProber, Undersized: nd.n.Undersized, Votes: nd.n.Store.Member != nil,
		Busy: func(ctx context.Context) ([]store.Cmp, string, error) {
			return engine.Quiet(ctx, st, evacuate.HostJob, job.Upgrade)
		},
		BackupDir: filepath.Join(nd.n.DataDir, loop.BackupDir),
		Remember:  func(g uint64) error { return loop.StoreGeneration(nd.n.DataDir, g) },
	}
	if nd.n.Watchdog.Device != config.NoWatchdog {
		p.Watchdog = watchdog.Dial(nd.dogSocket())
	}
	if nd.n.Driver != "process" && nd.cfg.Type != config.PairConf {
		_, err := os.Stat("/dev/kvm")
		p.Emulate = err != nil
		p.SeedPath = filepath.Join(nd.n.DataDir, "seed.iso")
		p.Seed = seeder(p.Host, nd.n.Cluster)
	}
	return p
}

// storageProber makes the probe that a configuration asks for; nil: none.
func (nd *node) storageProber(cfg config.Cluster) *storage.Prober {
	var c config.SharedStorageProbe
	if cfg.SharedStorageProbe != nil {
		c = *cfg.SharedStorageProbe
	}
	if c.Off || cfg.Type == config.PairConf {
		return nil
	}
	folder := storage.NewChild(nd.Exe, "storage-probe", cfg.ImageFolder, nd.n.Host)
	o := storage.Options{
		What:  "the shared storage " + cfg.ImageFolder,
		Check: folder.Check, End: folder.End,
		Interval: cmp.Or(time.Duration(c.Interval), loop.ProbeEvery), Timeout: cmp.Or(time.Duration(c.Timeout), loop.ProbeWithin),
	}
	if r := cfg.RBD(); r != nil {
		pool := ceph.New(ceph.Options{RBD: *r})
		o.What = "the Ceph pool " + r.Pool
		o.Check = func(ctx context.Context) error { return pool.Probe(ctx, nd.n.Host) }
	}
	if cfg.ImageURL != "" {
		o.What = "the image " + cfg.ImageURL
		o.Check = func(ctx context.Context) error { return protected.ProbeImage(ctx, cfg.ImageURL) }
	}
	return storage.New(o)
}
