package net

import (
	"encoding/json"
	"slices"
	"strings"
)

const (
	// ReservedDHCP is the device of a port of DHCP that no agent has. The next DHCP agent that serves the port's network
	// takes it, with its MAC and IP address (DEVICE_ID_RESERVED_DHCP_PORT of neutron_lib/constants.py,
	// _setup_reserved_dhcp_port of neutron/agent/linux/dhcp.py).
	ReservedDHCP = "reserved_dhcp_port"
	dhcpOwner    = "network:dhcp"
	dhcpBinary   = "neutron-dhcp-agent"
)

// ReserveDHCP has the ports of DHCP wait for the new platform's agents, and leaves the old ones out: Neutron would
// have them serve networks. The ports stay bound to their hosts until they are taken, so that they go on working there.
func (d *Document) ReserveDHCP() {
	d.Agents = slices.DeleteFunc(d.Agents, func(a Agent) bool { return a.Binary == dhcpBinary })
	for i := range d.Ports {
		if d.Ports[i].DeviceOwner == dhcpOwner {
			d.Ports[i].DeviceID = ReservedDHCP
		}
	}
}

// taken are what an agent changes of a port that it takes.
var taken = []string{"device_id", "binding:host_id", BindingField, PlugField}

// HandedOver leaves out of the differences between a document after ReserveDHCP and a platform what is as it was meant
// to become: ports that an agent has taken.
func HandedOver(d *Document, left []Difference) []Difference {
	network := map[string]string{}
	for _, p := range d.Ports {
		if p.DeviceID == ReservedDHCP {
			network[p.ID] = p.NetworkID
		}
	}
	has := map[string]bool{}
	for _, x := range left {
		var device string
		if n, ok := network[x.ID]; ok && x.Field == "device_id" && json.Unmarshal(x.New, &device) == nil && agentOf(device, n) {
			has[x.ID] = true
		}
	}
	return slices.DeleteFunc(left, func(x Difference) bool {
		return x.Kind == "port" && has[x.ID] && slices.Contains(taken, x.Field) && !NotBound(x)
	})
}

// agentOf reports whether a device is the DHCP agent of a network on some host: dhcp, a UUID made of the host's name, -
// and the network (get_dhcp_agent_device_id of neutron/common/utils.py).
func agentOf(device, network string) bool {
	host, ok := strings.CutPrefix(device, "dhcp")
	host, of := strings.CutSuffix(host, "-"+network)
	return ok && of && isUUID(host)
}
