package platform

import (
	"fmt"
	"slices"
	"strings"
)

// Results of checks.
const (
	Pass = "pass"
	Warn = "warn"
	Fail = "fail"
)

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
	{"network", []string{"neutron-openvswitch-agent", "neutron-linuxbridge-agent", "neutron-ovn-agent", "ovn-controller", "neutron-sriov-nic-agent"}, "agent that wires ports", true},
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
			c.say(check, Fail, "its log tells whether it runs and reaches the message bus; its clock may be wrong", "%s on %s has not reported lately%s", s.Binary, s.Host, since(s.Seen))
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

// Failed reports whether a check failed.
func Failed(all []Finding) bool {
	return slices.ContainsFunc(all, func(f Finding) bool { return f.Result == Fail })
}
