package access

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/try"
)

// two are services of two hosts on one store, each of which follows it.
func two(t *testing.T) (a, b *Service, mem *storetest.Mem) {
	t.Helper()
	mem = storetest.NewMem()
	one := func(host string) *Service {
		s := New(mem.NewClient(host), cluster.HostID(host), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { try.Must(t, s.Run(ctx)) })
		t.Cleanup(func() { cancel(); wg.Wait() })
		return s
	}
	return one("h1"), one("h2"), mem
}

func isKind(t *testing.T, err error, kind fail.Kind, says string) {
	t.Helper()
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != kind || !strings.Contains(err.Error(), says) {
		t.Errorf("%v, want %s with %q", err, kind, says)
	}
}

const good = "correct horse battery staple"

// made is a user with a password of his own.
func made(t *testing.T, s *Service, name string, role cluster.Role) {
	t.Helper()
	once, err := s.SetUser(t.Context(), "root", cluster.UserChange{Name: name, Role: role})
	try.Must(t, err)
	try.Must(t, s.Password(t.Context(), name, once, good, "192.0.2.1"))
}

func TestAUserLogsInOnEveryHost(t *testing.T) {
	a, b, _ := two(t)
	once, err := a.SetUser(t.Context(), "root", cluster.UserChange{Name: "alice", Role: cluster.Admin})
	try.Must(t, err)
	u, err := a.Login(t.Context(), "alice", once, "192.0.2.1")
	if err != nil || !u.Once || u.Role != cluster.Admin || u.By != "root" {
		t.Fatalf("%+v, %v", u, err)
	}
	isKind(t, a.Password(t.Context(), "alice", "wrong", good, "192.0.2.1"), fail.Denied, "wrong name or password")
	isKind(t, a.Password(t.Context(), "alice", once, "short", "192.0.2.1"), fail.Invalid, "want 15 to 256")
	isKind(t, a.Password(t.Context(), "alice", once, once, "192.0.2.1"), fail.Invalid, "the one that you have")
	isKind(t, a.Password(t.Context(), "alice", once, "alice-alice-alice"[:16], "192.0.2.1"), fail.Invalid, "user's name")
	try.Must(t, a.Password(t.Context(), "alice", once, good, "192.0.2.1"))
	now, _ := a.User("alice")
	if now.Stamp == u.Stamp || now.Once {
		t.Errorf("sessions of the old password go on: %+v", now)
	}
	try.Until(t, "h2 knows the new password", func() bool { x, _ := b.User("alice"); return x.Stamp == now.Stamp })
	if u, err := b.Login(t.Context(), "alice", good, "192.0.2.2"); err != nil || u.Once {
		t.Errorf("%+v, %v", u, err)
	}
	_, err = b.Login(t.Context(), "alice", once, "192.0.2.2")
	isKind(t, err, fail.Denied, "wrong name or password")
	_, err = b.Login(t.Context(), "nobody", good, "192.0.2.2")
	isKind(t, err, fail.Denied, "wrong name or password")
}

func TestOneAdminIsKept(t *testing.T) {
	a, _, _ := two(t)
	made(t, a, "alice", cluster.Admin)
	isKind(t, a.RemoveUser(t.Context(), "alice", "alice"), fail.Refused, "only admin")
	_, err := a.SetUser(t.Context(), "alice", cluster.UserChange{Name: "alice", Role: cluster.Viewer})
	isKind(t, err, fail.Refused, "only admin")
	made(t, a, "bob", cluster.Admin)
	try.Must(t, a.RemoveUser(t.Context(), "bob", "alice"))
	if _, found := a.User("alice"); found {
		t.Error("alice is there still")
	}
	isKind(t, a.RemoveUser(t.Context(), "bob", "alice"), fail.Invalid, "there is none")
	for _, name := range []string{"", "Alice", "a b", "-a", strings.Repeat("a", 33), "root\n"} {
		_, err := a.SetUser(t.Context(), "root", cluster.UserChange{Name: name, Role: cluster.Viewer})
		isKind(t, err, fail.Invalid, "want 1 to 32")
	}
	_, err = a.SetUser(t.Context(), "root", cluster.UserChange{Name: "carol", Role: "owner"})
	isKind(t, err, fail.Invalid, "want viewer, operator or admin")
	_, err = a.SetUser(t.Context(), "root", cluster.UserChange{Name: "carol", NewPassword: true})
	isKind(t, err, fail.Invalid, "there is none")
}

