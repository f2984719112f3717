package access

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// Service knows users, tokens and sessions. Make it with New, and have Run follow the store. All methods may be called
// concurrently.
type Service struct {
	store store.Store
	host  cluster.HostID // whose agent this is
	log   *slog.Logger
	now   func() time.Time
	slots chan struct{} // of passwords that are compared at once: each takes 19 MiB
	guess guesses

	mu       sync.Mutex
	listed   chan struct{} // closed once what the store has is known
	users    map[string]held[userRecord]
	tokens   map[string]held[tokenRecord] // by ID
	sessions map[string]held[sessionRecord]
}

// held is a record with its revision.
type held[T any] struct {
	record T
	mod    int64
}

// atOnce is how many passwords are compared at once.
const atOnce = 2

// Times of the store's answers.
const (
	listWithin    = 10 * time.Second
	writeWithin   = 5 * time.Second
	sessionWithin = 2 * time.Second // of a session, which goes on without
)

// New makes a Service that knows nothing yet.
func New(st store.Store, host cluster.HostID, log *slog.Logger) *Service {
	s := &Service{store: st, host: host, log: log, now: time.Now, slots: make(chan struct{}, atOnce), listed: make(chan struct{}),
		users: map[string]held[userRecord]{}, tokens: map[string]held[tokenRecord]{}, sessions: map[string]held[sessionRecord]{}}
	s.guess.now = func() time.Time { return s.now() }
	return s
}

// Run follows the store until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	store.Again(ctx, s.log, "users and tokens are followed again", func(ctx context.Context) error {
		return store.Follow(ctx, s.store, records.KeyAccess, listWithin, s.list, s.change)
	})
	return nil
}

// list takes in what the store has.
func (s *Service) list(kvs []store.KV) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.users)
	clear(s.tokens)
	clear(s.sessions)
	for _, kv := range kvs {
		s.take(kv, false)
	}
	select {
	case <-s.listed:
	default:
		close(s.listed)
	}
}

func (s *Service) change(b store.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range b.Changes {
		s.take(c.KV, c.Deleted)
	}
}

// take takes a record in. One that can not be read lets nobody in. The caller holds mu.
func (s *Service) take(kv store.KV, deleted bool) {
	var err error
	switch name := ""; {
	case cut(kv.Key, keyUser, &name):
		err = into(s.users, name, kv, deleted)
	case cut(kv.Key, keyToken, &name):
		err = into(s.tokens, name, kv, deleted)
	case cut(kv.Key, keySession, &name):
		err = into(s.sessions, name, kv, deleted)
	}
	if err != nil {
		s.log.Warn("a record of who may use the console can not be read, and lets nobody in", "key", kv.Key, "err", err)
	}
}

func cut(key, prefix string, rest *string) (is bool) {
	*rest, is = strings.CutPrefix(key, prefix)
	return is
}

func into[T any](m map[string]held[T], name string, kv store.KV, deleted bool) error {
	if m[name].mod > kv.ModRev {
		return nil // what this process has written is known before the watch tells it
	}
	delete(m, name)
	if deleted {
		return nil
	}
	r, err := records.Decode[T](kv, false)
	if err == nil {
		m[name] = held[T]{r, kv.ModRev}
	}
	return err
}

