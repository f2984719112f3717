package engine

import (
	"testing"

	"holdfast/internal/job"
	"holdfast/internal/store"
)

// FuzzDecode: whatever is in the store, reading it does not fail hard, and a
// record is never read as one that may begin a step unless it says what to do.
func FuzzDecode(f *testing.F) {
	s := free("h1/a", "h1").Step
	g := job.Grant(job.Record{}, "h1/a", 7, job.Generation)
	g.Work = &s
	f.Add(encode(g))
	f.Add(encode(job.Record{Step: "h1/a", State: job.Failed, Attempt: 2, Tail: "x"}))
	f.Add(encode(upgradeJob("u1")))
	f.Add(encode(todo{Job: "u1", Kind: job.Upgrade, State: job.Active, Steps: []string{"h1/a"}}))
	f.Add([]byte(`{"step":"h1/a","state":"granted","attempt":1,"work":null}`))
	f.Add([]byte("{}{}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		kv := store.KV{Key: "job/step/u1/h1/a", Value: data, ModRev: 9}
		r := recordOr("h1/a", kv)
		if r.Mod != 9 || r.Step != "h1/a" {
			t.Errorf("record %+v", r)
		}
		if isOpen(r.State) && (r.Work == nil || r.Work.ID != "h1/a" || r.Work.Timeout <= 0) {
			t.Errorf("record that may begin nothing known: %+v", r)
		}
		if again := recordOr("h1/a", store.KV{Key: kv.Key, Value: encode(r), ModRev: 9}); again.State != r.State || again.Attempt != r.Attempt {
			t.Errorf("read %+v, written and read again %+v", r, again)
		}
		if j, err := decodeJob(store.KV{Key: "job/run/upgrade", Value: data}); err == nil &&
			(!word().MatchString(j.ID) || !word().MatchString(string(j.Kind))) {
			t.Errorf("job %+v", j)
		}
		if td, err := decodeTodo(store.KV{Key: "job/todo/h1/upgrade", Value: data}); err == nil && td.Kind != job.Upgrade {
			t.Errorf("todo %+v", td)
		}
	})
}

// FuzzPrintable: any output becomes short valid text.
func FuzzPrintable(f *testing.F) {
	f.Add([]byte("a\r\nb\rc\x1b[31m\xff€"), 5)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		n = 4 + (n&0x7fffffff)%5000
		for _, s := range []string{end(printable(data), n), cut(string(data), n)} {
			if len(s) > n || s != printable([]byte(s)) {
				t.Errorf("%q", s)
			}
		}
	})
}
