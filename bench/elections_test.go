//go:build bench

package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/pki"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/testbed/nettest"
)

const (
	// electHosts is the size of the store.
	electHosts = 3
	// electRunsVar sets how often each course is run.
	electRunsVar  = "HOLDFAST_ELECTION_RUNS"
	electRuns     = 5
	electProbeVar = "HOLDFAST_ELECTION_PROBE" // a file with what a probe is told
	electLimit    = 40 * time.Second          // of each phase of a run
	electSlow     = 3 * time.Second           // a run with more is told in full
	writeEvery    = 100 * time.Millisecond
	writeLimit    = time.Second
	agentEvery    = 500 * time.Millisecond // as the profile fast
)

// The ways by which a probe on a host writes.
const (
	byMember = "own member" // with writes that overlap
	byAny    = "any member"
	byAgent  = "the agent's way" // one write after the other, own member preferred
)

func writeWays() []string { return []string{byMember, byAny, byAgent} }

// TestElections measures how long the store takes no writes when its leader is
// lost. Each host is a network namespace with a member and a probe, which writes
// through that member, through any, and as the agent does. What counts is the
// longest time without a write that succeeded, by the worse of the two hosts that
// are left, from the fault on; "healed" is the same from the moment on at which all
// cables are well again. "Back" is the first write by the member that was lost,
// counted from there. Runs that take long are logged with what the members' logs
// tell. Each course takes about 25 s a run.
func TestElections(t *testing.T) {
	if os.Getenv(resultsVar) == "" {
		t.Skip("a measurement: `make bench` runs it")
	}
	runs := electRuns
	if v := os.Getenv(electRunsVar); v != "" {
		var err error
		if runs, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		fault func(t *testing.T, r *electRig, lead int) (lost int)
		stays time.Duration // of the fault
	}{
		{"leader isolated", isolateLeader, 6 * time.Second},
		{"follower isolated for 10 s, then the leader 2 s after its healing", isolateBoth, 8 * time.Second},
		{"what the leader sends is lost", func(t *testing.T, r *electRig, lead int) int { r.net.CutFrom(t, lead); return lead }, 8 * time.Second},
		{"what is sent to the leader is lost", func(t *testing.T, r *electRig,
			lead int) int {
			r.net.CutTo(t, lead)
			return lead
		}, 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newElectRig(t)
			sums := map[string]*series{}
			for i := range runs {
				r.run(t, i, c.fault, c.stays, sums)
			}
			for _, phase := range []string{"fault", "healed"} {
				for _, by := range writeWays() {
					result(t, "store, %s, %s: without a write by %s for %s s, %d runs", c.name, phase, by, sums[phase+by], runs)
				}
			}
			result(t, "store, %s: the one that was lost is back after %s s, %d runs", c.name, sums["back"], runs)
		})
	}
}

func isolateLeader(t *testing.T, r *electRig, lead int) int {
	r.net.Isolate(t, lead)
	return lead
}

func isolateBoth(t *testing.T, r *electRig, lead int) int {
	other := (lead + 1) % electHosts
	r.net.Isolate(t, other)
	clock.Sleep(t.Context(), 10*time.Second)
	r.net.Heal(t, other)
	clock.Sleep(t.Context(), 2*time.Second)
	lead = r.leader(t) // it should be the same
	r.net.Isolate(t, lead)
	return lead
}

// run is one fault and its healing.
func (r *electRig) run(t *testing.T, i int, fault func(*testing.T, *electRig, int) int, stays time.Duration, sums map[string]*series) {
	r.settle(t)
	lead := r.leader(t)
	lost := fault(t, r, lead)
	at := time.Now()
	clock.Sleep(t.Context(), stays)
	r.await(t, at, func(h int) bool { return h != lost })
	healed := time.Now()
	r.net.Heal(t, lost)
	r.settle(t)
	end := time.Now()
	add := func(what string, d time.Duration) {
		if sums[what] == nil {
			sums[what] = &series{}
		}
		*sums[what] = append(*sums[what], d.Seconds())
	}
	var slowest time.Duration
	line := fmt.Sprintf("run %d, leader h%d, lost h%d:", i, lead, lost)
	for _, by := range writeWays() {
		var worst, after time.Duration
		for h := range electHosts {
			if h != lost {
				worst = max(worst, r.gap(h, by, at, healed))
				after = max(after, r.gap(h, by, healed, end))
			}
		}
		add("fault"+by, worst)
		add("healed"+by, after)
		slowest = max(slowest, worst, after)
		line += fmt.Sprintf(" by %s %.1f s, healed %.1f s;", by, worst.Seconds(), after.Seconds())
	}
	back := r.first(lost, healed)
	add("back", back)
	t.Logf("%s back after %.1f s", line, back.Seconds())
	if max(slowest, back) > electSlow {
		t.Logf("what the members tell:\n%s", r.story(t, at, healed, end))
	}
}

