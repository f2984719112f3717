package platform

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// good is a platform with which nothing is wrong.
func good() *Platform {
	p := &Platform{Format: Format, Nova: "2.93", Hosts: []Host{{Name: "c1", Up: true, Enabled: true, Guests: 2,
		Model: "Nehalem", Memory: 100, Used: 60}, {Name: "c3", Up: true, Enabled: true, Model: "Nehalem", Memory: 100, Used: 30}},
		Providers:   []Provider{{Host: "c1", There: true}, {Host: "c3", There: true}},
		Pools:       []Pool{{Name: "v1@ceph#rbd", Total: 10, Free: 4}, {Name: "v1@ceph#all", Total: -1, Free: -1}},
		VolumeTypes: []VolumeType{{Name: "ssd"}}, Aggregates: []Aggregate{{Name: "fast", Hosts: []string{"c1", "c3"}}},
		Flavors: []Flavor{{ID: "1", Name: "small", Memory: 512, Specs: map[string]string{"a": "b"}}},
		Images:  []Image{{ID: "i", Status: "active", Size: 7}}}
	for _, s := range []string{"identity", "compute", "image", "network", "volumev2"} {
		p.Endpoints = append(p.Endpoints, Endpoint{Service: s, URL: "http://" + s})
	}
	for _, s := range []Service{{Of: "compute", Binary: "nova-conductor"}, {Of: "compute", Binary: "nova-scheduler"},
		{Of: "compute", Binary: "nova-compute"}, {Of: "volume", Binary: "cinder-scheduler"},
		{Of: "volume", Binary: "cinder-volume", Host: "v1@ceph"}, {Of: "network", Binary: "neutron-openvswitch-agent", Host: "c1"}} {
		s.Enabled, s.Up = true, true
		p.Services = append(p.Services, s)
	}
	return p
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Platform)
		want string // results that are no pass, and findings
	}{
		"good": {func(*Platform) {}, ""},
		"no image service": {func(p *Platform) { p.Endpoints = append(p.Endpoints[:2:2], p.Endpoints[3:]...) },
			"fail endpoints: Keystone's catalog has no endpoint of image"},
		"no answer": {func(p *Platform) { p.Endpoints[0].Error = "connection refused" },
			"fail endpoints: identity at http://identity: connection refused"},
		"no volumes": {func(p *Platform) {
			p.Endpoints, p.Services, p.Pools = p.Endpoints[:4], append(p.Services[:3:3], p.Services[5]), nil
		},
			"warn endpoints: Keystone's catalog has no endpoint of volumev3: there are no volumes"},
		"an agent is silent": {func(p *Platform) {
			p.Services = append(p.Services, Service{Of: "network", Binary: "neutron-openvswitch-agent", Host: "c2", Enabled: true, Seen: "10:00"})
		}, "fail services: neutron-openvswitch-agent on c2 has not reported lately; the last time was 10:00"},
		"disabled": {func(p *Platform) {
			p.Services[2].Enabled, p.Services[2].Host, p.Services[2].Why = false, "c1", "repair"
		}, "fail services: no nova-compute is up and enabled, warn services: nova-compute on c1 is disabled: repair"},
		"no conductor": {func(p *Platform) { p.Services = p.Services[1:] }, "fail services: no nova-conductor is up and enabled"},
		"no host":      {func(p *Platform) { p.Hosts, p.Aggregates = nil, nil }, "fail hosts: Nova knows no host"},
		"a host is down": {func(p *Platform) { p.Hosts[0].Up = false },
			"fail hosts: c1, which has 2 guests, is down, warn aggregates: fast has one host that works, c3: its 0 guests can go nowhere in it"},
		"repaired host": {func(p *Platform) { p.Hosts[0].Up, p.Hosts[0].Enabled = false, false },
			"warn aggregates: fast has one host that works, c3: its 0 guests can go nowhere in it"},
		"both are down": {func(p *Platform) { p.Hosts[0].Enabled, p.Hosts[1].Enabled = false, false }, ""},
		"no room": {func(p *Platform) { p.Hosts[1].Used = 41 },
			"warn aggregates: fast is too small to empty c1: 60 MiB are in use there, and its other hosts with " +
				"processors of that model (Nehalem) have 59 MiB free"},
		"overcommitted": {func(p *Platform) { p.Hosts[1].Used = 130 },
			"warn aggregates: fast is too small to empty c1: 60 MiB are in use there, and its other hosts with " +
				"processors of that model (Nehalem) have 0 MiB free"},
		"two models": {func(p *Platform) {
			p.Hosts[1].Model, p.Hosts[1].Used = "Skylake-Server", 0
		}, "warn aggregates: fast is too small to empty c1: 60 MiB are in use there, and its other hosts with " +
			"processors of that model (Nehalem) have 0 MiB free"},
		"no provider": {func(p *Platform) { p.Providers[1].There = false }, "fail placement: Placement has no provider for c3"},
		"not healed": {func(p *Platform) { p.Providers[0].Without = []string{"1", "2", "3", "4", "5", "6", "7"} },
			"fail placement: c1 has guests without an allocation: 1, 2, 3, 4, 5 and 2 more"},
		"not synced": {func(p *Platform) { p.Providers[0].NotIn = []string{"fast"} },
			"fail placement: c1 is not in these aggregates of Placement, and in Nova's: fast"},
		"no Placement": {func(p *Platform) { p.Providers = nil }, ""},
		"no pool": {func(p *Platform) { p.Pools = []Pool{{Name: "v1@cephfs#x", Free: 1, Total: 1}} },
			"fail storage: cinder-volume on v1@ceph tells of no pool"},
		"full": {func(p *Platform) { p.Pools[0].Free = 0 }, "fail storage: pool v1@ceph#rbd has 0 of 10 GiB free"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good()
			c.edit(p)
			var got []string
			seen := map[string]bool{}
			for _, f := range p.Check(false) {
				seen[f.Check] = true
				if f.Result != Pass {
					got = append(got, fmt.Sprintf("%s %s: %s", f.Result, f.Check, f.Finding))
				}
				if f.Result != Pass && f.Remedy == "" {
					t.Errorf("%s: no remedy", f.Finding)
				}
			}
			if s := strings.Join(got, ", "); s != c.want || len(seen) != 6 || Failed(p.Check(false)) != strings.Contains(c.want, "fail ") {
				t.Errorf("%s, want %s; checks %v", s, c.want, seen)
			}
		})
	}
}

