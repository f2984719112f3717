package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"holdfast/internal/store"
)

// Replace makes room for a new member in place of one whose data are lost, with
// the same name and peer URL: it removes the old one from the cluster and adds the
// new one as a learner, which does not vote until Promote. The new member starts
// with what is returned (MemberConfig.Join, or SaveJoin on its host) on an empty
// data directory.
//
// It fails with ErrStillAlive when the old member answers, and with ErrUnhealthy
// when the others would be no majority. It may be called again at any time: what
// is done already is not done twice, and the answer is the same.
func (a *Admin) Replace(ctx context.Context, name, peerURL string) (Join, error) {
	return a.Succeed(ctx, "", name, peerURL)
}

// Succeed is Replace where the old member has the name old, and its peer URL may be
// another one than the new one's.
func (a *Admin) Succeed(ctx context.Context, old, name, peerURL string) (Join, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	if err := a.swap(ctx, old, name, peerURL); err != nil {
		return Join{}, fmt.Errorf("replace member %s of the store: %w", name, err)
	}
	j, err := a.joinOf(ctx, name, peerURL)
	if err != nil {
		return Join{}, fmt.Errorf("replace member %s of the store: %w", name, err)
	}
	return j, nil
}

// swap removes the old member, if it is there, and adds the learner, if it is not.
func (a *Admin) swap(ctx context.Context, left, name, peerURL string) error {
	members, err := a.current(ctx)
	if err != nil {
		return err
	}
	old, err := find(members, left, name, peerURL)
	if err != nil {
		return err
	}
	if old != nil && old.Name == "" && old.IsLearner {
		return nil // added before, not started yet
	}
	if old != nil {
		if err := a.remove(ctx, old); err != nil {
			return err
		}
	}
	return a.add(ctx, peerURL)
}

// find finds the member to replace: the one called left, or else the new one itself, by
// its name, or by its URL when it never started. nil: there is none (any more).
func find(members []*pb.Member, left, name, peerURL string) (*pb.Member, error) {
	var old *pb.Member
	for _, m := range members {
		if hasURL := slices.Contains(m.PeerURLs, peerURL); left != "" && m.Name == left && !(m.Name == name && hasURL) {
			return m, nil
		}
	}
	for _, m := range members {
		hasURL := slices.Contains(m.PeerURLs, peerURL)
		switch {
		case m.Name == name && hasURL, m.Name == "" && hasURL:
			old = m
		case m.Name == name:
			return nil, fmt.Errorf("its peer URL is %s, not %s: %w", strings.Join(m.PeerURLs, ","), peerURL, store.ErrDefinite)
		case hasURL:
			return nil, fmt.Errorf("the peer URL %s is that of member %s: %w", peerURL, m.Name, store.ErrDefinite)
		case m.Name == "":
			return nil, fmt.Errorf("another new member, at %s, has not started yet: %w", strings.Join(m.PeerURLs, ","), store.ErrDefinite)
		}
	}
	return old, nil
}

