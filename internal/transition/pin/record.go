package pin

import (
	"encoding/json"
	"fmt"
	"time"
)

// RecordKey is where a bridge has the record of its pin: in its other_config, which survives when flows are deleted.
const RecordKey = "holdfast-pin"

// Record is what a pin notes of itself, to tell later whether somebody has taken some of it away.
type Record struct {
	Flows   int   `json:"flows"`   // that it has put there, those left out that end by themselves
	Entries int   `json:"entries"` // of them in table 0, one per port
	Seconds int   `json:"seconds"` // that the entries hold
	Own     int   `json:"own"`     // the bridge's own flows at that time, those left out that end by themselves
	Tables  int   `json:"tables"`  // that those were in
	Until   int64 `json:"until"`   // when the entries end, in seconds of Unix
}

// Record is what is to be noted of a pin that begins at a time.
func (p *Plan) Record(begun time.Time) Record {
	own := lasting(p.theirs)
	r := Record{Entries: len(p.Entries), Own: len(own), Tables: tables(own)}
	for _, f := range p.Entries {
		r.Seconds = f.Hard
	}
	r.Flows = r.found(Dump{Flows: append(p.Copy[:len(p.Copy):len(p.Copy)], p.Entries...)})
	r.Until = begun.Add(time.Duration(r.Seconds) * time.Second).Unix()
	return r
}

// String is the record as a bridge has it.
func (r Record) String() string {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // numbers alone
	}
	return string(b)
}

// ReadRecord reads what a bridge has; nil: there is none.
func ReadRecord(text string) (*Record, error) {
	if text == "" {
		return nil, nil
	}
	r := new(Record)
	if err := json.Unmarshal([]byte(text), r); err != nil {
		return nil, fmt.Errorf("other_config:%s of the bridge: %.200q: %w", RecordKey, text, err)
	}
	return r, nil
}

// found counts the flows of the pin that are left, those left out that end by themselves.
func (r Record) found(d Dump) (n int) {
	for _, f := range d.Ours() {
		if f.entry() || f.Idle == 0 && f.Hard == r.Seconds+copyLonger {
			n++
		}
	}
	return n
}

// Damage is what is missing of a pin before its time.
type Damage struct {
	Put         int `json:"flows_put"`
	Left        int `json:"flows_left"`
	EntriesPut  int `json:"entries_put"`
	EntriesLeft int `json:"entries_left"`
}

// Damage tells whether flows of the pin are missing that should still be there; nil: none is.
func (r *Record) Damage(d Dump, now time.Time) *Damage {
	if r.Over(now) {
		return nil
	}
	x := &Damage{Put: r.Flows, Left: r.found(d), EntriesPut: r.Entries, EntriesLeft: d.Entries()}
	if x.Left >= x.Put && x.EntriesLeft >= x.EntriesPut {
		return nil
	}
	return x
}

// String says it with its numbers.
func (x *Damage) String() string {
	return fmt.Sprintf("the pin had %d flows, and %d of them were left before its time was over", x.Put, x.Left)
}

// Over reports whether the time of the pin is over, or there is none.
func (r *Record) Over(now time.Time) bool { return r == nil || now.Unix() >= r.Until }

// Missing says what the bridge's own flows lack of those that were there when it was pinned, for a pin whose copy is
// gone; "": nothing. Where ports went since, only the tables can be compared.
func (r *Record) Missing(d Dump) string {
	own := lasting(d.Theirs())
	switch {
	case r == nil:
	case len(d.Ports) < r.Entries:
		if n := tables(own); n < r.Tables {
			return fmt.Sprintf("flows in %d tables, they were in %d when it was pinned", n, r.Tables)
		}
	case len(own) < r.Own:
		return fmt.Sprintf("%d flows, %d were there when it was pinned", len(own), r.Own)
	}
	return ""
}
