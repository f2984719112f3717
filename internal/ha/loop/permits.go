package loop

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
)

// Permits says of a write to the records of the management VM whether a host may make it
// that runs guests only: it tells of itself in the log, remembers its requests, and says
// that it goes into maintenance. known is false for keys that are not of these records.
func Permits(a store.Attempt) (known bool, err error) {
	switch {
	case a.Key == records.WantKey(cluster.MgmtVM) && a.Value != nil:
		return true, permitsRest(a)
	case a.Value != nil && (strings.HasPrefix(a.Key, records.KeyRequests) || ownEvent(a)):
		return true, nil
	}
	return false, nil
}

// eventKey is what logKey makes.
var eventKey = regexp.MustCompile(`^` + regexp.QuoteMeta(records.KeyLog) + `\d{20}-(.+)-\d+$`)

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
	old, err := records.Decode[cluster.Want](store.KV{Key: a.Key, Value: a.Old}, a.Old == nil)
	if err != nil {
		return err
	}
	next, err := records.Decode[cluster.Want](store.KV{Key: a.Key, Value: a.Value}, false)
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
