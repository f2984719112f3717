package mariadb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"holdfast/internal/durable"
	"holdfast/internal/fail"
)

// awake makes the server run and answer, in the role in which it is started if it has to be, and
// says how it is.
func (d *Driver) awake(ctx context.Context, start func(context.Context) error) (following, error) {
	run, err := d.run(ctx)
	if err != nil {
		return following{}, err
	}
	if run != "" {
		f, err := d.look(ctx, d.db)
		if err == nil {
			return f, nil
		}
		if ctx.Err() != nil {
			return f, err
		}
		if err := d.end(ctx); err != nil {
			return f, err
		}
	}
	if err := start(ctx); err != nil {
		return following{}, err
	}
	return d.look(ctx, d.db)
}

// startCut starts the server so that what is in its binary log and only prepared in the engine
// is cut, and saves that before in a file beside save; "": it is not saved.
func (d *Driver) startCut(ctx context.Context, save string) error {
	if save == "" {
		return d.start(ctx, "SLAVE")
	}
	log, size, err := d.lastLog()
	if err != nil || log == "" {
		return errors.Join(err, d.start(ctx, "SLAVE"))
	}
	whole := save + ".binlog" // until it is known what was cut of it
	if err := durable.Write(whole, 0o600, func(f *os.File) error { return copyFile(f, log) }); err != nil {
		return fmt.Errorf("save the end of the binary log before it is cut: %w", err)
	}
	serr := d.start(ctx, "SLAVE")
	fi, err := os.Stat(log)
	if err != nil {
		return errors.Join(serr, err)
	}
	if serr != nil {
		if fi.Size() >= size { // nothing was cut, and it is tried again
			serr = errors.Join(serr, os.Remove(whole))
		}
		return serr
	}
	if cut := fi.Size(); cut < size {
		args := []string{"--no-defaults", "--verbose", "--start-position=" + strconv.FormatInt(cut, 10), whole}
		into := strings.TrimSuffix(save, ".sql") + "-end.sql"
		if err := durable.Write(into, 0o600, func(f *os.File) error { return program(ctx, "mariadb-binlog", args, nil, f) }); err != nil {
			return fmt.Errorf("save what was cut off the binary log, which is whole in %s: %w", whole, err)
		}
	}
	return os.Remove(whole)
}

// lastLog is the file of the binary log that the server wrote last, "" when there is none, and
// its size.
func (d *Driver) lastLog() (path string, size int64, err error) {
	index, err := os.ReadFile(filepath.Join(d.cfg.Datadir, "bin.index")) // as Options names it
	if errors.Is(err, os.ErrNotExist) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	names := strings.Fields(string(index))
	if len(names) == 0 {
		return "", 0, nil
	}
	if path = names[len(names)-1]; !filepath.IsAbs(path) {
		path = filepath.Join(d.cfg.Datadir, path)
	}
	fi, err := os.Stat(path)
	if err != nil {
		return "", 0, fail.Errorf(fail.Failed, "the binary log that %s names last: %w", filepath.Join(d.cfg.Datadir, "bin.index"), err)
	}
	return path, fi.Size(), nil
}

func copyFile(to *os.File, path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	_, err = io.Copy(to, from)
	return err
}
