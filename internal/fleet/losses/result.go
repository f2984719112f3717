// Package losses has the words for a measurement of lost packets by one process: the
// list of targets, the result, its sums and its page. Package measure below it does
// the measuring; what a gap is, package internal/host/ping says.
package losses

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"time"

	"holdfast/internal/lib/text"
)

// version of the form of a Result in JSON. The first one had no name, and no ARP; the second one did not tell
// when a target was not watched.
const version = 3

// Bounds of a measurement.
const (
	MinRate, MaxRate = 0.1, 1000.0 // packets a second and target
	MinFor, MaxFor   = time.Second, 24 * time.Hour
	// MaxARPRate bounds the questions by ARP: a reply has no number, so it must come
	// before the next question. DefaultARPRate is a load that no guest and no switch
	// minds.
	MaxARPRate, DefaultARPRate = 10.0, 1.0
)

// Means is by what a target is asked.
type Means string

// The means.
const (
	ICMP Means = "icmp" // echo
	ARP  Means = "arp"
)

// Order is what is to be measured.
type Order struct {
	Name    string // of the vantage point
	Targets []Address
	Rate    float64 // packets a second and target
	// ARPRate is how many questions a second those are asked by ARP that are silent to
	// ICMP echo; 0: none is.
	ARPRate float64
	For     time.Duration
}

// Progress is how far a measurement is.
type Progress struct {
	Asking     Means // by it, which targets answer at all; "": that is over
	Targets    int   // that are measured, or are asked
	Passed     time.Duration
	Sent, Lost int64
	LongestMS  float64
	Longest    Address   // where Longest is not 0
	Each       []Counted // of the targets that are measured, in the order of the list
}

// Counted is what was counted of a target by now.
type Counted struct {
	Address
	Sent, Lost int64 // as of Target
}

// Moment is a wall clock time, written in UTC to a millisecond.
type Moment struct{ time.Time }

// MarshalJSON writes RFC 3339.
func (m Moment) MarshalJSON() ([]byte, error) {
	return []byte(m.UTC().Format(`"2006-01-02T15:04:05.000Z"`)), nil
}

// Result is what was measured. Times in ms have a resolution of 0.1.
type Result struct {
	Version     int      `json:"version"` // of this form
	Name        string   `json:"name"`    // of the vantage point: the machine that measured
	Began       Moment   `json:"began"`
	Ended       Moment   `json:"ended"`
	Interrupted bool     `json:"interrupted"` // it ended earlier than asked for
	Rate        float64  `json:"rate"`        // packets a second and target
	ARPRate     float64  `json:"arp_rate"`    // of those that were asked by ARP; 0: none was to be
	Total       Total    `json:"total"`
	Targets     []Target `json:"targets"` // in the order of the list
	// Silent are the targets that did not answer before the start. They were not asked
	// any more, and are in no other figure.
	Silent []Silent `json:"silent"`
}

// Silent is a target that did not answer.
type Silent struct {
	Address
	AskedBy []Means `json:"asked_by"`
}

// Target is what was measured of one.
type Target struct {
	Address
	By          Means   `json:"by"`   // it was asked
	Sent        int64   `json:"sent"` // that were answered or lost
	Lost        int64   `json:"lost"`
	LongestMS   float64 `json:"longest_gap_ms"`
	Gaps        []Gap   `json:"gaps"` // the longest, by time
	GapsLeftOut int64   `json:"gaps_left_out"`
	Reordered   *int64  `json:"reordered"`    // answers that came after the answer to a later packet; nil: not known, by ARP
	UnwatchedMS float64 `json:"unwatched_ms"` // in which this machine sent nothing, or could not take in answers
	// Unwatched are the longest of these times; the figures of Gaps are without them.
	Unwatched        []Gap `json:"unwatched"`
	UnwatchedLeftOut int64 `json:"unwatched_left_out"`
}

// Gap is a time without an answer.
type Gap struct {
	At   Moment  `json:"at"` // when the first packet was sent that was lost
	MS   float64 `json:"ms"`
	Open bool    `json:"open,omitempty"` // no answer came until the end
}

// Total is about all targets that were measured.
type Total struct {
	Targets     int     `json:"targets"`
	ByARP       int     `json:"by_arp"` // of them
	Losing      int     `json:"losing"` // targets that lost any
	Silent      int     `json:"silent"`
	Sent        int64   `json:"sent"`
	Lost        int64   `json:"lost"`
	LongestMS   float64 `json:"longest_gap_ms"`
	LongestIP   string  `json:"longest_gap_ip,omitempty"`
	Reordered   int64   `json:"reordered"`    // of those of which it is known
	UnwatchedMS float64 `json:"unwatched_ms"` // the sum over the targets
}

// MS is a time in milliseconds, to a tenth.
func MS(d time.Duration) float64 { return float64(d.Round(100*time.Microsecond)/1000) / 1000 }

// Sum makes the sums.
func (r *Result) Sum() {
	r.Version = version
	if r.Silent == nil {
		r.Silent = []Silent{} // a list in JSON
	}
	s := Total{Targets: len(r.Targets), Silent: len(r.Silent)}
	for i, t := range r.Targets {
		if t.Unwatched == nil { // a list in JSON
			r.Targets[i].Unwatched = []Gap{}
		}
		s.Sent, s.Lost = s.Sent+t.Sent, s.Lost+t.Lost
		s.UnwatchedMS += t.UnwatchedMS
		if t.Reordered != nil {
			s.Reordered += *t.Reordered
		}
		if t.By == ARP {
			s.ByARP++
		}
		if t.Lost > 0 {
			s.Losing++
		}
		if t.LongestMS > s.LongestMS {
			s.LongestMS, s.LongestIP = t.LongestMS, t.IP.String()
		}
	}
	s.UnwatchedMS = math.Round(s.UnwatchedMS*10) / 10
	r.Total = s
}

