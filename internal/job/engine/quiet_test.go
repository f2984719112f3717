package engine

import (
	"slices"
	"testing"

	"holdfast/internal/job"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// TestQuiet: a job that has not ended is named, and one that begins later breaks the
// conditions.
func TestQuiet(t *testing.T) {
	st := storetest.NewMem().NewClient("a")
	defer st.Close()
	put := func(j job.Job) int64 {
		t.Helper()
		rev, ok, err := st.Txn(t.Context(), nil, []store.Op{{Key: runKey(j.Kind), Value: encode(j)}})
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		return rev
	}
	conds, what, err := Quiet(t.Context(), st, "host", job.Upgrade)
	if want := []store.Cmp{{Key: runKey("host")}, {Key: runKey(job.Upgrade)}}; err != nil || what != "" || !slices.Equal(conds, want) {
		t.Errorf("no job: %v, %q, %v", conds, what, err)
	}
	put(job.Job{ID: "up-1", Kind: job.Upgrade, Title: "to 2.0", User: "root", State: job.Paused})
	if _, ok, err := st.Txn(t.Context(), conds, []store.Op{{Key: "x", Value: []byte("y")}}); ok || err != nil {
		t.Errorf("a job has begun, and the conditions hold: %v, %v", ok, err)
	}
	if _, what, err := Quiet(t.Context(), st, "host", job.Upgrade); err != nil || what != "the job up-1 (to 2.0) of root is paused" {
		t.Errorf("%q, %v", what, err)
	}
	rev := put(job.Job{ID: "up-1", Kind: job.Upgrade, State: job.Ended})
	conds, what, err = Quiet(t.Context(), st, "host", job.Upgrade)
	if err != nil || what != "" || conds[1].Rev != rev {
		t.Errorf("ended: %v, %q, %v", conds, what, err)
	}
}
