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

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// awayConfig is where a host's settings lie while its agent must not start.
const awayConfig = lab.HostDir + "/agent.away.json"

// bench stops the agent of a host and its restarts, until the returned function
// is called.
func (r *rig) bench(t testing.TB, h string) (back func()) {
	t.Helper()
	here, away := r.disk(h, "agent.json"), r.disk(h, filepath.Base(awayConfig))
	if err := os.Rename(here, away); err != nil {
		t.Fatal(err)
	}
	restored := false
	back = func() {
		if !restored {
			restored = true
			if err := os.Rename(away, here); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(back)
	return back
}

// joins makes the host's member a new one of the store, and starts its agent.
func (r *rig) joins(t testing.TB, h string, back func(), args ...string) {
	t.Helper()
	r.until(t, "the member of "+h+" to join", func(context.Context) (string, bool) {
		ctx, cancel := waiting(t)
		defer cancel()
		out, err := r.lab.Exec(ctx, h, append([]string{r.exe, "store", "join", "--config", awayConfig}, args...)...)
		return fmt.Sprint(out, err), err == nil
	})
	back()
}

// voters waits until all members of the store vote, and returns its generation.
func (r *rig) voters(t testing.TB) (generation uint64) {
	t.Helper()
	r.until(t, "all members to vote", func(ctx context.Context) (string, bool) {
		s, err := r.storeOf(ctx, r.lab.Hosts()[0])
		n := 0
		for _, m := range s.Members {
			if m.Reachable && !m.Learner {
				n++
			}
		}
		generation = s.Generation
		return fmt.Sprint(s, err), err == nil && n == len(r.lab.Hosts()) && n == len(s.Members)
	})
	return generation
}

// storeOf is the store, as a host sees it.
func (r *rig) storeOf(ctx context.Context, h string) (cluster.StoreStatus, error) {
	return ask(r, h, func(c *api.Client) (cluster.StoreStatus, error) { return c.StoreStatus(ctx) })
}

// TestAnEmptyMachineTakesAMembersPlace under its name, while the guest goes on.
func TestAnEmptyMachineTakesAMembersPlace(t *testing.T) {
	need.Drill(t, "P3: an empty machine takes a member's place under its name while the guest goes on")
	onLab(t, plain, anEmptyMachineTakesAMembersPlace)
}

func anEmptyMachineTakesAMembersPlace(t testing.TB, r *rig) {
	st := r.healthy(t)
	h := another(r, st.Owner.Host)
	end := r.undisturbed(t, st)
	if err := errors.Join(r.lab.Crash(t.Context(), h), r.wipe(h)); err != nil {
		t.Fatal(err)
	}
	back := r.bench(t, h)
	if err := r.lab.On(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	r.joins(t, h, back)
	r.voters(t)
	end()
}

// TestDamagedDataOfAMember: the host says what is wrong, the others go on, and
// the member is replaced by a new one of itself.
func TestDamagedDataOfAMember(t *testing.T) {
	need.Drill(t, "P7: a member with damaged data says so, the others go on, and it is replaced")
	onLab(t, plain, damagedDataOfAMember)
}

func damagedDataOfAMember(t testing.TB, r *rig) {
	st := r.healthy(t)
	h := another(r, st.Owner.Host)
	end := r.undisturbed(t, st)
	if err := r.lab.Crash(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	var db string
	err := filepath.WalkDir(r.disk(h, "data"), func(path string, _ os.DirEntry, err error) error {
		if filepath.Base(path) == "db" {
			db = path
		}
		return err
	})
	if err != nil || db == "" {
		t.Fatalf("the member's file: %q, %v", db, err)
	}
	if err := damage(db); err != nil {
		t.Fatal(err)
	}
	if err := r.lab.On(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	r.why(t, h, true, "process store has ended", "/run/holdfast/store/store.log")
	for _, x := range r.hostsSaid(t, h) {
		t.Logf("its status says: %s", x)
	}
	if log, err := r.lab.Exec(t.Context(), h, "tail", "-n", "3", "/run/holdfast/store/store.log"); err != nil ||
		strings.Contains(log, "goroutine ") {
		t.Errorf("want one clear error at the end of the log: %s, %v", log, err)
	}
	back := r.bench(t, h)
	if err := r.lab.Kill(t.Context(), h, lab.AgentDaemon); err != nil {
		t.Fatal(err)
	}
	r.joins(t, h, back, "--move-aside")
	r.voters(t)
	end()
}

// hostsSaid gives a host's line in the status of another one.
func (r *rig) hostsSaid(t testing.TB, h string) (all []string) {
	t.Helper()
	st, err := r.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range st.Hosts {
		if string(x.Name) == h {
			all = append(all, x.Why)
		}
	}
	return all
}

// damage changes every byte of a file.
func damage(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for i := range b {
		b[i] ^= 0x5a
	}
	return os.WriteFile(path, b, 0o600)
}

// TestTheStoreIsRestored: two of three disks are lost. The third host makes a new
// store from its backup, the others join it, and the guest comes back in a new
// generation.
func TestTheStoreIsRestored(t *testing.T) {
	need.Drill(t, "P3: two of three disks are lost, and the cluster comes back from a backup in a new generation")
	onLab(t, plain, theStoreIsRestored)
}

func theStoreIsRestored(t testing.TB, r *rig) {
	st := r.healthy(t)
	left := another(r, st.Owner.Host)
	generation := r.voters(t)
	s := r.begin(t)
	var b cluster.Backup
	if err := json.Unmarshal([]byte(r.command(t, left, "store", "backup", "-o", "json")), &b); err != nil || b.File == "" {
		t.Fatalf("backup: %+v, %v", b, err)
	}
	backs := map[string]func(){left: r.bench(t, left)}
	err := others(r, left, func(h string) error {
		err := errors.Join(r.lab.Crash(t.Context(), h), r.wipe(h))
		backs[h] = r.bench(t, h)
		return errors.Join(err, r.lab.On(t.Context(), h))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.lab.Kill(t.Context(), left, lab.AgentDaemon); err != nil {
		t.Fatal(err)
	}
	out, err := r.lab.Exec(t.Context(), left, r.exe, "store", "restore", b.File, "--config", awayConfig, "--move-aside")
	var restored uint64
	if _, serr := fmt.Sscanf(out, "the store is restored, generation %d;", &restored); err != nil || serr != nil || restored <= generation {
		t.Fatalf("restore: %s, %v, %v", out, err, serr)
	}
	backs[left]()
	for h, back := range backs {
		if h != left {
			r.joins(t, h, back, "--move-aside")
		}
	}
	s.judge(t, "restore of the store")
	if g := r.voters(t); g != restored {
		t.Errorf("generation %d, want %d", g, restored)
	}
	if now := r.healthy(t); now.Owner.Epoch.Gen != restored {
		t.Errorf("epoch %s, want one of generation %d", now.Owner.Epoch, restored)
	}
}
