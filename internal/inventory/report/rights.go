package report

import (
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// maxReport bounds a host's report as it is written, bytes: one of 500 guests has half of it.
const maxReport = maxBytes / 2

// Permits says of a write whether a host may make it that runs guests only: its own report,
// and it never removes that. known is false for keys of others.
func Permits(a store.Attempt) (known bool, err error) {
	if !strings.HasPrefix(a.Key, Prefix) {
		return false, nil
	}
	if a.Key != RecordKey(cluster.HostID(a.Host)) || a.Value == nil {
		return true, store.ErrNotYours
	}
	if err := a.Within(maxReport); err != nil {
		return true, err
	}
	_, err = DecodeRecord(a.Key, a.Value)
	return true, err
}

// WriterOf is the host whose report a record is; known is false for other records.
func WriterOf(kv store.KV) (host string, known bool) { return strings.CutPrefix(kv.Key, Prefix) }
