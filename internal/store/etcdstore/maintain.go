package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

const (
	// A database is defragmented when it has this size and at least half of it is
	// waste: a member does not answer while it is done.
	defragFrom  = 16 << 20
	defragWaste = 0.5
	// A store without space does not work anyway, so less is worth it; and what is
	// waste is not known, as it is counted at writes.
	repairFrom = QuotaAlert / 2
	// Above QuotaAlert less waste than Defrag wants is worth it, and some changes are
	// kept for watches.
	relieveWaste = 0.25
	relieveKeep  = 100
	// probeKey is written and deleted to see that the store takes writes.
	probeKey = "care/probe"
)

// Compact makes the store forget all changes but the newest keep revisions, 0 or
// more, and returns when one member has done so. The space is free for use, and
// counts as such (DBInUse) after the next writes. Watches from an older revision
// end with store.ErrCompacted.
func (a *Admin) Compact(ctx context.Context, keep int64) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if keep < 0 {
		return fmt.Errorf("compact the store: keep %d revisions: %w", keep, store.ErrDefinite)
	}
	resp, err := repeat(leading(ctx), func(ctx context.Context) (*clientv3.GetResponse, error) {
		return a.etcd.Get(ctx, a.opt.Prefix+probeKey)
	})
	if err != nil {
		return fmt.Errorf("compact the store: read its revision: %w", err)
	}
	to := resp.Header.GetRevision() - keep
	if to <= 0 {
		return nil
	}
	_, err = a.etcd.Compact(leading(ctx), to, clientv3.WithCompactPhysical())
	if err != nil {
		err = classify(err, reading)
	}
	if err != nil && !errors.Is(err, store.ErrCompacted) { // by somebody else, further
		return fmt.Errorf("compact the store to revision %d: %w", to, err)
	}
	return nil
}

// Defrag gives space that the databases waste back to the file system, where it
// is worth it: files of 16 MiB or more of which half or more is waste. Members are
// taken one at a time, the leader last, after another member leads. It begins
// nothing unless all members are healthy, and ends with ErrUnhealthy when one is
// not. done names the members that were defragmented, in order.
func (a *Admin) Defrag(ctx context.Context) (done []string, err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	done, err = a.defrag(ctx, func(m MemberStatus) bool {
		return m.DBSize >= defragFrom && waste(m) >= defragWaste
	}, allHealthy)
	if err != nil {
		return done, fmt.Errorf("defragment the store: %w", err)
	}
	return done, nil
}

func waste(m MemberStatus) float64 {
	if m.DBSize == 0 {
		return 0
	}
	return 1 - float64(m.DBInUse)/float64(m.DBSize)
}

// allHealthy is what Defrag asks for.
func allHealthy(all []MemberStatus) error {
	for _, m := range all {
		if !m.healthy() || len(m.Alarms) > 0 {
			return fmt.Errorf("%w: %s: %s", ErrUnhealthy, m.title(), m.trouble())
		}
	}
	if _, ok := leaderOf(all); !ok {
		return fmt.Errorf("%w: there is no leader", ErrUnhealthy)
	}
	return nil
}

func (m MemberStatus) trouble() string {
	switch {
	case !m.Reachable():
		return m.Error
	case m.LeaderID == 0:
		return "it knows no leader"
	case m.Behind > inSync:
		return fmt.Sprintf("it is %d entries behind", m.Behind)
	}
	return "alarm " + strings.Join(m.Alarms, ", ")
}

// defrag takes the members for which it is worth it, each once.
func (a *Admin) defrag(ctx context.Context, worth func(MemberStatus) bool, fit func([]MemberStatus) error) ([]string, error) {
	var done []string
	tried := map[uint64]bool{}
	for {
		all, err := a.settle(ctx, fit)
		if err != nil {
			return done, err
		}
		m, ok := next(all, func(m MemberStatus) bool { return !tried[m.ID] && m.Reachable() && worth(m) })
		if !ok {
			return done, nil
		}
		if m.Leader && len(all) > 1 {
			if err := a.MoveLeader(ctx, m.Name); err != nil {
				return done, err
			}
			continue // it is a follower now
		}
		tried[m.ID] = true
		if _, err := a.etcd.Defragment(ctx, m.ClientURLs[0]); err != nil {
			return done, fmt.Errorf("member %s: %w", m.title(), classify(err, reading))
		}
		done = append(done, m.title())
	}
}

