package etcdstore

import (
	"context"
	"errors"
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
)

// Prefer makes one store of two connections to the same: near, to this host's
// own member, is asked as long as it answers, else far, to all members. A call
// to a host that has lost its power or its cable hangs until its deadline; the
// own member knows where the leader is and answers or fails at once.
func Prefer(near, far store.Store) store.Store { return &preferred{near: near, far: far} }

type preferred struct {
	near, far store.Store

	mu     sync.Mutex // guards what follows
	failed int        // calls to near, in a row
	until  time.Time  // far is asked
}

func (p *preferred) pick() store.Store {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until) {
		return p.far
	}
	return p.near
}

// note remembers how a store answered.
func (p *preferred) note(s store.Store, err error) {
	failed := errors.Is(err, store.ErrRetry) || errors.Is(err, store.ErrUnknown)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case s != p.near && failed:
		p.until = time.Time{}
	case s != p.near:
	case !failed:
		p.failed = 0
	default:
		p.failed++
		if p.failed >= avoidAfter {
			p.failed, p.until = 0, time.Now().Add(avoid)
		}
	}
}

func (p *preferred) Get(ctx context.Context, key string) (store.KV, bool, error) {
	s := p.pick()
	kv, ok, err := s.Get(ctx, key)
	p.note(s, err)
	return kv, ok, err
}

func (p *preferred) List(ctx context.Context, prefix string) ([]store.KV, int64, error) {
	s := p.pick()
	kvs, rev, err := s.List(ctx, prefix)
	p.note(s, err)
	return kvs, rev, err
}

func (p *preferred) Txn(ctx context.Context, conds []store.Cmp, ops []store.Op) (int64, bool, error) {
	s := p.pick()
	rev, ok, err := s.Txn(ctx, conds, ops)
	p.note(s, err)
	return rev, ok, err
}

func (p *preferred) Watch(ctx context.Context, prefix string, from int64) store.Watcher {
	s := p.pick()
	return noted{s.Watch(ctx, prefix, from), func(err error) { p.note(s, err) }}
}

func (p *preferred) Close() error { return errors.Join(p.near.Close(), p.far.Close()) }

// noted is a watch whose end is remembered.
type noted struct {
	store.Watcher
	note func(error)
}

func (n noted) Err() error {
	err := n.Watcher.Err()
	n.note(err)
	return err
}