// known waits until the store was read once.
func (s *Service) known(ctx context.Context) error {
	select {
	case <-s.listed:
		return nil
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	select {
	case <-s.listed:
		return nil
	case <-ctx.Done():
		return fail.Errorf(fail.Unavailable, "the store has not been read yet, and users stand there").
			With("ask the console of another host, or run holdfast status on this one")
	}
}

// Any reports whether there is a user.
func (s *Service) Any(ctx context.Context) (bool, error) {
	if err := s.known(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.users) > 0, nil
}

// User returns a user as the store has him now.
func (s *Service) User(name string) (cluster.User, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[name]
	return u.record.user(), ok
}

// Users are all, by name.
func (s *Service) Users(ctx context.Context) ([]cluster.User, error) {
	if err := s.known(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []cluster.User{}
	for _, name := range slices.Sorted(maps.Keys(s.users)) {
		out = append(out, s.users[name].record.user())
	}
	return out, nil
}

// Tokens are all, by what they are for.
func (s *Service) Tokens(ctx context.Context) ([]cluster.Token, error) {
	if err := s.known(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []cluster.Token{}
	for _, t := range s.tokens {
		out = append(out, t.record.Token)
	}
	slices.SortFunc(out, func(a, b cluster.Token) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	return out, nil
}

// errWrong is the same for a name and for a password that are wrong.
var errWrong = fail.Errorf(fail.Denied, "wrong name or password")

// nobody is compared with where there is no such user, so that time does not tell who there is.
var nobody = sync.OnceValue(func() string { return hash(rand.Text()) })

// Login lets in who has a user's password. from is the address that asks. Who guesses waits: see guesses.
func (s *Service) Login(ctx context.Context, name, password, from string) (cluster.User, error) {
	if err := s.known(ctx); err != nil {
		return cluster.User{}, err
	}
	if err := s.guess.may(name, from); err != nil {
		return cluster.User{}, err
	}
	s.mu.Lock()
	u, found := s.users[name]
	s.mu.Unlock()
	record := u.record.Hash
	if !found {
		record = nobody()
	}
	if len(password) > 4*maxPassword {
		password = "" // nobody has one as long
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return cluster.User{}, fail.Errorf(fail.Unavailable, "too many log in at once").With("try again in some seconds")
	}
	if err := s.guess.may(name, from); err != nil { // others were wrong while this one waited
		<-s.slots
		return cluster.User{}, err
	}
	is, err := matches(record, password)
	<-s.slots
	switch {
	case err != nil:
		return cluster.User{}, fail.Errorf(fail.Failed, "user %s: %w", name,
			err).With("give the user a new one: holdfast user set " + name + " --new-password")
	case !is || !found:
		s.guess.wrong(name, from)
		return cluster.User{}, errWrong
	}
	s.guess.right(name, from)
	return u.record.user(), nil
}

// Password gives a user the password that he has chosen, who knows the one he had.
func (s *Service) Password(ctx context.Context, name, old, chosen, from string) error {
	if _, err := s.Login(ctx, name, old, from); err != nil {
		return err
	}
	if err := checkPassword(name, chosen); err != nil {
		return err
	}
	if chosen == old {
		return fail.Errorf(fail.Invalid, "password: it is the one that you have")
	}
	return s.putUser(ctx, name, name, fmt.Sprintf("user %s: has chosen a password", name), func(r *userRecord, _ bool) error {
		r.Hash, r.Once = hash(chosen), false
		return nil
	})
}

// SetUser makes a user, or gives one another role or password. A one-time password is returned.
func (s *Service) SetUser(ctx context.Context, by string, c cluster.UserChange) (password string, err error) {
	if err := checkName(c.Name); err != nil {
		return "", err
	}
	if c.Role != "" {
		if err := checkRole(c.Role); err != nil {
			return "", err
		}
	}
	if c.Password != "" {
		if err := checkPassword(c.Name, c.Password); err != nil {
			return "", err
		}
	}
	err = s.putUser(ctx, by, c.Name, "", func(r *userRecord, found bool) error {
		switch {
		case !found && c.Role == "":
			return fail.Errorf(fail.Invalid, "user %q: there is none", c.Name).With("make one: holdfast user add " + c.Name + " --role ROLE")
		case found && c.Role != "" && r.Role == cluster.Admin && c.Role != cluster.Admin && s.last(c.Name):
			return errLast
		}
		if c.Role != "" {
			r.Role = c.Role
		}
		switch {
		case c.Password != "":
			r.Hash, r.Once = hash(c.Password), false
		case !found || c.NewPassword:
			password = oneTime()
			r.Hash, r.Once = hash(password), true
		}
		return nil
	})
	return password, err
}

// errLast keeps one who can mend things.
var errLast = fail.Errorf(fail.Refused, "it is the only admin").With("make another user an admin first")

// last reports whether a user is the only admin.
func (s *Service) last(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for other, u := range s.users {
		if other != name && u.record.Role == cluster.Admin {
			return false
		}
	}
	return true
}

// putUser changes a user's record, with its event, in one transaction.
func (s *Service) putUser(ctx context.Context, by, name, did string, change func(r *userRecord, found bool) error) error {
	if err := s.known(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	key := keyUser + name
	kv, found, err := s.store.Get(ctx, key)
	if err != nil {
		return fmt.Errorf("read user %s: %w", name, err)
	}
	var r userRecord
	if found {
		if r, err = records.Decode[userRecord](kv, false); err != nil {
			return fmt.Errorf("read user %s: %w", name, err)
		}
	}
	s.mu.Lock()
	n := len(s.users)
	s.mu.Unlock()
	if !found && n >= maxUsers {
		return fail.Errorf(fail.Refused, "there are %d users, the most that there may be", n)
	}
	before := r
	if err := change(&r, found); err != nil {
		return err
	}
	r.Name, r.By, r.Changed = name, by, s.now().UTC()
	if did == "" {
		did = said(before, r, found)
	}
	op := store.Op{Key: key, Value: records.Encode(r)}
	return s.write(ctx, store.Cmp{Key: key, Rev: kv.ModRev}, op, by, did)
}

// said is what an event tells of a change of a user.
func said(before, after userRecord, found bool) string {
	role, password := found && before.Role != after.Role, found && before.Hash != after.Hash
	switch {
	case !found:
		return fmt.Sprintf("user %s: made, %s", after.Name, after.Role)
	case role && password:
		return fmt.Sprintf("user %s: was %s, is %s, with a new password", after.Name, before.Role, after.Role)
	case role:
		return fmt.Sprintf("user %s: was %s, is %s", after.Name, before.Role, after.Role)
	case password:
		return fmt.Sprintf("user %s: a new password", after.Name)
	}
	return fmt.Sprintf("user %s: nothing changed", after.Name)
}

// write writes one record with its event, and knows it at once.
func (s *Service) write(ctx context.Context, cond store.Cmp, op store.Op, by, detail string) error {
	ev := cluster.Event{Time: s.now().UTC(), Kind: cluster.EvAccess, By: s.host, User: by, Detail: detail}
	rev, ok, err := s.store.Txn(ctx, []store.Cmp{cond},
		[]store.Op{op, {Key: records.LogKey(ev, mathrand.Uint64()), Value: records.Encode(ev)}})
	if err != nil {
		return err
	}
	if !ok {
		return fail.Errorf(fail.Refused, "somebody else has changed it just now").With("look at it again")
	}
	s.wrote(rev, op)
	return nil
}

// wrote has what this process has written be known at once, before the watch tells it.
func (s *Service) wrote(rev int64, ops ...store.Op) {
	b := store.Batch{Rev: rev}
	for _, o := range ops {
		b.Changes = append(b.Changes, store.Change{KV: store.KV{Key: o.Key, Value: o.Value, ModRev: rev}, Deleted: o.Value == nil})
	}
	s.change(b)
}

// RemoveUser ends a user, and with him his sessions.
func (s *Service) RemoveUser(ctx context.Context, by, name string) error {
	if err := s.known(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	u, found := s.users[name]
	s.mu.Unlock()
	if !found {
		return fail.Errorf(fail.Invalid, "user %.70q: there is none", name)
	}
	if u.record.Role == cluster.Admin && s.last(name) {
		return errLast
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	key := keyUser + name
	return s.write(ctx, store.Cmp{Key: key, Rev: u.mod}, store.Op{Key: key}, by, "user "+name+": removed")
}

// CreateToken makes a token and returns it with its secret, which is shown once.
func (s *Service) CreateToken(ctx context.Context, by, note string, role cluster.Role, days int) (t cluster.Token,
	secret string, err error) {
	if err := errors.Join(checkNote(note), checkRole(role)); err != nil {
		return t, "", err
	}
	if days < 1 || days > maxDays {
		return t, "", fail.Errorf(fail.Invalid, "days %d: want 1 to %d", days, maxDays)
	}
	if err := s.known(ctx); err != nil {
		return t, "", err
	}
	s.mu.Lock()
	n := len(s.tokens)
	s.mu.Unlock()
	if n >= maxTokens {
		return t, "", fail.Errorf(fail.Refused, "there are %d tokens, the most that there may be", n).With("revoke those that nobody uses")
	}
	id := strings.ToLower(rand.Text()[:8])
	secret = tokenStart + id + "_" + rand.Text()
	t = cluster.Token{ID: id, Name: note, Role: role, Created: s.now().UTC(), By: by}
	t.Expires = t.Created.AddDate(0, 0, days)
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	key := keyToken + id
	err = s.write(ctx, store.Cmp{Key: key}, store.Op{Key: key, Value: records.Encode(tokenRecord{t, digest(secret)})}, by,
		fmt.Sprintf("token %s (%s): made, %s, until %s", id, note, role, t.Expires.Format(time.DateOnly)))
	return t, secret, err
}

// tokenStart lets people and scanners of secrets tell what it is.
const tokenStart = "holdfast_"

func digest(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// RevokeToken ends a token.
func (s *Service) RevokeToken(ctx context.Context, by, id string) error {
	if err := s.known(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	t, found := s.tokens[id]
	s.mu.Unlock()
	if !found {
		return fail.Errorf(fail.Invalid, "token %.70q: there is none", id)
	}
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	key := keyToken + id
	return s.write(ctx, store.Cmp{Key: key, Rev: t.mod}, store.Op{Key: key}, by, fmt.Sprintf("token %s (%s): revoked", id, t.record.Name))
}

// Bearer returns the token of a secret.
func (s *Service) Bearer(ctx context.Context, secret string) (cluster.Token, error) {
	if err := s.known(ctx); err != nil {
		return cluster.Token{}, err
	}
	rest, is := strings.CutPrefix(secret, tokenStart)
	id, _, _ := strings.Cut(rest, "_")
	s.mu.Lock()
	t, found := s.tokens[id]
	s.mu.Unlock()
	switch {
	case !is || !found || !same(t.record.Digest, digest(secret)):
		return cluster.Token{}, fail.Errorf(fail.Denied, "the token is none of this cluster, or was revoked")
	case !s.now().Before(t.record.Expires):
		return cluster.Token{}, fail.Errorf(fail.Denied, "the token %s has expired at %s", id, t.record.Expires.Format(time.DateOnly))
	}
	return t.record.Token, nil
}
