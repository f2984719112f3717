package drain

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/evacuate"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job/engine"
	"holdfast/internal/store"
)

// Bounds of what a host that runs guests only says of guests that leave it.
const (
	maxCarry = 2 << 10 // of one word, bytes
	// mostCarries are its words at a time. An honest host has one for each guest that is on its
	// way, or that waits for another agent: a host of 500 guests has no more.
	mostCarries = 512
)

// Rates bound how often a host that runs guests only says something of a guest that leaves
// it, and of how many at a time: each move has some three writes, and a host may be emptied of
// hundreds at once.
func Rates() []store.Rate {
	return []store.Rate{{Prefix: carryKeys, Every: 2 * time.Second, Burst: 2000, Most: mostCarries, Writer: WriterOf}}
}

// PermitsCarry says of a write whether a host may make it that runs guests only. known is false
// for keys of others. The host to which a guest comes removes the word about it; the one
// that it leaves writes, changes and removes its own. It begins one only while a job has the
// guest leave it, and to a host that does not have the guest yet.
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
	if a.Old != nil || a.Value == nil {
		return true, nil
	}
	target, guest, _ := strings.Cut(to, "/")
	if err := permitsMove(a, cluster.HostID(target), guest); err != nil {
		return true, err
	}
	return true, lacks(a, cluster.HostID(target), guest)
}

// permitsMove wants a step that only members write, which has the guest leave: this host is
// emptied, or the target brings the guest back. So whoever has this host's certificate says
// nothing of guests while nobody moves any.
func permitsMove(a store.Attempt, to cluster.HostID, guest string) error {
	drains, err := engine.OpenIn(a.Read, cluster.HostID(a.Host), evacuate.KindDrain)
	if err != nil || len(drains) > 0 {
		return err
	}
	undrains, err := engine.OpenIn(a.Read, to, evacuate.KindUndrain)
	if err != nil {
		return err
	}
	back, err := brings(undrains, guest)
	if err == nil && !back {
		err = fmt.Errorf("%w: no job empties host %s, or has host %s bring guest %.80q back", store.ErrNotYours, a.Host, to, guest)
	}
	return err
}

// lacks refuses a word about a guest that the target has already, in whatever state: the target
// would start, resume or end its own guest by it.
func lacks(a store.Attempt, to cluster.HostID, guest string) error {
	key := report.RecordKey(to)
	kvs, err := a.Read(key)
	if err != nil {
		return err
	}
	if len(kvs) == 0 {
		return fmt.Errorf("%w: no host %s reports", store.ErrForm, to)
	}
	r, err := report.DecodeRecord(key, kvs[0].Value)
	switch {
	case err != nil:
		return err
	case r.Unobservable || r.Forgotten:
		return fmt.Errorf("%w: it is not known which guests host %s has", store.ErrNotYours, to)
	case slices.ContainsFunc(r.VMs, func(vm inventory.VM) bool { return vm.UUID == guest }):
		return fmt.Errorf("%w: host %s reports that it has guest %.80q already; if it is only defined there: virsh undefine it",
			store.ErrNotYours, to, guest)
	}
	return nil
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
