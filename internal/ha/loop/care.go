package loop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
	"holdfast/internal/store/etcdstore"
)

// The care of the store. Every host keeps backups of its own; the coordinator
// alone does what changes the members.
const (
	careEvery   = 10 * time.Second
	careAgain   = time.Second // at the earliest
	voteEvery   = time.Second
	voteWithin  = 10 * time.Second // members that do not answer take time
	careWithin  = 30 * time.Second
	tidyEvery   = time.Hour // defragmentation, where it is worth it
	backupEvery = time.Hour
	backupKeep  = 48
	BackupDir   = "backups" // in the data directory
)

// care looks after the store until ctx ends.
func (a *Agent) care(ctx context.Context) {
	if a.Admin == nil {
		return
	}
	t := time.NewTicker(careEvery)
	defer t.Stop()
	last := map[string]cluster.Instant{"backup": a.newestBackup(), "tidy": a.Clock()}
	due := func(what string, every time.Duration) bool {
		now := a.Clock()
		if at := last[what]; at != 0 && now.Sub(at) < every {
			return false
		}
		last[what] = now
		return true
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.unwell:
		case <-t.C:
		}
		a.careOnce(ctx, due)
		clock.Sleep(ctx, careAgain) // a store that is away is not asked all the time
	}
}

// careOnce does what is due. Each failure is logged by itself, and tried again.
func (a *Agent) careOnce(ctx context.Context, due func(string, time.Duration) bool) {
	ctx, cancel := context.WithTimeout(ctx, careWithin)
	defer cancel()
	var coordinator bool
	var holder cluster.HostID
	var pair []string
	a.ask(ctx, func() {
		v := a.s.core
		if p := a.s.cfg.Pair; p != nil {
			pair = p.Nodes
		}
		coordinator, holder = v.Coord.Host == v.Self, v.Owner.Holder()
	})
	try := func(what string, f func() error) {
		if err := f(); err != nil && ctx.Err() == nil {
			a.Log.Warn("care of the store", "what", what, "err", err)
		}
	}
	if coordinator {
		try("members", func() error { return a.tend(ctx, holder, pair) })
		if due("tidy", tidyEvery) {
			try("defragment", func() error { _, err := a.Admin.Defrag(ctx); return err })
		}
	}
	if due("backup", backupEvery) {
		try("backup", func() error { _, err := a.BackUpStore(ctx); return err })
	}
}

// tend mends what it finds: no space, a learner that has caught up, and a leader
// on the host that runs the guest. The loss of that host would cost an election of
// the store on top of everything else.
func (a *Agent) tend(ctx context.Context, holder cluster.HostID, pair []string) error {
	members, err := a.Admin.Status(ctx)
	if err != nil {
		return err
	}
	full, learner, leader := false, false, ""
	for _, m := range members {
		full = full || slices.Contains(m.Alarms, "NOSPACE") || m.QuotaUsed > etcdstore.QuotaAlert
		learner = learner || m.Learner
		if m.Leader {
			leader = m.Name
		}
	}
	if full {
		err = errors.Join(err, a.Admin.Repair(ctx))
	}
	if learner {
		_, perr := a.Admin.Promote(ctx)
		err = errors.Join(err, perr)
	}
	// Of a pair neither node shall lead: a cut between them would take the store from the one
	// that does not. A member that is the only one leads.
	away := leader == string(holder) && len(members) > 1
	rather := slices.ContainsFunc(members, func(m etcdstore.MemberStatus) bool { return !slices.Contains(pair, m.Name) && m.Reachable() })
	if leader != "" && (away || slices.Contains(pair, leader) && rather) {
		err = errors.Join(err, a.Admin.MoveLeader(ctx, leader, pair...))
	}
	return err
}

// countVotes finds out, again and again, whether a quorum of the store can count on this host's member.
func (a *Agent) countVotes(ctx context.Context) {
	if a.Admin == nil {
		return
	}
	if !a.Votes {
		a.post(ctx, func() { a.s.core.Voting(cluster.NoMember) })
		return
	}
	every(ctx, voteEvery, func() {
		vctx, cancel := context.WithTimeout(ctx, voteWithin)
		defer cancel()
		members, err := a.Admin.Status(vctx)
		vote := voteOf(a.Host)(members, err)
		crowded := crowdedBy(a.Host, members)
		a.post(ctx, func() {
			a.s.core.Voting(vote)
			a.s.crowded = crowded
		})
	})
}

