package survey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
	"holdfast/internal/upgrade/check"
)

const (
	atOnce  = 32               // hosts that are asked at the same time
	within  = time.Minute      // for the answer of one host
	patient = 2 * time.Second  // with one that should have noticed that its time is over
	quorum  = 10 * time.Second // for the answer of the store
)

// HostRef is a host that may be asked.
type HostRef struct {
	Name    cluster.HostID
	API     string   // of its agent, https://IP:PORT; "": not served over the network
	Up      bool     // it reports
	Bundles []string // SHA-256 of the files of the bundles that are unpacked there
}

// Survey asks hosts.
type Survey struct {
	Host      cluster.HostID // this one
	Hosts     func() []HostRef
	Facts     func(ctx context.Context, h HostRef, w fact.Wanted) (fact.Facts, error) // of any host, this one among them
	Inventory func() (inventory.Inventory, error)                                     // when the question has none
	Quorum    func(ctx context.Context) (check.Quorum, error)                         // nil: nobody knows
	Limits    check.Limits
	Within    time.Duration // for the answer of one host; 0: a minute
	Now       func() time.Time
}

// Question says what is looked at, and what is known of the run.
type Question struct {
	When      check.When
	SHA256    string // of the bundle's file
	Manifest  *manifest.Manifest
	Inventory *inventory.Inventory // nil: as the hosts report it
	Mode      manifest.Mode
	Committed bool             // the upgrade is: its version is that of the hosts
	Back      bool             // the upgrade is rolled back
	Stay      bool             // guests stay on their hosts, unless these are rebooted
	Staged    bool             // the hosts that are asked have unpacked the bundle
	From      string           // version before the upgrade; "": the inventory's
	Only      []cluster.HostID // hosts that are asked; none: all
	Done      []cluster.HostID
	Next      []cluster.HostID
	Left      []cluster.HostID
	Policy    inventory.Policy
	Policies  map[string]inventory.Policy
	Confirmed []string
	Pin       []string // bridges that the hosts are asked about
	Guests    bool     // the hosts are asked for the addresses of their guests, too
	HABefore  *bool    // nil: what is found now, when nothing was begun yet
	// Request is what a host is asked for; nil: all that checks look at.
	Request func(h *inventory.Host) fact.Request
}

// Look asks the hosts and returns what checks look at. A host that does not answer
// has facts that say why they are not known. The error says that there is nothing
// to look at, or that ctx has ended.
func (s *Survey) Look(ctx context.Context, q Question) (check.Input, error) {
	inv, err := s.inventory(q)
	if err != nil {
		return check.Input{}, err
	}
	in := check.Input{
		When: q.When, Manifest: q.Manifest, Inventory: inv, Mode: q.Mode, Committed: q.Committed, Back: q.Back, Stay: q.Stay, From: q.From,
		Facts: map[cluster.HostID]*fact.Facts{}, Policy: q.Policy, Policies: q.Policies, Confirmed: q.Confirmed,
		HABefore: q.HABefore, Next: q.Next, Done: q.Done, Left: q.Left, Pin: q.Pin, Limits: s.Limits,
	}
	answers := s.askAll(ctx, q, inv)
	if len(q.Only) == 0 && q.Request == nil {
		in.Store = s.quorum(ctx)
	}
	if ctx.Err() != nil {
		return check.Input{}, fmt.Errorf("ask the hosts: %w", context.Cause(ctx))
	}
	in.Now = s.Now()
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		a, asked := answers[h.Name]
		switch {
		case !asked:
			continue
		case a.err != nil:
			in.Facts[h.Name] = fact.NoFacts(h.Name, in.Now, a.err.Error())
			continue
		}
		in.Facts[h.Name] = a.facts
		h.Down = false // it answers, whatever its last report says
		if h.SkewMillis == 0 {
			h.SkewMillis = a.skew.Milliseconds()
		}
	}
	if in.HABefore == nil && (q.When == check.Before || q.When == "") {
		in.HABefore = haState(in.Facts)
	}
	return in, nil
}

// inventory returns one that may be changed.
func (s *Survey) inventory(q Question) (*inventory.Inventory, error) {
	var inv inventory.Inventory
	if q.Inventory != nil {
		inv = *q.Inventory
	} else {
		var err error
		if inv, err = s.Inventory(); err != nil {
			return nil, fmt.Errorf("see which hosts there are: %w", err)
		}
	}
	inv.Hosts = slices.Clone(inv.Hosts)
	return &inv, nil
}

// quorum asks how the store stands. What is not known is said by the report.
func (s *Survey) quorum(ctx context.Context) *check.Quorum {
	if s.Quorum == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quorum)
	defer cancel()
	q, err := s.Quorum(ctx)
	if err != nil {
		return &check.Quorum{Why: err.Error()}
	}
	return &q
}

