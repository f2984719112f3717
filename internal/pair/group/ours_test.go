package group

import (
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/pair"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
	"holdfast/testbed/try"
)

// TestAnotherStoreIsNotOurs: what a store of a lesser generation says is not taken in, and nothing
// is written to a store whose generation is not the one that was listed.
func TestAnotherStoreIsNotOurs(t *testing.T) {
	listing := func(g uint64, rev int64) []store.KV {
		return []store.KV{{Key: records.KeyGeneration, Value: records.Encode(g), ModRev: rev}}
	}
	seen := uint64(7)
	st := storetest.NewMem().NewClient("test")
	d := New(Options{Self: "a", Peer: "b", Resource: cluster.MgmtVM, Store: st, Seen: func() (uint64, error) { return seen, nil }})
	for g, want := range map[uint64]bool{6: false, 7: true, 8: true} {
		if err := d.ours(listing(g, int64(g))); (err == nil) != want {
			t.Errorf("generation %d while %d is followed: %v", g, seen, err)
		}
	}
	if d.ours(nil) == nil {
		t.Error("a store without a generation is taken for the one of generation 7")
	}
	seen = 1
	try.Must(t, d.ours(nil))
	put := pair.Put{Sync: pair.Sync{InSync: []cluster.HostID{"a"}}}
	if out := d.put(t.Context(), put); !out.OK {
		t.Errorf("the record of its own store: %+v", out)
	}
	rev, ok, err := st.Txn(t.Context(), nil, []store.Op{{Key: records.KeyGeneration, Value: records.Encode(uint64(9))}})
	if err != nil || !ok {
		t.Fatal(rev, ok, err)
	}
	kv, _, err := st.Get(t.Context(), KeySync)
	try.Must(t, err)
	put.SyncMod = kv.ModRev
	if out := d.put(t.Context(), put); out.OK {
		t.Error("a record was written to a store of another generation")
	}
	try.Must(t, d.ours(listing(9, rev)))
	if out := d.put(t.Context(), put); !out.OK {
		t.Errorf("the record after a new listing: %+v", out)
	}
}