// TestGuessingWaits: an address waits after some wrong passwords, and no other one does.
func TestGuessingWaits(t *testing.T) {
	a, _, _ := two(t)
	at := time.Unix(1_800_000_000, 0)
	a.now = func() time.Time { return at }
	made(t, a, "alice", cluster.Viewer)
	for range freeGuesses {
		_, err := a.Login(t.Context(), "alice", "wrong", "192.0.2.9")
		isKind(t, err, fail.Denied, "wrong name or password")
	}
	_, err := a.Login(t.Context(), "alice", good, "192.0.2.9")
	isKind(t, err, fail.Denied, "wait 1m0s")
	if _, err := a.Login(t.Context(), "alice", good, "192.0.2.1"); err != nil {
		t.Errorf("alice is shut out by somebody else: %v", err)
	}
	at = at.Add(firstWait)
	_, err = a.Login(t.Context(), "alice", "wrong", "192.0.2.9")
	isKind(t, err, fail.Denied, "wrong name or password")
	_, err = a.Login(t.Context(), "alice", good, "192.0.2.9")
	isKind(t, err, fail.Denied, "wait 2m0s")
	at = at.Add(2 * firstWait)
	if _, err := a.Login(t.Context(), "alice", good, "192.0.2.9"); err != nil {
		t.Error(err)
	}
	// An address that tries many names waits, whatever the names.
	for i := range freeNames {
		a.guess.wrong(strings.Repeat("x", 1+i), "192.0.2.66")
	}
	_, err = a.Login(t.Context(), "alice", good, "192.0.2.66")
	isKind(t, err, fail.Denied, "too many wrong passwords from 192.0.2.66")
	// What is remembered is bounded.
	for i := range 3 * maxGuesses {
		a.guess.wrong("u", "host"+strings.Repeat("y", i%100)+time.Duration(i).String())
		at = at.Add(time.Second)
	}
	if n := len(a.guess.of); n > maxGuesses+2 {
		t.Errorf("%d guesses are remembered", n)
	}
}

func TestTokens(t *testing.T) {
	a, b, mem := two(t)
	at := time.Now()
	a.now, b.now = func() time.Time { return at }, func() time.Time { return at }
	tok, secret, err := a.CreateToken(t.Context(), "alice", "backup of the rack", cluster.Operator, 30)
	try.Must(t, err)
	if !strings.HasPrefix(secret, "holdfast_"+tok.ID+"_") {
		t.Errorf("%q of %q", secret, tok.ID)
	}
	try.Until(t, "h2 knows it", func() bool { _, err := b.Bearer(t.Context(), secret); return err == nil })
	if got, _ := b.Bearer(t.Context(), secret); got != tok {
		t.Errorf("%+v, want %+v", got, tok)
	}
	kvs, _, err := mem.NewClient("x").List(t.Context(), "")
	try.Must(t, err)
	for _, kv := range kvs {
		if strings.Contains(string(kv.Value), secret) {
			t.Errorf("%s has the secret", kv.Key)
		}
	}
	for _, wrong := range []string{"", secret + "x", secret[:len(secret)-1], "holdfast_" + tok.ID + "_", "holdfast_", tok.ID} {
		_, err := b.Bearer(t.Context(), wrong)
		isKind(t, err, fail.Denied, "none of this cluster")
	}
	before := at
	at = at.AddDate(0, 0, 31)
	_, err = b.Bearer(t.Context(), secret)
	isKind(t, err, fail.Denied, "has expired")
	at = before
	try.Must(t, a.RevokeToken(t.Context(), "alice", tok.ID))
	try.Until(t, "it is revoked on h2", func() bool { _, err := b.Bearer(t.Context(), secret); return err != nil })
	for _, c := range []struct {
		note string
		role cluster.Role
		days int
	}{{"", cluster.Viewer, 1}, {"a", "x", 1}, {"a", cluster.Viewer, 0}, {"a", cluster.Viewer, 731}, {"a\nb", cluster.Viewer, 1}} {
		_, _, err := a.CreateToken(t.Context(), "alice", c.note, c.role, c.days)
		isKind(t, err, fail.Invalid, "want")
	}
	// Each change is in the audit, with who has made it.
	kvs, _, err = mem.NewClient("x").List(t.Context(), records.KeyLog)
	try.Must(t, err)
	var said []string
	for _, kv := range kvs {
		e, err := records.Decode[cluster.Event](kv, false)
		try.Must(t, err)
		said = append(said, string(e.Kind)+" "+e.User+" "+e.Detail)
	}
	all := strings.Join(said, "\n")
	for _, want := range []string{"access-changed alice token " + tok.ID + " (backup of the rack): made, operator, until ", "): revoked"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not in:\n%s", want, all)
		}
	}
}

