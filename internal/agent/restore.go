package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/fleet/drain"
	"holdfast/internal/ha/loop"
	"holdfast/internal/ha/records"
	"holdfast/internal/job/engine"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/pair/group"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// Limits of the offline commands.
const (
	restoreWithin = 2 * time.Minute
	joinWithin    = time.Minute
)

var errNoMember = errors.New("this host runs no member of the store")

// RestoreStore makes a new store of one member, this host's, from a backup, while
// the agent of this host is stopped and every other member of the old store is.
// It begins a new generation: no epoch of before can come again, and nothing is
// started before every member has said that it has nothing. With aside, data
// that are there are kept beside the new ones; without, they are an error.
// What was under way then, and what was true of data then, does not count by itself.
func RestoreStore(ctx context.Context, opt Options, file string, aside bool) (out Restored, err error) {
	ctx, cancel := context.WithTimeout(ctx, restoreWithin)
	defer cancel()
	nd, member, release, err := offline(ctx, opt)
	if err != nil {
		return out, err
	}
	defer release()
	seen, err := loop.LoadGeneration(nd.n.DataDir)
	if err != nil {
		return out, err
	}
	old := slices.Clone(nd.n.Store.Endpoints)
	for _, u := range member.Initial {
		old = append(old, u)
	}
	err = etcdstore.Restore(ctx, etcdstore.RestoreOptions{
		File: file, Config: member, OldEndpoints: old, MoveAside: aside,
		Edit: func(ctx context.Context, st store.Store) (err error) {
			out, err = restored(ctx, st, seen)
			return err
		},
	})
	return out, err
}

// Restored is what a backup has brought back.
type Restored struct {
	Generation uint64
	Want       cluster.Want // what operators asked for when the backup was made
	Jobs       []string     // ids of those that had not ended then; they are paused
	Guests     []string     // names of those that had been moved and were not settled on their new host
	Copies     bool         // the store is of a pair, of whose copies a person must choose one
}

// restored makes the content of a backup one that hosts may follow. seen is the highest generation that this host has seen.
func restored(ctx context.Context, st store.Store, seen uint64) (out Restored, err error) {
	if out.Generation, err = loop.NewGeneration(ctx, st, seen); err != nil {
		return out, err
	}
	if out.Jobs, err = engine.Restored(ctx, st, time.Now().UTC()); err != nil {
		return out, err
	}
	if out.Guests, err = drain.Restored(ctx, st); err != nil {
		return out, err
	}
	if out.Copies, err = group.Restored(ctx, st); err != nil {
		return out, err
	}
	kv, found, err := st.Get(ctx, records.WantKey(cluster.MgmtVM))
	if err != nil {
		return out, fmt.Errorf("read what is asked for: %w", err)
	}
	out.Want, err = records.Decode[cluster.Want](kv, !found)
	return out, err
}

// JoinStore makes this host's member of the store, whose data are lost or of
// another time, a new one of the store that the others run, while the agent of
// this host is stopped. The next start of the agent starts it; the coordinator
// makes it a voter when it has caught up. It takes the place of the member called
// left; "": of the one with its own name and address.
func JoinStore(ctx context.Context, opt Options, left string, aside bool) (err error) {
	ctx, cancel := context.WithTimeout(ctx, joinWithin)
	defer cancel()
	nd, member, release, err := offline(ctx, opt)
	if err != nil {
		return err
	}
	defer release()
	entries, err := os.ReadDir(member.DataDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the member's directory: %w", err)
	}
	if len(entries) > 0 && !aside {
		return fmt.Errorf("%s: %w", member.DataDir, etcdstore.ErrNotEmpty)
	}
	admin, err := etcdstore.OpenAdmin(nd.storeOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	join, err := admin.Succeed(ctx, left, member.Name, member.PeerURL)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		to := member.DataDir + ".old-" + time.Now().UTC().Format("20060102T150405Z")
		if err := durable.Rename(member.DataDir, to); err != nil {
			return fmt.Errorf("put the old data aside: %w", err)
		}
	}
	return etcdstore.SaveJoin(member.DataDir, join)
}

// offline takes a host's settings and its data directory, and ends its member of
// the store, which outlives the agent.
func offline(ctx context.Context, opt Options) (nd *node, m etcdstore.MemberConfig, release func(), err error) {
	if nd, err = load(opt); err != nil {
		return nil, m, nil, BadInput{err}
	}
	if nd.n.Store.Member == nil {
		return nil, m, nil, BadInput{errNoMember}
	}
	if m, err = MemberConfig(nd.NodeFile); err != nil {
		return nil, m, nil, BadInput{err}
	}
	if release, err = nd.claim(); err != nil {
		return nil, m, nil, BadInput{err}
	}
	if err = supervise.Stop(ctx, filepath.Join(nd.n.RunDir, storeChild), storeChild); err != nil {
		release()
		return nil, m, nil, fmt.Errorf("stop this host's member of the store: %w", err)
	}
	return nd, m, release, nil
}
