package mariadb

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/fail"
)

// Bounds of the binary logs, in bytes. A replica that was away needs those that were written meanwhile; when they are gone it gets a
// copy of all data instead, so more than a copy takes is of no use.
const (
	leastLogs = 1 << 30
	mostLogs  = 10 << 30
	logsShare = 10 // of the file system, as a divisor
)

// TrimLogs has the server remove its oldest binary logs when all of them take more than a tenth of their file system, at least 1 GiB
// and at most 10 GiB. Settings of the server that keep less hold beside it. One that a replica is still reading stays.
func (d *Driver) TrimLogs(ctx context.Context) error {
	var st unix.Statfs_t
	if err := unix.Statfs(d.cfg.Datadir, &st); err != nil {
		return err
	}
	return d.trimLogs(ctx, min(max(int64(st.Blocks)*st.Bsize/logsShare, leastLogs), mostLogs))
}

// trimLogs keeps logs of so many bytes, and the last one. The index is read rather than the server asked, which answers only when no
// commit waits.
func (d *Driver) trimLogs(ctx context.Context, limit int64) error {
	logs, err := logFiles(d.logIndex(), d.cfg.Datadir)
	if err != nil {
		return err
	}
	total := int64(0)
	for i := len(logs) - 1; i > 0; i-- {
		fi, err := os.Stat(logs[i])
		if err != nil {
			return fail.Errorf(fail.Failed, "the binary log that %s names: %w", d.logIndex(), err)
		}
		if total += fi.Size(); total >= limit {
			return d.exec(ctx, d.db, "PURGE BINARY LOGS TO "+text(filepath.Base(logs[i])))
		}
	}
	return nil
}