// electEvent is a line of a probe.
type electEvent struct {
	By     string    `json:"by,omitempty"`
	Sent   time.Time `json:"sent"`
	Done   time.Time `json:"done"`
	Err    string    `json:"err,omitempty"`
	Leader uint64    `json:"leader,omitempty"`
	Self   uint64    `json:"self,omitempty"`
}

// electRig is the members and their probes.
type electRig struct {
	net     *nettest.Net
	logs    []string
	mu      sync.Mutex
	events  [electHosts][]electEvent
	leaders [electHosts]electEvent // the last words
}

// electProbe is what a probe is told.
type electProbe struct {
	Own string             `json:"own"`
	All []string           `json:"all"`
	TLS etcdstore.TLSFiles `json:"tls"`
}

func newElectRig(t *testing.T) *electRig {
	t.Helper()
	dir := t.TempDir()
	r := &electRig{net: nettest.New(t, electHosts)}
	ca, err := pki.NewCA("bench", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	caFile := filepath.Join(dir, "ca.pem")
	if err := ca.WriteCert(caFile); err != nil {
		t.Fatal(err)
	}
	initial := map[string]string{}
	var all []string
	for i := range electHosts {
		initial[fmt.Sprint("h", i)] = fmt.Sprintf("https://%s:2380", r.net.Addr(i))
		all = append(all, fmt.Sprintf("https://%s:2379", r.net.Addr(i)))
	}
	for i := range electHosts {
		name := fmt.Sprint("h", i)
		f := etcdstore.TLSFiles{CA: caFile, Cert: filepath.Join(dir, name+".pem"), Key: filepath.Join(dir, name+"-key.pem")}
		pair, err := ca.Issue(name, []netip.Addr{r.net.Addr(i)}, nil, time.Hour)
		if err == nil {
			err = pair.Write(f.Cert, f.Key)
		}
		if err != nil {
			t.Fatal(err)
		}
		log := filepath.Join(dir, name+".log")
		r.logs = append(r.logs, log)
		file := saved(t, filepath.Join(dir, name+".json"), etcdstore.MemberConfig{
			Name: name, Cluster: "bench", DataDir: filepath.Join(dir, name), Initial: initial, TLS: &f,
			ListenPeer: initial[name], PeerURL: initial[name], ListenClient: all[i], ClientURL: all[i], LogFile: log, LogLevel: "info",
		})
		r.start(t, i, nil, "store-member", file)
		r.probe(t, i, saved(t, filepath.Join(dir, name+"-probe.json"), electProbe{all[i], all, f}))
	}
	return r
}

func saved(t *testing.T, file string, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// start starts this program on a host; it dies with the test.
func (r *electRig) start(t *testing.T, host int, env []string, args ...string) *bufio.Scanner {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = r.net.Start(host, cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		var exit *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
			t.Error(err)
		}
	})
	return bufio.NewScanner(out)
}

// probe starts a host's probe and listens to it.
func (r *electRig) probe(t *testing.T, host int, file string) {
	t.Helper()
	lines := r.start(t, host, []string{electProbeVar + "=" + file}, "-test.run=^TestElectionProbe$", "-test.timeout=0")
	go func() { // ends with the probe
		for lines.Scan() {
			var e electEvent
			if json.Unmarshal(lines.Bytes(), &e) != nil {
				continue // the last word of a test
			}
			r.mu.Lock()
			if e.By == "" {
				r.leaders[host] = e
			} else {
				r.events[host] = append(r.events[host], e)
			}
			r.mu.Unlock()
		}
	}()
}

// leader waits until all that answer agree on a leader.
func (r *electRig) leader(t *testing.T) int {
	t.Helper()
	return await(t, "leader", func() (int, bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		lead := -1
		for h, e := range r.leaders {
			if time.Since(e.Done) > time.Second || e.Err != "" || e.Leader == 0 || e.Leader != r.leaders[0].Leader {
				return 0, false
			}
			if e.Leader == e.Self {
				lead = h
			}
		}
		return lead, lead >= 0
	})
}

// settle waits until all hosts have been able to write in all ways for 3 s.
func (r *electRig) settle(t *testing.T) {
	t.Helper()
	await(t, "all members", func() (struct{}, bool) {
		now := time.Now()
		for h := range electHosts {
			for _, by := range writeWays() {
				if r.gap(h, by, now.Add(-3*time.Second), now) > time.Second {
					return struct{}{}, false
				}
			}
		}
		return struct{}{}, true
	})
	r.leader(t)
}