// TestSessions go on at another host, and end with what is asked.
func TestSessions(t *testing.T) {
	a, b, mem := two(t)
	x, y := Sessions{a}, Sessions{b}
	try.Must(t, x.CommitCtx(t.Context(), "cookie", []byte("data"), time.Now().Add(time.Hour)))
	if got, found, err := y.FindCtx(t.Context(), "cookie"); string(got) != "data" || !found || err != nil {
		t.Fatalf("%q, %v, %v", got, found, err)
	}
	kvs, _, err := mem.NewClient("x").List(t.Context(), keySession)
	try.Must(t, err)
	if len(kvs) != 1 || strings.Contains(kvs[0].Key, "cookie") {
		t.Errorf("%+v", kvs)
	}
	try.Must(t, y.DeleteCtx(t.Context(), "cookie"))
	try.Until(t, "h1 has ended it", func() bool { _, found, err := x.FindCtx(t.Context(), "cookie"); return !found && err == nil })
	// Those that are over go with the next one.
	try.Must(t, x.CommitCtx(t.Context(), "old", nil, time.Now().Add(-time.Second)))
	if _, found, err := x.FindCtx(t.Context(), "old"); found || err != nil {
		t.Errorf("%v, %v", found, err)
	}
	try.Must(t, x.CommitCtx(t.Context(), "new", nil, time.Now().Add(time.Hour)))
	if kvs, _, err = mem.NewClient("x").List(t.Context(), keySession); err != nil || len(kvs) != 1 {
		t.Errorf("%d, %v", len(kvs), err)
	}
}

// TestWithoutAQuorum people log in and look; nothing is changed.
func TestWithoutAQuorum(t *testing.T) {
	a, _, _ := two(t)
	made(t, a, "alice", cluster.Admin)
	a.store.(*storetest.Client).Partition(true)
	if _, err := a.Login(t.Context(), "alice", good, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	x := Sessions{a}
	try.Must(t, x.CommitCtx(t.Context(), "cookie", []byte("data"), time.Now().Add(time.Hour)))
	if got, found, err := x.FindCtx(t.Context(), "cookie"); string(got) != "data" || !found || err != nil {
		t.Errorf("%q, %v, %v", got, found, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.SetUser(ctx, "alice", cluster.UserChange{Name: "bob", Role: cluster.Viewer}); err == nil {
		t.Error("a user was made without a quorum")
	}
}

// TestARecordThatIsDamagedLetsNobodyIn.
func TestARecordThatIsDamagedLetsNobodyIn(t *testing.T) {
	a, _, mem := two(t)
	made(t, a, "alice", cluster.Admin)
	_, _, err := mem.NewClient("x").Txn(t.Context(), nil,
		[]store.Op{{Key: keyUser + "alice", Value: []byte(`{"name":"alice","role":"admin"}`)}})
	try.Must(t, err)
	try.Until(t, "it is known", func() bool { _, found := a.User("alice"); return !found })
	_, err = a.Login(t.Context(), "alice", good, "192.0.2.1")
	isKind(t, err, fail.Denied, "wrong name or password")
}

func TestHashes(t *testing.T) {
	h := hash(good)
	if is, err := matches(h, good); !is || err != nil {
		t.Errorf("%v, %v", is, err)
	}
	if is, err := matches(h, good+"x"); is || err != nil {
		t.Errorf("%v, %v", is, err)
	}
	if hash(good) == h {
		t.Error("no salt")
	}
	for _, bad := range []string{"", "x", "$argon2i$v=19$m=1,t=1,p=1$YQ$YQ", "$argon2id$v=19$m=19456,t=2,p=1$YQ$YQ",
		"$argon2id$v=19$m=4194304,t=2,p=1" + h[strings.Index(h, ",p=1")+4:], "$argon2id$v=19$m=8,t=0,p=1$YQ$YWFhYWFhYWFhYWFhYWFhYWFh"} {
		if is, err := matches(bad, good); is || err == nil {
			t.Errorf("%q: %v, %v", bad, is, err)
		}
	}
}

// TestGuessesAtOnce: guesses that came at once, and waited for their turn, are compared no more than others.
func TestGuessesAtOnce(t *testing.T) {
	s, _, _ := two(t)
	made(t, s, "anna", cluster.Admin)
	for range atOnce {
		s.slots <- struct{}{}
	}
	const n = 50
	all := make(chan error, n)
	for range n {
		go func() {
			_, err := s.Login(t.Context(), "anna", "wrong", "10.0.0.1")
			all <- err
		}()
	}
	for range atOnce {
		<-s.slots
	}
	compared := 0
	for range n {
		if err := <-all; errors.Is(err, errWrong) {
			compared++
		}
	}
	if most := freeGuesses + atOnce - 1; compared > most {
		t.Errorf("%d of %d were compared, want at most %d", compared, n, most)
	}
}
