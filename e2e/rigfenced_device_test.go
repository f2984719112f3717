package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/testbed/need"
)

// anew makes a new cluster on the same hosts, with a changed configuration, and
// the old one at the end of the test.
func (r *rig) anew(t testing.TB, edit func(*config.Cluster)) {
	t.Helper()
	good, changed := r.configuration(t, edit)
	t.Cleanup(func() {
		if err := r.install(context.Background(), good); err != nil {
			t.Error(err)
		}
	})
	if err := r.install(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
}

// configuration is that of all hosts, as it is and changed.
func (r *rig) configuration(t testing.TB, edit func(*config.Cluster)) (good, changed []byte) {
	t.Helper()
	good, err := os.ReadFile(r.disk(r.lab.Hosts()[0], "cluster.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cl config.Cluster
	if err := json.Unmarshal(good, &cl); err != nil {
		t.Fatal(err)
	}
	edit(&cl)
	changed, err = json.MarshalIndent(cl, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return good, changed
}

// install takes all hosts' power and data, and boots them with a configuration.
func (r *rig) install(ctx context.Context, cl []byte) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := every(r, func(h string) error {
		return errors.Join(r.lab.Crash(ctx, h), r.wipe(h), os.WriteFile(r.disk(h, "cluster.json"), cl, 0o600))
	})
	return errors.Join(err, every(r, func(h string) error { return r.lab.On(ctx, h) }))
}

// wipe empties the data directory of a host that is off.
func (r *rig) wipe(h string) error {
	all, err := filepath.Glob(r.disk(h, "data", "*"))
	for _, f := range all {
		err = errors.Join(err, os.RemoveAll(f))
	}
	return err
}

// TestAnotherHostsDeviceIsNotUsed: the configuration gives h1 the device of h2.
// When h1 is lost, h2 must not be switched off for it.
func TestAnotherHostsDeviceIsNotUsed(t *testing.T) {
	need.Drill(t, "P2: a fence device that is another host's is not used")
	onLab(t, fenced, anotherHostsDeviceIsNotUsed)
}

func anotherHostsDeviceIsNotUsed(t testing.TB, r *rig) {
	r.anew(t, func(cl *config.Cluster) {
		cl.Fencing.Hosts["h1"].Devices[0].Address = r.lab.BMCAddr("h2").Addr().String()
	})
	if st := r.healthy(t); st.Owner.Host != "h1" {
		r.command(t, "h1", "migrate", "h1")
	}
	d := drill{
		fault: isolate, repair: back,
		most: deadlineMost, away: true, proof: cluster.ProofDeadline, decided: deadlineWithin,
		check: func(t testing.TB, r *rig, c course) {
			failedOnce(t, r, c)
			for _, e := range c.told(cluster.EvFenceFail) {
				if !strings.Contains(e.Detail, "not the device of this host") {
					t.Errorf("the event does not say why: %q", e.Detail)
				}
			}
			for _, h := range r.lab.Hosts() {
				if n := c.did(h, "bmc", ""); n != c.did(h, "bmc", "ok") {
					t.Errorf("the device of %s was given an order", h)
				}
			}
		},
	}
	f := d.run(t, r)
	report(t, "fenced: device of another host", []figures{f})
}

// TestTheStoresLeaderLeavesTheActiveHost moves the guest to where the store's
// leader is: the agents move the leader away.
func TestTheStoresLeaderLeavesTheActiveHost(t *testing.T) {
	need.Drill(t, "P3: the store's leader leaves the host of the guest")
	onLab(t, fenced, theStoresLeaderLeavesTheActiveHost)
}

func theStoresLeaderLeavesTheActiveHost(t testing.TB, r *rig) {
	r.withLeader(t)
	began := time.Now()
	r.until(t, "the leader to leave the active host", func(ctx context.Context) (string, bool) {
		st, err := r.status(ctx)
		if err != nil {
			return err.Error(), false
		}
		leader, err := r.leader(ctx)
		return fmt.Sprintf("the leader is on %s, the guest on %s, %v", leader, st.Owner.Host, err),
			err == nil && leader != "" && leader != string(st.Owner.Host)
	})
	t.Logf("it left after %s", time.Since(began).Round(100*time.Millisecond))
}

// TestPowerLossOfTheStoresLeader loses the active host right after the guest has
// moved to where the store's leader is: the leader is still there, and an election
// of the store comes on top, or it is just being moved away.
func TestPowerLossOfTheStoresLeader(t *testing.T) {
	need.Drill(t, "P2: the active host is lost with the store's leader, and the guest is taken over by proof")
	const election = 4 * time.Second // of the store: 1 to 2 s, and once more
	d := drill{
		fault: crash, repair: back,
		most: fencedMost + election, away: true, proof: cluster.ProofFenced, decided: fencedWithin + election,
	}
	var got []figures
	for range runs(t, 2) {
		onLab(t, fenced, func(t testing.TB, r *rig) {
			r.withLeader(t)
			d.fault = func(ctx context.Context, r *rig, h string) error {
				leader, err := r.leader(ctx)
				t.Logf("the guest is on %s, the store's leader on %s", h, leader)
				return errors.Join(err, r.lab.Crash(ctx, h))
			}
			got = append(got, d.run(t, r))
		})
	}
	report(t, "fenced: power loss of the active host with the store's leader", got)
}

// withLeader moves the guest to the host of the store's leader.
func (r *rig) withLeader(t testing.TB) {
	t.Helper()
	st := r.healthy(t)
	leader, err := r.leader(t.Context())
	if err != nil || leader == "" {
		t.Fatalf("the store's leader: %q, %v", leader, err)
	}
	if string(st.Owner.Host) != leader {
		r.command(t, leader, "migrate", leader)
	}
}

// leader names the host of the store's leader, "" when nobody knows one.
func (r *rig) leader(ctx context.Context) (string, error) {
	err := errors.New("no host is on")
	for _, h := range r.lab.Hosts() {
		var s cluster.StoreStatus
		if s, err = r.storeOf(ctx, h); err != nil {
			continue
		}
		for _, m := range s.Members {
			if m.Leader {
				return m.Name, nil
			}
		}
		return "", nil
	}
	return "", err
}
