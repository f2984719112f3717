package records

import (
	"errors"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

func TestARecordWithOneBitFlippedIsRefused(t *testing.T) {
	value := Encode(cluster.Owner{Host: "h1", State: cluster.Running, Epoch: cluster.Epoch{Gen: 1, Seq: 7}})
	if o, err := Decode[cluster.Owner](store.KV{Value: value}, false); err != nil || o.Host != "h1" {
		t.Fatalf("%+v, %v", o, err)
	}
	for i := range value {
		for bit := range 8 {
			value[i] ^= 1 << bit
			if o, err := Decode[cluster.Owner](store.KV{Key: "k", Value: value}, false); !errors.Is(err, errChecksum) {
				t.Errorf("byte %d, bit %d: %+v, %v", i, bit, o, err)
			}
			value[i] ^= 1 << bit
		}
	}
	if _, err := Decode[cluster.Owner](store.KV{}, false); !errors.Is(err, errChecksum) {
		t.Error("an empty record was taken")
	}
}
