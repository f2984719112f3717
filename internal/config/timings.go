package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/strictyaml"
)

// Duration is a time span, in the file a string such as "6s" or "500ms".
type Duration time.Duration

const (
	maxDuration  = time.Hour
	durationRule = `want a duration above 0 and at most 1h, such as "6s" or "500ms"`
)

// MarshalJSON writes the string form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// UnmarshalJSON reads the string form.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("read duration: %w", err)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("read duration: %w", err)
	}
	*d = Duration(v)
	return nil
}

// UnmarshalText reads the string form of a configuration, which has bounds.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 || v > maxDuration {
		return errors.New(durationRule)
	}
	*d = Duration(v)
	return nil
}

// Timings are the durations of the safety model as the operator wrote them;
// zero means the default of the profile.
type Timings struct {
	Profile   string   `json:"Profile,omitempty"`  // default or fast; empty: default
	Lease     Duration `json:"Lease,omitzero"`     // 6s, fast 4s
	Keepalive Duration `json:"Keepalive,omitzero"` // 2s, fast 500ms
	Grace     Duration `json:"Grace,omitzero"`     // 2s, fast 1s
	Watchdog  Duration `json:"Watchdog,omitzero"`  // 4s, fast 3s
	Epsilon   Duration `json:"Epsilon,omitzero"`   // 500ms, fast 300ms
	Drift     float64  `json:"Drift,omitzero"`     // fraction, 0.01
	Election  Duration `json:"Election,omitzero"`  // 4s, fast 2s
	Heartbeat Duration `json:"Heartbeat,omitzero"` // 200ms
	Detection Duration `json:"Detection,omitzero"` // 2s, fast 1s
}

// profiles are the defaults by name. That of detection is the safety model's; a
// lease of 4 s outlives an election of the store with a renewal lost before it; a
// keepalive of half the detection shows in time that a renewal is missing.
var profiles = map[string]cluster.Timings{
	"": {
		Lease: 6 * time.Second, Keepalive: 2 * time.Second, Grace: 2 * time.Second, Watchdog: 4 * time.Second, Epsilon: 500 * time.Millisecond,
		Drift: 0.01, Election: 4 * time.Second, Heartbeat: 200 * time.Millisecond, Detection: 2 * time.Second,
	},
	ProfileFast: {
		Lease: 4 * time.Second, Keepalive: 500 * time.Millisecond, Grace: time.Second, Watchdog: 3 * time.Second, Epsilon: 300 * time.Millisecond,
		Drift: 0.01, Election: 2 * time.Second, Heartbeat: 200 * time.Millisecond, Detection: time.Second,
	},
}

// ProfileFast is the profile for hosts with fence devices on a quiet network.
const (
	ProfileFast    = "fast"
	profileDefault = "default"
)

// Values returns the timings with defaults filled in.
func (t Timings) Values() cluster.Timings {
	v, known := profiles[t.Profile]
	if !known {
		v = profiles[""] // by name, or unknown: a fault says it
	}
	for _, f := range []struct {
		to      *time.Duration
		written Duration
	}{
		{&v.Lease, t.Lease}, {&v.Keepalive, t.Keepalive}, {&v.Grace, t.Grace}, {&v.Watchdog, t.Watchdog},
		{&v.Epsilon, t.Epsilon}, {&v.Election, t.Election}, {&v.Heartbeat, t.Heartbeat}, {&v.Detection, t.Detection},
	} {
		if f.written != 0 {
			*f.to = time.Duration(f.written)
		}
	}
	if t.Drift != 0 {
		v.Drift = t.Drift
	}
	return v
}

// Check refuses values below the minimum that the others demand, with the sum
// shown. The rules are those of the safety model: Lease + Grace >= Watchdog +
// 2 x Keepalive, Epsilon >= 100ms, Grace >= 500ms, Keepalive <= Lease / 3,
// Election >= 2 x Keepalive, Detection >= 4 x Heartbeat, Detection <= Lease,
// Heartbeat >= 50ms, Drift 0.001 to 0.1. File is empty in the faults.
func (t Timings) Check() []Fault { return t.check(func(string) bool { return false }) }

// check does the same; given says which paths the document has, so that a written
// 0 is not taken for the default.
func (t Timings) check(given func(string) bool) []Fault {
	if _, known := profiles[t.Profile]; !known && t.Profile != profileDefault {
		return []Fault{{Fault: strictyaml.Fault{Path: "Timings.Profile", Value: t.Profile, Want: "want default or fast"}}}
	}
	var out []Fault
	v := t.Values()
	add := func(name, value, want string) {
		out = append(out, Fault{Fault: strictyaml.Fault{Path: "Timings." + name, Value: value, Want: want}})
	}
	for _, f := range t.durations(v) {
		if f.val <= 0 || f.val > maxDuration {
			add(f.name, f.val.String(), durationRule)
		}
	}
	if given("Timings.Drift") && t.Drift == 0 || !(v.Drift >= minDrift && v.Drift <= maxDrift) {
		add("Drift", ratio(t.Drift), "want a fraction of at least 0.001 and at most 0.1, such as 0.01 for 1 %")
	}
	if len(out) > 0 {
		return out // sums of values out of range explain nothing
	}
	for _, r := range t.rules(v) {
		if !r.broken {
			continue
		}
		name, value := t.blame(v, r.of)
		add(name, value, r.says)
	}
	return out
}

