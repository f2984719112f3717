package platform

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/lib/text"
)

// Results of checks.
const (
	Pass = "pass"
	Warn = "warn"
	Fail = "fail"
)

// Placement is the check of what Placement has.
const Placement = "placement"

// Finding is what one check found.
type Finding struct {
	Check   string `json:"check"`
	Result  string `json:"result"`
	Finding string `json:"finding"`
	Remedy  string `json:"remedy"`
}

// needed are services without which a platform does not work, one of each at least. The first of a line is enough.
var needed = []struct {
	of   string
	any  []string
	what string
	host bool // it is on hosts with guests
}{
	{"compute", []string{"nova-conductor"}, "nova-conductor", false},
	{"compute", []string{"nova-scheduler"}, "nova-scheduler", false},
	{"compute", []string{"nova-compute"}, "nova-compute", true},
	{"volume", []string{"cinder-scheduler"}, "cinder-scheduler", false},
	{"volume", []string{"cinder-volume"}, "cinder-volume", false},
	{"network", []string{"neutron-openvswitch-agent", "neutron-linuxbridge-agent", "neutron-ovn-agent",
		"ovn-controller", "neutron-sriov-nic-agent"}, "agent that wires ports", true},
}

// wanted are types of services that the catalog has to have.
var wanted = []string{"identity", "compute", "image", "network"}

// volume are the types under which catalogs have Cinder, which a platform may do without.
var volume = []string{"volumev3", "block-storage", "volumev2", "volume"}

// Check tells whether a platform works, as far as its services say: every check once at least. A service that is
// enabled and has not reported lately is told; that also finds a message bus over which reports do not pass. Control:
// hosts with guests may come later, only those that are there have to work.
func (p *Platform) Check(control bool) []Finding {
	c := &checks{control: control}
	volumes := slices.ContainsFunc(p.Endpoints, func(e Endpoint) bool { return slices.Contains(volume, e.Service) })
	c.endpoints(p.Endpoints, volumes)
	c.services(p.Services, volumes)
	c.hosts(p.Hosts)
	c.storage(p.Services, p.Pools)
	c.placement(p.Providers)
	c.aggregates(p.Aggregates, p.Hosts)
	return c.all
}

type checks struct {
	control bool
	all     []Finding
}

func (c *checks) say(check, result, remedy, finding string, args ...any) {
	c.all = append(c.all, Finding{check, result, fmt.Sprintf(finding, args...), remedy})
}

// well says that a check found nothing, when it has said nothing since.
func (c *checks) well(before int, check, finding string, args ...any) {
	if len(c.all) == before {
		c.say(check, Pass, "", finding, args...)
	}
}

func (c *checks) endpoints(all []Endpoint, volumes bool) {
	const check, remedy = "endpoints", "openstack endpoint create, for this region and interface"
	before := len(c.all)
	for _, name := range wanted {
		if !slices.ContainsFunc(all, func(e Endpoint) bool { return e.Service == name }) {
			c.say(check, Fail, remedy, "Keystone's catalog has no endpoint of %s", name)
		}
	}
	if !volumes {
		c.say(check, Warn, remedy, "Keystone's catalog has no endpoint of %s: there are no volumes", volume[0])
	}
	for _, e := range all {
		if e.Error != "" {
			c.say(check, Fail, "start the service, or correct the endpoint", "%s at %s: %s", e.Service, e.URL, e.Error)
		}
	}
	c.well(before, check, "%d answer", len(all))
}

func (c *checks) services(all []Service, volumes bool) {
	const check = "services"
	before := len(c.all)
	up := func(s Service) bool { return s.Enabled && s.Up }
	for _, n := range needed {
		if n.of == "volume" && !volumes || n.host && c.control {
			continue
		}
		if !slices.ContainsFunc(all, func(s Service) bool { return s.Of == n.of && slices.Contains(n.any, s.Binary) && up(s) }) {
			c.say(check, Fail, "start one", "no %s is up and enabled", n.what)
		}
	}
	for _, s := range all {
		switch {
		case !s.Enabled:
			why := ""
			if s.Why != "" {
				why = ": " + s.Why
			}
			c.say(check, Warn, "enable it, when it should have work", "%s on %s is disabled%s", s.Binary, s.Host, why)
		case !s.Up:
			c.say(check, Fail, "its log tells whether it runs and reaches the message bus; its clock may be wrong",
				"%s on %s has not reported lately%s", s.Binary, s.Host, since(s.Seen))
		}
	}
	c.well(before, check, "%d report", len(all))
}

func since(seen string) string {
	if seen == "" {
		return ""
	}
	return "; the last time was " + seen
}

func (c *checks) hosts(all []Host) {
	const check = "hosts"
	before := len(c.all)
	for _, h := range all {
		if h.Enabled && !h.Up {
			c.say(check, Fail, "start its nova-compute", "%s, which has %d guests, is down", h.Name, h.Guests)
		}
	}
	if len(all) == 0 && !c.control {
		c.say(check, Fail, "start nova-compute, then nova-manage cell_v2 discover_hosts", "Nova knows no host")
	}
	c.well(before, check, "%d", len(all))
}

