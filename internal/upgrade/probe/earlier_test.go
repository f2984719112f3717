package probe

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"holdfast/internal/store"
	"holdfast/internal/upgrade/check"
	"holdfast/testbed/earlier"
	"holdfast/testbed/earlier/revive"
)

// TestCountsOfAnEarlierVersionAreRead: who pinged whom in an upgrade when the program was
// another one is read as a whole, and the sum is what that program has reported.
func TestCountsOfAnEarlierVersionAreRead(t *testing.T) {
	st := revive.Store(t, earlier.End)
	found := map[string]int{}
	for _, kv := range revive.List(t, st, keyAll) {
		what, read := about(kv)
		if read == nil {
			t.Errorf("nobody knows %s: %s", kv.Key, kv.Value)
			continue
		}
		found[what]++
		read(t, kv.Key, kv.Value)
	}
	if want := map[string]int{"addresses": 3, "plan": 1, "part": 2, "time": 1, "record": 2}; !reflect.DeepEqual(found, want) {
		t.Errorf("records: %v, want %v", found, want)
	}
	sum, err := Sum(t.Context(), st, earlier.Upgrade)
	if err != nil {
		t.Fatal(err)
	}
	var report check.Report
	if err := json.Unmarshal(earlier.Said(t, earlier.End, "upgrade-report"), &report); err != nil {
		t.Fatal(err)
	}
	if got := sum.Losses(); len(got) != 5 || !reflect.DeepEqual(got, report.Losses) {
		t.Errorf("lost: %+v, reported was %+v", got, report.Losses)
	}
}

// about tells what a record is, and reads it; nil when it is none.
func about(kv store.KV) (what string, read func(t testing.TB, what string, text []byte)) {
	switch key := kv.Key; {
	case strings.HasPrefix(key, keyAddrs):
		return "addresses", whole[addresses]
	case key == planKey(earlier.Upgrade):
		return "plan", whole[plan]
	case strings.HasPrefix(key, planKey(earlier.Upgrade)+"/"):
		return "part", whole[part]
	case key == clockKey(earlier.Upgrade):
		return "time", whole[reading]
	case key == recordKey(earlier.Upgrade, "h1"), key == recordKey(earlier.Upgrade, "h3"):
		return "record", whole[record]
	}
	return "", nil
}

func whole[T any](t testing.TB, what string, text []byte) { earlier.Whole[T](t, what, text) }
