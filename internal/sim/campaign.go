package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Failure is a run that broke a rule, with what is needed to repeat it.
type Failure struct {
	Seed      uint64    `json:"seed,omitempty"` // of the run; 0: from a scenario folder
	Name      string    `json:"name,omitempty"` // of the scenario folder
	Violation Violation `json:"violation"`
	Scenario  string    `json:"scenario"` // the text that repeats it
	Trace     []string  `json:"trace"`    // the last events before it
}

// String gives all of it for a person.
func (f Failure) String() string {
	return fmt.Sprintf("seed %d %s: %s at T+%.3f: %s\n--- scenario\n%s--- trace\n%s\n", f.Seed, f.Name,
		f.Violation.Rule, f.Violation.At.Seconds(), f.Violation.Detail, f.Scenario, strings.Join(f.Trace, "\n"))
}

// Report sums up simulations.
type Report struct {
	Runs    int
	Steps   int64
	Failed  []Failure
	Outage  time.Duration // the longest time in which the guest was wanted, could run and did not
	Longest uint64        // the seed of that run
}

// traceKept is how many lines before a violation a failure shows.
const traceKept = 400

// Campaign runs random scenarios with the seeds seed, seed+1 ... It stops after
// the first ten that break a rule.
func Campaign(seed uint64, runs int) (Report, error) { return campaign(seed, runs, 10) }

func campaign(seed uint64, runs, stop int, plant ...string) (Report, error) {
	var r Report
	for i := range runs {
		s, err := Parse(Random(seed + uint64(i)))
		if err != nil {
			return r, fmt.Errorf("make scenario of seed %d: %w", seed+uint64(i), err)
		}
		for _, p := range plant {
			s.Steps = append(s.Steps, Step{Before: true, Words: []string{"plant", p}})
		}
		if _, err := r.add(s, ""); err != nil {
			return r, err
		}
		if len(r.Failed) >= stop {
			break
		}
	}
	return r, nil
}

// add runs one scenario and returns its events. One that breaks a rule which it
// does not expect is run again with a trace.
func (r *Report) add(s Scenario, name string) ([]Line, error) {
	res, err := Run(s, false)
	if err != nil {
		return nil, fmt.Errorf("run scenario %s of seed %d: %w", name, s.Seed, err)
	}
	r.Runs++
	r.Steps += res.Steps
	if res.Outage > r.Outage {
		r.Outage, r.Longest = res.Outage, s.Seed
	}
	found := Violation{}
	if len(res.Violations) > 0 {
		found = res.Violations[0]
	} else if s.Expect != "" {
		found = Violation{"expected-" + s.Expect, s.End, "the scenario expects a violation, and there was none"}
	}
	if found.Rule == s.Expect {
		return res.Lines, nil
	}
	again, err := Run(s, true)
	if err != nil {
		return nil, fmt.Errorf("repeat scenario %s of seed %d: %w", name, s.Seed, err)
	}
	f := Failure{Seed: s.Seed, Name: name, Violation: found, Scenario: s.String()}
	for _, l := range again.Lines[max(0, len(again.Lines)-traceKept):] {
		f.Trace = append(f.Trace, l.String())
	}
	r.Failed = append(r.Failed, f)
	return res.Lines, nil
}

// maker writes a random scenario.
type maker struct {
	*rand.Rand
	b     strings.Builder
	count int
}

// Bounds of random scenarios.
const (
	faultsFrom  = 12 * time.Second
	faultsUntil = 75 * time.Second
	randomEnd   = 150 * time.Second
)

// Random gives the text of the random scenario of a seed: a cluster of three or
// five hosts with clocks at the limits of the drift, several faults that often
// come close together, then calm.
func Random(seed uint64) string {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, 1))}
	hosts := []string{"h1", "h2", "h3"}
	if m.IntN(5) == 0 {
		hosts = append(hosts, "h4", "h5")
	}
	fmt.Fprintf(&m.b, "hosts %s\nseed %d\n", strings.Join(hosts, " "), seed)
	for _, h := range hosts {
		fmt.Fprintf(&m.b, "clock %s %s\n", h, m.pick("0.99", "1", "1.01", "0.995", "1.005"))
		fmt.Fprintf(&m.b, "boot %s %s\n", h, m.pick("2s", "4s", "10s", "25s"))
	}
	if m.IntN(10) == 0 {
		fmt.Fprintf(&m.b, "watchdog %s none\n", hosts[m.IntN(len(hosts))])
	}
	m.at(2*time.Second, "want run")
	for range 2 + m.IntN(6) {
		m.fault(m.time())
	}
	m.at(faultsUntil+10*time.Second, "calm")
	m.at(faultsUntil+10*time.Second, "handsoff off")
	if m.IntN(8) == 0 {
		m.at(faultsUntil+12*time.Second, "want stop")
	} else {
		m.at(faultsUntil+12*time.Second, "want run")
	}
	fmt.Fprintf(&m.b, "end %s\n", randomEnd)
	return m.b.String()
}

func (m *maker) pick(of ...string) string { return of[m.IntN(len(of))] }

func (m *maker) time() time.Duration {
	return faultsFrom + time.Duration(m.Int64N(int64(faultsUntil-faultsFrom))).Round(time.Millisecond)
}

