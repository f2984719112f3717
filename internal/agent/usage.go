package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/fleet/drain"
	"holdfast/internal/ha/loop"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
	"holdfast/internal/upgrade/probe"
)

// Taken is what the store has of one kind of records by one writer.
type Taken struct {
	Kind  string // the first part of the keys
	Host  string // whose writes they are; "": of members, or it is not known
	Keys  int
	Bytes int64 // of keys and values, without older versions of them
}

// usageWithin bounds the look at the whole store.
const usageWithin = time.Minute

// writers tell who has written a record, each of its own kind.
type writers []func(store.KV) (host string, known bool)

// of is the writer of a record; "": it is not known, or none of these kinds.
func (w writers) of(kv store.KV) string {
	for _, f := range w {
		if host, known := f(kv); known {
			return host
		}
	}
	return ""
}

// Usage tells what the store has, by kind and writer, what takes most first, with the
// settings and the certificate of this host.
func Usage(ctx context.Context, opt Options) (taken []Taken, members []etcdstore.MemberStatus, err error) {
	err = withStore(ctx, opt, func(ctx context.Context, nd *node, st store.Store) error {
		kvs, _, err := st.List(ctx, "")
		if err != nil {
			return fmt.Errorf("list what the store has: %w", err)
		}
		at := map[[2]string]int{}
		all := writers{loop.WriterOf, probe.WriterOf, drain.WriterOf, report.WriterOf}
		for _, kv := range kvs {
			kind, _, _ := strings.Cut(kv.Key, "/")
			kind, host := kind+"/", all.of(kv)
			i, ok := at[[2]string{kind, host}]
			if !ok {
				i = len(taken)
				at[[2]string{kind, host}] = i
				taken = append(taken, Taken{Kind: kind, Host: host})
			}
			taken[i].Keys++
			taken[i].Bytes += int64(len(kv.Key) + len(kv.Value))
		}
		slices.SortFunc(taken, func(a, b Taken) int {
			return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Host, b.Host))
		})
		admin, err := etcdstore.OpenAdmin(nd.storeOptions())
		if err != nil {
			return err
		}
		members, err = admin.Status(ctx)
		return errors.Join(err, admin.Close())
	})
	return taken, members, err
}

// Clean removes what a host that runs guests only has written into the store: its events, and
// what it has counted in runs; with moves also its words about guests that have left it, which
// a guest may wait for that stands still. It gives the room back, and returns how many records
// were removed. Its report is removed by `holdfast host forget`.
func Clean(ctx context.Context, opt Options, host string, moves bool) (removed int, err error) {
	cleaned := writers{loop.WriterOf, probe.WriterOf}
	if moves {
		cleaned = append(cleaned, drain.WriterOf)
	}
	err = withStore(ctx, opt, func(ctx context.Context, nd *node, st store.Store) error {
		if host == "" {
			return fail.Errorf(fail.Invalid, "host %q: want the name of a host", host)
		}
		if m := nd.n.Store.Member; m == nil || m.Initial[host] != "" {
			return fail.Errorf(fail.Refused, "clean what %s has written: this is for hosts that run guests only, and "+
				"done on a member of the store", host).
				With("see which hosts have members: holdfast store status")
		}
		kvs, _, err := st.List(ctx, "")
		if err != nil {
			return fmt.Errorf("list what the store has: %w", err)
		}
		kvs = slices.DeleteFunc(kvs, func(kv store.KV) bool { return cleaned.of(kv) != host })
		if removed, err = store.Remove(ctx, st, kvs); err != nil {
			return err
		}
		admin, err := etcdstore.OpenAdmin(nd.storeOptions())
		if err != nil {
			return err
		}
		err = admin.Compact(ctx, 0)
		if err == nil {
			_, err = admin.Defrag(ctx)
		}
		if err == nil {
			err = admin.Repair(ctx)
		}
		return errors.Join(err, admin.Close())
	})
	return removed, err
}

// withStore connects to the store as this host's agent does.
func withStore(ctx context.Context, opt Options, do func(context.Context, *node, store.Store) error) (err error) {
	nd, err := load(opt)
	if err != nil {
		return BadInput{err}
	}
	ctx, cancel := context.WithTimeout(ctx, usageWithin)
	defer cancel()
	st, err := etcdstore.Open(nd.storeOptions())
	if err != nil {
		return BadInput{err}
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	return do(ctx, nd, st)
}
