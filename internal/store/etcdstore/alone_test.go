package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/store"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// aloneMain is GoAlone in a process of its own. It is killed in the middle of the
// edit when asked to.
func aloneMain(file, how string) int {
	c, err := LoadMember(file)
	if err == nil {
		err = GoAlone(context.Background(), AloneOptions{Config: c,
			Formation: &Formation{Gen: 7, From: 1, Role: "single"}, Edit: func(ctx context.Context, s store.Store) error {
				_, _, err := s.Txn(ctx, nil, []store.Op{{Key: "generation", Value: []byte(how)}})
				if how == "die" {
					return unix.Kill(os.Getpid(), unix.SIGKILL)
				}
				return err
			}})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// goAlone runs it, kills it after a while if that is not 0, and tells whether it ended well.
func (m *member) goAlone(t *testing.T, how string, kill time.Duration) bool {
	t.Helper()
	cmd := m.command(t)
	cmd.Args = []string{cmd.Args[0], "go-alone", m.file, how}
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // who is killed leaves its sockets
	var out strings.Builder
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if kill > 0 {
		timer := time.AfterFunc(kill, func() { _ = cmd.Process.Kill() }) // it may have ended
		defer timer.Stop()
	}
	err := cmd.Wait()
	if err != nil && kill == 0 && how != "die" {
		t.Fatalf("go on alone: %v: %s", err, out.String())
	}
	return err == nil
}

// TestBothOfTwoGoOnAlone: what is read in the store of the one is at no revision of the other's,
// though both begin with the same data and write the same. A watch of the one that comes to the
// other ends, whichever of the two is ahead.
func TestBothOfTwoGoOnAlone(t *testing.T) {
	need.Drill(t, "P1, P2: what was read in one of two stores that went on alone is no condition that the other one takes")
	c := &cluster{members: newMembers(t, 2, plain)}
	c.run(t)
	insist(t, c.open(t, c.prefix()), "owner", "of both")
	for _, m := range c.members {
		m.end(t, unix.SIGTERM)
	}
	var revs []int64
	var open []*Client
	for _, m := range c.members {
		m.goAlone(t, "2", 0)
		m.start(t)
		s, err := Open(Options{Endpoints: []string{m.conf.ClientURL}, Prefix: c.prefix(), Log: discard()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		for i := range 20 {
			insist(t, s, "owner", fmt.Sprint(i))
		}
		kv, _, err := s.Get(try.Context(t), "owner")
		if err != nil {
			t.Fatal(err)
		}
		revs, open = append(revs, kv.ModRev), append(open, s)
	}
	for i, s := range open {
		if _, ok, err := s.Txn(try.Context(t), []store.Cmp{{Key: "owner", Rev: revs[1-i]}},
			[]store.Op{{Key: "owner", Value: []byte("of the other")}}); ok || err != nil {
			t.Errorf("a write to %s that compares what was read from the other one, revisions %v: %v, %v", c.members[i].conf.Name, revs, ok, err)
		}
		w := s.Watch(try.Context(t), "", revs[1-i]+1)
		for b := range w.C() {
			t.Errorf("a watch of the other store delivers %+v", b)
		}
		want := store.ErrCompacted
		if revs[1-i] > revs[i] {
			want = store.ErrRetry
		}
		if err := w.Err(); !errors.Is(err, want) {
			t.Errorf("a watch of the other store, revisions %v, on %s: %v, want %v", revs, c.members[i].conf.Name, err, want)
		}
	}
}

// TestOneOfTwoGoesOnAlone loses both members in the moment of an acknowledged write.
// The one that was not told of its commit goes on alone with it, the other one comes
// back, first with its old data, then as a learner, and then goes on alone itself.
func TestOneOfTwoGoesOnAlone(t *testing.T) {
	need.Drill(t, "P3: one of two members goes on alone with each acknowledged write, whenever it is killed on the "+
		"way, and the other one comes back")
	c := &cluster{members: newMembers(t, 2, plain)}
	c.run(t)
	cl := c.open(t, c.prefix())
	lead := c.leader(t)
	rest := c.other(t, lead)
	want := map[string]string{}
	tail := 0
	for try := 0; tail == 0; try++ {
		if try == 20 {
			t.Fatal("the survivor has always been told of the last commit: the trap was not met")
		}
		key := fmt.Sprintf("kept-%d", try)
		insist(t, cl, key, needle)
		want[key] = needle
		for _, m := range c.members {
			m.freeze(t, unix.SIGSTOP)
		}
		for _, m := range c.members {
			m.end(t, unix.SIGKILL)
		}
		w, st, entries, err := openLog(walDir(rest.conf.DataDir))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if tail = int(entries[len(entries)-1].GetIndex() - st.GetCommit()); tail == 0 {
			for _, m := range c.members {
				m.start(t)
			}
			lead = c.leader(t)
			rest = c.other(t, lead)
		}
	}
	t.Logf("%d entries are at the survivor's end of which it does not know that they are committed", tail)

	dir := rest.conf.DataDir
	before := tree(t, filepath.Dir(dir))
	broken := errors.New("edit went wrong")
	err := GoAlone(try.Context(t), AloneOptions{Config: rest.conf, Edit: func(context.Context, store.Store) error { return broken }})
	if after := tree(t, filepath.Dir(dir)); !errors.Is(err, broken) || !slices.Equal(before, after) {
		t.Errorf("an edit that fails: %v; files before %v, after %v", err, before, after)
	}
	for i := range 6 {
		rest.goAlone(t, "killed", time.Duration(i*i)*60*time.Millisecond+time.Millisecond)
	}
	rest.goAlone(t, "die", 0)
	rest.goAlone(t, "2", 0)
	if f, found, err := ReadFormation(dir); err != nil || !found || f != (Formation{Gen: 7, From: 1, Role: "single"}) {
		t.Errorf("the new data are of %+v, %v, %v", f, found, err)
	}
	rest.start(t)
	c.only = rest
	for key, value := range want {
		c.readBy(t, rest, c.prefix(), key, value)
	}
	c.readBy(t, rest, c.prefix(), "generation", "2")

	// The old member of the other one harms nobody, and has no quorum.
	lead.start(t)
	alone := c.open(t, c.prefix())
	insist(t, alone, "after", "x")
	old, err := Open(Options{Endpoints: []string{lead.conf.ClientURL}, Prefix: c.prefix(), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	if _, ok, err := old.Txn(ctx, nil, []store.Op{{Key: "stale", Value: []byte("x")}}); ok || err == nil {
		t.Error("the old member commits")
	}
	cancel()
	if err := old.Close(); err != nil {
		t.Error(err)
	}
	lead.end(t, unix.SIGKILL)

	remove(t, lead.conf.DataDir)
	a := c.admin(t)
	if err := SaveJoin(lead.conf.DataDir, c.replace(t, a, lead)); err != nil {
		t.Fatal(err)
	}
	lead.start(t)
	c.promote(t, a)
	insist(t, alone, "together", "x")
	rest.end(t, unix.SIGKILL)
	if err := GoAlone(t.Context(), AloneOptions{Config: lead.conf}); !errors.Is(err, ErrDataInUse) {
		t.Errorf("while the member runs: %v", err)
	}
	lead.end(t, unix.SIGKILL)
	lead.goAlone(t, "3", 0)
	lead.start(t)
	c.only = lead
	for _, key := range []string{"after", "together"} {
		c.readBy(t, lead, c.prefix(), key, "x")
	}
	c.readBy(t, lead, c.prefix(), "generation", "3")
	for _, m := range c.members {
		for _, left := range []string{".new", ".alone"} {
			if _, err := os.Stat(m.conf.DataDir + left); err == nil {
				t.Errorf("%s%s is left", m.conf.DataDir, left)
			}
		}
	}
}

func TestWithoutDataNobodyGoesOnAlone(t *testing.T) {
	m := newMembers(t, 2, plain)[0]
	err := GoAlone(t.Context(), AloneOptions{Config: m.conf})
	if !errors.Is(err, store.ErrDefinite) {
		t.Errorf("got %v, want %v", err, store.ErrDefinite)
	}
	if _, err := os.Stat(m.conf.DataDir); err == nil {
		t.Error("it has made a directory")
	}
}
