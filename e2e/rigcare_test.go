package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// cared is a laboratory whose guest is looked after by more than the cluster's
// rules: libvirt's lock daemon lets no second one run (nobody else locks its
// disk), a health check asks its web server, and restarts have a limit.
const cared kind = "cared"

// The restart policy and the health check of the rig.
const (
	inPlace  = 2 // starts on one host before another one is tried
	giveUp   = 5 // starts that fail before it stays down
	probeGap = time.Second
	failures = 3
	// illWithin is from the moment the service hangs to the guest's end: the probe
	// that is under way, the failures, and the agent's look at the verdict.
	illWithin = (failures+2)*probeGap + 3*time.Second
)

func careOptions(o *lab.Options) {
	n := inPlace
	o.Disk, o.Locks = lab.DiskNBD, true
	o.Restart = config.Restart{InPlace: &n, Limit: giveUp}
	o.HealthCheck = &config.HealthCheck{
		Type: "http", Port: 80, Path: "/status", Failures: failures,
		Interval: config.Duration(probeGap), Timeout: config.Duration(probeGap), Grace: config.Duration(2 * guestBoot),
	}
}

// counted stops and starts the guest, so that restarts are counted from 0.
func (r *rig) counted(t testing.TB) cluster.Status {
	t.Helper()
	for _, what := range []string{"stop", "start"} {
		r.command(t, r.lab.Hosts()[0], what, "--timeout", "5m")
	}
	st := r.healthy(t)
	if st.Owner.Failures != 0 || st.Owner.Restarts != 0 {
		t.Fatalf("a guest that was stopped and started counts %d failures, %d restarts", st.Owner.Failures, st.Owner.Restarts)
	}
	return st
}

// TestLockedGuestIsTakenOver takes the power of the active host: the lease goes
// along with the guest.
func TestLockedGuestIsTakenOver(t *testing.T) {
	need.Drill(t, "P1: a guest with a lease of libvirt's lock daemon is taken over along with it")
	onLab(t, cared, func(t testing.TB, r *rig) { r.leaseIsWithTheGuest(t, r.healthy(t)) })
	runAll(t, cared, map[string]drill{"power loss of the active host, guest locked": {
		fault: crash, repair: back,
		most: fencedMost, away: true, proof: cluster.ProofFenced, decided: fencedWithin,
		check: func(t testing.TB, r *rig, c course) { r.leaseIsWithTheGuest(t, c.st) },
	}}, defaultRuns)
}

// leaseIsWithTheGuest: the one host that has the guest has its lease, too.
func (r *rig) leaseIsWithTheGuest(t testing.TB, st cluster.Status) {
	t.Helper()
	if got := r.leaseHolders(t); !slices.Equal(got, []string{string(st.Owner.Host)}) {
		t.Fatalf("the lease is held on %v, the guest runs on %s", got, st.Owner.Host)
	}
}

// TestLockRefusesASecondStartByHand starts the guest's definition with virsh on
// another host, as it is and under another name, while the guest runs.
func TestLockRefusesASecondStartByHand(t *testing.T) {
	need.Drill(t, "P1: libvirt's lock daemon refuses a second guest that somebody starts by hand")
	onLab(t, cared, lockRefusesASecondStartByHand)
}

