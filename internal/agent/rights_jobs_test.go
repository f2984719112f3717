package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/store"
)

// emptied reads a store beside the keys that are judged: run u1 is measured, a job empties g1, and
// g2 reports one guest.
func emptied(key string) (kvs []store.KV, void bool, err error) {
	value := map[string]string{
		"upgrade-probe/u1/plan": `{}`,
		"job/todo/g1/":          `{"job":"d1","kind":"host","state":"active","steps":["g1/drain"]}`,
		"job/step/d1/g1/drain":  `{"step":"g1/drain","state":"running","attempt":1,"host":"g1","work":{"id":"g1/drain","host":"g1","kind":"drain","timeout":1}}`,
		"fleet/g2":              `{"host":{"name":"g2"},"vms":[{"uuid":"theirs"}]}`,
	}[key]
	if value == "" {
		return nil, false, nil
	}
	if strings.HasSuffix(key, "/") {
		key += "host"
	}
	return []store.KV{{Key: key, Value: []byte(value)}}, false, nil
}

// TestRightsOfHostsThatRunGuestsOnly: what they write is their own, and nothing else
// is.
func TestRightsOfHostsThatRunGuestsOnly(t *testing.T) {
	text := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	step := func(state job.StepState, of, by cluster.HostID) []byte {
		r := job.Record{Step: "g1/a", State: state, Attempt: 1, Host: by}
		if of != "" {
			r.Work = &job.Step{ID: "g1/a", Host: of, Kind: "k", Timeout: 1e9}
		}
		return text(r)
	}
	record := func(h cluster.HostID) []byte { return text(report.Record{Host: inventory.Host{Name: h}}) }
	from := func(h cluster.HostID) []byte { return text(map[string]any{"uuid": "u", "from": h, "live": true}) }
	const key, mine, theirs = "job/step/u1/g1/a", "fleet-carry/g1/u", "fleet-carry/g2/u"
	x := []byte("x")
	yes, no := true, false
	for name, c := range map[string]struct {
		key        string
		old, value []byte
		guarded    bool
		want       bool
	}{
		"its record":                        {"fleet/g1", nil, record("g1"), no, yes},
		"its record with another's name":    {"fleet/g1", nil, record("g2"), no, no},
		"its record, deleted":               {"fleet/g1", record("g1"), nil, no, no},
		"another's record":                  {"fleet/g2", nil, record("g2"), no, no},
		"another's record, deleted":         {"fleet/g2", record("g2"), nil, no, no},
		"a claim":                           {key, step(job.Granted, "g1", ""), step(job.Running, "g1", "g1"), yes, yes},
		"a claim without a condition":       {key, step(job.Granted, "g1", ""), step(job.Running, "g1", "g1"), no, no},
		"a claim of another's step":         {key, step(job.Granted, "g2", ""), step(job.Running, "g1", "g1"), yes, no},
		"a claim of the coordinator's step": {key, step(job.Granted, "", ""), step(job.Running, "g1", "g1"), yes, no},
		"a claim for another":               {key, step(job.Granted, "g1", ""), step(job.Running, "g2", "g1"), yes, no},
		"a claim in another's name":         {key, step(job.Granted, "g1", ""), step(job.Running, "g1", "g2"), yes, no},
		"a claim of other work": {key, step(job.Granted, "g1", ""),
			bytes.Replace(step(job.Running, "g1", "g1"), []byte(`"k"`), []byte(`"undrain"`), 1), yes, no},
		"a result":                         {key, step(job.Running, "g1", "g1"), step(job.Done, "", "g1"), yes, yes},
		"a result of what is over":         {key, step(job.Failed, "", "g1"), step(job.Done, "", "g1"), yes, no},
		"a result of what was not granted": {key, step(job.Pending, "", ""), step(job.Done, "", "g1"), yes, no},
		"a step that is not there":         {key, nil, step(job.Done, "", "g1"), yes, no},
		"a step, deleted":                  {key, step(job.Running, "g1", "g1"), nil, yes, no},
		"a job":                            {"job/run/upgrade", x, x, yes, no},
		"a plan":                           {"job/plan/u1/0000", nil, x, yes, no},
		"what hosts have to do":            {"job/todo/g1/upgrade", x, x, yes, no},
		"a word about a guest that leaves": {theirs, nil, from("g1"), no, yes},
		"a word under a long key":          {theirs + strings.Repeat("u", maxKey), nil, from("g1"), no, no},
		"a word, changed":                  {theirs, from("g1"), from("g1"), yes, yes},
		"a word, taken back":               {theirs, from("g1"), nil, no, yes},
		"a word of another":                {theirs, nil, from("g3"), no, no},
		"another's word, changed":          {theirs, from("g3"), from("g1"), yes, no},
		"another's word, deleted":          {theirs, from("g3"), nil, no, no},
		"a word to it, done":               {mine, from("g3"), nil, yes, yes},
		"a word to it, changed":            {mine, from("g3"), from("g3"), yes, no},
		"a word below a word":              {mine + "/u", nil, from("g1"), no, no},
		"addresses":                        {"upgrade-probe/addr/g1", nil, []byte("{}"), no, yes},
		"another's addresses":              {"upgrade-probe/addr/g2", nil, x, no, no},
		"counts":                           {"upgrade-probe/u1/g1", nil, []byte(`{"run":"u1","host":"g1"}`), yes, yes},
		"counts, deleted":                  {"upgrade-probe/u1/g1", x, nil, yes, no},
		"the time of a run":                {"upgrade-probe/u1/time/passed", x, []byte("{}"), yes, yes},
		"whom to ping":                     {"upgrade-probe/u1/plan", nil, x, yes, no},
	} {
		_, err, failed := store.Judge(store.Attempt{Host: "g1", Key: c.key, Value: c.value}, permits,
			func(a *store.Attempt) (bool, error) { a.Old, a.Guarded = c.old, c.guarded; return false, nil },
			emptied)
		if failed != nil {
			t.Fatal(failed)
		}
		if (err == nil) != c.want || errors.Is(err, store.ErrLook) {
			t.Errorf("%s: %v, want permitted %t", name, err, c.want)
		}
	}
	if err := permits(store.Attempt{Host: "g1", Key: "state/owner/mnvm", Value: x}); !errors.Is(err, store.ErrNotYours) {
		t.Errorf("the owner of the management VM: %v", err)
	}
	if err := permits(store.Attempt{Host: "plan", Key: "upgrade-probe/u1/plan", Value: x}); err == nil {
		t.Error("a host with the name of the plan writes it")
	}
}

// TestAReportIsNoBomb: what is short as text, and large for who reads it, is refused before it is decoded.
func TestAReportIsNoBomb(t *testing.T) {
	for field, want := range map[string]error{"vms": store.ErrTooLarge, "certificates": store.ErrTooLarge, "": nil} {
		text := `{"host":{"name":"g1"}`
		if field != "" {
			text += `,"` + field + `":[` + strings.Repeat("{},", 100_000) + `{}]`
		}
		if err := permits(store.Attempt{Host: "g1", Key: report.RecordKey("g1"), Value: []byte(text + "}")}); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", field, err, want)
		}
	}
}
