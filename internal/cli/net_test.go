package cli

import (
	"cmp"
	"context"

	"holdfast/internal/transition/net"
)

// fakeHostPorts is a host with one port of a guest that runs, whose tap is on br-int.
func fakeHostPorts(_ context.Context, name string) (*net.Host, error) {
	const id = "60000000-0000-4000-8000-000000000000"
	return &net.Host{Version: net.Version, Host: cmp.Or(name, "here"), Links: []net.Link{}, Guests: []string{}, Interfaces: []net.Interface{
		{Name: "tap60000000-00", Bridge: "br-int", PortID: id, MAC: "fa:16:3e:00:00:01", AdminState: "up",
			LinkState: "up", OFPort: 1, Tag: 1, Flows: 2, Filters: 2},
	}}, nil
}