func lockRefusesASecondStartByHand(t testing.TB, r *rig) {
	st := r.healthy(t)
	holder, other := string(st.Owner.Host), another(r, st.Owner.Host)
	before := r.answer(t)
	same := r.definition(t, holder, other)
	uuid, name := loop.GuestUUID("lab"), "<name>"+cluster.GuestName+"</name>"
	if !strings.Contains(same, "<uuid>"+uuid+"</uuid>") || !strings.Contains(same, name) || !strings.Contains(same, "<key>"+uuid+"</key>") {
		t.Fatalf("the guest's definition has no name, UUID and lease: %s", same)
	}
	renamed := strings.Replace(same, name, "<name>by-hand</name>", 1)
	renamed = strings.Replace(renamed, "<uuid>"+uuid+"</uuid>", "<uuid>98000000-0000-4000-8000-0000000000aa</uuid>", 1)
	// The agent there ends what has the guest's UUID; it may be quicker than the lock.
	r.byHand(t, other, "as it is", same, "")
	r.byHand(t, other, "under another name", renamed, "is locked")
	after := r.answer(t)
	if after.Boot != before.Boot || after.N <= before.N {
		t.Errorf("the guest was disturbed: %+v, then %+v", before, after)
	}
	if now := r.healthy(t).Owner; now.Epoch != st.Owner.Epoch || now.Host != st.Owner.Host {
		t.Errorf("owner %+v, was %+v", now, st.Owner)
	}
	if got := r.leaseHolders(t); !slices.Equal(got, []string{holder}) {
		t.Errorf("the lease is held on %v, want %s", got, holder)
	}
}

// byHand tries a start that must be refused for a reason, and nothing of it may stay.
func (r *rig) byHand(t testing.TB, host, what, xml, why string) {
	t.Helper()
	if err := os.WriteFile(r.lab.HostPath(host, "by-hand.xml"), []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := r.lab.Exec(t.Context(), host, "virsh", "-q", "-c", "qemu:///system", "create", lab.HostDir+"/by-hand.xml")
	t.Logf("%s, by hand on %s: %v", what, host, err)
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: a second start by hand says %q, %v: want a refusal, %q", what, out, err, why)
	}
	r.until(t, "nothing to be left of it", func(ctx context.Context) (string, bool) {
		st, err := r.lab.Status(ctx)
		return fmt.Sprintf("%+v, %v", st, err), err == nil && guests(st) == 1
	})
}

