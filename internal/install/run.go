package install

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/config"
)

// Conn is a host on which package onhost answers.
type Conn interface {
	Ask(context.Context, Request) (Answer, error)
	Close() error
}

// Options say what is installed.
type Options struct {
	Config     config.Cluster
	ConfigText []byte // as it was written; it becomes the cluster's
	Base       config.Node
	Guests     []Host // hosts that run guests only, of a cluster that is installed; none: the members are installed
	Undersized bool   // accept less than 8 GB and 4 CPUs
	Files      []File // that every host gets: the program, its unit, ...
	Domain     string // name of the management VM's domain
	Parallel   int    // how many hosts at a time
	Last       string // the host that an uninstallation takes Holdfast off last: whose configuration it goes by
	NoFirewall bool   // the hosts' firewalls are left alone, and let no longer in what they did
	Planned    bool   // a pair's secrets are made only after this check: none need be there

	Adopt *Adoption // a management VM to take over from somebody else; nil: none

	// Begin is called by an uninstallation when all checks have passed, before its first change; nil: nobody is.
	Begin func() error
	// Confirm asks a person before what the last warnings tell is begun; nil: nobody is asked.
	Confirm func(context.Context, string) error

	Connect func(context.Context, Host) (Conn, error) // logs in and starts the program there
	// Tell hears what is done on a host; host "" is all.
	Tell func(host, what string)
}

// Result is what an installation has done. Changed is by host: the paths that were
// placed there.
type Result struct {
	Report
	Cluster string              `json:"cluster,omitempty"`
	Changed map[string][]string `json:"changed,omitempty"`
	Running string              `json:"running,omitempty"` // host of the management VM
	Console *Console            `json:"console,omitempty"`
	// what is still wrong after the first seconds: a takeover that is not possible, or what a host tells
	Wrong   []string `json:"wrong,omitempty"`
	Seconds Seconds  `json:"seconds"`
}

// Seconds is how long the parts of an installation took.
type Seconds struct {
	Checks  float64 `json:"checks"`  // connections, and this program's way to the hosts, included
	Copy    float64 `json:"copy"`    // certificates and files
	Cluster float64 `json:"cluster"` // until all agents are alive
	Start   float64 `json:"start"`   // until the management VM runs
}

// Limits of an installation.
const (
	aliveWithin    = 3 * time.Minute  // all agents, after their start
	proclaimWithin = time.Minute      // until the cluster takes a configuration
	runsWithin     = 5 * time.Minute  // the management VM, after that
	settledWithin  = 20 * time.Second // what is wrong for longer is told
	lookEvery      = 500 * time.Millisecond
	clockTries     = 3
)

// run is an installation under way.
type run struct {
	Options
	targets []Host
	anchors []Host // members that are asked only
	mu      sync.Mutex
	conns   map[string]Conn
	found   []Finding
	sights  []sight
	cluster string
	auth    Authorities
	imports bool            // the configuration differs from the one in force
	before  *config.Cluster // the one in force; nil: no cluster runs
	asked   Host            // of which it was asked
	disks   []string        // that the management VM to take over writes to
	hosts   []Host          // that are let through the firewall: all of the cluster
	swap    *swap           // a member gives way to another one; nil: none does
}

