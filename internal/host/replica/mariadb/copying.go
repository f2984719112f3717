package mariadb

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"holdfast/internal/host/replica"
)

// Copying is how far the copy of the primary's data is that this node makes, or has made last;
// false: it makes none, and its last one has failed, or there was none since New.
func (d *Driver) Copying() (replica.Copy, bool) {
	d.copying.Lock()
	defer d.copying.Unlock()
	return d.copying.of, d.copying.of.Stage != ""
}

// note changes what Copying tells.
func (d *Driver) note(f func(*replica.Copy)) {
	d.copying.Lock()
	defer d.copying.Unlock()
	f(&d.copying.of)
}

// counted counts what is received.
type counted struct {
	io.Writer
	d *Driver
}

func (c counted) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.d.note(func(of *replica.Copy) { of.Bytes += int64(n) })
	return n, err
}

// size estimates how many bytes Seed writes: those of the data directory, without what
// mariadb-backup leaves out: logs of replication, of which it notes the position only, temporary
// tables, and all of InnoDB's log but its end. What lies elsewhere by innodb_data_home_dir and
// the like is not in it.
func (d *Driver) size(ctx context.Context) (bytes int64, err error) {
	v, err := d.row(ctx, d.db, "SELECT @@log_bin_basename AS log, @@relay_log_basename AS relay")
	if err != nil {
		return 0, err
	}
	out := []string{filepath.Join(d.cfg.Datadir, "ib_logfile"), filepath.Join(d.cfg.Datadir, "ibtmp")}
	for _, log := range v {
		if log != "" {
			out = append(out, filepath.Join(d.cfg.Datadir, filepath.Base(log))+".")
		}
	}
	err = filepath.WalkDir(d.cfg.Datadir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // the server has removed it
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		for _, prefix := range out {
			if strings.HasPrefix(path, prefix) {
				return nil
			}
		}
		info, err := e.Info()
		switch {
		case err == nil:
			bytes += info.Size()
		case errors.Is(err, fs.ErrNotExist):
			err = nil
		}
		return err
	})
	return bytes, err
}
