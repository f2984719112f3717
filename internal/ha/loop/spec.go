package loop

import (
	"crypto/sha256"
	"fmt"
	"path"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// spec is what the guest is on this host.
func (a *Agent) spec(cfg config.Cluster, e cluster.Epoch) cluster.GuestSpec {
	s := cluster.GuestSpec{
		Resource: cluster.MgmtVM, Epoch: e, UUID: GuestUUID(a.Cluster), Name: cluster.GuestName,
		MemoryMiB: cfg.MemoryMiB(), CPUs: cfg.CPU, Image: cfg.ImagePath(), RBD: cfg.RBD(), Seed: a.SeedPath, Emulate: a.Emulate,
		Domain: string(cfg.DomainXML), Folder: cleaned(cfg.ImageFolder),
	}
	nics, _ := cfg.For(a.Host)
	for _, n := range nics {
		s.NICs = append(s.NICs, cluster.NIC{Bridge: n.Bridge, MAC: n.MAC})
	}
	switch cfg.OnPanic {
	case "coredump", "preserve":
		s.OnPanic = cfg.OnPanic
	default:
		s.OnPanic = "destroy" // and started again by the cluster
	}
	if l := cfg.LockManager; l != nil {
		s.Lockspace = cleaned(l.Lockspace)
	}
	if v := cfg.VNC; v != nil {
		s.VNC = &cluster.VNC{Listen: a.Addr, PasswordFile: v.File()}
	}
	if b := cfg.DirectBoot; b != nil {
		s.Boot = &cluster.DirectBoot{Kernel: b.Kernel, Initrd: b.Initrd, Cmdline: b.Cmdline}
	}
	return s
}

// GuestUUID is the management VM's UUID: of version 8, from the cluster's id, so
// that every host knows it without being told.
func GuestUUID(clusterID string) string {
	h := sha256.Sum256([]byte("holdfast guest " + clusterID + " " + string(cluster.MgmtVM)))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// cleaned is a path without what says nothing, such as a slash at its end; none stays none.
func cleaned(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean(p)
}