// Install checks all hosts, and then, unless check is set, puts everything there
// and starts it. When a check fails nothing is changed, and the error is nil: the
// report says it.
func Install(ctx context.Context, o Options, check bool) (res Result, err error) {
	r := &run{Options: o, targets: Members(o.Config), conns: map[string]Conn{}}
	if len(o.Guests) > 0 {
		r.targets, r.anchors = o.Guests, Members(o.Config)
	}
	defer func() { err = errors.Join(err, r.close()) }()
	clock := time.Now()
	lap := func() float64 {
		s := time.Since(clock).Seconds()
		clock = time.Now()
		return s
	}
	res.Report, err = r.check(ctx)
	res.Seconds.Checks = lap()
	if err != nil || check || !res.OK {
		return res, err
	}
	res.Cluster = r.cluster
	if err := r.confirm(ctx); err != nil {
		return res, err
	}
	if err := r.vacate(ctx); err != nil {
		return res, err
	}
	if err := r.open(ctx); err != nil {
		return res, err
	}
	if res.Changed, err = r.place(ctx); err != nil {
		return res, err
	}
	res.Seconds.Copy = lap()
	if err := r.start(ctx, res.Changed); err != nil {
		return res, err
	}
	if err := r.alive(ctx); err != nil {
		return res, err
	}
	if err := r.reconfigure(ctx); err != nil {
		return res, err
	}
	if err := r.votes(ctx); err != nil {
		return res, err
	}
	if err := r.narrow(ctx); err != nil {
		return res, err
	}
	if err := r.takeOver(ctx); err != nil {
		return res, err
	}
	res.Seconds.Cluster = lap()
	if len(o.Guests) > 0 {
		return res, nil
	}
	res.Console = r.console(ctx)
	if isPair(o.Config) {
		return res, nil // a pair begins when somebody says with whose data
	}
	res.Running, err = r.runs(ctx)
	res.Seconds.Start = lap()
	if err == nil {
		res.Wrong, err = r.settled(ctx)
	}
	return res, err
}

// confirm asks for what is more than to install or to change settings.
func (r *run) confirm(ctx context.Context) error {
	what := ""
	switch {
	case r.Confirm == nil:
	case r.Adopt != nil:
		what = "Take " + r.Adopt.Name + " over, with one restart of it"
	case r.swap != nil:
		what = fmt.Sprintf("Replace member %s by %s", r.swap.left.Name, r.swap.joined.Name)
	}
	if what == "" {
		return nil
	}
	for _, f := range r.found {
		if f.Result == Warn {
			r.Tell(f.Node, strings.TrimSuffix("warning: "+f.Finding+": "+f.Remedy, ": "))
		}
	}
	return r.Confirm(ctx, what)
}