// answer is what a host has said.
type answer struct {
	facts *fact.Facts
	skew  time.Duration // by which its clock differs from this host's at least
	err   error
}

// askAll asks all hosts of the inventory that are wanted.
func (s *Survey) askAll(ctx context.Context, q Question, inv *inventory.Inventory) map[cluster.HostID]answer {
	refs := map[cluster.HostID]HostRef{}
	for _, r := range s.Hosts() {
		refs[r.Name] = r
	}
	var (
		mu   sync.Mutex
		out  = map[cluster.HostID]answer{}
		free = make(chan struct{}, atOnce)
		all  sync.WaitGroup
	)
	for i := range inv.Hosts {
		h := &inv.Hosts[i]
		if len(q.Only) > 0 && !slices.Contains(q.Only, h.Name) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		free <- struct{}{} // the ones before end within their time
		all.Go(func() {
			a := s.ask(ctx, q, inv, h, refs)
			mu.Lock()
			out[h.Name] = a
			mu.Unlock()
			<-free
		})
	}
	all.Wait()
	return out
}

// ask asks one host, if there is a way to it.
func (s *Survey) ask(ctx context.Context, q Question, inv *inventory.Inventory, h *inventory.Host, refs map[cluster.HostID]HostRef) answer {
	ref, known := refs[h.Name]
	switch {
	case h.Name == s.Host:
		ref.Name, ref.Up = h.Name, true
	case !known:
		return answer{err: errors.New("no agent of that name reports")}
	case !ref.Up:
		return answer{err: errors.New("its agent does not report any more")}
	case ref.API == "":
		return answer{err: errors.New("its agent is not reached over the network: set api.listen in its settings")}
	}
	m := q.Manifest
	if m == nil {
		m = &manifest.Manifest{}
	}
	w := fact.Wanted{SHA256: q.SHA256}
	if q.Request != nil {
		w.Request = q.Request(h)
	} else {
		w.Request = BuildRequest(m, inv, h, "", "")
	}
	w.Request.Guests, w.Request.Bridges = q.Guests, q.Pin
	if q.Request == nil && (q.When == check.Before || q.When == "") && !q.Back {
		w.Request.Needs = needs(&q, m, h)
	}
	sent := s.Now()
	f, err := s.call(ctx, ref, w)
	if err != nil {
		return answer{err: err}
	}
	a := answer{skew: skew(f.At, sent, s.Now())}
	if h.Name == s.Host {
		a.skew = 0
	}
	if f.Host != h.Name {
		return answer{err: fmt.Errorf("the agent that was asked says that it is %q", f.Host)}
	}
	a.facts = &f
	a.facts.At = sent // by this host's clock, with which it is compared
	if q.Staged || q.SHA256 != "" && slices.Contains(ref.Bundles, q.SHA256) {
		a.facts.Space.Free += unpacked(m) // it is taken already, not to be taken again
	}
	return a
}

// call waits for the answer until its time is over.
func (s *Survey) call(ctx context.Context, ref HostRef, w fact.Wanted) (fact.Facts, error) {
	limit := cmp.Or(s.Within, within)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	type result struct {
		f   fact.Facts
		err error
	}
	done := make(chan result, 1)
	// One that looks at storage which hangs ends when the storage lets it.
	go func() {
		f, err := s.Facts(ctx, ref, w)
		done <- result{f, err}
	}()
	var r result
	select {
	case r = <-done:
	case <-ctx.Done():
		select {
		case r = <-done:
		case <-time.After(patient):
			r.err = ctx.Err()
		}
	}
	if r.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		r.err = fmt.Errorf("no answer within %s", limit)
	}
	return r.f, r.err
}

// skew is by how much a clock was off at least when it was read between two
// instants of this host's.
func skew(read, from, to time.Time) time.Duration {
	switch {
	case read.IsZero():
		return 0
	case read.Before(from):
		return read.Sub(from)
	case read.After(to):
		return read.Sub(to)
	}
	return 0
}

// unpacked is the size of a bundle's files, bytes.
func unpacked(m *manifest.Manifest) (sum int64) {
	for i := range m.Modules {
		for _, f := range m.Modules[i].Files {
			sum += f.Size
		}
	}
	return sum
}

// haState tells whether the platform's HA is on: by the word of any host that
// knows. nil: none does.
func haState(told map[cluster.HostID]*fact.Facts) *bool {
	var out *bool
	for _, f := range told {
		if f.HA == nil || f.HA.Exit != 0 && f.HA.Exit != 1 || f.Unknown["ha"] != "" {
			continue
		}
		on := f.HA.Exit == 0 || out != nil && *out
		out = &on
	}
	return out
}
