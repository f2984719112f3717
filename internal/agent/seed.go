package agent

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/seed"
)

// seeder writes the guest's seed for this host, again only when it would be
// another one or the file is gone. cloud-init applies most of a seed once for each
// instance id, so another seed has another one.
func seeder(host cluster.HostID, clusterID string) func(config.Cluster, cluster.GuestSpec) error {
	var written []byte
	return func(cfg config.Cluster, spec cluster.GuestSpec) error {
		s := seed.Seed{InstanceID: "holdfast-" + clusterID + "-" + string(host), Hostname: string(cluster.MgmtVM),
			DNS: cfg.DNS, NTP: cfg.ChronyServers}
		nics, console := cfg.For(host)
		s.ConsoleIP = console
		for _, n := range nics {
			s.NICs = append(s.NICs, seed.NIC{MAC: n.MAC, IP: n.IP, Netmask: n.Netmask, Gateway: n.Gateway, DefRoute: n.DefRoute})
		}
		now := records.Encode(s)
		s.InstanceID += fmt.Sprintf("-%x", sha256.Sum256(now))[:9]
		if _, err := os.Stat(spec.Seed); err == nil && bytes.Equal(now, written) {
			return nil
		}
		if err := seed.Write(spec.Seed, s); err != nil {
			return err
		}
		written = now
		return nil
	}
}
