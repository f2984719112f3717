package etcdstore

import (
	"context"
	"slices"
	"sort"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/protobuf/proto"
)

const (
	// feedBytes is what a feed keeps of changes: 3,000 hosts that report 10 KiB every 10 s write as much in 3 s.
	feedBytes = 8 << 20
	// changeBytes is about what a change takes in memory beside its key and value.
	changeBytes = 512
)

// feed keeps the latest changes below the cluster's prefix, for the watches of all hosts without a member. etcd itself
// decodes and keeps for each watch what it has not been sent yet. Here a watch is a place in what all share; one that has
// fallen behind that is told so, as when etcd has compacted, and its host lists anew.
type feed struct {
	mu      sync.Mutex
	changes []change // the latest, by revision
	bytes   int      // of changes
	from    int64    // all changes from this revision on are in changes
	rev     int64    // up to this one
	topics  map[span]*topic
	secret  secrets       // of these keys it keeps nothing, whoever asks
	asked   chan struct{} // up to which revision there is nothing more
}

// change is what one revision has changed.
type change struct {
	rev    int64
	bytes  int
	events []*mvccpb.Event
}

// span is a range of keys.
type span struct{ key, end string }

// topic is what some watch.
type topic struct {
	since int64 // from this revision on, last tells all
	last  int64 // revision of the latest change; 0: there was none
	wakes map[chan<- struct{}]int
}

// newFeed keeps nothing of some keys, which are secret.
func newFeed(secret ...string) *feed {
	return &feed{topics: map[span]*topic{}, secret: secret, asked: make(chan struct{}, 1)}
}

// run takes the changes of a member until ctx ends.
func (f *feed) run(ctx context.Context, e *embed.Etcd, prefix string) {
	for again := true; again; {
		ws := e.Server.Watchable().NewWatchStream()
		rev := ws.Rev()
		f.begin(rev)
		_, err := ws.Watch(ctx, clientv3.AutoWatchID, []byte(prefix), []byte(clientv3.GetPrefixRangeEnd(prefix)), rev+1)
		again = err == nil && f.follow(ctx, ws) // it errs for an empty range only
		ws.Close()
	}
}

// begin begins behind a revision; what was kept before is forgotten.
func (f *feed) begin(rev int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes, f.bytes, f.from, f.rev = nil, 0, rev+1, rev
	for _, t := range f.topics {
		t.since = f.from
		t.wake()
	}
}

// follow takes what comes. It returns true when changes are missing, as the member has got another's database.
func (f *feed) follow(ctx context.Context, ws mvcc.WatchStream) (again bool) {
	for {
		select {
		case r := <-ws.Chan():
			mvcc.ReportEventReceived(len(r.Events))
			if r.CompactRevision != 0 {
				return true
			}
			f.add(r.Revision, r.Events)
		case <-f.asked:
			ws.RequestProgressAll()
		case <-ctx.Done():
			return false
		}
	}
}

// add takes changes in the order of their revisions, all of a revision at once. Where there are none, there are none up
// to rev.
func (f *feed) add(rev int64, events []*mvccpb.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	touched := map[*topic]bool{}
	for _, e := range events {
		rev = e.Kv.GetModRevision()
		if f.secret.has(string(e.Kv.GetKey())) {
			continue
		}
		if n := len(f.changes); n == 0 || f.changes[n-1].rev != rev {
			f.changes = append(f.changes, change{rev: rev})
		}
		c, size := &f.changes[len(f.changes)-1], proto.Size(e)+changeBytes
		c.events, c.bytes, f.bytes = append(c.events, e), c.bytes+size, f.bytes+size
		for s, t := range f.topics {
			if s.has(e) {
				t.last, touched[t] = rev, true
			}
		}
	}
	f.rev = max(f.rev, rev)
	for t := range touched {
		t.wake()
	}
	if f.bytes > feedBytes {
		f.trim()
	}
}

// trim forgets the oldest changes: a fourth, as those that are left are moved. The caller holds mu.
func (f *feed) trim() {
	n := 0
	for ; n < len(f.changes) && f.bytes > feedBytes/4*3; n++ {
		f.bytes -= f.changes[n].bytes
		f.from = f.changes[n].rev + 1
	}
	f.changes = slices.Delete(f.changes, 0, n)
}

// now is the revision up to which all is here.
func (f *feed) now() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rev
}

// ask has it found out up to which revision there is nothing more.
func (f *feed) ask() {
	select {
	case f.asked <- struct{}{}:
	default: // it will be
	}
}

func (s span) has(e *mvccpb.Event) bool { return covers(s.key, s.end, string(e.Kv.GetKey())) }

// wake tells the streams of a topic that there is something. The feed's mu is held.
func (t *topic) wake() {
	for w := range t.wakes {
		select {
		case w <- struct{}{}:
		default: // it has been told, and has not looked yet
		}
	}
}

// place is how far a watch has come.
type place struct {
	span span
	next int64                    // the revision from which on it has been given nothing
	not  []mvccpb.Event_EventType // kinds of changes that it leaves out
	wake chan<- struct{}
}

// enter begins a watch. Its start revision is 0 for what comes. wake, which has room for one, is told that there is more.
func (f *feed) enter(c *pb.WatchCreateRequest, wake chan<- struct{}) *place {
	p := &place{span: span{string(c.GetKey()), string(c.GetRangeEnd())}, next: c.GetStartRevision(), wake: wake}
	for _, x := range c.GetFilters() {
		kind := mvccpb.Event_PUT
		if x == pb.WatchCreateRequest_NODELETE {
			kind = mvccpb.Event_DELETE
		}
		p.not = append(p.not, kind)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if p.next == 0 {
		p.next = f.rev + 1
	}
	t := f.topics[p.span]
	if t == nil {
		t = &topic{since: f.rev + 1, wakes: map[chan<- struct{}]int{}}
		f.topics[p.span] = t
	}
	t.wakes[wake]++
	return p
}

// leave ends a watch.
func (f *feed) leave(p *place) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[p.span]
	if t.wakes[p.wake]--; t.wakes[p.wake] == 0 {
		delete(t.wakes, p.wake)
	}
	if len(t.wakes) == 0 {
		delete(f.topics, p.span)
	}
}

// read gives a watch its next changes, whole revisions, up to the first that brings them to most bytes. whole: there are no
// more now. compacted is not 0 when some that it should get are not kept any more: what is kept begins there.
func (f *feed) read(p *place, most int) (events []*mvccpb.Event, whole bool, compacted int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.topics[p.span]
	if nothing := p.next >= t.since && t.last < p.next; p.next < f.from && !nothing {
		return nil, false, f.from
	}
	first := sort.Search(len(f.changes), func(i int) bool { return f.changes[i].rev >= p.next })
	size := 0
	for _, c := range f.changes[first:] {
		for _, e := range c.events {
			if p.span.has(e) && !slices.Contains(p.not, e.GetType()) {
				events, size = append(events, e), size+proto.Size(e)
			}
		}
		if p.next = c.rev + 1; size >= most {
			return events, false, 0
		}
	}
	p.next = max(p.next, f.rev+1)
	return events, true, 0
}
