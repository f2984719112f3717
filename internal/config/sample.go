package config

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
)

// Sample returns a configuration of the kind FileConf or CephConf to start
// from: indented JSON with a newline at the end, which Parse accepts. The MAC
// addresses are unicast, locally administered and made from random, which is
// crypto/rand.Reader but for tests.
func Sample(kind string, random io.Reader) ([]byte, error) {
	cl := Cluster{
		Node:           []string{"192.0.2.11 node-1", "192.0.2.12 node-2", "192.0.2.13 node-3"},
		MemorySizeInGB: minGB,
		CPU:            minCPU,
		Type:           kind,
		ChronyServers:  []string{"192.0.2.1"},
		DNS:            []string{"192.0.2.1"},
		Network: []Network{
			{Bridge: "br_mgmt", Ipaddr: "192.0.2.20", Netmask: "255.255.255.0", Gateway: "192.0.2.1", IsMgmt: true},
			{Bridge: "br_public", Ipaddr: "198.51.100.20", Netmask: "255.255.255.0", Gateway: "198.51.100.1", IsDefRoute: true},
		},
	}
	switch kind {
	case FileConf:
		cl.ImageFolder = "/srv/shared/mngt/"
	case CephConf:
		cl.MonAddrs = []string{"192.0.2.11", "192.0.2.12", "192.0.2.13"}
		cl.PoolName = "mngt"
	default:
		return nil, fmt.Errorf("sample configuration of kind %q: want %s or %s", kind, FileConf, CephConf)
	}
	for i := range cl.Network {
		mac := make(net.HardwareAddr, 6)
		if _, err := io.ReadFull(random, mac); err != nil {
			return nil, fmt.Errorf("make a random MAC address: %w", err)
		}
		// The last bits tell the cards apart even with a bad source.
		mac[0] = mac[0]&^1 | 2
		mac[5] = mac[5]&^3 | byte(i)
		cl.Network[i].MacAddress = mac.String()
	}
	data, err := json.MarshalIndent(cl, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write sample configuration: %w", err)
	}
	return append(data, '\n'), nil
}