// Each does something for all hosts, some at a time, and joins what failed.
func Each(hosts []Host, parallel int, do func(Host) error) error {
	errs := make([]error, len(hosts))
	gate := make(chan struct{}, max(1, parallel))
	var wg sync.WaitGroup
	for i, h := range hosts {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			if err := do(h); err != nil {
				errs[i] = fmt.Errorf("%s: %w", h.Name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *run) each(hosts []Host, do func(Host) error) error { return Each(hosts, r.Parallel, do) }

func (r *run) conn(h Host) Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns[h.Name]
}

func (r *run) ask(ctx context.Context, h Host, q Request) (Answer, error) {
	return r.conn(h).Ask(ctx, q)
}

func (r *run) close() (err error) {
	for _, c := range r.conns {
		err = errors.Join(err, c.Close())
	}
	if r.swap != nil && r.swap.conn != nil {
		err = errors.Join(err, r.swap.conn.Close())
	}
	return err
}

func (r *run) find(f Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, f)
}

// check asks all hosts, and changes nothing on them.
func (r *run) check(ctx context.Context) (Report, error) {
	r.connect(ctx, r.targets, Fail)
	r.connect(ctx, r.anchors, Warn)
	if err := ctx.Err(); err != nil {
		return Report{}, context.Cause(ctx)
	}
	if !report(r.found).OK {
		return report(r.found), nil // the others are not asked: what they say may follow from that
	}
	r.anchors = slices.DeleteFunc(r.anchors, func(h Host) bool { return r.conn(h) == nil })
	all := slices.Concat(r.targets, r.anchors)
	r.Tell("", "checks")
	if err := r.gather(ctx, all); err != nil {
		return Report{}, err
	}
	if err := r.each(all, func(h Host) (err error) {
		r.sights[slices.Index(all, h)].skew, err = Skew(ctx, r.conn(h))
		return err
	}); err != nil {
		return Report{}, err
	}
	if len(r.Guests) == 0 {
		r.sameDirectory(ctx)
	}
	if err := r.reach(ctx, all); err != nil {
		return Report{}, err
	}
	if err := r.lookForGuest(ctx); err != nil {
		return report(r.found), err
	}
	if err := r.inForce(ctx); err != nil {
		return report(r.found), err
	}
	if err := r.planOpenings(ctx); err != nil {
		return report(r.found), err
	}
	r.found = append(r.found, judge(r.Config, r.Base, r.sights, r.before, r.Adopt)...)
	if rep := report(r.found); !rep.OK {
		return rep, nil
	}
	if err := r.identify(ctx); err != nil {
		return report(r.found), err
	}
	r.compare()
	err := r.leaver(ctx)
	return report(r.found), err
}

// connect logs in at hosts; one that does not answer is a finding.
func (r *run) connect(ctx context.Context, hosts []Host, bad string) {
	// All errors are findings.
	_ = r.each(hosts, func(h Host) error {
		r.Tell(h.Name, "connects")
		c, err := r.Connect(ctx, h)
		if err != nil {
			r.find(Finding{h.Name, "connect", bad, err.Error(), RemedyOf(err)})
			return nil
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.conns[h.Name] = c
		return nil
	})
}

// RemedyOf asks the error of a connection what to do about it.
func RemedyOf(err error) string {
	var r interface{ Remedy() string }
	if errors.As(err, &r) {
		return r.Remedy()
	}
	return "see that the host is up and that sshd answers at that address"
}

func (r *run) query(h Host) *Query {
	q := QueryFor(r.Config, r.Base, h, r.Domain)
	if r.Adopt != nil && !r.Adopt.Built {
		q.Image = "" // the disks are those of the domain
	}
	if q.Pair != nil {
		q.Pair.Planned = r.Planned
	}
	return q
}

// Skew compares the host's clock with this one, by the quickest of some answers.
func Skew(ctx context.Context, c Conn) (best time.Duration, err error) {
	quickest := time.Hour
	for range clockTries {
		begin := time.Now()
		a, err := c.Ask(ctx, Request{Do: DoNow})
		if err != nil {
			return 0, fmt.Errorf("ask for the time: %w", err)
		}
		if took := time.Since(begin); took < quickest {
			quickest, best = took, a.Now.Sub(begin.Add(took/2)) // wall clocks of both
		}
	}
	return best, nil
}

// sameDirectory has one host write a file into the shared directory, and all
// others read it.
func (r *run) sameDirectory(ctx context.Context) {
	if r.Config.Type != config.FileConf {
		return
	}
	n := Nonce{File: filepath.Join(r.Config.ImageFolder, ".holdfast-install-"+rand.Text()), Value: rand.Text()}
	w := n
	w.Write = true
	writer := r.targets[0]
	if _, err := r.ask(ctx, writer, Request{Do: DoNonce, Nonce: &w}); err != nil {
		r.sights[0].nonce = err
		return
	}
	// Each error is judged.
	_ = r.each(r.targets[1:], func(h Host) error {
		i := slices.Index(r.targets, h)
		_, r.sights[i].nonce = r.ask(ctx, h, Request{Do: DoNonce, Nonce: &n})
		return nil
	})
	d := n
	d.Remove = true
	_, r.sights[0].nonce = r.ask(ctx, writer, Request{Do: DoNonce, Nonce: &d})
}

// reach has every member try the ports of the others. Hosts that run guests only
// try the members, which never call them but for their agents' port.
func (r *run) reach(ctx context.Context, all []Host) error {
	mtu := map[string]int{}
	for _, s := range r.sights {
		if s.facts.Link != nil {
			mtu[s.host.Name] = s.facts.Link.MTU
		}
	}
	return r.each(r.targets, func(h Host) error {
		var peers []Peer
		for _, p := range all {
			if p == h || h.Guests && p.Guests {
				continue
			}
			ports := p.Ports()
			if h.Guests {
				ports = []int{APIPort, ClientPort}
			}
			if len(r.anchors) == 0 || !p.Guests {
				peers = append(peers, Peer{Host: p.Name, Addr: p.Addr, Ports: ports, MTU: mtu[h.Name]})
			}
		}
		a, err := r.ask(ctx, h, Request{Do: DoReach, Peers: peers})
		r.sights[slices.Index(all, h)].reached = a.Reached
		return err
	})
}

// identify finds the cluster's id and authorities on the hosts that are installed,
// or makes those of a new one.
func (r *run) identify(ctx context.Context) (err error) {
	var members []Host
	for _, s := range r.sights {
		if in := s.facts.Installed; in != nil {
			r.cluster = in.Cluster
			if !in.Guests {
				members = append(members, s.host)
			}
		}
	}
	if len(members) == 0 {
		if len(r.Guests) > 0 {
			return errors.New("no member of the cluster answers that is installed: install the members first")
		}
		r.cluster = "hf-" + strings.ToLower(rand.Text()[:12])
		r.auth, err = NewAuthorities(r.cluster)
		return err
	}
	var errs []error
	for _, h := range members {
		a, err := r.ask(ctx, h, Request{Do: DoKeys})
		if err == nil {
			if r.auth, err = ReadAuthorities(h.Name, a.Keys); err == nil {
				return nil
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", h.Name, err))
	}
	return fmt.Errorf("no member has the authorities of the cluster: %w", errors.Join(errs...))
}

// place puts the files on all hosts, or on none: what one host refuses is taken
// back on all.
func (r *run) place(ctx context.Context) (map[string][]string, error) {
	changed := map[string][]string{}
	r.Tell("", "files")
	err := r.each(r.opened(), func(h Host) error {
		files, err := r.files(h)
		if err != nil {
			return err
		}
		r.Tell(h.Name, "files")
		a, err := r.ask(ctx, h, Request{Do: DoPlace, Files: files})
		r.mu.Lock()
		defer r.mu.Unlock()
		if slices.Contains(r.targets, h) {
			changed[h.Name] = a.Changed
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, r.undo())
	}
	if err := r.each(r.opened(), func(h Host) error { _, err := r.ask(ctx, h, Request{Do: DoKeep}); return err }); err != nil {
		return changed, fmt.Errorf("confirm what was placed: %w; run the installation again", err)
	}
	return changed, nil
}

// undoWithin bounds the way back.
const undoWithin = time.Minute

// undo has every host take back what it placed. One that is not reached does so
// itself.
func (r *run) undo() error {
	ctx, cancel := context.WithTimeout(context.Background(), undoWithin)
	defer cancel()
	// What fails is taken back when the connection ends.
	_ = r.each(r.opened(), func(h Host) error { _, err := r.ask(ctx, h, Request{Do: DoUndo}); return err })
	return errors.New("nothing was changed on any host")
}

func (r *run) files(h Host) ([]File, error) {
	fw, err := r.firewallFile(h, true)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(r.targets, h) {
		return []File{fw}, nil
	}
	i := slices.IndexFunc(r.sights, func(s sight) bool { return s.host == h })
	n := Settings(r.Config, h, r.cluster, r.Base)
	n.Undersized = r.Undersized
	raw, err := indented(n)
	if err != nil {
		return nil, err
	}
	if _, faults := config.ParseNode(SettingsFile+" of "+h.Name, raw); len(faults) > 0 {
		return nil, config.Faults(faults)
	}
	out := append(slices.Clone(r.Files), fw)
	keys, err := r.auth.files(h, r.sights[i].facts, r.tls())
	if err != nil {
		return nil, err
	}
	out = append(out, keys...)
	if !h.Guests {
		out = append(out, File{Path: ClusterFile, Mode: 0o600, Data: r.ConfigText})
		if r.Adopt != nil && r.before == nil {
			out = append(out, File{Path: StoppedFile, Mode: 0o600, Data: []byte("the management VM is taken over first\n")})
		}
	}
	return append(out, File{Path: SettingsFile, Mode: 0o600, Data: raw}), nil
}
