package server

import (
	"context"
	"slices"
	"sync"
	"time"

	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Most bytes of one message of a request, as it is sent and as it is when it is unpacked.
const (
	maxSmall    = 16 << 10  // names, keys, short texts; a request for a certificate has 1 KiB
	maxTyped    = 64 << 10  // a chunk of what is typed or pasted on a screen
	maxFacts    = 256 << 10 // what is wanted of a host: what a manifest of at most 1 MiB names, without its files
	maxTransit  = 512 << 10 // the file of a transition has at most 256 KiB
	maxPlanning = 4 << 20   // an inventory of 3,000 hosts and their guests has 1 MiB
)

// requests has the bounds of messages; those of other procedures are small.
var requests = map[string]int{
	apiv1connect.ClusterServiceImportConfigProcedure: maxMessage, // a file of the configuration may have 1 MiB
	apiv1connect.JobServiceRunTransitionProcedure:    maxTransit,
	apiv1connect.JobServicePlanTransitionProcedure:   maxTransit,
	apiv1connect.JobServiceCompareFilesProcedure:     maxMessage, // its files have at most 512 KiB
	apiv1connect.JobServiceWriteFilesProcedure:       maxMessage, // a digest for each file of each host
	apiv1connect.UpgradeServicePutBundleProcedure:    maxMessage, // a chunk
	apiv1connect.UpgradeServicePlanUpgradeProcedure:  maxPlanning,
	apiv1connect.UpgradeServiceCheckUpgradeProcedure: maxPlanning,
	apiv1connect.UpgradeServiceRunUpgradeProcedure:   maxPlanning,
	apiv1connect.AgentServiceGatherFactsProcedure:    maxFacts,
	apiv1connect.AgentServiceGetRowsProcedure:        maxMessage, // keys of rows
	apiv1connect.ScreenServiceOpenScreenProcedure:    maxTyped,
	apiv1connect.AgentServiceServeScreenProcedure:    maxTyped,
}

// RequestBound is the most bytes that a message of a procedure's requests may have.
func RequestBound(procedure string) int {
	if n, listed := requests[procedure]; listed {
		return n
	}
	return maxSmall
}

// class says what calls take while they are under way.
type class int

const (
	brief    class = iota // ends in seconds, and answers with little: the status, a page of events
	list                  // reads and answers some MiB: all hosts, a job with its steps
	document              // reads or answers tens of MiB: the plan for 3,000 hosts
	stream                // lasts as long as the caller wants, and sends little
	transfer              // sends or takes chunks of something large, and has some of them in memory
	errand                // takes as long as a guest needs to move, and next to no memory
	screen                // lasts as long as the caller wants, and sends much: see api.Screen for its memory
)

// classes has the calls that are not brief.
var classes = map[string]class{
	apiv1connect.ClusterServiceWatchStatusProcedure: stream,
	apiv1connect.ClusterServiceWatchEventsProcedure: stream,
	apiv1connect.ClusterServiceMigrateProcedure:     stream,

	apiv1connect.JobServiceListHostsProcedure:      list,
	apiv1connect.JobServiceListGuestsProcedure:     list,
	apiv1connect.JobServiceListJobsProcedure:       list,
	apiv1connect.JobServiceGetJobProcedure:         list,
	apiv1connect.JobServiceCommandJobProcedure:     list,
	apiv1connect.JobServiceDrainHostProcedure:      list,
	apiv1connect.JobServiceRunTransitionProcedure:  list,
	apiv1connect.JobServicePlanTransitionProcedure: list,
	apiv1connect.JobServiceListSitesProcedure:      list,
	apiv1connect.JobServiceGetStepOutputProcedure:  list,
	apiv1connect.JobServiceCompareFilesProcedure:   list,
	apiv1connect.JobServiceWriteFilesProcedure:     list,
	apiv1connect.JobServiceGetHostPortsProcedure:   list,

	apiv1connect.UpgradeServicePutBundleProcedure:     transfer,
	apiv1connect.UpgradeServicePlanUpgradeProcedure:   document,
	apiv1connect.UpgradeServiceCheckUpgradeProcedure:  document,
	apiv1connect.UpgradeServiceRunUpgradeProcedure:    document,
	apiv1connect.UpgradeServiceGetUpgradeProcedure:    document,
	apiv1connect.UpgradeServiceReportUpgradeProcedure: document,

	apiv1connect.HostServiceGetHostLogProcedure: list,
	apiv1connect.HostServiceTestFenceProcedure:  list, // it has controllers asked
	apiv1connect.HostServiceGetReportProcedure:  transfer,

	apiv1connect.AgentServiceGetBundleProcedure:   transfer,
	apiv1connect.AgentServiceGetCopyProcedure:     transfer,
	apiv1connect.AgentServiceGatherFactsProcedure: list, // it also has programs run
	apiv1connect.AgentServiceGetRowsProcedure:     list,
	apiv1connect.AgentServiceSendGuestProcedure:   errand,

	apiv1connect.ScreenServiceOpenScreenProcedure: screen,
	apiv1connect.AgentServiceServeScreenProcedure: screen,
}

// share bounds the calls of a class that are under way at once.
type share struct{ each, all int } // of one caller, and of all whose budget it is

// guestShares are those of hosts that run guests only, and of names that are not known yet: 3,000 hosts
// have such a certificate, and whoever has some of them must not fill the agent's memory. Their agents
// need transfers, errands, one look at a time, and a certificate now and then.
func guestShares() map[class]share {
	return map[class]share{
		brief: {4, 12}, list: {1, 3}, document: {1, 1}, stream: {2, 8},
		transfer: {2, 48}, errand: {16, 256}, screen: {1, 1},
	}
}

// peerShares are those of members and of operators.
func peerShares() map[class]share {
	return map[class]share{
		brief: {64, 128}, list: {4, 8}, document: {2, 3}, stream: {32, 96},
		transfer: {8, 32}, errand: {64, 256}, screen: {64, 128},
	}
}

// localShares are those of this host's root, who is one caller.
func localShares() map[class]share {
	return map[class]share{
		brief: {128, 128}, list: {8, 8}, document: {3, 3}, stream: {96, 96},
		transfer: {16, 16}, errand: {256, 256}, screen: {16, 16},
	}
}

// userShares are those of the console's users and of tokens: 200 people look at a page that follows the status.
func userShares() map[class]share {
	return map[class]share{
		brief: {32, 64}, list: {4, 8}, document: {1, 2}, stream: {32, 600},
		transfer: {2, 8}, errand: {8, 64}, screen: {8, 64},
	}
}

const (
	waitTime         = 3 * time.Second // for others to end, before a call is refused: less than callers wait for an answer
	transferWaitTime = time.Minute     // the same, of transfers: a fleet fetches a bundle, and its agents have time
	maxWaiting       = 32              // calls of one caller that wait; each takes some 20 KiB
)

// budgets has those of each kind of caller, so that none takes what another one needs.
type budgets struct {
	guests, peers, local, users map[class]*budget

	wait time.Duration // see waitTime
}

func newBudgets() *budgets {
	of := func(shares map[class]share) map[class]*budget {
		out := map[class]*budget{}
		for c, s := range shares {
			out[c] = &budget{share: s, by: map[string]*own{}}
		}
		return out
	}
	return &budgets{guests: of(guestShares()), peers: of(peerShares()), local: of(localShares()), users: of(userShares()), wait: waitTime}
}

// enter waits until a call may be under way. leave is called once, when it has ended.
func (b *budgets) enter(ctx context.Context, who peer, procedure string) (leave func(), err error) {
	c, of, name := classes[procedure], b.peers, who.user
	callers := "members and operators"
	switch _, limited := ctx.Value(guestKey{}).(cluster.HostID); {
	case who.role != "":
		of, callers = b.users, "users and tokens"
	case who.cert == nil:
		of, callers, name = b.local, "this host's root", ""
	case limited:
		of, callers = b.guests, "hosts that run guests only"
	}
	within := b.wait
	if c == transfer {
		within = transferWaitTime
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	in, alone := of[c].enter(ctx, name)
	const remedy = "ask again in some seconds, or ask the agent of another host"
	switch {
	case in:
		return func() { of[c].leave(name) }, nil
	case alone:
		return nil, fail.Errorf(fail.Unavailable, "too many calls at once by %s: at most %d of this kind", who.user, of[c].each).With(remedy)
	}
	return nil, fail.Errorf(fail.Unavailable, "too many calls at once: at most %d of this kind by %s", of[c].all, callers).With(remedy)
}

// budget bounds calls of one class by callers of one kind.
type budget struct {
	share

	mu      sync.Mutex
	under   int // way
	by      map[string]*own
	waiting []*waiter // the one that came first is first
}

// own is what one caller has.
type own struct{ under, waiting int }

// waiter is a call that waits. ready is closed when it is under way.
type waiter struct {
	name  string
	ready chan struct{}
}

// enter counts a call as under way as soon as that is within the shares, first come, first served. It is not in
// when ctx has ended before; alone: the caller's own calls are why.
func (b *budget) enter(ctx context.Context, name string) (in, alone bool) {
	b.mu.Lock()
	o := b.by[name]
	if o == nil {
		o = &own{}
		b.by[name] = o
	}
	if o.waiting >= maxWaiting {
		b.mu.Unlock()
		return false, true
	}
	w := &waiter{name, make(chan struct{})}
	o.waiting++
	b.waiting = append(b.waiting, w)
	b.admit()
	b.mu.Unlock()
	select {
	case <-w.ready:
		return true, false
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, w)
	if i < 0 {
		return true, false // it became ready meanwhile
	}
	b.waiting = slices.Delete(b.waiting, i, i+1)
	o.waiting--
	b.forget(name)
	return false, o.under >= b.each
}

// admit lets those in that are within the shares. The caller holds mu.
func (b *budget) admit() {
	b.waiting = slices.DeleteFunc(b.waiting, func(w *waiter) bool {
		o := b.by[w.name]
		if b.under >= b.all || o.under >= b.each {
			return false
		}
		b.under++
		o.under++
		o.waiting--
		close(w.ready)
		return true
	})
}

func (b *budget) leave(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.under--
	b.by[name].under--
	b.admit()
	b.forget(name)
}

// forget drops what is kept of a caller that has no call. The caller holds mu.
func (b *budget) forget(name string) {
	if *b.by[name] == (own{}) {
		delete(b.by, name)
	}
}
