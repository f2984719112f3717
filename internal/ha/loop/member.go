package loop

import (
	"cmp"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// replacedMember is what is kept of a member that was replaced, by its identity: a machine that
// comes back later finds itself there.
type replacedMember struct {
	Host cluster.HostID `json:"host"`
	Addr string         `json:"addr"`
	Time time.Time      `json:"time"`
}

// leaves refuses a configuration that replaces a member which has the guest or is about
// to, or, unless it is only checked, whose agent is alive. It returns what must hold and
// what is written along with the configuration: its record goes, so that no renewal
// of it succeeds, and its identity is kept.
func (a *Agent) leaves(r recorded, next config.Cluster, check bool) ([]store.Cmp, []store.Op, error) {
	swap, ok := config.Replaced(r.cfg, next)
	if !ok {
		return nil, nil, nil
	}
	left, o := swap.Left.Host, r.owner
	if held := o.State != "" && o.State != cluster.Released; held && (o.Host == left || o.To == left) {
		return nil, nil, fail.Errorf(fail.Refused, "what the cluster keeps up is %s on %s, which is to be replaced", o.State, left).
			With("move it first: " + cluster.MoveCommand(r.cfg.Type))
	}
	rec, known := r.hosts[left]
	key := records.HostKey(left)
	conds := []store.Cmp{{Key: key, Rev: rec.mod}}
	if !known {
		return conds, nil, nil
	}
	for _, h := range a.Status().Hosts {
		if h.Name == left && h.Alive && !check {
			return nil, nil, fail.Errorf(fail.Refused, "the agent of %s, which is to be replaced, is alive", left).
				With("stop it first: systemctl disable --now holdfast")
		}
	}
	g := replacedMember{Host: left, Addr: cmp.Or(rec.Addr, swap.Left.IP), Time: time.Now().UTC()}
	ops := []store.Op{{Key: key}}
	if rec.Identity != "" {
		ops = append(ops, store.Op{Key: records.LeftKey(rec.Identity), Value: records.Encode(g)})
	}
	return conds, ops, nil
}