// Worst are the targets that lost packets, those with the longest gap first.
func (r *Result) Worst() []Target {
	out := slices.DeleteFunc(slices.Clone(r.Targets), func(t Target) bool { return t.Lost == 0 })
	slices.SortStableFunc(out, func(a, b Target) int {
		return cmp.Or(cmp.Compare(b.LongestMS, a.LongestMS), cmp.Compare(b.Lost, a.Lost))
	})
	return out
}

// Unwatched is which part of the time was not watched, on average of the targets.
func (r *Result) Unwatched() float64 {
	all := float64(len(r.Targets)) * float64(r.Ended.Sub(r.Began.Time).Milliseconds())
	if all <= 0 {
		return 0
	}
	return min(1, r.Total.UnwatchedMS/all)
}

// Longest is the longest gap of a target.
func (t Target) Longest() Gap {
	if len(t.Gaps) == 0 {
		return Gap{}
	}
	return slices.MaxFunc(t.Gaps, func(a, b Gap) int { return cmp.Compare(a.MS, b.MS) })
}

// maxFile bounds a result that is read, in bytes: 100,000 targets with some gaps each.
const maxFile = 1 << 30

// Read reads a Result that was written as JSON, and makes its sums anew.
func Read(r io.Reader) (*Result, error) {
	d := json.NewDecoder(io.LimitReader(r, maxFile))
	d.DisallowUnknownFields()
	var out Result
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("not the JSON of a result: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("more follows the result: want one, as probe -o json writes it")
	}
	if out.Version < 1 || out.Version > version {
		return nil, fmt.Errorf("version %d: want 1 to %d", out.Version, version)
	}
	if err := CheckName(out.Name); err != nil && (out.Version > 1 || out.Name != "") {
		return nil, err
	}
	if out.Ended.Before(out.Began.Time) {
		return nil, fmt.Errorf("ended %s: want a time after began", out.Ended.Format(time.RFC3339))
	}
	if !(out.Rate >= MinRate && out.Rate <= MaxRate) {
		return nil, fmt.Errorf("rate %v: want %v to %v", out.Rate, MinRate, MaxRate)
	}
	if out.ARPRate != 0 && !(out.ARPRate >= MinRate && out.ARPRate <= MaxARPRate) {
		return nil, fmt.Errorf("arp_rate %v: want %v to %v, or 0", out.ARPRate, MinRate, MaxARPRate)
	}
	if err := out.checkTargets(); err != nil {
		return nil, err
	}
	out.Sum()
	return &out, nil
}

// CheckName checks the name of a vantage point.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || text.Clean(name) != name {
		return fmt.Errorf("name %q: want 1 to %d bytes that can be printed", name, maxName)
	}
	return nil
}

// checkTargets checks the targets; those of the first version were all asked by ICMP.
func (r *Result) checkTargets() error {
	seen := map[netip.Addr]bool{}
	for i := range r.Targets {
		t := &r.Targets[i]
		if r.Version == 1 && t.By == "" {
			t.By = ICMP
		}
		if err := t.check(r.ARPRate > 0); err != nil {
			return fmt.Errorf("targets[%d]: %w", i, err)
		}
		if seen[t.IP] {
			return fmt.Errorf("targets[%d]: %s is there twice: want each address once", i, t.IP)
		}
		seen[t.IP] = true
	}
	for i := range r.Silent {
		a := &r.Silent[i]
		if r.Version == 1 && len(a.AskedBy) == 0 {
			a.AskedBy = []Means{ICMP}
		}
		switch {
		case !a.IP.IsValid():
			return fmt.Errorf("silent[%d]: ip %q: want an address", i, a.IP)
		case seen[a.IP]:
			return fmt.Errorf("silent[%d]: %s is there twice: want each address once", i, a.IP)
		}
		seen[a.IP] = true
		for _, m := range a.AskedBy {
			if m != ICMP && m != ARP {
				return fmt.Errorf("silent[%d]: asked_by %q: want %s or %s", i, m, ICMP, ARP)
			}
		}
	}
	return nil
}

// check looks for what no measurement gives.
func (t Target) check(arp bool) error {
	switch {
	case t.By != ICMP && (t.By != ARP || !arp):
		return fmt.Errorf("by %q: want %s, or %s with an arp_rate", t.By, ICMP, ARP)
	case !t.IP.IsValid():
		return fmt.Errorf("ip %q: want an address", t.IP)
	case t.Lost < 0 || t.Lost > t.Sent:
		return fmt.Errorf("lost %d: want 0 to sent, %d", t.Lost, t.Sent)
	case t.LongestMS < 0 || t.UnwatchedMS < 0 || t.GapsLeftOut < 0 || t.UnwatchedLeftOut < 0 || t.Reordered != nil && *t.Reordered < 0:
		return fmt.Errorf("a figure of %s is below 0", t.IP)
	}
	for _, l := range []struct {
		name string
		list []Gap
	}{{"gaps", t.Gaps}, {"unwatched", t.Unwatched}} {
		for i, g := range l.list {
			if g.MS < 0 || g.At.IsZero() {
				return fmt.Errorf("%s[%d]: want a time, and ms of 0 or more", l.name, i)
			}
		}
	}
	return nil
}
