package etcdstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

const (
	// askTime bounds one question to one member.
	askTime = 2 * time.Second
	// againAfter is the time between two attempts, or two looks.
	againAfter = 200 * time.Millisecond
	// inSync is how many entries a healthy member may be behind the leader: between
	// two answers of two members, entries go on.
	inSync = 1000
	// QuotaAlert is the share of its quota above which a member's data should be
	// looked after: at 1 the store takes no more writes.
	QuotaAlert = 0.8
)

// Errors of Admin and Restore that callers tell apart.
var (
	// ErrUnhealthy: the members are not in a state in which this is harmless.
	ErrUnhealthy = errors.New("members of the store are not healthy")
	// ErrStillAlive: what should be gone answers.
	ErrStillAlive = errors.New("it still answers")
)

// MemberStatus is what is known of a member of the cluster.
type MemberStatus struct {
	ID         uint64   `json:"id"`
	Name       string   `json:"name"` // empty: it never started
	PeerURLs   []string `json:"peer_urls"`
	ClientURLs []string `json:"client_urls"`
	Learner    bool     `json:"learner"`
	Error      string   `json:"error,omitempty"` // why it does not answer; then what follows is zero, but for Alarms
	Leader     bool     `json:"leader"`
	LeaderID   uint64   `json:"leader_id"` // whom it takes for the leader, 0: nobody
	Term       uint64   `json:"term"`      // of raft
	Index      uint64   `json:"index"`     // committed, as it knows
	Applied    uint64   `json:"applied"`
	Behind     uint64   `json:"behind"`  // entries that the leader has and this member has not applied
	DBSize     int64    `json:"db_size"` // bytes of the file
	DBInUse    int64    `json:"db_in_use"`
	Quota      int64    `json:"quota"`      // bytes that the file may have
	QuotaUsed  float64  `json:"quota_used"` // DBSize of Quota, 0 to 1; see QuotaAlert
	Alarms     []string `json:"alarms,omitempty"`
	Version    string   `json:"version"` // of etcd

	errors []string // that it tells: alarms of all members, and that it knows no leader
}

// Reachable tells whether the member answered.
func (m MemberStatus) Reachable() bool { return m.Error == "" }

// healthy tells whether the cluster can count on the member.
func (m MemberStatus) healthy() bool { return m.Reachable() && m.LeaderID != 0 && m.Behind <= inSync }

// Wrong says why a quorum can not count on the member, "" when it can.
func (m MemberStatus) Wrong() string {
	switch {
	case !m.Reachable():
		return "does not answer: " + m.Error
	case m.Learner:
		return "has no vote yet"
	case m.LeaderID == 0:
		return "knows no leader"
	case m.Behind > inSync:
		return fmt.Sprintf("lacks %d entries", m.Behind)
	case len(m.Alarms) > 0:
		return "has raised " + strings.Join(m.Alarms, ", ")
	}
	return ""
}

// title names the member for people.
func (m MemberStatus) title() string {
	if m.Name == "" {
		return strings.Join(m.PeerURLs, ",")
	}
	return m.Name
}

// Admin cares for the members of a store. Every call obeys its context; one
// without a deadline gets 10 s. Calls that change something should come from one
// place at a time.
type Admin struct {
	opt  Options
	etcd *clientv3.Client

	mu    sync.Mutex                  // guards what follows
	moved map[uint64]progress         // of learners
	conns map[string]*grpc.ClientConn // by a member's address; nil: closed
	now   func() time.Time            // for tests
}

// progress is how far a learner was, and since when.
type progress struct {
	applied uint64
	since   time.Time
}

// OpenAdmin makes an Admin. It does not wait for a connection. Endpoints should
// be the client URLs of all members that there may be.
func OpenAdmin(o Options) (*Admin, error) {
	c, err := Open(o)
	if err != nil {
		return nil, fmt.Errorf("open administration of the store: %w", err)
	}
	return &Admin{opt: o, etcd: c.etcd, moved: map[uint64]progress{}, conns: map[string]*grpc.ClientConn{}, now: time.Now}, nil
}

// Close ends the connections.
func (a *Admin) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	err := a.etcd.Close()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	for _, conn := range a.conns {
		err = errors.Join(err, conn.Close())
	}
	a.conns = nil
	if err != nil {
		return fmt.Errorf("close administration of the store: %w", err)
	}
	return nil
}

// statusOf asks the member at an address. Its connection is kept: the library makes one for each call, whose handshakes were a
// seventh of what a quiet member did. One over which no answer came is given up, as it may wait for a retransmission for
// minutes, and the member is asked over a new one.
func (a *Admin) statusOf(ctx context.Context, at string) (*pb.StatusResponse, error) {
	conn, kept, err := a.connTo(at)
	if err != nil {
		return nil, err
	}
	resp, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{})
	if err == nil {
		return resp, nil
	}
	a.mu.Lock()
	if a.conns[at] == conn {
		delete(a.conns, at)
	}
	a.mu.Unlock()
	if cerr := conn.Close(); cerr != nil && status.Code(cerr) != codes.Canceled { // another call has given it up
		return nil, errors.Join(err, cerr)
	}
	if !kept || ctx.Err() != nil {
		return nil, err
	}
	return a.statusOf(ctx, at)
}

// connTo is the connection to the member at an address; kept: from an earlier call.
func (a *Admin) connTo(at string) (conn *grpc.ClientConn, kept bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if conn = a.conns[at]; conn != nil {
		return conn, true, nil
	}
	if a.conns == nil {
		return nil, false, net.ErrClosed
	}
	if conn, err = a.etcd.Dial(at); err == nil {
		a.conns[at] = conn
	}
	return conn, false, err
}

