package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/internal/store"
)

// When a store that did not answer is left alone, and for how long. One failure
// is not enough: while the members elect a leader, no other member answers
// either, and those on lost hosts never will.
const (
	avoidAfter = 2 // failures in a row
	avoid      = 3 * time.Second
	// slow is when a read asks the other members, too.
	slow = 500 * time.Millisecond
)

// Prefer makes one store of two connections to the same: near, to this host's
// own member, is asked as long as it answers, else far, to all members. A call
// to a host that has lost its power or its cable hangs until its deadline; the
// own member knows where the leader is and answers or fails at once. When it
// hangs itself, reads are answered by others, and it is tried now and then.
// may reports that the others have the same store, now; nil: always. While they do not, near alone is
// asked, what is read at the others does not count, and what is watched there ends.
func Prefer(near, far store.Store, may func() bool) store.Store {
	ctx, stop := context.WithCancel(context.Background())
	if may == nil {
		may = func() bool { return true }
	}
	return &preferred{near: near, far: far, may: may, ctx: ctx, stop: stop}
}

type preferred struct {
	near, far store.Store
	may       func() bool
	ctx       context.Context // until Close
	stop      context.CancelFunc
	tries     sync.WaitGroup

	mu      sync.Mutex // guards what follows
	failed  int        // calls to near, in a row
	avoided bool       // far is asked
	until   time.Time  // then near is tried
	trying  bool
}

func (p *preferred) pick() store.Store {
	may := p.may()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.avoided || !may {
		return p.near
	}
	if time.Now().After(p.until) && !p.trying && p.ctx.Err() == nil {
		p.trying = true
		p.tries.Go(p.try)
	}
	return p.far
}

// try finds out whether near answers again.
func (p *preferred) try() {
	ctx, cancel := context.WithTimeout(p.ctx, slow)
	defer cancel()
	_, _, err := p.near.Get(ctx, "near")
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trying, p.avoided, p.until = false, err != nil, time.Now().Add(avoid)
}

// note remembers how a store answered.
func (p *preferred) note(s store.Store, err error) {
	failed := errors.Is(err, store.ErrRetry) || errors.Is(err, store.ErrUnknown)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s != p.near && failed:
		p.avoided = false
	case s != p.near:
	case !failed:
		p.failed = 0
	default:
		p.failed++
		if p.failed >= avoidAfter {
			p.failed, p.avoided, p.until = 0, true, time.Now().Add(avoid)
		}
	}
}

// either reads from near, and from far as well when near is slow or fails. The first answer counts.
func either[T any](ctx context.Context, p *preferred, read func(context.Context, store.Store) (T, error)) (T, error) {
	type answer struct {
		from  store.Store
		value T
		err   error
	}
	answerOf := func(s store.Store) (a answer) {
		a.from = s
		a.value, a.err = read(ctx, s)
		if s == p.far && !p.may() {
			a = answer{from: s, err: errApart}
		}
		return a
	}
	if p.pick() == p.far {
		a := answerOf(p.far)
		p.note(p.far, a.err)
		return a.value, a.err
	}
	ctx, cancel := context.WithCancel(ctx) // ends the call that is not waited for
	defer cancel()
	answers := make(chan answer, 2)
	ask := func(s store.Store) { answers <- answerOf(s) }
	go ask(p.near)
	waiting, both := 1, false
	askFar := func() {
		waiting, both = 2, true
		go ask(p.far)
	}
	late := time.NewTimer(slow)
	defer late.Stop()
	for {
		select {
		case <-late.C:
			if !both && p.may() {
				p.note(p.near, store.ErrRetry)
				askFar()
			}
		case a := <-answers:
			if a.from == p.far || !both { // near has been noted as slow
				p.note(a.from, a.err)
			}
			retry := errors.Is(a.err, store.ErrRetry)
			if retry && !both && ctx.Err() == nil && p.may() {
				askFar()
			}
			if waiting--; !retry || waiting == 0 {
				return a.value, a.err
			}
		}
	}
}

func (p *preferred) Get(ctx context.Context, key string) (store.KV, bool, error) {
	type got struct {
		kv store.KV
		ok bool
	}
	g, err := either(ctx, p, func(ctx context.Context, s store.Store) (g got, err error) {
		g.kv, g.ok, err = s.Get(ctx, key)
		return g, err
	})
	return g.kv, g.ok, err
}

func (p *preferred) List(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	type list struct {
		kvs []store.KV
		rev int64
	}
	l, err := either(ctx, p, func(ctx context.Context, s store.Store) (l list, err error) {
		l.kvs, l.rev, err = s.List(ctx, prefix)
		return l, err
	})
	return l.kvs, l.rev, err
}

func (p *preferred) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	s := p.pick()
	rev, ok, err := s.Txn(ctx, conds, ops)
	p.note(s, err)
	return rev, ok, err
}

func (p *preferred) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	s := p.pick()
	note := func(err error) { p.note(s, err) }
	if s == p.near {
		w := s.Watch(ctx, prefix, from)
		return &watched{from: w, c: w.C(), note: note}
	}
	ctx, end := context.WithCancel(ctx)
	c := make(chan store.Batch)
	w := &watched{from: s.Watch(ctx, prefix, from), c: c, note: note}
	go func() {
		defer close(c)
		defer end()
		for b := range w.from.C() {
			if !p.may() {
				w.apart = true
				return
			}
			select {
			case c <- b:
			case <-ctx.Done():
			}
		}
	}()
	return w
}

// errApart: the other members have a store of their own, which is not this host's.
var errApart = fmt.Errorf("%w: the other host's member has another store than this host's", store.ErrRetry)

// watched is a watch whose end is remembered. At the other members it is one as long as they may be asked.
type watched struct {
	from  store.Watcher
	c     <-chan store.Batch
	apart bool // it has ended as they may not be asked any more
	note  func(error)
}

func (w *watched) C() <-chan store.Batch { return w.c }

func (w *watched) Err() error {
	err := w.from.Err()
	if w.apart {
		err = errApart
	}
	w.note(err)
	return err
}

func (p *preferred) Close() error {
	p.stop()
	p.tries.Wait()
	return errors.Join(p.near.Close(), p.far.Close())
}