// remove removes a member that does not answer, with the alarms about it.
func (a *Admin) remove(ctx context.Context, old *pb.Member) error {
	if err := a.mayRemove(ctx, old); err != nil {
		return err
	}
	err := a.change(ctx, func(ctx context.Context) error {
		_, err := a.etcd.MemberRemove(ctx, old.ID)
		if errors.Is(err, rpctypes.ErrMemberNotFound) {
			return nil // an attempt whose answer was lost
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove the old one: %w", err)
	}
	for _, what := range []pb.AlarmType{pb.AlarmType_CORRUPT, pb.AlarmType_NOSPACE} {
		if err := a.disarm(ctx, what, func(id uint64) bool { return id == old.ID }); err != nil {
			return err
		}
	}
	return nil
}

// mayRemove looks whether the old member is gone and the others can do without.
func (a *Admin) mayRemove(ctx context.Context, old *pb.Member) error {
	all, err := a.Status(ctx)
	if err != nil {
		return err
	}
	voters, well := 0, 0
	for _, m := range all {
		switch {
		case m.ID == old.ID && m.Reachable():
			return fmt.Errorf("the old one: %w: stop it first", ErrStillAlive)
		case m.ID == old.ID || m.Learner:
		default:
			voters++
			if m.healthy() {
				well++
			}
		}
	}
	if well <= voters/2 {
		return fmt.Errorf("%w: of %d others %d are well", ErrUnhealthy, voters, well)
	}
	return nil
}

// add adds the learner.
func (a *Admin) add(ctx context.Context, peerURL string) error {
	err := a.change(ctx, func(ctx context.Context) error {
		_, err := a.etcd.MemberAddAsLearner(ctx, []string{peerURL})
		if errors.Is(err, rpctypes.ErrPeerURLExist) || errors.Is(err, rpctypes.ErrMemberExist) {
			return nil // an attempt whose answer was lost
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("add the new one as a learner: %w", err)
	}
	return nil
}

// change repeats a change of the membership that may be repeated, also while etcd
// refuses it for the moment: right after a change its members are not yet
// connected for long enough.
func (a *Admin) change(ctx context.Context, do func(context.Context) error) error {
	_, err := repeat(leading(ctx), func(ctx context.Context) (struct{}, error) {
		return struct{}{}, do(ctx)
	})
	return err
}

// joinOf tells what the new member needs.
func (a *Admin) joinOf(ctx context.Context, name, peerURL string) (Join, error) {
	members, err := a.current(ctx)
	if err != nil {
		return Join{}, err
	}
	j := Join{Cluster: a.cluster(), Name: name, Initial: map[string]string{}}
	for _, m := range members {
		switch {
		case len(m.PeerURLs) != 1:
			return Join{}, fmt.Errorf("member %s has %d peer URLs, want 1: %w", m.Name, len(m.PeerURLs), store.ErrDefinite)
		case m.PeerURLs[0] == peerURL:
			j.Initial[name] = peerURL
		case m.Name == "":
			return Join{}, fmt.Errorf("another new member, at %s, has not started yet: %w", m.PeerURLs[0], store.ErrDefinite)
		default:
			j.Initial[m.Name] = m.PeerURLs[0]
		}
	}
	if err := j.check(); err != nil {
		return Join{}, fmt.Errorf("%w: somebody has changed the members meanwhile: %w", store.ErrRetry, err)
	}
	return j, nil
}

// Learner is a member that does not vote yet.
type Learner struct {
	ID       uint64
	Name     string // empty: it never started
	Promoted bool   // by this call: it votes from now on
	Behind   uint64 // entries, when it was not promoted and answers
	Reason   string // why it was not promoted
	// Still is for how long this Admin has seen it make no progress. After some
	// minutes a person should look; the learner is never removed by itself.
	Still time.Duration
}

// Promote makes voters of the learners that have caught up. Call it again for the
// others. Members that vote already are not touched.
func (a *Admin) Promote(ctx context.Context) ([]Learner, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	all, err := a.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("promote learners: %w", err)
	}
	var out []Learner
	for _, m := range all {
		if !m.Learner {
			continue
		}
		l := Learner{ID: m.ID, Name: m.Name, Behind: m.Behind, Still: a.still(m)}
		switch {
		case !m.Reachable():
			l.Reason = m.Error
		case !m.healthy():
			l.Reason = fmt.Sprintf("it is behind %d entries", m.Behind)
			if m.LeaderID == 0 {
				l.Reason = m.trouble()
			}
		default:
			if l.Reason, err = a.promote(ctx, m); err != nil {
				return out, fmt.Errorf("promote learner %s: %w", m.title(), err)
			}
			l.Promoted = l.Reason == ""
		}
		out = append(out, l)
	}
	return out, nil
}

// promote asks for it. why is not empty when it is too early.
func (a *Admin) promote(ctx context.Context, m MemberStatus) (why string, err error) {
	_, err = repeat(leading(ctx), func(ctx context.Context) (*clientv3.MemberPromoteResponse, error) {
		return a.etcd.MemberPromote(ctx, m.ID)
	})
	switch {
	case errors.Is(err, rpctypes.ErrMemberNotLearner):
		return "", nil // an attempt whose answer was lost
	case errors.Is(err, rpctypes.ErrMemberLearnerNotReady):
		return fmt.Sprintf("it is behind %d entries", m.Behind), nil
	}
	return "", err
}

// still is for how long the learner has applied nothing new, while there was
// something to apply.
func (a *Admin) still(m MemberStatus) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if p, ok := a.moved[m.ID]; ok && p.applied == m.Applied && (m.Behind > 0 || !m.Reachable()) {
		return now.Sub(p.since)
	}
	a.moved[m.ID] = progress{m.Applied, now}
	return 0
}
