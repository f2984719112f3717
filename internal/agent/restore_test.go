package agent

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/pair"
	"holdfast/internal/pair/group"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// TestWhatABackupBringsBack: nothing that was taken away since goes on by itself: no job, no word about a host or a copy.
func TestWhatABackupBringsBack(t *testing.T) {
	st := storetest.NewMem().NewClient("h")
	defer st.Close()
	put := func(key string, text []byte) {
		t.Helper()
		if _, _, err := st.Txn(t.Context(), nil, []store.Op{{Key: key, Value: text}}); err != nil {
			t.Fatal(err)
		}
	}
	for kind, state := range map[job.Kind]job.State{"a": job.Active, "b": job.Aborting, "c": job.Paused, "d": job.Ended} {
		text, err := json.Marshal(job.Job{ID: "j" + string(kind), Kind: kind, State: state, Began: time.Unix(int64(kind[0]), 0)})
		if err != nil {
			t.Fatal(err)
		}
		put("job/run/"+string(kind), text)
	}
	was := pair.Sync{InSync: []cluster.HostID{"n1", "n2"}, Host: "n1", To: "n2", Proof: "x", Epoch: cluster.Epoch{Gen: 1, Seq: 4}}
	put(group.KeySync, records.Encode(was))
	put(records.WantKey(cluster.MgmtVM), records.Encode(cluster.Want{Run: true, Maintenance: []cluster.HostID{"h3"},
		Off: []cluster.Off{{Host: "h2"}}}))
	for guest, word := range map[string]string{
		"started": `"start":true`, "autostart": `"autostart":true`, "gone": `"live":true,"says":"gone"`, "stays": `"live":true,"says":"stays"`,
		"open": `"live":true`, "halted": `"live":true,"says":"halted"`,
	} {
		put("fleet-carry/h2/"+guest, fmt.Appendf(nil, `{"uuid":%q,"name":%q,"from":"h1",%s}`, guest, guest, word))
	}
	put("fleet-carry/h2/x", []byte("not to be read"))
	got, err := restored(t.Context(), st, 7)
	if err != nil || got.Generation <= 7 || !slices.Equal(got.Jobs, []string{"jc", "jb", "ja"}) || !got.Copies ||
		!slices.Equal(got.Guests, []string{"autostart", "gone", "started", "stays"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if w := got.Want; !w.Run || !slices.Equal(w.Maintenance, []cluster.HostID{"h3"}) || len(w.Off) != 0 {
		t.Errorf("asked for %+v", w)
	}
	if left, _, err := st.List(t.Context(), "fleet-carry/"); err != nil || len(left) != 3 {
		t.Errorf("words that are left: %v, %v", left, err)
	}
	jobs, err := engine.List(t.Context(), st)
	if err != nil || len(jobs) != 4 {
		t.Fatal(jobs, err)
	}
	for _, j := range jobs {
		if over := j.ID == "jd"; over != (j.State == job.Ended) || !over && (j.State != job.Paused || j.Why[0].Code != "restored") {
			t.Errorf("job %+v", j)
		}
	}
	kv, found, err := st.Get(t.Context(), group.KeySync)
	if err != nil {
		t.Fatal(err)
	}
	sync, err := records.Decode[pair.Sync](kv, !found)
	if err != nil {
		t.Fatal(err)
	}
	if len(sync.InSync)+len(sync.To)+len(sync.Proof) > 0 || sync.Epoch != was.Epoch {
		t.Errorf("%+v", sync)
	}
}