// next finds a member, the leader only when no other will do.
func next(all []MemberStatus, want func(MemberStatus) bool) (m MemberStatus, ok bool) {
	for _, c := range all {
		if want(c) && (!ok || m.Leader) {
			m, ok = c, true
		}
	}
	return m, ok
}

// settle gives the members time to be fit: one that was just defragmented, or has
// just handed over, is behind for a moment.
func (a *Admin) settle(ctx context.Context, fit func([]MemberStatus) error) ([]MemberStatus, error) {
	for began := time.Now(); ; {
		all, err := a.Status(ctx)
		if err != nil {
			return nil, err
		}
		if err = fit(all); err == nil {
			return all, nil
		}
		if time.Since(began) > settleTime || !clock.Sleep(ctx, againAfter) {
			return nil, err
		}
	}
}

// settleTime bounds settle: three elections.
const settleTime = 3 * time.Second

// Repair makes a store that has no space take writes again: it compacts, gives
// the space back on every member that answers, ends the alarm, and writes to see
// that it helped. It fails when the data in use fill the quota. When there is no
// NOSPACE alarm yet, but a member is above QuotaAlert, it compacts and
// defragments as Defrag does, where a quarter is waste. Else it only writes.
func (a *Admin) Repair(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	all, err := a.Status(ctx)
	if err != nil {
		return fmt.Errorf("repair the store: %w", err)
	}
	for _, m := range all {
		if strings.Contains(strings.Join(m.Alarms, " "), pb.AlarmType_CORRUPT.String()) {
			return fmt.Errorf("repair the store: member %s: %w", m.title(), ErrCorrupt)
		}
	}
	switch {
	case noSpace(all):
		err = a.makeSpace(ctx)
	case slices.ContainsFunc(all, nearQuota):
		err = a.relieve(ctx)
	}
	if err != nil {
		return fmt.Errorf("repair the store: %w", err)
	}
	if err := a.probe(ctx); err != nil {
		return fmt.Errorf("repair the store: it takes no writes: %w", err)
	}
	return nil
}

func nearQuota(m MemberStatus) bool { return m.QuotaUsed > QuotaAlert }

// relieve makes space before there is none. While the data in use are what fills
// the quota, it does no more than compact, however often it is called.
func (a *Admin) relieve(ctx context.Context) error {
	if err := a.Compact(ctx, relieveKeep); err != nil {
		return err
	}
	_, err := a.defrag(ctx, func(m MemberStatus) bool { return nearQuota(m) && waste(m) >= relieveWaste }, allHealthy)
	return err
}

func noSpace(all []MemberStatus) bool {
	for _, m := range all {
		if strings.Contains(strings.Join(m.Alarms, " "), pb.AlarmType_NOSPACE.String()) {
			return true
		}
	}
	return false
}

func (a *Admin) makeSpace(ctx context.Context) error {
	if err := a.Compact(ctx, 0); err != nil {
		return err
	}
	anyLeader := func(all []MemberStatus) error {
		if _, ok := leaderOf(all); !ok {
			return fmt.Errorf("%w: there is no leader", ErrUnhealthy)
		}
		return nil
	}
	// Followers compact in the background, so one round may come too early.
	for began := time.Now(); ; {
		if _, err := a.defrag(ctx, func(m MemberStatus) bool { return m.QuotaUsed >= repairFrom }, anyLeader); err != nil {
			return err
		}
		all, err := a.Status(ctx)
		if err == nil {
			err = allHaveSpace(all)
		}
		if err == nil {
			break
		}
		if time.Since(began) > settleTime || !clock.Sleep(ctx, againAfter) {
			return err
		}
	}
	return a.disarm(ctx, pb.AlarmType_NOSPACE, func(uint64) bool { return true })
}

