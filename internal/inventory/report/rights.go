package report

import (
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// Permits says of a write whether a host may make it that runs guests only: its own report,
// and it never removes that. known is false for keys of others.
func Permits(a store.Attempt) (known bool, err error) {
	if !strings.HasPrefix(a.Key, Prefix) {
		return false, nil
	}
	if a.Key != RecordKey(cluster.HostID(a.Host)) || a.Value == nil {
		return true, store.ErrNotYours
	}
	_, err = DecodeRecord(a.Key, a.Value)
	return true, err
}
