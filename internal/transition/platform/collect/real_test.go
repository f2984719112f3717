package collect_test

import (
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"holdfast/internal/transition/net/nettest"
	"holdfast/internal/transition/platform"
	"holdfast/internal/transition/platform/collect"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

var update = flag.Bool("update", false, "write down what the real platform answers")

// recorded is what Debian's services answered, by service and path.
const recorded = "testdata/debian-12.json"

// asked are the paths that are read, of each service.
var asked = map[string][]string{
	"compute": {"/os-services", "/os-hypervisors/detail", "/os-aggregates", "/flavors/detail?is_public=None",
		"/flavors/small/os-extra_specs", "/flavors/large/os-extra_specs"},
	"network": {"/agents"}, "image": {"/images"}, "volume": {"/os-services", "/scheduler-stats/get_pools?detail=true",
		"/types?is_public=None"},
}

// TestRealPlatform: what the real services have is read, found to work, and compared; a host that stops is told.
func TestRealPlatform(t *testing.T) {
	need.Drill(t, "360, before a transition: what the real services have is read, compared, and what stops is told")
	c := nettest.StartCloud(t, nettest.MariaDB)
	guest := c.Guest("vm1")
	c.Call("POST", "compute", "/os-aggregates", "", map[string]any{"aggregate": map[string]string{"name": "fast",
		"availability_zone": "z1"}}, nil)
	c.Call("POST", "compute", "/os-aggregates/1/action", "", map[string]any{"add_host": map[string]string{"host": nettest.Hosts[1]}}, nil)
	c.Call("POST", "compute", "/flavors/small/os-extra_specs", "",
		map[string]any{"extra_specs": map[string]string{"hw:cpu_policy": "shared"}}, nil)
	c.Call("POST", "volume", "/types", "", map[string]any{"volume_type": map[string]any{"name": "ssd",
		"extra_specs": map[string]string{"volume_backend_name": "fake"}}}, nil)
	if *update {
		all := map[string]map[string]json.RawMessage{}
		for service, paths := range asked {
			all[service] = map[string]json.RawMessage{}
			for _, p := range paths {
				var answer json.RawMessage
				c.Call("GET", service, p, map[string]string{"compute": "2.9"}[service], nil, &answer)
				all[service][p] = answer
			}
		}
		var hosts struct {
			Hypervisors []struct{ ID string }
		}
		for p, version := range map[string]string{"/os-aggregates": "2.41", "/os-hypervisors/detail?with_servers=true": "2.53"} {
			var answer json.RawMessage
			c.Call("GET", "compute", p, version, nil, &answer)
			all["compute"][p] = answer
			if version == "2.53" {
				try.Must(t, json.Unmarshal(answer, &hosts))
			}
		}
		all["placement"] = map[string]json.RawMessage{}
		for _, h := range hosts.Hypervisors {
			for _, of := range []string{"allocations", "aggregates"} {
				p := "/resource_providers/" + h.ID + "/" + of
				var answer json.RawMessage
				c.Call("GET", "placement", p, "1.1", nil, &answer)
				all["placement"][p] = answer
			}
		}
		text, err := json.MarshalIndent(all, "", " ")
		try.Must(t, err)
		try.Must(t, os.WriteFile(recorded, append(text, '\n'), 0o644))
	}
	read := func() *platform.Platform {
		p, err := collect.Collect(t.Context(), c.Keys.Env, time.Now())
		if err != nil {
			t.Fatal(err, c.Said())
		}
		return p
	}
	p := read()
	if len(p.Hosts) != len(nettest.Hosts) || len(p.Flavors) != 2 || len(p.Images) != 1 || len(p.Pools) == 0 ||
		len(p.Aggregates) != 1 || len(p.VolumeTypes) == 0 || p.Hosts[0].Guests+p.Hosts[1].Guests != 1 {
		t.Errorf("%+v", p)
	}
	if len(p.Providers) != 2 || p.Providers[0].Host != nettest.Hosts[0] || !p.Providers[0].There ||
		len(p.Providers[0].Without) > 0 || len(p.Providers[1].NotIn) > 0 || p.Hosts[0].Model == "" {
		t.Errorf("what Nova has made itself is missing in Placement: %+v", p.Providers)
	}
	c.Call("DELETE", "placement", "/allocations/"+guest, "1.1", nil, nil)
	for _, x := range read().Providers {
		if (len(x.Without) == 1) != (x.Host == nettest.Hosts[0]) {
			t.Errorf("a guest without an allocation: %+v", x)
		}
	}
	small := p.Flavors[slices.IndexFunc(p.Flavors, func(f platform.Flavor) bool { return f.ID == nettest.Small })]
	if small.Specs["hw:cpu_policy"] != "shared" || small.CPUs == 0 || small.Memory == 0 ||
		p.Images[0].Status != "active" || p.Images[0].Checksum == "" {
		t.Errorf("%+v %+v", small, p.Images[0])
	}
	for _, f := range p.Check(false) {
		// The drivers are fakes, and no agent of Neutron runs: its server's rows alone are there.
		t.Logf("%s %s: %s", f.Result, f.Check, f.Finding)
		if f.Result == platform.Fail && f.Check != "services" {
			t.Errorf("%+v", f)
		}
	}
	left, err := platform.Compare(p, read())
	if err != nil || len(left) > 0 {
		t.Errorf("the same platform: %v %v", left, err)
	}
	c.Call("DELETE", "compute", "/flavors/small/os-extra_specs/hw:cpu_policy", "", nil, nil)
	c.Call("DELETE", "compute", "/flavors/large", "", nil, nil)
	left, err = platform.Compare(p, read())
	if err != nil || len(left) != 2 || left[0].ID != nettest.Large || left[0].Field != "object" ||
		left[1].ID != nettest.Small || left[1].Field != "specs" {
		t.Errorf("a flavor that is gone, and one that has changed: %+v %v", left, err)
	}
}