func allHaveSpace(all []MemberStatus) error {
	for _, m := range all {
		if m.Reachable() && m.QuotaUsed >= 1 {
			return fmt.Errorf("member %s: %d bytes are in use, its quota is %d: delete keys, or start the members with a larger one: %w",
				m.title(), m.DBInUse, m.Quota, store.ErrDefinite)
		}
	}
	return nil
}

// disarm ends alarms of a type.
func (a *Admin) disarm(ctx context.Context, what pb.AlarmType, of func(member uint64) bool) error {
	list, err := repeat(leading(ctx), a.etcd.AlarmList)
	if err != nil {
		return fmt.Errorf("list alarms: %w", err)
	}
	for _, al := range list.Alarms {
		if al.Alarm != what || !of(al.MemberID) {
			continue
		}
		_, err := repeat(leading(ctx), func(ctx context.Context) (*clientv3.AlarmResponse, error) {
			return a.etcd.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: al.MemberID, Alarm: al.Alarm})
		})
		if err != nil {
			return fmt.Errorf("end alarm %s of member %x: %w", what, al.MemberID, err)
		}
	}
	return nil
}

// probe writes a key, and deletes it.
func (a *Admin) probe(ctx context.Context) error {
	key := a.opt.Prefix + probeKey
	for _, op := range []clientv3.Op{clientv3.OpPut(key, "x"), clientv3.OpDelete(key)} {
		// Both may be done twice, so an unknown outcome may be tried again.
		if _, err := repeat(leading(ctx), func(ctx context.Context) (clientv3.OpResponse, error) { return a.etcd.Do(ctx, op) }); err != nil {
			return fmt.Errorf("write and delete %s: %w", key, err)
		}
	}
	return nil
}

// MoveLeader makes another member lead when the one with the name away does, the
// healthiest voter that there is; one whose name is in last only where there is no other. It
// returns when that one leads.
func (a *Admin) MoveLeader(ctx context.Context, away string, last ...string) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	all, err := a.Status(ctx)
	if err != nil {
		return fmt.Errorf("move the store's leader away from %s: %w", away, err)
	}
	lead, ok := leaderOf(all)
	if !ok {
		return fmt.Errorf("move the store's leader away from %s: %w: there is no leader", away, ErrUnhealthy)
	}
	if lead.Name != away {
		return nil
	}
	to, ok := healthiest(slices.DeleteFunc(slices.Clone(all), func(m MemberStatus) bool { return slices.Contains(last, m.Name) }), lead)
	if !ok {
		to, ok = healthiest(all, lead)
	}
	if !ok {
		return fmt.Errorf("move the store's leader away from %s: %w: no other voter follows it closely", away, ErrUnhealthy)
	}
	if err := a.handOver(ctx, lead, to); err != nil {
		return fmt.Errorf("move the store's leader from %s to %s: %w", away, to.Name, err)
	}
	return nil
}

// healthiest finds the voter that should lead in place of lead.
func healthiest(all []MemberStatus, lead MemberStatus) (best MemberStatus, ok bool) {
	least := uint64(math.MaxUint64)
	for _, m := range all {
		if m.ID != lead.ID && !m.Learner && m.healthy() && m.LeaderID == lead.ID && m.Behind < least {
			best, ok, least = m, true, m.Behind
		}
	}
	return best, ok
}

// handOver asks the leader, and waits until to says that it leads.
func (a *Admin) handOver(ctx context.Context, lead, to MemberStatus) error {
	c, err := a.only(lead)
	if err != nil {
		return err
	}
	_, err = c.MoveLeader(ctx, to.ID)
	if err = errors.Join(err, c.Close()); err != nil {
		return classify(err, reading)
	}
	for {
		ask, cancel := context.WithTimeout(ctx, askTime)
		resp, err := a.statusOf(ask, to.ClientURLs[0])
		cancel()
		if err == nil && resp.Leader == to.ID {
			return nil
		}
		if !clock.Sleep(ctx, againAfter) {
			return fmt.Errorf("%w: it does not lead yet", store.ErrRetry)
		}
	}
}