// TestControlPlane: a new platform has no hosts with guests yet.
func TestControlPlane(t *testing.T) {
	p := good()
	p.Providers[0].Without = []string{"1"}
	p.Hosts, p.Services = nil, append(p.Services[:2:2], p.Services[3:5]...)
	if all := p.Check(true); Failed(all) || len(all) != 6 {
		t.Errorf("%+v", all)
	}
	if !Failed(p.Check(false)) {
		t.Error("a platform without hosts works")
	}
	p.Services[0].Up = false
	if !Failed(p.Check(true)) {
		t.Error("a control plane without a conductor works")
	}
}

func TestCompare(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*Platform)
		want string
	}{
		"equal": {func(p *Platform) {
			p.Hosts = append(p.Hosts, Host{Name: "c2"})
			p.Hosts[0].Version, p.Hosts[0].Used = 9, 9
		}, ""},
		"a host is missing": {func(p *Platform) { p.Hosts[0].Name = "x" }, "error host c1 object"},
		"a flavor": {func(p *Platform) {
			p.Flavors[0].Memory, p.Flavors[0].Name, p.Flavors[0].Specs = 1, "x",
				nil
		}, "error flavor 1 memory_mib, warning flavor 1 name, warning flavor 1 specs"},
		"an image": {func(p *Platform) { p.Images[0].Status = "queued" }, "error image i status"},
		"guests, a type": {func(p *Platform) { p.Hosts[0].Guests, p.VolumeTypes = 1, nil },
			"warning host c1 guests, error volume_type ssd object"},
		"hosts of aggregate": {func(p *Platform) { p.Aggregates[0].Hosts = []string{} }, "error aggregate fast hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good()
			c.edit(p)
			left, err := Compare(good(), p)
			var got []string
			for _, d := range left {
				got = append(got, fmt.Sprintf("%s %s %s %s", d.Severity, d.Kind, d.ID, d.Field))
			}
			if s := strings.Join(got, ", "); s != c.want || err != nil {
				t.Errorf("%s %v, want %s", s, err, c.want)
			}
		})
	}
}

func TestRead(t *testing.T) {
	text, err := json.Marshal(good())
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Read(text); err != nil || len(p.Services) != 6 {
		t.Errorf("%+v %v", p, err)
	}
	for text, want := range map[string]string{"x": "no result of transition collect", "{}": "field format: value 0: want 1"} {
		if _, err := Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestSizing: the one figure that there is, 360's, and what it says of other numbers.
func TestSizing(t *testing.T) {
	for _, c := range []struct {
		nodes, hosts int
		result, want string
	}{
		{2, 500, Warn, "2 control nodes, by nova-conductor, for 500 hosts with 1000 guests; 360 began with two"},
		{2, 499, Pass, "2 control nodes"}, {4, 500, Pass, "4 control nodes"},
		{1, 20, Pass, "1 control nodes, by nova-conductor, for 20 hosts"}, {0, 900, Pass, "0 control nodes"},
	} {
		var is, was Platform
		is.Services = []Service{{Binary: "nova-conductor", Host: "down", Enabled: true}}
		for i := range c.nodes {
			for range 2 { // of two cells
				is.Services = append(is.Services, Service{Binary: "nova-conductor", Host: fmt.Sprint("n", i), Enabled: true, Up: true})
			}
		}
		for range c.hosts {
			was.Hosts = append(was.Hosts, Host{Guests: 2})
		}
		if f := is.Sizing(&was); f.Result != c.result || !strings.Contains(f.Finding, c.want) || f.Result == Warn && f.Remedy == "" {
			t.Errorf("%d nodes, %d hosts: %+v", c.nodes, c.hosts, f)
		}
	}
}