func (m *maker) upTo(d time.Duration) time.Duration {
	return time.Duration(m.Int64N(int64(d))).Round(time.Millisecond)
}

// length is how long a fault lasts: short, about the lease, or long.
func (m *maker) length() time.Duration {
	return []time.Duration{m.upTo(2 * time.Second), 5*time.Second + m.upTo(6*time.Second), m.upTo(40 * time.Second)}[m.IntN(3)]
}

func (m *maker) at(t time.Duration, format string, args ...any) {
	fmt.Fprintf(&m.b, "at %s %s\n", min(t, faultsUntil+20*time.Second), fmt.Sprintf(format, args...))
}

// fault writes one fault, or a group that comes close together on one victim.
func (m *maker) fault(t time.Duration) {
	m.count++
	who := fmt.Sprintf("x%d", m.count)
	m.at(t, "let %s %s", who, m.pick("owner", "owner", "owner", "target", "coordinator", "other", "h1", "h2"))
	switch m.IntN(10) {
	case 0, 1:
		m.request(t)
	case 2, 3:
		m.migrate(t, who)
	case 4:
		m.hang(t, who)
	default:
		for range 1 + m.IntN(3) {
			m.single(t, who)
			t += m.upTo(4 * time.Second)
		}
	}
}

// hang writes a host that is slow, then stands still, and is then cut off: the
// case in which only its watchdog ends its guest.
func (m *maker) hang(t time.Duration, who string) {
	end := t + 12*time.Second + m.upTo(20*time.Second)
	m.at(t, m.pick("slow %[1]s reply 950ms", "slow %[1]s reply 950ms", "slow %[1]s request 950ms", "slow %[1]s watch 3s", "let %[1]s %[1]s"), who)
	t += time.Second + m.upTo(7*time.Second)
	m.at(t, m.pick("agent %s freeze", "kill %s stuck", "freeze %s"), who)
	m.at(t+m.upTo(time.Second), m.pick("isolate %[1]s", "cut %[1]s store", "cut %[1]s to-store", "let %[1]s %[1]s"), who)
	for _, mend := range []string{"thaw %s", "agent %s thaw", "kill %s ok", "heal %s"} {
		m.at(end, mend, who)
	}
}

// request writes something that operators do.
func (m *maker) request(t time.Duration) {
	switch m.IntN(3) {
	case 0:
		m.at(t, "want stop")
		m.at(t+m.length(), "want run")
	case 1:
		m.at(t, "handsoff on")
		m.at(t+m.length(), "handsoff off")
	default:
		m.at(t, "move %s", m.pick("h1", "h2", "h3", "owner"))
	}
}

// migrate writes a migration with a fault in the middle.
func (m *maker) migrate(t time.Duration, who string) {
	m.at(t, "transfer all %s", m.pick("1s", "3s", "8s"))
	if m.IntN(3) == 0 {
		m.at(t, "migration all %s", m.pick("refuse", "fail", "late-fail", "stall"))
		m.at(t+m.length(), "migration all ok")
	}
	m.at(t, "move %s", m.pick("h1", "h2", "h3"))
	t += m.upTo(10 * time.Second)
	m.at(t, "let %s %s", who, m.pick("owner", "target"))
	for range m.IntN(3) {
		m.single(t, who)
		t += m.upTo(3 * time.Second)
	}
	if m.IntN(3) == 0 {
		m.at(t, "move owner")
	}
}

// single writes one fault and its end.
func (m *maker) single(t time.Duration, who string) {
	kinds := [][2]string{
		{"power %s off", "power %s on"}, {"power %s cycle", ""},
		{"agent %s crash", ""}, {"agent %s stop", "agent %s start"}, {"agent %s freeze", "agent %s thaw"},
		{"agent %s freeze", "agent %s thaw"}, {"freeze %s", "thaw %s"},
		{"isolate %s", "heal %s"}, {"isolate %s", "heal %s"}, {"cut %s store", "heal %s"}, {"cut %s to-store", "heal %s"},
		{"cut %s from-store", "heal %s"}, {"cut %s all", "heal %s"},
		{"slow %s request 950ms", "heal %s"}, {"slow %s reply 950ms", "heal %s"}, {"slow %s request 5s", "heal %s"}, {"slow %s watch 6s", "heal %s"}, {"slow %s watch 15s", "heal %s"},
		{"slow %s watchdog 400ms", "heal %s"},
		{"quorum off", "quorum on"}, {"guest %s end", ""}, {"guest %s deaf", "guest %s hears"},
		{"start all fail", "start all ok"}, {"start %s hang", "start %s ok"}, {"start all lost", "start all ok"}, {"start %s late", "start %s ok"},
		{"kill %s stuck", "kill %s ok"}, {"kill %s stuck", "kill %s ok"},
		{"fit %s no", "fit %s yes"}, {"observe %s no", "observe %s yes"}, {"watchdog %s none", "watchdog %s ok"},
	}
	k := kinds[m.IntN(len(kinds))]
	write := func(t time.Duration, format string) {
		if strings.Contains(format, "%s") {
			format = fmt.Sprintf(format, who)
		}
		m.at(t, "%s", format)
	}
	write(t, k[0])
	if k[1] != "" {
		write(t+m.length(), k[1])
	}
}
