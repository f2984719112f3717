package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/loop"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
)

// kind is a kind of laboratory. One stands at a time in a process: Go runs the tests of a
// package in the order of their files, and each kind has files of its own that
// follow one another, so each laboratory is made once.
type kind string

const (
	plain     kind = "plain"     // watchdogs, default timings
	fenced    kind = "fenced"    // also a management controller per host, profile fast
	fencedNBD kind = "fencedNBD" // the same, with a disk that nobody locks
	fencedOwn kind = "fencedOwn" // as fenced, with a domain of the operator's own
)

func (k kind) options(dir string) lab.Options {
	o := programs(lab.Options{Dir: filepath.Join(dir, "lab"), Agents: true})
	if k != plain {
		o.BMCs, o.Profile = true, config.ProfileFast
	}
	switch k {
	case fencedNBD:
		o.Disk = lab.DiskNBD
	case fencedOwn:
		o.Disk = lab.DiskOwn
	case fencedCeph:
		o.Disk = lab.DiskCeph
	case cared:
		careOptions(&o)
	case crowded:
		o.Guests = 4
	case switched:
		o.Hosts, o.Members, o.Guests, o.OwnSystem = 6, 3, 6, true
	case owned:
		o.Hosts, o.Members, o.Guests, o.OwnSystem = 5, 3, 8, true
	case few:
		o.Guests, o.OwnSystem = 1, true
	case galera:
		o.OwnSystem = true
	case limited: // as plain, beside a host that runs guests only
		o.Hosts, o.Members, o.BMCs, o.Profile = 4, 3, false, ""
	case networked: // no host is fenced in it, however busy the machine is
		o.OwnSystem, o.BMCs, o.Profile = true, false, ""
	case paired:
		o.Work, o.OwnSystem, o.IPv6 = lab.WorkPair, true, true
	case pairedAlone:
		o.Work, o.Hosts = lab.WorkPair, 2
	case pairedDisk:
		o.Work, o.Hosts, o.BMCs, o.VoteDisk = lab.WorkPair, 2, false, true
	case pairedPing:
		o.Work, o.Hosts, o.BMCs = lab.WorkPair, 2, false
	case pairedSecond:
		o.Work, o.Hosts, o.BMCs, o.Second = lab.WorkPair, 2, false, true
	}
	return o
}

// rig is one laboratory with agents, shared by all drills of its kind.
type rig struct {
	kind   kind
	lab    *lab.Lab
	exe    string // as the hosts see it
	dir    string
	failed bool             // a test on it has failed: its logs are kept
	judged map[string]int64 // lengths of the guests' consoles after the last run
}

// theRig is the laboratory that stands; nil: none was asked for yet.
var theRig *rig

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == hostileCommand {
		if err := hostile(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "attacker:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	removedWhenInterrupted()
	code := m.Run()
	if err := takeDown(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// newRig makes a laboratory.
func newRig(k kind) (*rig, error) {
	dir, err := newFolder()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	l, err := lab.Up(ctx, k.options(dir))
	if err != nil {
		return nil, fmt.Errorf("laboratory %s: %w", k, errors.Join(err, dropped(dir)))
	}
	return &rig{kind: k, lab: l, exe: l.Exe(), dir: dir}, nil
}

// kept is where the logs of laboratories stay on which a test failed: with all else that
// a run of the tests makes, in a folder that git ignores.
const kept = "../out/kept"

// dropped removes the folder of a laboratory that did not come up. One that could not
// be taken down still has its state there, which is needed to do that later.
func dropped(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "lab", "state.json")); err == nil {
		return fmt.Errorf("it stays; what removes it: bin/holdfast-lab --dir %s down", filepath.Join(dir, "lab"))
	}
	return os.RemoveAll(dir)
}

// down takes the laboratory away, with its folder. The logs that a failed test needs to
// be understood go into kept.
func (r *rig) down() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if r.failed {
		if err := r.keepLogs(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: keep the hosts' logs:", err)
		}
	}
	if err := r.lab.Down(ctx); err != nil {
		return err
	}
	return os.RemoveAll(r.dir)
}

