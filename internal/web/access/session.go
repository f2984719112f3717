package access

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"holdfast/internal/ha/records"
	"holdfast/internal/store"
)

// Sessions keeps the sessions of browsers, for github.com/alexedwards/scs: an scs.CtxStore.
type Sessions struct{ *Service }

// DeleteCtx ends a session.
func (s Sessions) DeleteCtx(ctx context.Context, token string) error {
	return s.commit(ctx, keyOf(token), nil)
}

// FindCtx returns what is kept of a session. One that another host has made just now is looked up in the store.
func (s Sessions) FindCtx(ctx context.Context, token string) (b []byte, found bool, err error) {
	if err := s.known(ctx); err != nil {
		return nil, false, err
	}
	key := keyOf(token)
	s.mu.Lock()
	r, is := s.sessions[key]
	s.mu.Unlock()
	if !is {
		ctx, cancel := context.WithTimeout(ctx, sessionWithin)
		defer cancel()
		kv, there, err := s.store.Get(ctx, keySession+key)
		if err != nil || !there {
			return nil, false, err
		}
		if r.record, err = records.Decode[sessionRecord](kv, false); err != nil {
			return nil, false, err
		}
	}
	if !s.now().Before(r.record.Expires) {
		return nil, false, nil
	}
	return r.record.Data, true, nil
}

// CommitCtx keeps a session. Without a quorum it is kept in this process only, so that people can log in and look.
func (s Sessions) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	key := keyOf(token)
	r := sessionRecord{b, expiry.UTC()}
	err := s.commit(ctx, key, &r)
	if errors.Is(err, store.ErrRetry) || errors.Is(err, store.ErrUnknown) || errors.Is(err, context.DeadlineExceeded) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sessions[key] = held[sessionRecord]{r, s.sessions[key].mod}
		return nil
	}
	return err
}

// Delete, Find and Commit are of an older form of scs.Store, and are not called where the others are.
func (s Sessions) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// Find is FindCtx.
func (s Sessions) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is CommitCtx.
func (s Sessions) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

// commit writes a session, or removes it, and with it those that are over: at most maxSessions are kept, and the ones that
// end first go.
func (s Sessions) commit(ctx context.Context, key string, r *sessionRecord) error {
	ctx, cancel := context.WithTimeout(ctx, sessionWithin)
	defer cancel()
	op := store.Op{Key: keySession + key}
	if r != nil {
		op.Value = records.Encode(r)
	}
	ops := []store.Op{op}
	for _, old := range s.over(key) {
		ops = append(ops, store.Op{Key: keySession + old})
	}
	rev, _, err := s.store.Txn(ctx, nil, ops)
	if err != nil {
		return err
	}
	s.wrote(rev, ops...)
	return nil
}

// most is how many sessions one transaction removes.
const most = 50

// over are sessions that are not needed any more, but for one.
func (s Sessions) over(but string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	first, at := "", time.Time{}
	for key, r := range s.sessions {
		switch {
		case key == but:
		case !s.now().Before(r.record.Expires) && len(out) < most:
			out = append(out, key)
		case first == "" || r.record.Expires.Before(at):
			first, at = key, r.record.Expires
		}
	}
	if len(out) == 0 && len(s.sessions) >= maxSessions {
		out = append(out, first)
	}
	return out
}

// keyOf is a session's key: who reads the store, or a backup of it, can not use it as a cookie.
func keyOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
