// Package survey asks two nodes, and their arbiter, what a pair needs to know of them. It reaches
// them as an installation does, and changes nothing there. Package precheck judges.
package survey

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/precheck"
)

// dataDir is where the partition of the database will lie.
const dataDir = "/vms"

// Options say what is asked.
type Options struct {
	VIP         netip.Prefix // the address with the length of its subnet's prefix
	Dev         string       // interface of it; "": the nodes find it
	Peer        netip.Addr
	Arbiters    []precheck.Arbiter
	Second      []netip.Addr // of this node and of the other one on a second path; nil: there is none
	Hosts, VMs  int          // that the platform will have
	Database    int          // GB; 0: the least
	VersionFile string
	Partition   string         // a disk for a partition; "": none
	Disk        string         // for a DRBD device; "": the database is replicated by itself
	Unmanaged   string         // program that exits 0 when the platform manages no hosts
	Fencing     config.Fencing // for an arbiter of kind fence
	// Plan says what a set-up would install on hosts that were asked; how they are reached is not its part.
	Plan func(precheck.Input) (install.Options, error)

	Here    func() (install.Conn, error)                                               // this node
	Connect func(ctx context.Context, addr string, arbiter bool) (install.Conn, error) // the others
	Tell    func(host, what string)
}

// run is a survey under way.
type run struct {
	Options
	in    precheck.Input
	hosts []*hostState // the nodes, then arbiters that are hosts
}

// hostState is a host as it is asked.
type hostState struct {
	*precheck.Node
	arbiter bool
	conn    install.Conn
	mtu     int
}

// Run asks and judges. The error is about what was given, or ctx has ended: whatever is wrong
// with a host is a finding.
func Run(ctx context.Context, o Options) ([]precheck.Finding, error) {
	in, err := Ask(ctx, o)
	if err != nil {
		return nil, err
	}
	return precheck.Judge(in), nil
}

// Ask asks without judging.
func Ask(ctx context.Context, o Options) (precheck.Input, error) {
	own, err := ownAddr(o.Peer)
	if err != nil {
		return precheck.Input{}, err
	}
	r := &run{Options: o, in: precheck.Input{
		VIP: o.VIP.Addr().String(), Length: o.VIP.Bits(), Hosts: o.Hosts, VMs: o.VMs, Database: o.Database,
		Asked: o.Unmanaged != "", Disk: o.Disk, Partition: o.Partition,
	}}
	r.in.Nodes[0].Addr, r.in.Nodes[1].Addr = own.String(), o.Peer.String()
	for _, a := range o.Second {
		r.in.Second = append(r.in.Second, a.String())
	}
	r.in.Arbiters = slices.Clone(o.Arbiters)
	r.hosts = []*hostState{{Node: &r.in.Nodes[0]}, {Node: &r.in.Nodes[1]}}
	if err := r.addArbiters(); err != nil {
		return precheck.Input{}, err
	}
	defer r.close()
	r.connect(ctx)
	r.each(r.hosts, func(h *hostState) error { return r.gather(ctx, h) })
	r.reach(ctx)
	r.details(ctx)
	err = r.installation(ctx)
	if ctx.Err() != nil {
		return precheck.Input{}, context.Cause(ctx)
	}
	return r.in, err
}

// open is a connection that stays open when an installation ends.
type open struct{ install.Conn }

func (open) Close() error { return nil }

// installation has the installation that a set-up makes check the hosts, once all of them have answered.
func (r *run) installation(ctx context.Context) error {
	if slices.ContainsFunc(r.hosts, func(h *hostState) bool { return h.Trouble != nil }) {
		return nil // that was found, and it is mended first
	}
	o, err := r.Plan(r.in)
	if err != nil {
		if precheck.Worst(precheck.Judge(r.in)) == precheck.Fail {
			return nil // it may follow from what was found: a host's name, or an address
		}
		return err
	}
	o.Tell = func(string, string) {}
	o.Connect = func(_ context.Context, want install.Host) (install.Conn, error) {
		for _, h := range r.hosts {
			if h.Addr == want.Addr {
				return open{h.conn}, nil
			}
		}
		return nil, fmt.Errorf("no host of the pair has the address %s", want.Addr)
	}
	res, err := install.Install(ctx, o, true)
	if err != nil {
		r.in.Install = append(r.in.Install, precheck.Finding{Check: "installation", Result: precheck.Fail,
			Finding: err.Error(), Remedy: "mend that, and check again"})
	}
	for _, f := range res.Findings {
		if f.Check == "reach" || f.Check == "mtu" && f.Node != "" {
			continue // judged here by the same tries; an installation counts on the ports that it is to open
		}
		who := ""
		for _, h := range r.hosts {
			if h.Facts.Name == f.Node {
				who = f.Node + " (" + h.Addr + "): "
			}
		}
		r.in.Install = append(r.in.Install, precheck.Finding{Check: f.Check, Result: f.Result, Finding: who + f.Finding, Remedy: f.Remedy})
	}
	return nil
}

