package agent

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/evacuate/drain"
	"holdfast/internal/inventory/report"
	"holdfast/internal/job/engine"
	"holdfast/internal/probe"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// guests are the rights of hosts that run guests only, which every member enforces
// (docs/adr/0026).
func guests() *etcdstore.Guard {
	return &etcdstore.Guard{Secret: []string{keyBeat}, Permits: permits}
}

// permits returns nil for a write that a host may make which runs guests only: what
// it tells of itself and its jobs, and that it goes into maintenance.
func permits(a store.Attempt) error {
	known, err := permitsJobs(a)
	switch {
	case known:
		return err
	case a.Value == nil:
		return store.ErrNotYours
	case a.Key == wantKey(cluster.MgmtVM):
		return permitsRest(a)
	case strings.HasPrefix(a.Key, keyRequests) || ownEvent(a):
		return nil
	}
	return store.ErrNotYours
}

// eventKey is what logKey makes.
var eventKey = regexp.MustCompile(`^` + regexp.QuoteMeta(keyLog) + `\d{20}-(.+)-\d+$`)

// ownEvent reports whether a key of the log is of the host itself.
func ownEvent(a store.Attempt) bool {
	m := eventKey.FindStringSubmatch(a.Key)
	return m != nil && m[1] == a.Host
}

// permitsRest lets a host say of itself that it takes no guests, or takes them
// again, and nothing else: of what is asked for, all the rest is the operators'.
func permitsRest(a store.Attempt) error {
	switch {
	case !a.Looked:
		return store.ErrLook
	case !a.Guarded:
		return fmt.Errorf("%w: want the revision of the record as a condition", store.ErrNotYours)
	}
	old, err := decode[cluster.Want](store.KV{Key: a.Key, Value: a.Old}, a.Old == nil)
	if err != nil {
		return err
	}
	next, err := decode[cluster.Want](store.KV{Key: a.Key, Value: a.Value}, false)
	if err != nil {
		return err
	}
	self := cluster.HostID(a.Host)
	old.SetRest(self, slices.Contains(next.Rest, self))
	if len(old.Rest)+len(next.Rest) == 0 {
		old.Rest, next.Rest = nil, nil
	}
	if !reflect.DeepEqual(old, next) {
		return fmt.Errorf("%w: a host may say of itself that it is in maintenance, and nothing else", store.ErrNotYours)
	}
	return nil
}

// permitsJobs says of a write whether a host may make it that runs guests only, by the rules
// of the tools that have jobs. known is false for keys that are not theirs.
func permitsJobs(a store.Attempt) (known bool, err error) {
	for _, rule := range []func(store.Attempt) (bool, error){engine.Permits, probe.Permits, report.Permits, drain.PermitsCarry} {
		if known, err := rule(a); known {
			return true, err
		}
	}
	return false, nil
}