// definition gives the guest's definition as it can be started on another host.
func (r *rig) definition(t testing.TB, holder, other string) string {
	t.Helper()
	xml, err := r.lab.Exec(t.Context(), holder, "virsh", "-c", "qemu:///system", "dumpxml", "--inactive", cluster.GuestName)
	if err != nil {
		t.Fatal(err)
	}
	// The seed lies on the host itself.
	seed, err := os.ReadFile(r.lab.HostPath(holder, "data", "seed.iso"))
	if err == nil {
		err = os.WriteFile(r.lab.HostPath(other, "by-hand.iso"), seed, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(xml, lab.HostDir+"/data/seed.iso", lab.HostDir+"/by-hand.iso")
}

// leaseHolders names the hosts whose lock daemon holds the guest's lease, by the
// kernel's own list of file locks: no daemon is asked.
func (r *rig) leaseHolders(t testing.TB) []string {
	t.Helper()
	info, err := os.Stat(filepath.Join(r.lab.SharedPath(), filepath.Base(lab.Lockspace), loop.GuestUUID("lab")))
	if err != nil {
		t.Fatal(err)
	}
	inode := ":" + strconv.FormatUint(info.Sys().(*syscall.Stat_t).Ino, 10)
	st, err := r.lab.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spaces := map[string]string{}
	for _, h := range st.Hosts {
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", h.PID)); err == nil && h.On {
			spaces[ns] = h.Name
		}
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	var hosts []string
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line) // number, kind, mode, access, pid, device and inode, from, to
		if len(f) < 8 || f[3] != "WRITE" || !strings.HasSuffix(f[5], inode) {
			continue
		}
		comm, err1 := os.ReadFile("/proc/" + f[4] + "/comm")
		ns, err2 := os.Readlink("/proc/" + f[4] + "/ns/pid")
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		// Inodes are numbered by file system: another's lock of that number is not ours.
		if h := spaces[ns]; h != "" && strings.TrimSpace(string(comm)) == "virtlockd" {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// TestFailedHealthCheckRestartsTheGuest lets the guest's web server hang, twice,
// while the guest runs on: the policy wants a restart in place, then one elsewhere.
func TestFailedHealthCheckRestartsTheGuest(t *testing.T) {
	need.Drill(t, "P3: a guest whose service hangs is restarted in place, then elsewhere")
	onLab(t, cared, failedHealthCheckRestartsTheGuest)
}

func failedHealthCheckRestartsTheGuest(t testing.TB, r *rig) {
	st := r.counted(t)
	for i, where := range []string{"in place", "elsewhere"} {
		holder := st.Owner.Host
		r.answersItsCheck(t, st)
		before := r.answer(t)
		end := r.watching(t)
		at := time.Now()
		if _, err := r.lab.GuestGet(t.Context(), "/cgi-bin/mute"); err != nil {
			t.Fatal(err)
		}
		r.until(t, "a new start of the guest", func(ctx context.Context) (string, bool) {
			a, err := r.lab.Ask(ctx)
			return fmt.Sprintf("%+v, %v", a, err), err == nil && a.Boot != before.Boot
		})
		took := time.Since(at)
		st = r.healthy(t)
		w := end()
		w.oneHolder(t)
		if stays := st.Owner.Host == holder; stays != (where == "in place") {
			t.Errorf("failure %d: it ran on %s and runs on %s now, want it %s", i+1, holder, st.Owner.Host, where)
		}
		if st.Owner.Restarts != i+1 {
			t.Errorf("failure %d: %d restarts are counted", i+1, st.Owner.Restarts)
		}
		gone := course{events: r.events(t, at)}.told(cluster.EvReleased)
		if len(gone) != 1 || !strings.Contains(gone[0].Detail, "health check failed") {
			t.Fatalf("failure %d: released %+v, want once, for its health check", i+1, gone)
		}
		ended := gone[0].Time.Sub(at)
		if ended < (failures-1)*probeGap || ended > illWithin {
			t.Errorf("failure %d: the guest was ended after %s, want %s to %s", i+1, ended, (failures-1)*probeGap, illWithin)
		}
		// The guest itself was well: it answered pings until it was killed.
		if o := longestOutage(w); o.Start.Before(gone[0].Time.Add(-time.Second)) {
			t.Errorf("failure %d: outages %+v, ended at %s", i+1, w.pings.Outages, gone[0].Time)
		}
		t.Logf("failure %d, restarted %s: ended %.2f s after the service hung, answered after %.2f s", i+1, where,
			ended.Seconds(), took.Seconds())
	}
}

// answersItsCheck waits until the holder's agent has noted that this start of the
// guest answers the health check: before, it is given time to boot.
func (r *rig) answersItsCheck(t testing.TB, st cluster.Status) {
	t.Helper()
	path := r.lab.HostPath(string(st.Owner.Host), "log", lab.AgentDaemon+".log")
	r.until(t, "the health check to succeed once", func(context.Context) (string, bool) {
		log, err := os.ReadFile(path)
		for line := range bytes.Lines(log) {
			var l struct {
				Time time.Time
				Msg  string
			}
			// The last line may not be whole yet.
			if json.Unmarshal(line, &l) == nil && l.Msg == "the guest's service answers" && l.Time.After(st.Owner.Time) {
				return "", true
			}
		}
		return fmt.Sprintf("nothing since %s, %v", st.Owner.Time, err), false
	})
}

// TestGuestThatCrashesAgainAndAgain kills the guest at each of its starts: twice
// on its host, then on the others in turn, ever later, until the policy gives up.
// A person's order starts it again.
func TestGuestThatCrashesAgainAndAgain(t *testing.T) {
	need.Drill(t, "P3: a guest that crashes at each start is started ever later, on other hosts, until the policy gives up")
	onLab(t, cared, guestThatCrashesAgainAndAgain)
}

func guestThatCrashesAgainAndAgain(t testing.TB, r *rig) {
	st := r.counted(t)
	at := time.Now()
	last, hosts := cluster.Epoch{}, []string{}
	for range giveUp {
		st = r.startedAfter(t, last)
		last = st.Owner.Epoch
		hosts = append(hosts, string(st.Owner.Host))
		if err := r.lab.Kill(t.Context(), string(st.Owner.Host), "cmd:-uuid "+loop.GuestUUID("lab")); err != nil {
			t.Fatal(err)
		}
	}
	if want := r.turns(hosts[0]); !slices.Equal(hosts, want) {
		t.Errorf("started on %v, want %v", hosts, want)
	}
	r.until(t, "the policy to give up", func(ctx context.Context) (string, bool) {
		var err error
		st, err = r.status(ctx)
		return fmt.Sprintf("%+v, %v", st, err), err == nil && st.Owner.State == cluster.Released && st.Owner.Epoch == last
	})
	if st.Owner.Restarts != giveUp {
		t.Errorf("it gave up after %d restarts, want %d", st.Owner.Restarts, giveUp)
	}
	r.staysDown(t, last, 10*time.Second) // another start would come after 8 s
	r.judgeBackoff(t, at, st.Owner.Failures)
	r.command(t, r.lab.Hosts()[0], "start", "--timeout", "5m")
	if st := r.healthy(t); !last.Less(st.Owner.Epoch) {
		t.Errorf("epoch %s after the order to start, was %s", st.Owner.Epoch, last)
	}
}

// turns are the hosts that a guest which always fails is started on: its own
// until inPlace starts have failed there, then the next ones in order.
func (r *rig) turns(first string) (all []string) {
	order := r.lab.Hosts()
	at := slices.Index(order, first)
	for n := range giveUp {
		all = append(all, order[(at+max(0, n-inPlace+1))%len(order)])
	}
	return all
}

// startedAfter waits for a start of the guest with a later epoch.
func (r *rig) startedAfter(t testing.TB, e cluster.Epoch) (st cluster.Status) {
	t.Helper()
	r.until(t, "a start of the guest after epoch "+e.String(), func(ctx context.Context) (string, bool) {
		var err error
		st, err = r.status(ctx)
		return fmt.Sprintf("%+v, %v", st.Owner, err), err == nil && st.Owner.State == cluster.Running && e.Less(st.Owner.Epoch)
	})
	return st
}

// staysDown watches for a while that nobody starts the guest, and that status
// says who must.
func (r *rig) staysDown(t testing.TB, e cluster.Epoch, d time.Duration) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); {
		l, err := r.lab.Status(t.Context())
		st, err2 := r.status(t.Context())
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if guests(l) != 0 || st.Owner.Epoch != e || st.Owner.State != cluster.Released {
			t.Fatalf("it was started again: %d guests, %+v", guests(l), st.Owner)
		}
		if !strings.Contains(st.Waiting, "holdfast start") {
			t.Fatalf("status says it waits for %q", st.Waiting)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// judgeBackoff compares the pauses between an end and the next start with the
// policy's: 0.5 s, doubled after each failure. The first run counts as none where
// it lasted 10 s before it was killed, which it does on a slow machine.
func (r *rig) judgeBackoff(t testing.TB, since time.Time, failures int) {
	t.Helper()
	var ended time.Time
	var pauses []time.Duration
	for _, e := range r.events(t, since) {
		switch e.Kind {
		case cluster.EvReleased:
			ended = e.Time
		case cluster.EvAssigned:
			pauses = append(pauses, e.Time.Sub(ended))
		}
	}
	if len(pauses) != giveUp-1 {
		t.Fatalf("%d starts after a failure (pauses %v), want %d", len(pauses), pauses, giveUp-1)
	}
	if failures < giveUp-1 || failures > giveUp {
		t.Fatalf("%d failures are counted of %d starts", failures, giveUp)
	}
	for i, p := range pauses {
		least := 500 * time.Millisecond << i >> (giveUp - failures)
		if i < giveUp-failures {
			least = 0
		}
		if p < least || p > least+1500*time.Millisecond {
			t.Errorf("pause %d: %s, want %s and no more than %s on top", i+1, p, least, 1500*time.Millisecond)
		}
	}
	t.Logf("%d starts failed, with pauses of %v between; then it stayed down", giveUp, pauses)
}
