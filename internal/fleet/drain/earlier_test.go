package drain

import (
	"testing"

	"holdfast/testbed/earlier"
	"holdfast/testbed/earlier/revive"
)

// TestWordsOfAnEarlierVersionAreRead: guests were on their way when the program was
// another one. What they carry is found by the host to which they go, and read as a whole.
func TestWordsOfAnEarlierVersionAreRead(t *testing.T) {
	st := revive.Store(t, earlier.Moving)
	kvs := revive.List(t, st, carryPrefix("h1"))
	if all := revive.List(t, st, carryKeys); len(kvs) != 2 || len(all) != 2 {
		t.Fatalf("words about guests: %v, of them for h1: %v", all, kvs)
	}
	for i, kv := range kvs {
		c := earlier.Whole[carry](t, kv.Key, kv.Value)
		name := []string{"vm2", "vm3"}[i]
		if carryPrefix("h1")+c.UUID != kv.Key || c.Name != name || c.From != "h2" || !c.Live || c.ID == "" || c.decided() {
			t.Errorf("%s: %+v", kv.Key, c)
		}
	}
	words, errs := readWords(kvs)
	if len(words) != 2 || len(errs) > 0 {
		t.Errorf("read: %+v, %v", words, errs)
	}
}