// addArbiters are the arbiters that are hosts. One that is a node, or has the virtual address, is
// not asked: it can not be one.
func (r *run) addArbiters() error {
	mine, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list the addresses of this node: %w", err)
	}
	for i := range r.in.Arbiters {
		a := &r.in.Arbiters[i]
		for k, addr := range a.Addrs {
			// Another address of this node is this node.
			if slices.ContainsFunc(mine, func(m net.Addr) bool { return strings.HasPrefix(m.String(), addr+"/") }) {
				a.Addrs[k] = r.in.Nodes[0].Addr
			}
		}
		if a.Kind != precheck.Quorum || slices.Contains([]string{r.in.Nodes[0].Addr, r.in.Nodes[1].Addr, r.in.VIP}, a.Addrs[0]) {
			continue
		}
		a.Node = &precheck.Node{Addr: a.Addrs[0]}
		r.hosts = append(r.hosts, &hostState{Node: a.Node, arbiter: true})
	}
	return nil
}

// ownAddr is the address of this node from which the peer is reached.
func ownAddr(peer netip.Addr) (netip.Addr, error) {
	c, err := net.Dial("udp", net.JoinHostPort(peer.String(), "9")) // nothing is sent
	if err != nil {
		return netip.Addr{}, fail.Errorf(fail.Invalid, "--peer: value %s: no route leads there: %w", peer, err)
	}
	defer c.Close()
	own, err := netip.ParseAddrPort(c.LocalAddr().String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find this node's address: %w", err)
	}
	if own.Addr().Unmap() == peer {
		return netip.Addr{}, fail.Errorf(fail.Invalid, "--peer: value %s: that is this node's own address; want the other node's", peer)
	}
	return own.Addr().Unmap(), nil
}

// trouble notes that a host can not be asked any more.
func (h *hostState) trouble(err error, remedy string) {
	t := &precheck.Trouble{Finding: err.Error(), Remedy: remedy}
	if strings.Contains(t.Finding, install.Busy) {
		t.Busy, t.Remedy = true, "wait for its end, and check again"
	}
	h.Trouble = t
}

// each does something with all hosts that can still be asked, at a time.
func (r *run) each(hosts []*hostState, do func(*hostState) error) {
	var wg sync.WaitGroup
	for _, h := range hosts {
		if h.Trouble != nil {
			continue
		}
		wg.Go(func() {
			if err := do(h); err != nil {
				h.trouble(err, r.remedy(h))
			}
		})
	}
	wg.Wait()
}

// remedy is what to do about a host that does not answer any more.
func (r *run) remedy(h *hostState) string {
	if h.Node == &r.in.Nodes[0] { // sudo tells only now that it wants a password
		return "run this as root, or as a user that sudo lets be root without a password"
	}
	return "see that the host is up, and check again"
}

// connect logs in at all hosts.
func (r *run) connect(ctx context.Context) {
	r.each(r.hosts, func(h *hostState) error {
		r.Tell(h.Addr, "connects")
		var err error
		if h.Node == &r.in.Nodes[0] {
			h.conn, err = r.Here()
			return err
		}
		if h.conn, err = r.Connect(ctx, h.Addr, h.arbiter); err != nil {
			h.trouble(err, install.RemedyOf(err))
		}
		return nil
	})
}

// close ends the program on all hosts. What it says of an end is about what was placed, and
// nothing was.
func (r *run) close() {
	var wg sync.WaitGroup
	for _, h := range r.hosts {
		if h.conn != nil {
			wg.Go(func() { _ = h.conn.Close() })
		}
	}
	wg.Wait()
}

// second is a host's address on the second path, "" when it has none.
func (r *run) second(h *hostState) string {
	for i, addr := range r.in.Second {
		if h.Node == &r.in.Nodes[i] {
			return addr
		}
	}
	return ""
}