func (c *checks) storage(services []Service, pools []Pool) {
	const check = "storage"
	before := len(c.all)
	for _, s := range services {
		if s.Binary != "cinder-volume" || !s.Enabled || !s.Up {
			continue
		}
		own := func(p Pool) bool { return p.Name == s.Host || strings.HasPrefix(p.Name, s.Host+"#") }
		if !slices.ContainsFunc(pools, own) {
			c.say(check, Fail, "see that it reaches its storage: its log tells", "cinder-volume on %s tells of no pool", s.Host)
		}
	}
	for _, p := range pools {
		if p.Free == 0 || p.Total == 0 {
			c.say(check, Fail, "see that the storage is reached and has room", "pool %s has %g of %g GiB free", p.Name, p.Free, p.Total)
		}
	}
	c.well(before, check, "%d pools", len(pools))
}

// placement tells what nova-manage has to make for hosts and guests that Nova has not made itself: without allocations
// hosts look empty to the scheduler, and outside of aggregates it finds none in any zone.
func (c *checks) placement(all []Provider) {
	const check, remedy = Placement, "holdfast transition placement"
	before := len(c.all)
	if c.control || all == nil {
		c.say(check, Pass, "", "not compared")
		return
	}
	for _, p := range all {
		switch {
		case !p.There:
			c.say(check, Fail, "start its nova-compute, which makes it", "Placement has no provider for %s", p.Host)
		case len(p.Without) > 0:
			c.say(check, Fail, remedy, "%s has guests without an allocation: %s", p.Host, text.Some(p.Without, mostNamed))
		}
		if p.There && len(p.NotIn) > 0 {
			c.say(check, Fail, remedy, "%s is not in these aggregates of Placement, and in Nova's: %s", p.Host, text.Some(p.NotIn, mostNamed))
		}
	}
	c.well(before, check, "%d providers have the guests and aggregates that Nova has", len(all))
}

// aggregates tells those whose hosts could not take over the guests of one of them. Guests that are bound to such an
// aggregate can not be moved for an upgrade.
func (c *checks) aggregates(all []Aggregate, hosts []Host) {
	const check, remedy = "aggregates", "join it with another one, or add hosts"
	before := len(c.all)
	of := map[string]Host{}
	for _, h := range hosts {
		of[h.Name] = h
	}
	for _, a := range all {
		var work []Host
		for _, name := range a.Hosts {
			if h, known := of[name]; known && h.Up && h.Enabled {
				work = append(work, h)
			}
		}
		switch i := slices.IndexFunc(work, func(h Host) bool { return h.Used > room(work, h) }); {
		case len(work) == 0: // a host that is down is told as such
		case len(work) == 1:
			c.say(check, Warn, remedy, "%s has one host that works, %s: its %d guests can go nowhere in it", a.Name, work[0].Name, work[0].Guests)
		case i >= 0:
			c.say(check, Warn, remedy, "%s is too small to empty %s: %d MiB are in use there, and its other hosts "+
				"with processors of that model (%s) have %d MiB free",
				a.Name, work[i].Name, work[i].Used, cmp.Or(work[i].Model, "not told"), room(work, work[i]))
		}
	}
	c.well(before, check, "%d", len(all))
}

// room is the memory in MiB that is free on other hosts to which the guests of one can be moved: a processor of another
// model may lack what they use.
func room(work []Host, of Host) (free int) {
	for _, h := range work {
		if h.Name != of.Name && h.Model == of.Model {
			free += max(0, h.Memory-h.Used)
		}
	}
	return free
}

// tooMany hosts for each control node made 360 add nodes in the middle of its work (docs/from/openstack-360.md, 4.4.4):
// more than 3,000 hosts in six sites are some 500 a site, where two nodes became four.
const tooMany = 250

// Sizing compares how many nodes a control plane has with what it is to take over. The one figure that it has is 360's.
func (p *Platform) Sizing(was *Platform) Finding {
	nodes, guests := map[string]bool{}, 0
	for _, s := range p.Services {
		if s.Binary == "nova-conductor" && s.Enabled && s.Up {
			nodes[s.Host] = true
		}
	}
	for _, h := range was.Hosts {
		guests += h.Guests
	}
	f := Finding{Check: "sizing", Result: Pass, Finding: fmt.Sprintf(
		"%d control nodes, by nova-conductor, for %d hosts with %d guests; 360 began with two for some 500 hosts a "+
			"site, and ended with four", len(nodes), len(was.Hosts), guests)}
	if len(nodes) > 0 && len(was.Hosts) >= tooMany*len(nodes) { // that there is none tells another check
		f.Result, f.Remedy = Warn, "add control nodes before anything is carried over: at 360 the message bus had to be built anew when it grew"
	}
	return f
}

// Failed reports whether a check failed.
func Failed(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Result == Fail })
}

// mostNamed bounds how many of many are named.
const mostNamed = 5
