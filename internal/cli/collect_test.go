package cli

import (
	"context"
	"os"
	"strings"
	"time"

	"holdfast/internal/transition/cloud"
	"holdfast/internal/transition/platform"
)

// fakeCollect finds one host and one flavor. At the Keystone new the scheduler is down, the flavor is gone, and the
// host has another number of guests.
func fakeCollect(_ context.Context, getenv func(string) string, now time.Time) (*platform.Platform, error) {
	login, err := cloud.From(func(name string) string {
		if name == "OS_TOKEN" {
			return "t"
		}
		return getenv(name)
	})
	if err != nil {
		return nil, err
	}
	p := &platform.Platform{Format: platform.Format, Time: now, Auth: login.IdentityEndpoint, Nova: "2.93",
		Hosts: []platform.Host{{Name: "c1", Up: true, Enabled: true, Guests: 3}}, Flavors: []platform.Flavor{{ID: "1", Name: "small"}}}
	for _, s := range []string{"identity", "compute", "image", "network"} {
		p.Endpoints = append(p.Endpoints, platform.Endpoint{Service: s, Interface: "public", URL: "http://" + s})
	}
	for _, b := range []string{"nova-conductor", "nova-scheduler", "nova-compute", "neutron-openvswitch-agent"} {
		of := map[bool]string{true: "compute", false: "network"}[strings.HasPrefix(b, "nova")]
		p.Services = append(p.Services, platform.Service{Of: of, Binary: b, Host: "c1", Enabled: true, Up: true})
	}
	if login.IdentityEndpoint == "http://new:5000/v3" {
		p.Services[0] = platform.Service{Of: "compute", Binary: "nova-cells", Host: "c1", Enabled: true, Seen: "2026-01-02"}
		p.Hosts[0].Guests, p.Flavors = 4, nil
	}
	if login.IdentityEndpoint == "http://placed:5000/v3" {
		p.Providers = []platform.Provider{{Host: "c1", There: true, Without: []string{"guest-1"}, NotIn: []string{"fast"}}}
		if _, err := os.Stat("healed"); err == nil { // what a script's nova-manage has left
			p.Providers[0].Without = nil
		}
		if _, err := os.Stat("synced"); err == nil {
			p.Providers[0].NotIn = nil
		}
	}
	return p, nil
}