// keepLogs copies the hosts' logs out of the laboratory, before it goes.
func (r *rig) keepLogs(ctx context.Context) error {
	to, err := filepath.Abs(filepath.Join(kept, fmt.Sprintf("%s-%s", filepath.Base(r.dir), r.kind)))
	if err == nil {
		err = os.MkdirAll(to, 0o755)
	}
	if err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(r.dir, "lab", "hosts", "*", "srv", "log", "*.log"))
	names := map[string]string{filepath.Join(r.dir, "lab", "events.jsonl"): "lab-events.jsonl"}
	for _, l := range logs {
		names[l] = filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(l)))) + "-" + filepath.Base(l)
	}
	for l, name := range names {
		b, rerr := os.ReadFile(l)
		if rerr == nil {
			rerr = os.WriteFile(filepath.Join(to, name), b, 0o644)
		}
		err = errors.Join(err, rerr)
	}
	// That of the store's member goes with the host's power; not every host has one.
	for _, h := range r.lab.Hosts() {
		out, rerr := r.lab.Exec(ctx, h, "sh", "-c", "test ! -e /run/holdfast/store/store.log || cat /run/holdfast/store/store.log")
		if rerr == nil {
			rerr = os.WriteFile(filepath.Join(to, h+"-store.log"), []byte(out), 0o644)
		}
		err = errors.Join(err, rerr)
	}
	fmt.Fprintln(os.Stderr, "e2e: logs kept in", to)
	return err
}

// theProgram is what a person uses, and what hosts of laboratories run; theLab makes them.
const (
	theProgram = "../bin/holdfast"
	theLab     = "../bin/holdfast-lab"
)

// programs gives a laboratory both.
func programs(o lab.Options) lab.Options {
	o.Exe, o.Self = theProgram, theLab
	return o
}

// built is the need of the programs.
func built() error {
	for _, program := range []string{theProgram, theLab} {
		if _, err := os.Stat(program); err != nil {
			return fmt.Errorf("%w: `make build` makes it", err)
		}
	}
	return nil
}

// hosts are the need of what a laboratory's hosts are made of.
func hosts() error {
	if missing := lab.Missing(); len(missing) > 0 {
		return errors.New(strings.Join(missing, "; "))
	}
	return nil
}

// needLab skips a test where a laboratory is not wanted, or can not be.
func needLab(t testing.TB) {
	t.Helper()
	need.Real(t, need.Root, hosts, built)
}

// readyOn gives the rig of a kind with the cluster as it should be, in place of
// the one that stands.
func readyOn(t testing.TB, k kind) *rig {
	t.Helper()
	if theRig != nil && theRig.kind != k {
		if err := takeDown(); err != nil {
			t.Fatal(err)
		}
	}
	if theRig == nil {
		r, err := newRig(k)
		if err != nil {
			t.Fatal(err)
		}
		theRig = r
	}
	theRig.healthy(t)
	return theRig
}

// takeDown takes the laboratory away that stands, if one does.
func takeDown() error {
	if theRig == nil {
		return nil
	}
	gone := theRig
	theRig = nil
	return gone.down()
}

// mend undoes what a failed test may have left, so that the next one fails for
// its own reasons only.
func (r *rig) mend(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	undo := []func(context.Context, string) error{r.lab.On, r.lab.Thaw, r.lab.UnhangStorage, r.lab.Heal}
	if r.kind != plain {
		undo = append(undo, func(ctx context.Context, h string) error { return r.lab.BMCMode(ctx, h, lab.BMCOk) })
	}
	for _, h := range r.lab.Hosts() {
		for _, f := range undo {
			if err := f(ctx, h); err != nil {
				t.Logf("mend %s: %v", h, err)
			}
		}
	}
	if out, err := r.lab.Exec(ctx, r.lab.Hosts()[0], r.exe, "start", "--timeout", "5m"); err != nil {
		t.Logf("mend: %v: %s", err, out)
	}
	r.awaken(t)
}

// awaken ends a guest that runs and does not answer, so that it is started anew and the next
// test does not find it so.
func (r *rig) awaken(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*guestBoot)
	defer cancel()
	var err error
	for end := time.Now().Add(guestBoot); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		if _, err = r.lab.Ask(ctx); err == nil {
			return
		}
	}
	t.Logf("mend: the guest does not answer, it is ended: %v", err)
	for _, h := range r.lab.Hosts() {
		if err := r.lab.Kill(ctx, h, "cmd:guest="+cluster.GuestName); err == nil {
			t.Logf("mend: ended on %s", h)
		}
	}
}

// status asks any host that answers.
func (r *rig) status(ctx context.Context) (cluster.Status, error) {
	var st cluster.Status
	err := fmt.Errorf("no host is on")
	for _, h := range r.lab.Hosts() {
		if st, err = r.statusOf(ctx, h); err == nil && st.Connected {
			return st, nil
		}
	}
	return st, err
}

func (r *rig) statusOf(ctx context.Context, h string) (cluster.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return ask(r, h, func(c *api.Client) (cluster.Status, error) { return c.Status(ctx) })
}

// command runs holdfast on a host.
func (r *rig) command(t testing.TB, h string, args ...string) string {
	t.Helper()
	out, err := r.lab.Exec(t.Context(), h, append([]string{r.exe}, args...)...)
	if err != nil {
		t.Fatalf("%s: holdfast %s: %v: %s", h, strings.Join(args, " "), err, out)
	}
	return out
}

