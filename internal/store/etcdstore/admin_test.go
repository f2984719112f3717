package etcdstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/store"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// prefix is that of the cluster's keys.
func (c *cluster) prefix() string { return root + c.members[0].conf.Cluster + "/" }

// admin makes an Admin that is closed at the end of the test.
func (c *cluster) admin(t *testing.T) *Admin {
	t.Helper()
	a, err := OpenAdmin(Options{Endpoints: c.endpoints(), TLS: c.client, Prefix: c.prefix(), Log: discard()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// limited is for a call that must not come to its end.
func limited(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// status waits until the members are as wanted.
func (c *cluster) status(t *testing.T, a *Admin, want func([]MemberStatus) error) []MemberStatus {
	t.Helper()
	var all []MemberStatus
	c.until(t, func() (err error) {
		if all, err = a.Status(try.Context(t)); err == nil {
			err = want(all)
		}
		return err
	})
	return all
}

func names(all []MemberStatus) []string {
	var out []string
	for _, m := range all {
		out = append(out, m.Name)
	}
	return out
}

func TestAdmin(t *testing.T) {
	need.Drill(t, "P3: the store is cared for while it serves: leader moved, compacted, defragmented, with a member "+
		"down and without a majority")
	c := startCluster(t)
	a := c.admin(t)
	t.Run("status", func(t *testing.T) { c.statusOfAll(t, a) })
	t.Run("move the leader", func(t *testing.T) { c.moveLeader(t, a) })
	t.Run("compact", func(t *testing.T) { c.compact(t, a) })
	t.Run("defragment", func(t *testing.T) { c.defragment(t, a) })
	t.Run("one member down", func(t *testing.T) { c.oneDown(t, a) })
	t.Run("no majority", func(t *testing.T) { c.statusAlone(t, a) })
}

func (c *cluster) statusOfAll(t *testing.T, a *Admin) {
	all := c.status(t, a, allHealthy)
	if got := names(all); !slices.Equal(got, []string{"h1", "h2", "h3"}) {
		t.Fatalf("members %v", got)
	}
	leaders := 0
	for i, m := range all {
		conf := c.members[i].conf
		if m.Leader {
			leaders++
		}
		if m.ClientURLs[0] != conf.ClientURL || m.PeerURLs[0] != conf.PeerURL || m.Learner || m.Term == 0 || m.Applied == 0 ||
			m.DBSize == 0 || m.DBInUse == 0 || m.Quota != defaultQuotaMB<<20 || m.QuotaUsed <= 0 ||
			m.QuotaUsed > QuotaAlert || !strings.HasPrefix(m.Version, "3.") {
			t.Errorf("%+v", m)
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders in %+v", leaders, all)
	}
}

func (c *cluster) moveLeader(t *testing.T, a *Admin) {
	for range 3 {
		before := c.leader(t).conf.Name
		if err := a.MoveLeader(try.Context(t), before); err != nil {
			t.Fatal(err)
		}
		after := c.leader(t).conf.Name
		if after == before {
			t.Fatalf("%s leads still", after)
		}
		if err := a.MoveLeader(try.Context(t), before); err != nil {
			t.Errorf("away from one that does not lead: %v", err)
		}
		if now := c.leader(t).conf.Name; now != after {
			t.Errorf("the leader was moved from %s to %s for nothing", after, now)
		}
	}
}

func (c *cluster) compact(t *testing.T, a *Admin) {
	cl := c.open(t, c.prefix())
	first := insist(t, cl, "k", "0")
	for i := range 20 {
		insist(t, cl, "k", strconv.Itoa(i))
	}
	if err := a.Compact(try.Context(t), 5); err != nil {
		t.Fatal(err)
	}
	w := cl.Watch(try.Context(t), "k", first)
	for b := range w.C() {
		t.Errorf("a watch from before delivers %+v", b)
	}
	if !errors.Is(w.Err(), store.ErrCompacted) {
		t.Errorf("watch: %v", w.Err())
	}
	if err := a.Compact(try.Context(t), 5); err != nil {
		t.Errorf("once more: %v", err)
	}
	if err := a.Compact(try.Context(t), 1e9); err != nil {
		t.Errorf("more than there are: %v", err)
	}
	if err := a.Compact(try.Context(t), -1); !errors.Is(err, store.ErrDefinite) {
		t.Errorf("less than none: %v", err)
	}
}

// fill writes n values of size bytes, one key, and deletes it.
func fill(t *testing.T, cl *Client, n, size int) {
	t.Helper()
	value := strings.Repeat("x", size)
	for range n {
		insist(t, cl, "fill", value)
	}
	if _, _, err := cl.Txn(try.Context(t), nil, []store.Op{{Key: "fill"}}); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) defragment(t *testing.T, a *Admin) {
	done, err := a.Defrag(try.Context(t))
	if err != nil || len(done) > 0 {
		t.Errorf("small files: %v, %v", done, err)
	}
	cl := c.open(t, c.prefix())
	fill(t, cl, 34, 512<<10)
	if err := a.Compact(try.Context(t), 0); err != nil {
		t.Fatal(err)
	}
	c.status(t, a, func(all []MemberStatus) error {
		insist(t, cl, "k", "space is counted at writes")
		for _, m := range all {
			if m.DBSize < defragFrom || waste(m) < defragWaste {
				return fmt.Errorf("%+v", m)
			}
		}
		return nil
	})
	leader := c.leader(t).conf.Name
	if done, err = a.Defrag(try.Context(t)); err != nil || len(done) != 3 || done[2] != leader {
		t.Errorf("leader %s: %v, %v", leader, done, err)
	}
	if now := c.leader(t).conf.Name; now == leader {
		t.Error("the leader was defragmented while it led")
	}
	for _, m := range c.status(t, a, allHealthy) {
		if m.DBSize > defragFrom/4 {
			t.Errorf("%s has %d bytes still", m.Name, m.DBSize)
		}
	}
}

func (c *cluster) oneDown(t *testing.T, a *Admin) {
	down := c.other(t, c.leader(t))
	down.end(t, unix.SIGKILL)
	all, err := a.Status(try.Context(t))
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, m := range all {
		if m.Reachable() == (m.Name == down.conf.Name) {
			t.Errorf("%+v", m)
		}
	}
	done, err := a.Defrag(try.Context(t))
	if !errors.Is(err, ErrUnhealthy) || len(done) > 0 || !strings.Contains(err.Error(), down.conf.Name) {
		t.Errorf("defragment: %v, %v", done, err)
	}
	leader := c.leader(t).conf.Name
	if err := a.MoveLeader(try.Context(t), leader); err != nil {
		t.Fatal(err)
	}
	if now := c.leader(t).conf.Name; now == leader || now == down.conf.Name {
		t.Errorf("%s leads", now)
	}
	down.start(t)
	c.status(t, a, allHealthy)
}

// statusAlone: the last member that answers still tells of all.
func (c *cluster) statusAlone(t *testing.T, a *Admin) {
	st := c.open(t, "stale/")
	if _, ok, err := st.Txn(try.Context(t), nil, []store.Op{{Key: "a", Value: []byte("1")}}); !ok || err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members[:2] {
		m.freeze(t, unix.SIGSTOP)
		defer m.freeze(t, unix.SIGCONT)
		try.Stands(t, m.cmd.Process.Pid)
	}
	if kv, ok, err := st.Get(store.Stale(try.Context(t)), "a"); !ok || err != nil || string(kv.Value) != "1" {
		t.Errorf("without a quorum the last member knows %q, %v", kv.Value, err)
	}
	all, err := a.Status(try.Context(t))
	if err != nil || !slices.Equal(names(all), []string{"h1", "h2", "h3"}) || all[0].Reachable() || all[1].Reachable() || !all[2].Reachable() {
		t.Errorf("%+v, %v", all, err)
	}
	try.Until(t, "the last member to know no leader", func() bool {
		all, err = a.Status(try.Context(t))
		return err == nil && len(all) == 3 && all[2].Reachable() && all[2].LeaderID == 0
	})
	if len(all[2].Alarms) > 0 || all[2].Wrong() != "knows no leader" {
		t.Errorf("that is no alarm: %+v", all[2])
	}
	if err := a.MoveLeader(limited(t, 5*time.Second), "h3"); err == nil && all[2].Leader {
		t.Error("the leader moved to a frozen member")
	}
}

func TestRepair(t *testing.T) {
	need.Drill(t, "P3: a store that is full is repaired, and takes writes again")
	c := startCluster(t, func(m *MemberConfig) { m.QuotaMB = 4 })
	a := c.admin(t)
	cl := c.open(t, c.prefix())
	if err := a.Repair(try.Context(t)); err != nil {
		t.Errorf("nothing to repair: %v", err)
	}
	c.relieve(t, a, cl)
	value := bytes.Repeat([]byte{1}, 256<<10)
	full := false
	for i := 0; i < 60 && !full; i++ {
		_, _, err := cl.Txn(try.Context(t), nil, []store.Op{{Key: "fill", Value: value}})
		full = err != nil && strings.Contains(err.Error(), "space")
	}
	if !full {
		t.Fatal("15 MiB went into a store of 4 MiB")
	}
	all := c.status(t, a, func(all []MemberStatus) error {
		if !noSpace(all) {
			return errors.New("no alarm")
		}
		return nil
	})
	if _, err := a.Defrag(try.Context(t)); !errors.Is(err, ErrUnhealthy) {
		t.Errorf("defragment with an alarm: %v", err)
	}
	if !slices.ContainsFunc(all, func(m MemberStatus) bool { return m.QuotaUsed > QuotaAlert }) {
		t.Errorf("nobody is near the quota: %+v", all)
	}
	if err := a.Repair(try.Context(t)); err != nil {
		c.fail(t, "%v", err)
	}
	if _, _, err := cl.Txn(try.Context(t), nil, []store.Op{{Key: "fill", Value: value}}); err != nil {
		t.Errorf("write after the repair: %v", err)
	}
	for _, m := range c.status(t, a, allHealthy) {
		if m.QuotaUsed > QuotaAlert {
			t.Errorf("%+v", m)
		}
	}
	if kvs, _, err := cl.List(try.Context(t), ""); err != nil || len(kvs) != 2 {
		t.Errorf("keys after the repair: %d, want 2, %v", len(kvs), err)
	}
}

// relieve: near the quota, before it is reached, space that is waste is given back.
func (c *cluster) relieve(t *testing.T, a *Admin, cl *Client) {
	t.Helper()
	value := strings.Repeat("x", 64<<10)
	c.status(t, a, func(all []MemberStatus) error {
		if !slices.ContainsFunc(all, nearQuota) {
			insist(t, cl, "fill", value)
			return fmt.Errorf("nobody is near the quota: %+v", all)
		}
		return nil
	})
	for i := range relieveKeep {
		insist(t, cl, "small", strconv.Itoa(i))
	}
	c.status(t, a, func(all []MemberStatus) error {
		if err := a.Repair(try.Context(t)); err != nil {
			return err
		}
		if slices.ContainsFunc(all, nearQuota) {
			return fmt.Errorf("not relieved: %+v", all)
		}
		return nil
	})
}
