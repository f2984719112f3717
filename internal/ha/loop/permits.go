package loop

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/store"
)

// Bounds of what a host that runs guests only writes here, bytes.
const (
	maxEventBytes   = 1 << 10
	maxRequestBytes = 64        // a time; the key of a request has no more
	maxWantBytes    = 256 << 10 // of hosts in maintenance, mostly
)

// Permits says of a write to the records of the management VM whether a host may make it
// that runs guests only: it tells of itself in the log, remembers its requests, and says
// that it goes into maintenance. known is false for keys that are not of these records.
func Permits(a store.Attempt) (known bool, err error) {
	key, request := strings.CutPrefix(a.Key, records.KeyRequests)
	switch {
	case a.Value == nil:
		return false, nil
	case a.Key == records.WantKey(cluster.MgmtVM):
		return true, permitsRest(a)
	case request:
		return true, permitsRequest(key, a)
	case ownEvent(a):
		return true, permitsEvent(a)
	}
	return false, nil
}

// Rates bound how often a host that runs guests only writes of these records: it goes into
// maintenance and out of it, seldom. The log and the requests keep the newest only, so who
// writes fast would have others' forgotten.
func Rates() []store.Rate {
	return []store.Rate{
		{Prefix: records.KeyLog, Every: 5 * time.Second, Burst: 30},
		{Prefix: records.KeyRequests, Every: 5 * time.Second, Burst: 30},
	}
}

// eventKey is what logKey makes.
var eventKey = regexp.MustCompile(`^` + regexp.QuoteMeta(records.KeyLog) + `\d{20}-(.+)-\d+$`)

// ownEvent reports whether a key of the log is of the host itself.
func ownEvent(a store.Attempt) bool { return writerOf(a.Key) == a.Host }

// WriterOf is the host that has written an event; known is false for other records.
func WriterOf(kv store.KV) (host string, known bool) {
	return writerOf(kv.Key), strings.HasPrefix(kv.Key, records.KeyLog)
}

// writerOf is the host whose name is in a key of the log, which the members of the store have
// checked; "": there is none.
func writerOf(key string) string {
	m := eventKey.FindStringSubmatch(key)
	if m == nil {
		return ""
	}
	return m[1]
}

// permitsEvent lets a host say of itself that it goes into maintenance or out of it, and name
// no user: a person's name in the log stands for a certificate, or for root of a member.
func permitsEvent(a store.Attempt) error {
	if err := a.Within(maxEventBytes); err != nil {
		return err
	}
	e, err := records.Decode[cluster.Event](store.KV{Key: a.Key, Value: a.Value}, false)
	if err != nil {
		return fmt.Errorf("%w: %w", store.ErrForm, err)
	}
	self := cluster.HostID(a.Host)
	inMaintenance := func(on bool) string {
		var before, after cluster.Want
		before.SetMaintenance(self, !on)
		after.SetMaintenance(self, on)
		return wantDetail(before, after)
	}
	switch {
	case e.By != self, e.User != "" && e.User != JobUser:
		return fmt.Errorf("%w: an event is by the host itself, and names no user", store.ErrNotYours)
	case !slices.Contains([]string{inMaintenance(true), inMaintenance(false), wantDetail(cluster.Want{}, cluster.Want{})}, e.Detail):
		return fmt.Errorf("%w: a host may say of itself that it is in maintenance, and nothing else", store.ErrNotYours)
	}
	if want := (cluster.Event{Time: e.Time, Kind: cluster.EvWant, By: self, Resource: cluster.MgmtVM, User: e.User,
		Detail: e.Detail}); e != want {
		return fmt.Errorf("%w: the event has more than a request of the host has", store.ErrForm)
	}
	return nil
}

// permitsRequest lets a host remember a request of its own, once.
func permitsRequest(key string, a store.Attempt) error {
	if err := a.Within(maxRequestBytes); err != nil {
		return err
	}
	_, err := time.Parse(time.RFC3339, string(a.Value))
	switch {
	case err != nil:
		return fmt.Errorf("%w: want a time: %w", store.ErrForm, err)
	case len(key) == 0 || len(key) > maxRequestBytes:
		return fmt.Errorf("%w: the key of a request has 1 to %d characters", store.ErrForm, maxRequestBytes)
	case !a.Looked:
		return store.ErrLook
	case a.Old != nil:
		return fmt.Errorf("%w: it is there already", store.ErrNotYours)
	}
	return nil
}

// permitsRest lets a host say of itself that it takes no guests, or takes them
// again, and nothing else: of what is asked for, all the rest is the operators'.
func permitsRest(a store.Attempt) error {
	if err := a.Within(maxWantBytes); err != nil {
		return err
	}
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
	detail := wantDetail(old, next)
	old.SetMaintenance(self, slices.Contains(next.Maintenance, self))
	if len(old.Maintenance)+len(next.Maintenance) == 0 {
		old.Maintenance, next.Maintenance = nil, nil
	}
	if !reflect.DeepEqual(old, next) {
		return fmt.Errorf("%w: a host may say of itself that it is in maintenance, and nothing else", store.ErrNotYours)
	}
	return saysSo(a, detail)
}

// saysSo wants the event of the change in the same transaction: what is asked for is in the log, and as
// seldom as events may be.
func saysSo(a store.Attempt, detail string) error {
	for key, value := range a.With {
		if writerOf(key) != a.Host {
			continue
		}
		if e, err := records.Decode[cluster.Event](store.KV{Key: key, Value: value}, false); err == nil && e.Detail == detail {
			return nil
		}
	}
	return fmt.Errorf("%w: want the event of it in the same transaction", store.ErrForm)
}
