package drain

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/store"
)

// maxCarry bounds what is said of a guest, bytes.
const maxCarry = 2 << 10

// Rates bound how often a host that runs guests only says something of a guest that leaves
// it: each move has some three writes, and a host may be emptied of hundreds at once.
func Rates() []store.Rate {
	return []store.Rate{{Prefix: carryKeys, Every: 2 * time.Second, Burst: 2000}}
}

// PermitsCarry says of a write whether a host may make it that runs guests only. known is false
// for keys of others. The host to which a guest comes removes the word about it; the one
// that it leaves writes, changes and removes its own.
func PermitsCarry(a store.Attempt) (known bool, err error) {
	to, ok := strings.CutPrefix(a.Key, carryKeys)
	if !ok {
		return false, nil
	}
	if err := a.Within(maxCarry); err != nil {
		return true, err
	}
	switch {
	case strings.Count(to, "/") != 1:
		return true, store.ErrNotYours
	case a.Value == nil && strings.HasPrefix(a.Key, carryPrefix(cluster.HostID(a.Host))):
		return true, nil
	case !a.Looked:
		return true, store.ErrLook
	}
	for _, text := range [][]byte{a.Old, a.Value} {
		if text == nil {
			continue
		}
		var c carry
		if err := json.Unmarshal(text, &c); err != nil {
			return true, fmt.Errorf("read the record of a moved guest: %w", err)
		}
		if string(c.From) != a.Host {
			return true, store.ErrNotYours
		}
		if a.Value != nil && !strings.HasSuffix(a.Key, "/"+c.UUID) {
			return true, fmt.Errorf("%w: the word is about another guest than its key", store.ErrForm)
		}
	}
	return true, nil
}

// WriterOf is the host that has written a word about a guest that has left it; "": that can not be
// read. known is false for other records.
func WriterOf(kv store.KV) (host string, known bool) {
	if !strings.HasPrefix(kv.Key, carryKeys) {
		return "", false
	}
	var c carry
	if json.Unmarshal(kv.Value, &c) != nil {
		return "", true
	}
	return string(c.From), true
}
