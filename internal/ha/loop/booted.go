package loop

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// bootRecord is the configuration with which the guest of an epoch was started. What
// takes effect at a start is asked of it, not of the configuration in force.
type bootRecord struct {
	Epoch  cluster.Epoch  `json:"epoch"`
	Config config.Cluster `json:"config"`
}

// tellBooted writes with what the guest is started. It tries as long as ctx lives.
func (a *Agent) tellBooted(ctx context.Context, b bootRecord) error {
	key := records.BootedKey(cluster.MgmtVM)
	value := records.Encode(b)
	for {
		kv, found, err := a.Store.Get(ctx, key)
		var was bootRecord
		if err == nil {
			was, err = records.Decode[bootRecord](kv, !found)
		}
		if err == nil && !was.Epoch.Less(b.Epoch) {
			return nil
		}
		if err == nil {
			var rev int64
			var ok bool
			if rev, ok, err = a.Store.Txn(ctx, []store.Cmp{{Key: key, Rev: kv.ModRev}}, []store.Op{{Key: key, Value: value}}); ok {
				a.ask(ctx, func() { a.own(key, value, rev) })
				return nil
			}
		}
		if !clock.Sleep(ctx, requestAgain) {
			return fmt.Errorf("tell with which configuration the guest is started: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

// guest is the configuration that the guest has, when it runs.
func (s *state) guest() config.Cluster {
	if o := s.core.Owner; s.booted.Epoch == o.Epoch && !o.Epoch.IsZero() {
		return s.booted.Config
	}
	return s.cfg
}

// findPending finds out which fields take effect at the next start of the guest.
func (s *state) findPending() {
	s.pending = nil
	if s.core.Owner.Holder() == "" {
		return
	}
	for _, c := range config.Diff(s.guest(), s.cfg) {
		if c.Effect == config.AtStart {
			s.pending = append(s.pending, c.Path)
		}
	}
}

// TimeServers are those that the guest is given at its next start.
func (a *Agent) TimeServers() (servers []string) {
	a.peek(func() { servers = a.s.cfg.ChronyServers })
	return servers
}

// GuestMemory is how much memory of a host the guest begins with, see config.Cluster, and whether the guest is here.
func (a *Agent) GuestMemory() (mib int, here bool) {
	var cfg config.Cluster
	if !a.peek(func() { cfg, here = a.s.cfg, a.s.core.Guest.Seen.State != cluster.GuestAbsent }) {
		return 0, false
	}
	return cfg.BeginsWithMiB(), here
}

// PlainDisks tells of the guest's disks that this host reaches over a network without TLS, see
// config.Cluster; none while the guest is not here.
func (a *Agent) PlainDisks() []string {
	var cfg config.Cluster
	if !a.peek(func() {
		if a.s.core.Guest.Seen.State != cluster.GuestAbsent {
			cfg = a.s.guest()
		}
	}) {
		return nil
	}
	return cfg.PlainDisks()
}

// GuestAddresses are those of the guest on this host, in the order of its cards.
func (a *Agent) GuestAddresses() (addrs []string) {
	a.peek(func() {
		nics, _ := a.s.guest().For(a.Host)
		for _, n := range nics {
			addrs = append(addrs, n.IP)
		}
	})
	return slices.Clip(addrs)
}
