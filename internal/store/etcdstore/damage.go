package etcdstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"
)

// Errors of RunMember about its data.
var (
	// ErrCorrupt: the member's data are damaged, or differ from what it is known to
	// have had. It must not start on them.
	ErrCorrupt = errors.New("data of the store member are damaged: replace this member")
	// ErrLost: the data directory is empty, but the other members know this member,
	// or run a cluster that it is no part of.
	ErrLost = errors.New("the store's cluster exists, and this member has no data of it: replace this member")
)

func corrupt(dir string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrCorrupt, dir, err)
}

// formedFile marks a data directory with which the member has served. From then
// on a missing log is a loss, and not a first start.
const formedFile = "formed"

// aheadOfLog is how many entries the database may have that the log has not: etcd
// applies entries that the cluster has committed while it still writes them into
// its own log, and a crash may come just then. They were not acknowledged, so
// nothing is lost by it.
const aheadOfLog = 100

func dbFile(dir string) string { return filepath.Join(dir, "member", "snap", "db") }
func walDir(dir string) string { return filepath.Join(dir, "member", "wal") }

// hasData tells whether etcd has begun a log in the data directory.
func hasData(dir string) bool { return wal.Exist(walDir(dir)) }

// checkData reads all data of a stopped member. etcd would find some of this
// itself, by a panic in the middle of its start or long after it; a database or a
// log that is missing altogether it takes for a first start.
func checkData(dir string) error {
	c, haveDB, err := checkDatabase(dir)
	if err != nil {
		return corrupt(dir, err)
	}
	last, err := checkLog(dir)
	switch {
	case err != nil:
		return corrupt(dir, err)
	case last == 0 && !hasData(dir):
		return checkNoLog(dir, c)
	case !haveDB && last > 0:
		return corrupt(dir, errors.New("there is a log, but no database"))
	case c.index > last+aheadOfLog:
		return corrupt(dir, fmt.Errorf("the log ends at entry %d, but the database has entry %d", last, c.index))
	}
	return nil
}

// checkNoLog: without a log, there must never have been one.
func checkNoLog(dir string, c content) error {
	if c.index > 0 {
		return corrupt(dir, errors.New("there is a database, but no log"))
	}
	_, err := os.Stat(filepath.Join(dir, formedFile))
	switch {
	case err == nil:
		return corrupt(dir, errors.New("the log is gone"))
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look into data directory: %w", err)
	}
	return nil
}

// checkDatabase reads the database. A missing or empty one is none.
func checkDatabase(dir string) (c content, have bool, err error) {
	info, err := os.Stat(dbFile(dir))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	c, err = readDatabase(dbFile(dir))
	return c, true, err
}

// checkLog reads the log from its newest snapshot to its end and returns the index
// of the last entry. A record that was torn at the end is the trace of a crash,
// not damage: nothing in it was ever acknowledged.
func checkLog(dir string) (last uint64, err error) {
	if !hasData(dir) {
		return 0, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("read the log: %v", r)
		}
	}()
	nop := zap.NewNop()
	snaps, err := wal.ValidSnapshotEntries(nop, walDir(dir))
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	from := &walpb.Snapshot{}
	if len(snaps) > 0 {
		from = snaps[len(snaps)-1]
	}
	w, err := wal.OpenForRead(nop, walDir(dir), from)
	if err != nil {
		return 0, fmt.Errorf("open the log: %w", err)
	}
	_, _, entries, err := w.ReadAll()
	// Close of a log that was opened for reading alone always says ErrInvalid: it
	// has no directory to close.
	if cerr := w.Close(); !errors.Is(cerr, os.ErrInvalid) {
		err = errors.Join(err, cerr)
	}
	if err != nil {
		return 0, fmt.Errorf("read the log: %w", err)
	}
	last = from.GetIndex()
	if n := len(entries); n > 0 {
		last = entries[n-1].GetIndex()
	}
	return last, nil
}

// damageSigns are the texts by which etcd tells of damage, while it starts or
// later.
var damageSigns = [...]string{
	"does not match with snapshot", // the database is older than the log
	"of the backend is missing",    // the database
	"found data inconsistency",     // with the peers
	"failed to fetch hash",         // of the own data, to compare it
	"failed to open WAL",
	"failed to read WAL",
	"failed to repair WAL",
	"Was the raft log corrupted", // the leader knows more of our log than we have
	"failed to open database",
	"failed to recover v3 backend",
	"failed to recover store",
	"failed to unmarshal",
	"range failed to find revision", // index and database differ
}

// diagnose gives an error of etcd its name, if it tells of damage.
func diagnose(dir string, err error) error {
	var os syscall.Errno
	if errors.As(err, &os) { // a full or failing disk, or missing rights
		return err
	}
	if strings.Contains(err.Error(), "has already been bootstrapped") {
		return fmt.Errorf("%w: %s: %w", ErrLost, dir, err)
	}
	for _, sign := range damageSigns {
		if strings.Contains(err.Error(), sign) {
			return corrupt(dir, err)
		}
	}
	return err
}