// mayYet runs a command until it is not refused for something of the moment: a host that has not
// connected to its libvirtd yet, or whose libvirtd still removes what the guest has left there.
func (r *rig) mayYet(t testing.TB, h string, args ...string) {
	t.Helper()
	r.until(t, fmt.Sprint(args, " to be possible"), func(context.Context) (string, bool) {
		ctx, cancel := waiting(t)
		defer cancel()
		out, err := r.lab.Exec(ctx, h, append([]string{r.exe}, args...)...)
		if err == nil {
			return "", true
		}
		for _, moment := range []string{"can not be observed", "not connected yet", "already being removed"} {
			if strings.Contains(err.Error(), moment) {
				return fmt.Sprint(out, err), false
			}
		}
		t.Fatalf("%s: holdfast %s: %v: %s", h, strings.Join(args, " "), err, out)
		return "", false
	})
}

// healthy waits until every host sees every host, and the guest runs, answers, has written
// down on its disk which boot it is (as soon as it counts to 2), and could be taken over.
func (r *rig) healthy(t testing.TB) cluster.Status {
	t.Helper()
	var st cluster.Status
	r.until(t, "a healthy cluster", func(ctx context.Context) (string, bool) {
		var err error
		if st, err = r.status(ctx); err != nil {
			return err.Error(), false
		}
		if n := inOrder(st); n < max(3, len(st.Members)) || st.Owner.State != cluster.Running || !st.Takeover.Possible {
			return fmt.Sprintf("%d hosts in order, %s on %s, takeover: %s, waits for: %s", n, st.Owner.State,
				st.Owner.Host, st.Takeover.Why, st.Waiting), false
		}
		for _, m := range st.Members { // one that was silent for the others may see itself already
			of, err := r.statusOf(ctx, string(m))
			if err != nil || inOrder(of) < inOrder(st) {
				return fmt.Sprintf("%s sees %d hosts in order, %v", m, inOrder(of), err), false
			}
		}
		a, err := r.lab.Ask(ctx)
		return fmt.Sprintf("the guest: %+v, %v", a, err), err == nil && a.N >= 2
	})
	return st
}

// inOrder counts the hosts that could run the guest.
func inOrder(st cluster.Status) (n int) {
	for _, h := range st.Hosts {
		if h.Alive && h.Fit && h.Guard > 0 {
			n++
		}
	}
	return n
}

// answer is what the guest says.
func (r *rig) answer(t testing.TB) (a lab.Answer) {
	t.Helper()
	r.until(t, "the guest to answer", func(ctx context.Context) (string, bool) {
		var err error
		a, err = r.lab.Ask(ctx)
		return fmt.Sprint(err), err == nil
	})
	return a
}

// watch is what the outside saw during a drill.
type watch struct {
	pings lab.Pings
	seen  lab.Observation
	err   error
}

// oneHolder wants that the guest never ran on two hosts at once.
func (w watch) oneHolder(t testing.TB) {
	t.Helper()
	if w.err != nil {
		t.Fatal(w.err)
	}
	if w.seen.Max != 1 {
		t.Errorf("the observer saw %d holders at once: %+v", w.seen.Max, w.seen.Overlap)
	}
}

// watching starts the client and the observer. The returned function ends them.
func (r *rig) watching(t testing.TB) func() watch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var w watch
	pings, seen := make(chan error, 1), make(chan error, 1)
	go func() {
		var err error
		w.pings, err = r.lab.Ping(ctx, r.lab.GuestAddr())
		pings <- err
	}()
	go func() {
		var err error
		w.seen, err = r.lab.Observe(ctx, loop.GuestUUID("lab"))
		seen <- err
	}()
	ended := false
	end := func() watch {
		if !ended {
			ended = true
			cancel()
			for _, c := range []chan error{pings, seen} {
				if err := <-c; err != nil {
					w.err = err
				}
			}
		}
		return w
	}
	t.Cleanup(func() { end() })
	return end
}

// events gives the log since a moment.
func (r *rig) events(t testing.TB, since time.Time) []cluster.Event {
	t.Helper()
	var all []cluster.Event
	r.until(t, "the event log", func(ctx context.Context) (string, bool) {
		for _, h := range r.lab.Hosts() {
			newest, err := ask(r, h, func(c *api.Client) ([]cluster.Event, error) {
				e, _, err := c.Events(ctx, -1, 100)
				return e, err
			})
			if err == nil {
				all = slices.DeleteFunc(newest, func(e cluster.Event) bool { return e.Time.Before(since) })
				return "", true
			}
		}
		return "no host answers", false
	})
	return all
}
