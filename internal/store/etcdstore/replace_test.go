package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/store"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestReplace: a member loses its disk while writers go on.
func TestReplace(t *testing.T) {
	need.Drill(t, "P3: a member that has lost its disk is replaced while writers go on")
	c := startCluster(t)
	a := c.admin(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var workers []*worker
	var wg sync.WaitGroup
	for i := range 2 {
		w := &worker{id: strconv.Itoa(i), cl: c.open(t, "/holdfast/replace/")}
		workers = append(workers, w)
		wg.Go(func() {
			if err := w.run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	lost := c.leader(t)
	c.refusals(t, a, lost)
	lost.end(t, unix.SIGKILL)
	old := filepath.Join(t.TempDir(), "old")
	copyDir(t, lost.conf.DataDir, old)
	remove(t, lost.conf.DataDir)
	if out, code := lost.runAndFail(t); code != 1 || !strings.Contains(out, ErrLost.Error()) {
		t.Errorf("start without data: exit %d: %s", code, out)
	}
	j := c.replace(t, a, lost)
	again, err := a.Replace(try.Context(t), lost.conf.Name, lost.conf.PeerURL)
	if err != nil || again.InitialCluster() != j.InitialCluster() {
		t.Errorf("once more: %+v, %v", again, err)
	}
	if ls, err := a.Promote(try.Context(t)); err != nil || len(ls) != 1 || ls[0].Promoted || ls[0].Reason == "" {
		t.Errorf("promote one that does not run: %+v, %v", ls, err)
	}
	remove(t, lost.conf.DataDir)
	copyDir(t, old, lost.conf.DataDir)
	if out, code := lost.runAndFail(t); code != 1 || !strings.Contains(out, ErrRemoved.Error()) {
		t.Errorf("start with the data of before: exit %d: %s", code, out)
	}
	remove(t, lost.conf.DataDir)
	lost.conf.Join = &j
	lost.write(t)
	lost.start(t)
	c.promote(t, a)

	// It starts again with the configuration that it always had.
	lost.end(t, unix.SIGKILL)
	lost.conf.Join = nil
	lost.write(t)
	lost.start(t)
	c.status(t, a, allHealthy)
	cancel()
	wg.Wait()
	var sum int64
	for _, w := range workers {
		sum += w.done.Load()
		t.Logf("worker %s: %d increments, %d outcomes unknown", w.id, w.done.Load(), w.unknown)
	}
	kv, _, err := workers[0].cl.Get(try.Context(t), "n")
	if err != nil || string(kv.Value) != strconv.FormatInt(sum, 10) || sum == 0 {
		t.Errorf("counter is %s (%v), the workers made %d increments", kv.Value, err, sum)
	}
	c.readBy(t, lost, "/holdfast/replace/", "n", strconv.FormatInt(sum, 10))
}

// refusals: nothing happens to a member that is well, or to another one.
func (c *cluster) refusals(t *testing.T, a *Admin, m *member) {
	t.Helper()
	if _, err := a.Replace(try.Context(t), m.conf.Name, m.conf.PeerURL); !errors.Is(err, ErrStillAlive) {
		t.Errorf("replace one that is alive: %v", err)
	}
	if _, err := a.Replace(try.Context(t), m.conf.Name, "https://127.0.0.1:1"); !errors.Is(err, store.ErrDefinite) {
		t.Errorf("replace with another URL: %v", err)
	}
	if _, err := a.Replace(try.Context(t), "h9", m.conf.PeerURL); !errors.Is(err, store.ErrDefinite) {
		t.Errorf("replace with another name: %v", err)
	}
	if ls, err := a.Promote(try.Context(t)); err != nil || len(ls) != 0 {
		t.Errorf("promote nobody: %+v, %v", ls, err)
	}
	if all := c.status(t, a, allHealthy); len(all) != 3 {
		t.Errorf("members: %+v", all)
	}
}

// replace replaces a member that does not run.
func (c *cluster) replace(t *testing.T, a *Admin, m *member) Join {
	t.Helper()
	j, err := a.Replace(try.Context(t), m.conf.Name, m.conf.PeerURL)
	if err != nil {
		c.fail(t, "%v", err)
	}
	if j.Cluster != m.conf.Cluster || j.Name != m.conf.Name || j.Initial[j.Name] != m.conf.PeerURL {
		t.Errorf("join with %+v", j)
	}
	return j
}

// promote calls Promote until the one learner votes.
func (c *cluster) promote(t *testing.T, a *Admin) {
	t.Helper()
	c.until(t, func() error {
		ls, err := a.Promote(try.Context(t))
		if err == nil && (len(ls) != 1 || !ls[0].Promoted) {
			err = fmt.Errorf("learners %+v", ls)
		}
		return err
	})
	c.status(t, a, func(all []MemberStatus) error {
		for _, m := range all {
			if m.Learner {
				return errors.New(m.Name + " is a learner still")
			}
		}
		return allHealthy(all)
	})
}

// readBy reads a key from one member.
func (c *cluster) readBy(t *testing.T, m *member, prefix, key, want string) {
	t.Helper()
	one := &cluster{members: []*member{m}, client: c.client}
	kv, _, err := one.open(t, prefix).Get(try.Context(t), key)
	if err != nil || string(kv.Value) != want {
		c.fail(t, "%s at %s is %q, want %q: %v", key, m.conf.Name, kv.Value, want, err)
	}
}

func TestReplaceNeedsAMajority(t *testing.T) {
	need.Drill(t, "P2: no member is replaced without a majority")
	c := startCluster(t)
	a := c.admin(t)
	leader := c.leader(t)
	var down []*member
	for _, m := range c.members {
		if m != leader {
			m.end(t, unix.SIGKILL)
			down = append(down, m)
		}
	}
	if _, err := a.Replace(limited(t, 8*time.Second), down[0].conf.Name, down[0].conf.PeerURL); err == nil {
		t.Error("replaced without a majority")
	}
	for _, m := range down {
		m.start(t)
	}
	if all := c.status(t, a, allHealthy); len(all) != 3 {
		t.Errorf("members: %+v", all)
	}
}

func TestStillLearner(t *testing.T) {
	now := time.Unix(1e9, 0)
	a := &Admin{moved: map[uint64]progress{}, now: func() time.Time { return now }}
	m := MemberStatus{ID: 1, Applied: 5, Behind: 10}
	for i, tc := range []struct {
		applied, behind uint64
		pass, want      time.Duration
	}{
		{5, 10, time.Minute, 0},
		{5, 10, 4 * time.Minute, time.Minute},
		{5, 12, time.Minute, 5 * time.Minute},
		{6, 11, time.Minute, 0},
		{6, 11, time.Minute, time.Minute},
		{6, 0, time.Minute, 0}, // nothing to do
	} {
		m.Applied, m.Behind = tc.applied, tc.behind
		if got := a.still(m); got != tc.want {
			t.Errorf("step %d: %s, want %s", i, got, tc.want)
		}
		now = now.Add(tc.pass)
	}
}

func TestJoinFile(t *testing.T) {
	m := newMembers(t, 1, plain)[0]
	j := Join{Cluster: m.conf.Cluster, Name: "h1", Initial: map[string]string{"h1": m.conf.PeerURL, "h2": "http://127.0.0.1:2"}}
	if err := SaveJoin(m.conf.DataDir, j); err != nil {
		t.Fatal(err)
	}
	c, err := m.conf.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	c, err = c.joining()
	if err != nil || c.State != "existing" || c.Initial["h2"] == "" {
		t.Errorf("%+v, %v", c, err)
	}
	j.Name, j.Initial = "h3", map[string]string{"h3": m.conf.PeerURL}
	if err := SaveJoin(m.conf.DataDir, j); err != nil {
		t.Fatal(err)
	}
	if err := RunMember(t.Context(), m.conf); !errors.Is(err, ErrForeignData) {
		t.Errorf("of another member: %v", err)
	}
	if err := SaveJoin(m.conf.DataDir, Join{}); err == nil {
		t.Error("an empty one was saved")
	}
	if err := os.WriteFile(filepath.Join(m.conf.DataDir, joinFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.conf.joining(); err == nil {
		t.Error("a torn one was read")
	}
}