// Status asks every member of the cluster. It needs one that answers, no
// majority. Members are in the order of their names.
func (a *Admin) Status(ctx context.Context) ([]MemberStatus, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	members, err := a.members(ctx)
	if err != nil {
		return nil, fmt.Errorf("status of the store: %w", err)
	}
	out := make([]MemberStatus, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { out[i] = a.ask(ctx, m) })
	}
	wg.Wait()
	for i := range out {
		out[i].Alarms = alarmsOf(out[i].ID, out)
	}
	behind(out)
	slices.SortFunc(out, func(a, b MemberStatus) int { return cmp.Compare(a.title(), b.title()) })
	return out, nil
}

// members lists the members, as the majority knows them, or else as any one does.
func (a *Admin) members(ctx context.Context) ([]*pb.Member, error) {
	linear, cancel := context.WithTimeout(leading(ctx), askTime)
	resp, err := a.etcd.MemberList(linear)
	cancel()
	if err != nil {
		resp, err = repeat(ctx, func(ctx context.Context) (*clientv3.MemberListResponse, error) {
			return a.etcd.MemberList(ctx, clientv3.WithSerializable())
		})
	}
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return resp.Members, nil
}

// current lists the members as the majority knows them.
func (a *Admin) current(ctx context.Context) ([]*pb.Member, error) {
	resp, err := repeat(leading(ctx), func(ctx context.Context) (*clientv3.MemberListResponse, error) {
		return a.etcd.MemberList(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("list members: %w", err)
	}
	return resp.Members, nil
}

// ask asks one member how it is.
func (a *Admin) ask(ctx context.Context, m *pb.Member) MemberStatus {
	st := MemberStatus{ID: m.ID, Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, Learner: m.IsLearner}
	if len(m.ClientURLs) == 0 {
		st.Error = untold(m.Name)
		return st
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	resp, err := a.statusOf(ctx, m.ClientURLs[0])
	if err != nil {
		st.Error = err.Error()
		return st
	}
	st.Leader = resp.Leader == m.ID
	st.LeaderID, st.Term, st.Index, st.Applied = resp.Leader, resp.RaftTerm, resp.RaftIndex, resp.RaftAppliedIndex
	st.DBSize, st.DBInUse, st.Quota, st.Version = resp.DbSize, resp.DbSizeInUse, resp.DbSizeQuota, resp.Version
	if st.Quota > 0 {
		st.QuotaUsed = float64(st.DBSize) / float64(st.Quota)
	}
	st.errors = resp.Errors
	return st
}

// untold says why nobody knows where a member serves. The first members have their names from the configuration of the
// cluster, and tell their addresses by a write of their own once there is a leader.
func untold(name string) string {
	if name == "" {
		return "it never started"
	}
	return "it has not told its address yet"
}

// behind counts from the leader of the newest term.
func behind(all []MemberStatus) {
	lead, ok := leaderOf(all)
	for i := range all {
		if m := &all[i]; ok && m.Reachable() && m.Applied < lead.Index {
			m.Behind = lead.Index - m.Applied
		}
	}
}

// leaderOf finds the leader. A member that is cut off may take itself for one in
// an older term.
func leaderOf(all []MemberStatus) (lead MemberStatus, ok bool) {
	for _, m := range all {
		if m.Reachable() && m.Leader && (!ok || m.Term > lead.Term) {
			lead, ok = m, true
		}
	}
	return lead, ok
}

// raised is how a member tells an alarm of any member among its errors, beside that it knows no leader.
var raised = regexp.MustCompile(`memberID: *([0-9]+) +alarm: *([A-Z]+)`)

// alarmsOf are the alarms of a member, as the members tell them. To list them (AlarmList) would be a write of the store.
func alarmsOf(id uint64, all []MemberStatus) (out []string) {
	for _, m := range all {
		for _, e := range m.errors {
			f := raised.FindStringSubmatch(e)
			if len(f) == 3 && f[1] == strconv.FormatUint(id, 10) && !slices.Contains(out, f[2]) {
				out = append(out, f[2])
			}
		}
	}
	return out
}

// only makes a client of one member.
func (a *Admin) only(m MemberStatus) (*clientv3.Client, error) {
	if len(m.ClientURLs) == 0 {
		return nil, fmt.Errorf("connect to member %s: %s", m.title(), untold(m.Name))
	}
	o := a.opt
	o.Endpoints = m.ClientURLs[:1]
	c, err := Open(o)
	if err != nil {
		return nil, fmt.Errorf("connect to member %s: %w", m.title(), err)
	}
	return c.etcd, nil
}

// leading makes members that have no leader refuse a call at once.
func leading(ctx context.Context) context.Context { return clientv3.WithRequireLeader(ctx) }

// retryable tells whether the same call may succeed in a moment.
func retryable(err error) bool {
	return errors.Is(err, store.ErrRetry) && !errors.Is(err, rpctypes.ErrNoSpace)
}

// repeat does what may be done more than once, until it is done, refused, or ctx
// ends. One attempt takes askTime at most.
func repeat[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	for {
		attempt, cancel := context.WithTimeout(ctx, askTime)
		out, err := do(attempt)
		cancel()
		if err == nil {
			return out, nil
		}
		err = classify(err, reading)
		if !retryable(err) || !clock.Sleep(ctx, againAfter) {
			var zero T
			return zero, err
		}
	}
}