// crowdedBy says that the data of a host's member leave no room for hosts that run guests only;
// "": they do, or it is not known.
func crowdedBy(h cluster.HostID, members []etcdstore.MemberStatus) string {
	for _, m := range members {
		if m.Name == string(h) && m.Quota > 0 && float64(m.DBInUse) > etcdstore.GuestsShare*float64(m.Quota) {
			return fmt.Sprintf("the store has %d of its %d MiB in use: above half of them only members write, hosts "+
				"that run guests only do not; see what fills it: holdfast store usage", m.DBInUse>>20, m.Quota>>20)
		}
	}
	return ""
}

// Crowded says that the store has no room left for hosts that run guests only; "": it has.
func (a *Agent) Crowded() (why string) {
	a.peek(func() { why = a.s.crowded })
	return why
}

// voteOf reads a host's vote from what the members say.
func voteOf(h cluster.HostID) func([]etcdstore.MemberStatus, error) string {
	return func(members []etcdstore.MemberStatus, err error) string {
		if err != nil {
			return fmt.Sprintf("its agent can not ask the store's members: %v", err)
		}
		for _, m := range members {
			if m.Name != string(h) {
				continue
			}
			if why := m.Wrong(); why != "" {
				return "its member of the store " + why
			}
			return cluster.Votes
		}
		return "its member of the store is not one of the store's members"
	}
}

// StoreStatus asks every member of the store.
func (a *Agent) StoreStatus(ctx context.Context) (cluster.StoreStatus, error) {
	if a.Admin == nil {
		return cluster.StoreStatus{}, fmt.Errorf("%w: this agent's store has no members to ask", store.ErrDefinite)
	}
	var s cluster.StoreStatus
	a.ask(ctx, func() { s.Generation = a.s.core.Gen })
	members, err := a.Admin.Status(ctx)
	if err != nil {
		return s, err
	}
	for _, m := range members {
		x := cluster.StoreMember{
			Name: m.Name, URL: strings.Join(m.ClientURLs, ","), Leader: m.Leader, Learner: m.Learner, Reachable: m.Reachable(), Error: m.Error,
			Version: m.Version, Size: m.DBSize, InUse: m.DBInUse, Quota: m.Quota, Behind: int64(m.Behind), Alarms: m.Alarms,
		}
		if m.Reachable() && m.LeaderID == 0 {
			x.Error = "it knows no leader"
		}
		s.Members = append(s.Members, x)
	}
	s.Backups, err = a.backups()
	return s, err
}

// BackUpStore writes a snapshot of the store into a file on this host.
func (a *Agent) BackUpStore(ctx context.Context) (cluster.Backup, error) {
	if a.Admin == nil {
		return cluster.Backup{}, fmt.Errorf("%w: this agent's store has no members to ask", store.ErrDefinite)
	}
	file, err := a.Admin.Snapshot(ctx, a.BackupDir, backupKeep)
	if err != nil {
		return cluster.Backup{}, err
	}
	return backupOf(file)
}

// backups lists this host's backups, newest first.
func (a *Agent) backups() ([]cluster.Backup, error) {
	entries, err := os.ReadDir(a.BackupDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the backups: %w", err)
	}
	var out []cluster.Backup
	for _, e := range entries {
		if b, err := backupOf(filepath.Join(a.BackupDir, e.Name())); err == nil { // else it is none, or just went
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(x, y cluster.Backup) int { return cmp.Compare(y.File, x.File) })
	return out, nil
}

// backupOf tells what the name and the size of a backup's file say.
func backupOf(file string) (cluster.Backup, error) {
	at, rev, err := etcdstore.ParseSnapshotName(filepath.Base(file))
	if err != nil {
		return cluster.Backup{}, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return cluster.Backup{}, fmt.Errorf("look at the backup: %w", err)
	}
	return cluster.Backup{File: file, Time: at, Size: info.Size(), Revision: rev}, nil
}

// newestBackup is when this host made its last backup, on its own clock; 0: never,
// or long ago. The wall clock in its name is good enough for a schedule.
func (a *Agent) newestBackup() cluster.Instant {
	all, err := a.backups()
	if err != nil || len(all) == 0 {
		return 0
	}
	return max(1, a.Clock().Add(-max(0, time.Since(all[0].Time))))
}