// await waits until some hosts have written in all ways since an instant.
func (r *electRig) await(t *testing.T, since time.Time, which func(int) bool) {
	t.Helper()
	await(t, "writes", func() (struct{}, bool) {
		for h := range electHosts {
			for _, by := range writeWays() {
				if now := time.Now(); which(h) && r.gap(h, by, now.Add(-2*time.Second), now) > time.Second {
					return struct{}{}, false
				}
			}
		}
		return struct{}{}, time.Since(since) > time.Second
	})
}

func await[T any](t *testing.T, what string, ready func() (T, bool)) T {
	t.Helper()
	for end := time.Now().Add(electLimit); time.Now().Before(end); clock.Sleep(t.Context(), 50*time.Millisecond) {
		if v, ok := ready(); ok {
			return v
		}
	}
	t.Fatalf("no %s within %s", what, electLimit)
	var none T
	return none
}

// gap is the longest time without a write that succeeded.
func (r *electRig) gap(host int, by string, from, to time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, most := from, time.Duration(0)
	for _, e := range r.events[host] {
		if e.By == by && e.Err == "" && e.Done.After(from) && e.Done.Before(to) {
			most, last = max(most, e.Done.Sub(last)), e.Done
		}
	}
	return max(most, to.Sub(last))
}

// first is the time until a host's first write by its own member.
func (r *electRig) first(host int, from time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events[host] {
		if e.By == byMember && e.Err == "" && e.Sent.After(from) {
			return e.Done.Sub(from)
		}
	}
	return 0
}

// story is what the members' logs tell of a run, from 12 s before the fault on.
func (r *electRig) story(t *testing.T, at, healed, to time.Time) string {
	var b strings.Builder
	for h, log := range r.logs {
		for line := range strings.Lines(read(t, log)) {
			var e struct {
				TS     string `json:"ts"`
				Msg    string `json:"msg"`
				Reader string `json:"stream-reader-type"`
				Writer string `json:"stream-writer-type"`
				Peer   string `json:"remote-peer-id"`
				Err    string `json:"error"`
			}
			if json.Unmarshal([]byte(line), &e) != nil {
				continue
			}
			when, err := time.Parse("2006-01-02T15:04:05.000000Z0700", e.TS)
			if err != nil || when.Before(at.Add(-12*time.Second)) || when.After(to) || e.Msg == "trace" || e.Msg == "request stats" {
				continue
			}
			var phase string
			if when.After(healed) {
				phase = fmt.Sprintf("healed%+.3f", when.Sub(healed).Seconds())
			} else {
				phase = fmt.Sprintf("fault%+.3f", when.Sub(at).Seconds())
			}
			fmt.Fprintf(&b, "  %s h%d %s: %s %s%s %s %s\n", when.Local().Format("05.000"), h, phase, e.Msg, e.Reader, e.Writer, e.Peer, e.Err)
		}
	}
	return b.String()
}

// TestElectionProbe is no test but the process of a probe.
func TestElectionProbe(t *testing.T) {
	file := os.Getenv(electProbeVar)
	if file == "" {
		t.Skip("only a part of TestElections")
	}
	var p electProbe
	if err := json.Unmarshal([]byte(read(t, file)), &p); err != nil {
		t.Fatal(err)
	}
	_, client, err := pki.Load(p.TLS.CA, p.TLS.Cert, p.TLS.Key)
	if err != nil {
		t.Fatal(err)
	}
	own, any := p.open(t, client, p.Own), p.open(t, client, p.All...)
	agent := etcdstore.Prefer(p.open(t, client, p.Own), p.open(t, client, p.All...), nil)
	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{p.Own}, TLS: client, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	say := func(e electEvent) {
		mu.Lock()
		defer mu.Unlock()
		e.Done = time.Now()
		if err := out.Encode(e); err != nil {
			os.Exit(1) // the test is gone
		}
	}
	write := func(by string, s store.Store) {
		ctx, cancel := context.WithTimeout(t.Context(), writeLimit)
		defer cancel()
		e := electEvent{By: by, Sent: time.Now()}
		if _, _, err := s.Txn(ctx, nil, []store.Op{{Key: p.Own + by, Value: []byte("v")}}); err != nil {
			e.Err = err.Error()
		}
		say(e)
	}
	go func() { // ends with the process
		for range time.Tick(agentEvery) {
			write(byAgent, agent)
		}
	}()
	for range time.Tick(writeEvery) { // until the test kills this
		go write(byMember, own)
		go write(byAny, any)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), writeLimit)
			defer cancel()
			e := electEvent{Sent: time.Now()}
			if st, err := etcd.Status(ctx, p.Own); err != nil {
				e.Err = err.Error()
			} else {
				e.Leader, e.Self = st.Leader, st.Header.MemberId
			}
			say(e)
		}()
	}
}

func (p electProbe) open(t *testing.T, conf *tls.Config, at ...string) *etcdstore.Client {
	t.Helper()
	c, err := etcdstore.Open(etcdstore.Options{Endpoints: at, TLS: conf, Prefix: "/holdfast/bench/", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
