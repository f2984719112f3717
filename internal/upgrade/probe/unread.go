package probe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/text"
	"holdfast/internal/store"
)

// Hosts that run guests only write counts, addresses and the time of a run (rights.go). One with a wrong form must not keep
// others from counting, planning or summing up: it counts as if it were not there, and is named.

// Bounds of what is read of such a record.
const (
	maxValue   = 256 << 10                   // bytes; honest ones have below 100 KiB
	maxCount   = 1e12                        // packets
	maxMillis  = 10 * 365 * 24 * 3600 * 1000 // of a run: later than that nothing can be said as a time
	maxProblem = 300                         // bytes
)

// errForm: a record can not be read. Another try does not help.
var errForm = errors.New("it has a wrong form")

// checked are the records that a host may write which runs guests only.
type checked interface{ check() error }

// formed reads a record that a host may write which runs guests only.
func formed[T checked](kv store.KV) (v T, err error) {
	if len(kv.Value) > maxValue {
		return v, fmt.Errorf("read %s: %w: %d bytes, at most %d are read", kv.Key, errForm, len(kv.Value), maxValue)
	}
	if err = json.Unmarshal(kv.Value, &v); err == nil {
		err = v.check()
	}
	if err != nil {
		var none T
		return none, fmt.Errorf("read %s: %w: %w", kv.Key, errForm, err)
	}
	return v, nil
}

// ask reads such a record of a host. One that can not be read is none (ok is false), and has a revision: it may be written anew.
// why says what is wrong with it.
func ask[T checked](ctx context.Context, s *Service, key string, writer cluster.HostID) (v T, kv store.KV, ok bool, why, err error) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	if kv, ok, err = s.Store.Get(ctx, key); err != nil || !ok {
		return v, kv, false, nil, err
	}
	if v, why = formed[T](kv); why != nil {
		s.unread.Tell(s.Log, key, string(writer), why)
	}
	return v, kv, why == nil, why, nil
}

// between is nil when a number is one that can be.
func between(what string, n, most int64) error {
	if n < 0 || n > most {
		return fmt.Errorf("%s is %d: want 0 to %d", what, n, most)
	}
	return nil
}

func (a addresses) check() error { return nil }

func (r reading) check() error { return between("the time of the run", r.Passed, maxMillis) }

func (b base) check() error {
	for _, g := range b.Guests {
		if err := between("a number of lost packets", g.Lost, maxCount); err != nil {
			return err
		}
	}
	return nil
}

func (r record) check() error {
	if len(r.Guests) > maxGuests {
		return fmt.Errorf("it counts for %d guests: a host pings %d at most", len(r.Guests), maxGuests)
	}
	err := between("the time of the run", r.Passed, maxMillis)
	for _, g := range r.Guests {
		err = errors.Join(err, between("a number of packets", g.Sent, maxCount), between("a number of lost packets", g.Lost, maxCount))
		for _, ms := range []int64{g.Longest, g.Unwatched, g.First, g.Last} {
			err = errors.Join(err, between("a time in ms", ms, maxMillis))
		}
		if _, bad := netip.ParseAddr(g.Addr); bad != nil && g.Addr != "" {
			err = errors.Join(err, errors.New("the address of a guest is none"))
		}
		if err != nil {
			return err // one is enough
		}
	}
	return err
}

// problem is what the host says that it can not do.
func (r record) problem() string { return text.Cut(r.Problem, maxProblem) }
