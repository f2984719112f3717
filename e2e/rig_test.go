package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/agent"
	"holdfast/internal/cluster"
	"holdfast/internal/lab"
)

// rig is one laboratory with agents, shared by all drills.
type rig struct {
	lab *lab.Lab
	exe string // as the hosts see it
}

var theRig *rig

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	if why := cannot(); why != "" {
		return m.Run(), nil // each test says why it skips
	}
	exe, err := filepath.Abs("../bin/holdfast")
	if err != nil {
		return 0, err
	}
	if _, err := os.Stat(exe); err != nil {
		return 0, fmt.Errorf("%w: `make build` makes it", err)
	}
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-e2e-")
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	l, err := lab.Up(ctx, lab.Options{Dir: filepath.Join(dir, "lab"), Exe: exe, Agents: true})
	if err != nil {
		return 0, fmt.Errorf("laboratory: %w (its files: %s)", err, dir)
	}
	theRig = &rig{lab: l, exe: l.Exe()}
	code := m.Run()
	if code != 0 {
		if err := keepLogs(dir); err != nil {
			fmt.Fprintln(os.Stderr, "e2e: keep the hosts' logs:", err)
		}
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Down(ctx); err != nil {
		return code, err
	}
	if code == 0 {
		return 0, os.RemoveAll(dir)
	}
	fmt.Fprintln(os.Stderr, "e2e: files kept in", dir)
	return code, nil
}

// keepLogs copies the agents' logs out of the laboratory, before it goes.
func keepLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "lab", "hosts", "*", "srv", "log", "*.log"))
	if err != nil {
		return err
	}
	for _, l := range logs {
		b, err := os.ReadFile(l)
		if err == nil {
			host := filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(l))))
			err = os.WriteFile(filepath.Join(dir, host+"-"+filepath.Base(l)), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cannot says why the drills can not run here; "" when they can.
func cannot() string {
	if testing.Short() {
		return "-short"
	}
	if os.Getuid() != 0 {
		return "not root"
	}
	if missing := lab.Missing(); len(missing) > 0 {
		return "missing: " + strings.Join(missing, "; ")
	}
	return ""
}

// ready gives the rig with the cluster as it should be.
func ready(t *testing.T) *rig {
	t.Helper()
	if theRig == nil {
		t.Skip(cannot())
	}
	t.Cleanup(func() {
		if t.Failed() {
			theRig.mend(t)
		}
	})
	theRig.healthy(t, 90*time.Second)
	return theRig
}

// mend undoes what a failed test may have left, so that the next one fails for
// its own reasons only.
func (r *rig) mend(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, h := range r.lab.Hosts() {
		for _, undo := range []func(context.Context, string) error{r.lab.Thaw, r.lab.Heal, r.lab.On} {
			if err := undo(ctx, h); err != nil {
				t.Logf("mend %s: %v", h, err)
			}
		}
	}
	if out, err := r.lab.Exec(ctx, r.lab.Hosts()[0], r.exe, "start", "--timeout", "30s"); err != nil {
		t.Logf("mend: %v: %s", err, out)
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
	out, err := r.lab.Exec(ctx, h, r.exe, "status", "-o", "json")
	var st cluster.Status
	if err == nil {
		err = json.Unmarshal([]byte(out), &st)
	}
	return st, err
}

// command runs holdfast on a host.
func (r *rig) command(t *testing.T, h string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	out, err := r.lab.Exec(ctx, h, append([]string{r.exe}, args...)...)
	if err != nil {
		t.Fatalf("%s: holdfast %s: %v: %s", h, strings.Join(args, " "), err, out)
	}
	return out
}

// healthy waits until every host is there, and the guest runs, answers and could
// be taken over.
func (r *rig) healthy(t *testing.T, within time.Duration) cluster.Status {
	t.Helper()
	var st cluster.Status
	r.until(t, within, "a healthy cluster", func(ctx context.Context) (string, bool) {
		var err error
		if st, err = r.status(ctx); err != nil {
			return err.Error(), false
		}
		alive := 0
		for _, h := range st.Hosts {
			if h.Alive && h.Fit && h.Guard > 0 {
				alive++
			}
		}
		if alive < len(r.lab.Hosts()) || st.Owner.State != cluster.Running || !st.Takeover.Possible {
			return fmt.Sprintf("%d hosts in order, %s on %s, takeover: %s, waits for: %s", alive, st.Owner.State, st.Owner.Host, st.Takeover.Why, st.Waiting), false
		}
		_, err = r.lab.Ask(ctx)
		return fmt.Sprint("the guest: ", err), err == nil
	})
	return st
}

// until polls, and fails with what it saw last.
func (r *rig) until(t *testing.T, within time.Duration, what string, ok func(context.Context) (string, bool)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	said := ""
	for ctx.Err() == nil {
		lctx, cancel := context.WithTimeout(ctx, 4*time.Second)
		s, done := ok(lctx)
		cancel()
		if done {
			return
		}
		said = s
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	t.Fatalf("%s: not within %s: %s", what, within, said)
}

// watch is what the outside saw during a drill.
type watch struct {
	pings lab.Pings
	seen  lab.Observation
	err   error
}

// watching starts the client and the observer. The returned function ends them.
func (r *rig) watching(t *testing.T) func() watch {
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
		w.seen, err = r.lab.Observe(ctx, agent.GuestUUID("lab"))
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
func (r *rig) events(t *testing.T, since time.Time) []cluster.Event {
	t.Helper()
	var all []cluster.Event
	r.until(t, 10*time.Second, "the event log", func(ctx context.Context) (string, bool) {
		for _, h := range r.lab.Hosts() {
			out, err := r.lab.Exec(ctx, h, r.exe, "events", "-o", "json")
			if err != nil {
				continue
			}
			all = nil
			for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
				var e cluster.Event
				if err := json.Unmarshal([]byte(l), &e); err != nil {
					return l + ": " + err.Error(), false
				}
				if !e.Time.Before(since) {
					all = append(all, e)
				}
			}
			return "", true
		}
		return "no host answers", false
	})
	return all
}
