package mariadb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"holdfast/internal/lib/durable"
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
// is cut, and saves that before in a file beside save; "": it is not saved. A server that refuses to cut,
// since a statement that is no transaction is behind it ("Cannot truncate the binary log", seen with
// 10.11.19), is started with all of it: what its primary does not have of that is errant then.
func (d *Driver) startCut(ctx context.Context, save string) error {
	if save == "" {
		return d.start(ctx, "SLAVE")
	}
	log, size, err := lastLog(d.logIndex(), d.cfg.Datadir)
	if err != nil || log == "" {
		return errors.Join(err, d.start(ctx, "SLAVE"))
	}
	whole := save + ".binlog" // until it is known what was cut of it
	if err := durable.Write(whole, 0o600, func(f *os.File) error { return copyFile(f, log) }); err != nil {
		return fmt.Errorf("save the end of the binary log before it is cut: %w", err)
	}
	serr := d.start(ctx, "SLAVE")
	if serr != nil && ctx.Err() == nil {
		if err := d.start(ctx, "MASTER"); err == nil {
			serr = nil
		}
	}
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

func copyFile(to *os.File, path string) (err error) {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	_, err = io.Copy(to, from)
	return err
}