// Instants come from the oscillator as the kernel has calibrated it, which
// nothing disciplines after that: the kernel takes calibrations that are off by
// 0.05 % (quick_pit_calibrate). So two clocks are not trusted to differ by less
// than 0.1 %. Above 10 % a clock is broken.
const minDrift, maxDrift = 0.001, 0.1

// minEpsilon is what a wait must have beyond (Lease + G) (1 + Drift) / (1 - Drift),
// which takes in both clocks' drift: the watchdog's grain, 80 ms measured
// (i6300esb; softdog 10 ms), on a waiting clock that is fast by maxDrift, so 88
// ms, and the difference of two processes' readings of one clock, microseconds.
// The tick of the loop needs nothing: it makes a wait longer, never shorter.
const minEpsilon = 100 * time.Millisecond

// rule is one inequality. of names the values in it, the one to change first first.
type rule struct {
	broken bool
	of     []string
	says   string
}

// rules are the inequalities with their figures.
func (t Timings) rules(v cluster.Timings) []rule {
	const minGrace, minBeat = 500 * time.Millisecond, 50 * time.Millisecond
	have, need := v.Lease+v.Grace, v.Watchdog+2*v.Keepalive
	return []rule{
		{v.Keepalive > v.Lease/3, []string{"Keepalive", "Lease"},
			fmt.Sprintf("Keepalive %v is more than Lease %v / 3 = %v", v.Keepalive, v.Lease, v.Lease/3)},
		{v.Grace < minGrace, []string{"Grace"},
			fmt.Sprintf("Grace %v is less than %v, the time that a kill and its proof need", v.Grace, minGrace)},
		{have < need, []string{"Grace", "Watchdog", "Lease", "Keepalive"},
			fmt.Sprintf("Lease %v + Grace %v = %v is less than Watchdog %v + 2 x Keepalive %v = %v",
				v.Lease, v.Grace, have, v.Watchdog, v.Keepalive, need)},
		{v.Epsilon < minEpsilon, []string{"Epsilon"},
			fmt.Sprintf("Epsilon %v is less than %v, the resolution of watchdogs", v.Epsilon, minEpsilon)},
		{v.Election < 2*v.Keepalive, []string{"Election", "Keepalive"},
			fmt.Sprintf("Election %v is less than 2 x Keepalive %v = %v", v.Election, v.Keepalive, 2*v.Keepalive)},
		{v.Heartbeat < minBeat, []string{"Heartbeat"},
			fmt.Sprintf("Heartbeat %v is less than %v", v.Heartbeat, minBeat)},
		{v.Detection < 4*v.Heartbeat, []string{"Detection", "Heartbeat"},
			fmt.Sprintf("Detection %v is less than 4 x Heartbeat %v = %v", v.Detection, v.Heartbeat, 4*v.Heartbeat)},
		{v.Detection > v.Lease, []string{"Detection", "Lease"},
			fmt.Sprintf("Detection %v is more than Lease %v: the lease would end before the detection", v.Detection, v.Lease)},
	}
}

// blame picks the value that a fault names: the first that the operator wrote.
func (t Timings) blame(v cluster.Timings, names []string) (name, value string) {
	for _, n := range names {
		if n == "Drift" {
			if t.Drift != 0 {
				return n, ratio(v.Drift)
			}
			continue
		}
		for _, d := range t.durations(v) {
			if d.name == n && d.written {
				return n, d.val.String()
			}
		}
	}
	return names[0], "" // not reached: the defaults alone break no rule
}

// timing is one duration by name, with its default filled in.
type timing struct {
	name    string
	val     time.Duration
	written bool
}

func (t Timings) durations(v cluster.Timings) []timing {
	return []timing{
		{"Lease", v.Lease, t.Lease != 0},
		{"Keepalive", v.Keepalive, t.Keepalive != 0},
		{"Grace", v.Grace, t.Grace != 0},
		{"Watchdog", v.Watchdog, t.Watchdog != 0},
		{"Epsilon", v.Epsilon, t.Epsilon != 0},
		{"Election", v.Election, t.Election != 0},
		{"Heartbeat", v.Heartbeat, t.Heartbeat != 0},
		{"Detection", v.Detection, t.Detection != 0},
	}
}

// ratio writes a fraction as the operator would.
func ratio(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