// gather asks what an installation asks. From now on the host listens at its ports.
func (r *run) gather(ctx context.Context, h *hostState) error {
	r.Tell(h.Addr, "checks")
	a, err := h.conn.Ask(ctx, install.Request{Do: install.DoGather, Query: &install.Query{
		Host: h.Addr, Addr: h.Addr, Second: r.second(h), DataDir: "/var/lib/holdfast", Ports: install.Host{}.Ports(),
	}})
	if err == nil && a.Facts == nil {
		err = errors.New("it says nothing")
	}
	if err != nil {
		return err
	}
	f := a.Facts
	h.Facts = precheck.Facts{Name: f.Name, Machine: f.Machine}
	if f.Installed != nil {
		h.Facts.Cluster = f.Installed.Cluster
	}
	if f.Link != nil {
		h.Facts.Speed, h.mtu = f.Link.Speed, f.Link.MTU
	}
	return nil
}

// reach has the hosts try each other, one after the other: nothing else shares the links while
// their speed is measured.
func (r *run) reach(ctx context.Context) {
	for i, h := range r.hosts {
		r.each([]*hostState{h}, func(h *hostState) error {
			var peers []install.Peer
			if i < 2 && r.in.Second != nil && r.hosts[1-i].Trouble == nil {
				peers = append(peers, install.Peer{Host: r.in.Second[1-i], Addr: r.in.Second[1-i], Ports: install.SecondPorts()})
			}
			for k, o := range r.hosts {
				if k != i && o.Trouble == nil && (!h.arbiter || !o.arbiter) {
					peers = append(peers, install.Peer{Host: o.Addr, Addr: o.Addr, Ports: install.Host{}.Ports(), MTU: h.mtu, Rate: i < 2 && k < 2})
				}
			}
			a, err := h.conn.Ask(ctx, install.Request{Do: install.DoReach, Peers: peers})
			for _, p := range a.Reached {
				h.Reached = append(h.Reached, precheck.Reached{Addr: p.Host, Ports: p.Ports, Frames: p.Frames, Rate: p.Rate, Unrated: p.Unrated})
			}
			return err
		})
	}
}

// details asks what a pair needs to know, one host after the other: two that ask for a virtual
// address at once take each other for its owner.
func (r *run) details(ctx context.Context) {
	for i, h := range r.hosts {
		r.each([]*hostState{h}, func(h *hostState) error {
			q := &precheck.Query{}
			if !h.arbiter {
				q = r.query(i)
			}
			a, err := h.conn.Ask(ctx, install.Request{Do: install.DoPair, Pair: q})
			if err == nil && a.Pair == nil {
				err = errors.New("it says nothing")
			}
			if err != nil {
				return err
			}
			h.Facts = merged(h.Facts, *a.Pair)
			return nil
		})
	}
}

// merged adds what an installation asked to what a pair did.
func merged(x, f precheck.Facts) precheck.Facts {
	f.Name, f.Machine, f.Cluster, f.Speed = x.Name, x.Machine, x.Cluster, x.Speed
	return f
}

// query is what node i is asked.
func (r *run) query(i int) *precheck.Query {
	q := &precheck.Query{VIP: r.VIP.String(), Dir: dataDir, Disk: r.Disk, Partition: r.Partition,
		VersionFile: r.VersionFile, Unmanaged: r.Unmanaged}
	if r.Dev != "" {
		q.VIP += " dev " + r.Dev
	}
	other := r.in.Nodes[1-i]
	q.Others = []string{other.Addr}
	if s := r.in.Second; s != nil {
		q.Second = &precheck.Path{First: r.in.Nodes[i].Addr, Own: s[i], Peer: s[1-i]}
	}
	for k, a := range r.in.Arbiters {
		switch a.Kind {
		case precheck.Ping:
			q.Pings = append(q.Pings, a.Addrs...)
		case precheck.DiskArbiter:
			q.Device = a.Device
		case precheck.Fence:
			devices := r.Fencing.Hosts[other.Facts.Name].Devices
			if len(devices) == 0 && other.Trouble == nil {
				r.in.Arbiters[k].NoBMC = append(r.in.Arbiters[k].NoBMC, 1-i)
			}
			for _, d := range devices {
				q.BMCs = append(q.BMCs, precheck.BMC(d))
			}
			// The id of a system has no hyphens, and is nothing that a device knows.
			if q.Machine = other.Facts.Machine; !strings.Contains(q.Machine, "-") {
				q.Machine = ""
			}
		}
	}
	return q
}
