package agent

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/fleet"
	"holdfast/internal/ha/records"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/service"
	"holdfast/testbed/earlier"
	"holdfast/testbed/earlier/revive"
	"holdfast/testbed/need"
)

// reader reads the records whose keys begin so with today's types, without losing anything.
type reader struct {
	prefix string
	read   func(t *testing.T, kv store.KV) // nil: a test of the package to which they belong does, nobody else knows the types
}

// readers are those of all records that there are.
var readers = []reader{
	{records.KeyOwners, sealed[cluster.Owner]},
	{records.KeyHosts, sealed[cluster.Host]},
	{records.KeyCoord, sealed[cluster.Coordinator]},
	{records.KeyWants, sealed[cluster.Want]},
	{records.KeyConfig, sealed[config.Cluster]},
	{records.KeyGeneration, sealed[uint64]},
	{records.KeyBeat, sealed[[]byte]},
	{records.KeyPercent, sealed[int]},
	{records.KeyLog, readEvent},
	{records.KeyRequests, readRequest},
	{report.Prefix, readReport},
	{"job/run/", readJob},
	{"job/old/", readJob},
	{"job/step/", readStep},
	{"job/plan/", func(*testing.T, store.KV) {}}, // compressed: read with their jobs
	{"job/todo/", nil},                           // package engine
	{"upgrade/state", func(t *testing.T, kv store.KV) { earlier.Whole[service.State](t, kv.Key, kv.Value) }},
	{"upgrade/platform/", func(t *testing.T, kv store.KV) { earlier.Whole[inventory.Inventory](t, kv.Key, kv.Value) }},
	{"fleet-carry/", nil},   // package drain
	{"upgrade-probe/", nil}, // package probe
}

// TestRecordsOfAnEarlierVersionAreRead: every record that the program of before the moves
// of packages has written is known, and read as a whole. A key or a field that is called
// otherwise is a store that can not be read after an upgrade.
func TestRecordsOfAnEarlierVersionAreRead(t *testing.T) {
	need.Seconds(t)
	found := map[string]int{}
	for _, m := range earlier.Moments {
		t.Run(string(m), func(t *testing.T) {
			st := revive.Store(t, m)
			for _, kv := range revive.List(t, st, "") {
				i := slices.IndexFunc(readers, func(r reader) bool { return strings.HasPrefix(kv.Key, r.prefix) })
				if i < 0 {
					t.Errorf("nobody knows %s: %q", kv.Key, kv.Value)
					continue
				}
				found[readers[i].prefix]++
				if read := readers[i].read; read != nil {
					read(t, kv)
				}
			}
			readPlans(t, st)
			assertRecords(t, st, m)
			assertTold(t, st, m)
		})
	}
	for _, r := range readers {
		if found[r.prefix] == 0 {
			t.Errorf("no record %s was found at all", r.prefix)
		}
	}
}

// sealed reads a record that carries a checksum.
func sealed[T any](t *testing.T, kv store.KV) {
	t.Helper()
	text, err := records.Unseal(kv.Value)
	if err != nil {
		t.Errorf("%s: %v", kv.Key, err)
		return
	}
	earlier.Whole[T](t, kv.Key, text)
	if _, err := records.Decode[T](kv, false); err != nil {
		t.Error(err)
	}
}

func readEvent(t *testing.T, kv store.KV) {
	t.Helper()
	sealed[cluster.Event](t, kv)
	e, err := records.Decode[cluster.Event](kv, false)
	if err != nil || !strings.HasPrefix(kv.Key, strings.TrimSuffix(records.LogKey(e, 0), "0")) {
		t.Errorf("%s is the event %+v, whose key is %s (%v)", kv.Key, e, records.LogKey(e, 0), err)
	}
}

func readRequest(t *testing.T, kv store.KV) {
	t.Helper()
	if _, err := time.Parse(time.RFC3339, string(kv.Value)); err != nil {
		t.Errorf("%s: %v", kv.Key, err)
	}
}

func readReport(t *testing.T, kv store.KV) {
	t.Helper()
	earlier.Whole[report.Record](t, kv.Key, kv.Value)
	if _, err := report.DecodeRecord(kv.Key, kv.Value); err != nil {
		t.Error(err)
	}
}

func readJob(t *testing.T, kv store.KV) {
	t.Helper()
	j := earlier.Whole[job.Job](t, kv.Key, kv.Value)
	if j.Data != nil {
		earlier.Whole[upgrade.Status](t, kv.Key+", data", j.Data)
	}
}

func readStep(t *testing.T, kv store.KV) {
	t.Helper()
	r := earlier.Whole[job.Record](t, kv.Key, kv.Value)
	if r.Work != nil {
		readArgs(t, kv.Key, *r.Work)
	}
}

// arguments reads those of each kind of step.
var arguments = map[string]func(t testing.TB, what string, text []byte){
	upgrade.KindCheck:         whole[upgrade.CheckArgs],
	upgrade.KindStage:         whole[upgrade.StageArgs],
	upgrade.KindHAOff:         whole[upgrade.SwitchArgs],
	upgrade.KindHAOn:          whole[upgrade.SwitchArgs],
	upgrade.KindStorageDetach: whole[upgrade.StorageArgs],
	upgrade.KindStorageAttach: whole[upgrade.StorageArgs],
	upgrade.KindAction:        whole[upgrade.ActionArgs],
	upgrade.KindReboot:        whole[upgrade.RebootArgs],
	upgrade.KindVerify:        whole[upgrade.VerifyArgs],
	upgrade.KindPairSwitch:    whole[upgrade.PairArgs],
	upgrade.KindPairStart:     whole[upgrade.PairArgs],
	upgrade.KindPairStop:      whole[upgrade.PairArgs],
	upgrade.KindCommit:        whole[upgrade.CommitArgs],
	upgrade.KindCleanup:       whole[upgrade.CleanupArgs],
	upgrade.KindTidy:          whole[upgrade.TidyArgs],
	evacuate.KindDrain:        whole[evacuate.DrainArgs],
	evacuate.KindUndrain:      whole[evacuate.UndrainArgs],
}

func whole[T any](t testing.TB, what string, text []byte) { earlier.Whole[T](t, what, text) }

func readArgs(t *testing.T, what string, s job.Step) {
	t.Helper()
	read := arguments[s.Kind]
	if read == nil {
		t.Errorf("%s, step %s: nobody knows the kind %q: %s", what, s.ID, s.Kind, s.Args)
		return
	}
	read(t, what+", arguments of "+s.ID, s.Args)
}

// readPlans reads the plans of all jobs.
func readPlans(t *testing.T, st store.Store) {
	t.Helper()
	jobs, err := engine.List(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		l, err := engine.Load(t.Context(), st, j.ID)
		if err != nil {
			t.Error(err)
			continue
		}
		planner := planners[j.Kind]
		if planner == nil {
			t.Errorf("%s: nobody plans jobs of kind %q", j.ID, j.Kind)
			continue
		}
		p, err := planner(l.Plan)
		if err != nil {
			t.Errorf("%s: %v", j.ID, err)
			continue
		}
		if j.Kind == job.Upgrade {
			earlier.Whole[upgrade.Plan](t, j.ID, l.Plan)
		} else {
			earlier.Same(t, j.ID, l.Plan, p)
		}
		for _, s := range p.Steps() {
			readArgs(t, j.ID, s)
		}
		if _, err := json.Marshal(p.Next(l.Job, l.Records, nil, j.Changed)); err != nil {
			t.Errorf("%s: what comes next: %v", j.ID, err)
		}
	}
}
