package install

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/config"
)

// Ports of libvirt: connections by TLS, and the memory of guests that move (migration_port_min
// and _max of qemu.conf).
const (
	TLSPort        = 16514
	MigrationFirst = 49152
	MigrationLast  = 49215
)

// FirewallFile has what a host lets in. Its agent keeps that (docs/adr/0043).
const FirewallFile = ConfDir + "/firewall.json"

// Opening lets packets from an address in, to a range of ports. Its fields are those of
// the adapter's rules.
type Opening struct {
	From  netip.Addr `json:"from"`
	Proto string     `json:"protocol"` // tcp, udp
	First int        `json:"first"`
	Last  int        `json:"last"`
}

// Openings is the content of FirewallFile.
type Openings struct {
	Addr  string    `json:"addr"` // of the host itself
	Rules []Opening `json:"rules"`
}

// Firewall is what filters packets to a host; without Kinds nothing does.
type Firewall struct {
	Kinds []string `json:"kinds,omitempty"` // firewalld, ufw, nftables, iptables
	Where []string `json:"where,omitempty"` // chains, or a zone
}

// openings are what a host must let in from the others. tls: libvirtd's connections go by TLS.
// pair: there are no guests, and its nodes follow each other's database; nil: there is none.
func openings(h Host, others []Host, tls bool, pair *config.Pair) (Openings, error) {
	out := Openings{Addr: h.Addr, Rules: []Opening{}}
	for _, o := range others {
		if o.Addr == h.Addr {
			continue
		}
		from, err := netip.ParseAddr(o.Addr)
		if err != nil {
			return out, fmt.Errorf("the address of %s: %w", o.Name, err)
		}
		add := func(proto string, first, last int) {
			out.Rules = append(out.Rules, Opening{from.Unmap(), proto, first, last})
		}
		add("tcp", APIPort, APIPort)
		if !h.Guests {
			add("tcp", ClientPort, ClientPort)
		}
		if !h.Guests && !o.Guests {
			add("tcp", PeerPort, PeerPort)
			add("udp", APIPort, APIPort)
		}
		if pair != nil {
			if pair.Peer(h.Name) == o.Name {
				copies, port, err := copyFrom(pair.Full(), o)
				if err != nil {
					return out, err
				}
				from = copies
				add("tcp", port, port)
				if pair.MayPart() {
					add("tcp", pair.PartitionPort(), pair.PartitionPort())
				}
				if second, _, ok := pair.Second(o.Name); ok {
					from = second
					add("tcp", APIPort, APIPort)
					add("tcp", PeerPort, PeerPort)
					add("udp", APIPort, APIPort)
				}
			}
			continue
		}
		if tls {
			add("tcp", TLSPort, TLSPort)
		}
		add("tcp", MigrationFirst, MigrationLast)
	}
	return out, nil
}

// copyFrom is where the copy of the other node of a pair connects from, and the port to which.
func copyFrom(pair config.Pair, o Host) (from netip.Addr, port int, err error) {
	port = pair.Database.Port
	if pair.Device != nil {
		port = pair.Device.Port
	}
	if from, err = netip.ParseAddr(pair.CopyAddr(o.Name, o.Addr)); err != nil {
		return from, port, fmt.Errorf("the address of %s for the copy: %w", o.Name, err)
	}
	return from.Unmap(), port, nil
}

// String is for people: ports with the addresses that all have them in common.
func (o Openings) String() string {
	ports := map[netip.Addr]string{}
	var from []netip.Addr
	for _, r := range o.Rules {
		if ports[r.From] == "" {
			from = append(from, r.From)
		} else {
			ports[r.From] += ", "
		}
		ports[r.From] += strings.ToUpper(r.Proto) + " " + strconv.Itoa(r.First)
		if r.Last > r.First {
			ports[r.From] += "-" + strconv.Itoa(r.Last)
		}
	}
	by := map[string][]string{}
	for _, a := range from {
		by[ports[a]] = append(by[ports[a]], a.String())
	}
	var parts []string
	for _, p := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, p+" from "+strings.Join(by[p], ", "))
	}
	return strings.Join(parts, "; ")
}

// planOpenings settles what each host lets in.
func (r *run) planOpenings(ctx context.Context) error {
	if r.NoFirewall {
		return nil
	}
	r.hosts = r.peers(ctx)
	for i, s := range r.sights {
		o, err := openings(s.host, r.hosts, r.tls(), r.Config.Pair)
		if err != nil {
			return err
		}
		r.sights[i].opens = &o
	}
	return nil
}

// peers are all hosts of the cluster, with those that run guests only: as the cluster lists
// them, or, while it does not answer, as members let them in.
func (r *run) peers(ctx context.Context) []Host {
	out := slices.Concat(Members(r.Config), r.Guests)
	add := func(h Host) {
		if !slices.ContainsFunc(out, func(o Host) bool { return o.Addr == h.Addr }) {
			out = append(out, h)
		}
	}
	for _, s := range r.sights {
		if in := s.facts.Installed; in == nil || !in.Active || in.Guests {
			continue
		}
		var list []struct {
			Name   string `json:"name"`
			Addr   string `json:"addr"`
			Guests bool   `json:"guests_only"`
		}
		if r.agent(ctx, s.host, &list, "host", "list") != nil {
			continue // the next one is asked
		}
		for _, l := range list {
			if l.Guests && l.Addr != "" {
				add(Host{Name: l.Name, Addr: l.Addr, Guests: true})
			}
		}
		return out
	}
	for _, s := range r.sights {
		for _, a := range guestsLetIn(s.facts.Opened) {
			add(Host{Name: a.String(), Addr: a.String(), Guests: true})
		}
	}
	return out
}

// guestsLetIn are addresses that a member lets reach the store as clients, and not as members.
func guestsLetIn(rules []Opening) (out []netip.Addr) {
	has := func(a netip.Addr, port int) bool {
		return slices.ContainsFunc(rules, func(r Opening) bool { return r.From == a && r.First == port })
	}
	for _, r := range rules {
		if r.First == ClientPort && !has(r.From, PeerPort) {
			out = append(out, r.From)
		}
	}
	return out
}

// opened are the hosts whose firewall is changed: the installation's, and members that
// must let those in.
func (r *run) opened() []Host {
	out := slices.Clone(r.targets)
	for _, s := range r.sights[len(r.targets):] {
		if s.facts.Installed != nil && !r.NoFirewall {
			out = append(out, s.host)
		}
	}
	return out
}

// lets are what a host lets in. The member that leaves is one of the hosts until it has left.
func (r *run) lets(h Host, left bool) (Openings, error) {
	if r.NoFirewall {
		return Openings{Addr: h.Addr, Rules: []Opening{}}, nil
	}
	others := r.hosts
	if left && r.swap != nil {
		others = append(slices.Clone(others), r.swap.left)
	}
	return openings(h, others, r.tls(), r.Config.Pair)
}

func (r *run) firewallFile(h Host, left bool) (File, error) {
	o, err := r.lets(h, left)
	if err != nil {
		return File{}, err
	}
	raw, err := indented(o)
	return File{Path: FirewallFile, Mode: 0o600, Data: raw}, err
}

// open has the hosts let each other in, and tries the ports. What is not confirmed after
// that the hosts take back.
func (r *run) open(ctx context.Context) error {
	r.Tell("", "firewall")
	err := r.each(r.opened(), func(h Host) error {
		o, err := r.lets(h, true)
		if err != nil {
			return err
		}
		_, err = r.ask(ctx, h, Request{Do: DoOpen, Open: &o})
		return err
	})
	if err == nil && slices.ContainsFunc(r.sights, func(s sight) bool { return s.facts.Firewall != nil && len(s.facts.Firewall.Kinds) > 0 }) {
		err = r.reachNow(ctx)
	}
	if err != nil {
		return errors.Join(err, r.undo())
	}
	return nil
}

// reachNow tries the ports once more.
func (r *run) reachNow(ctx context.Context) error {
	all := make([]Host, 0, len(r.sights))
	for _, s := range r.sights {
		all = append(all, s.host)
	}
	if err := r.reach(ctx, all); err != nil {
		return err
	}
	var errs []error
	for _, s := range r.sights {
		for _, p := range s.reached {
			for _, port := range slices.Sorted(maps.Keys(p.Ports)) {
				errs = append(errs, fmt.Errorf("%s: port %d of %s does not answer after its firewall was opened: %s: "+
					"see that the firewalls let replies in (ct state established), and what is between the hosts",
					s.host.Name, port, p.Host, p.Ports[port]))
			}
		}
	}
	return errors.Join(errs...)
}

// narrow shuts the member that has left out.
func (r *run) narrow(ctx context.Context) error {
	if r.swap == nil || r.NoFirewall {
		return nil
	}
	return r.each(r.opened(), func(h Host) error {
		f, err := r.firewallFile(h, false)
		if err != nil {
			return err
		}
		o, err := r.lets(h, false)
		if err != nil {
			return err
		}
		for _, q := range []Request{{Do: DoPlace, Files: []File{f}}, {Do: DoOpen, Open: &o}, {Do: DoKeep}} {
			if _, err := r.ask(ctx, h, q); err != nil {
				return fmt.Errorf("shut %s out of the firewall: %w", r.swap.left.Name, err)
			}
		}
		return nil
	})
}

// tls reports whether libvirtd's connections between hosts go by TLS.
func (r *run) tls() bool {
	uri := r.Base.Libvirt.MigrateURI
	return !isPair(r.Config) && (uri == "" || strings.HasPrefix(uri, "qemu+tls:"))
}
