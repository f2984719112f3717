package mariadb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/replica"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	libtext "holdfast/internal/lib/text"
)

// stage is where a copy is made ready, beside the data directory.
const stage = ".seed"

// heldUp is how long commits may wait for the end of a copy. At that end mariadb-backup lets no commit
// pass, and a receiver that takes nothing any more would hold all of them up. It waits itself for those
// that are under way.
const (
	heldUp     = 6 * time.Second
	heldUpLook = 250 * time.Millisecond
)

// Seed writes a copy of this node's data, of one moment, as mariadb-backup streams it. Before
// the first byte it tells about how many will come. The server goes on: a copy that holds
// commits up for heldUp is given up. None begins while commits wait for a replica that is not connected.
func (d *Driver) Seed(ctx context.Context, w io.Writer, about func(bytes int64) error) (err error) {
	if err := d.released(ctx); err != nil {
		return err
	}
	d.copies.Add(1)
	defer d.copies.Add(-1)
	v, err := d.row(ctx, d.db, "SELECT @@gtid_binlog_state AS state")
	if err == nil && v["state"] == "" { // it has no position yet at which a replica could begin
		err = d.mark(ctx)
	}
	if err != nil {
		return err
	}
	size, err := d.size(ctx)
	if err == nil {
		err = about(size)
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "holdfast-seed-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	defaults := filepath.Join(dir, "cnf")
	if err := d.options(defaults); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	cmd := proc.Foreign(ctx, "mariadb-backup", "--defaults-file="+defaults, "--backup", "--stream=mbstream",
		"--target-dir="+dir, "--datadir="+d.cfg.Datadir, "--socket="+d.cfg.Socket, "--protocol=socket")
	said := &libtext.Tail{Most: mostSaid}
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = w, said, settle
	var watch sync.WaitGroup
	watch.Go(func() { d.letCommit(ctx, cancel) })
	err = cmd.Run()
	why := context.Cause(ctx)
	cancel(nil)
	watch.Wait()
	if err != nil {
		return fmt.Errorf("copy the primary: %w: %s", cmp.Or(why, err), strings.TrimSpace(said.String()))
	}
	return nil
}

// released waits until commits do not wait for a replica that is not connected, for heldUp at most: the end of a copy would wait
// for them, and all others for that.
func (d *Driver) released(ctx context.Context) error {
	for end := time.Now().Add(heldUp); ; {
		c, err := d.count(ctx, d.db, "")
		switch {
		case err != nil || !c.held():
			return err
		case time.Now().After(end):
			return fail.Errorf(fail.Failed, "no copy begins while commits of the primary wait for a replica that is not connected")
		}
		if !clock.Sleep(ctx, heldUpLook) {
			return ctx.Err()
		}
	}
}

// letCommit gives a copy up for which commits wait too long, until ctx ends.
func (d *Driver) letCommit(ctx context.Context, giveUp context.CancelCauseFunc) {
	last := time.Now()  // when no commit waited for it
	alone := time.Now() // when it did not wait for a replica
	for clock.Sleep(ctx, heldUpLook) {
		v, err := d.row(ctx, d.db, "SELECT COALESCE(SUM(info LIKE 'BACKUP STAGE%'), 0) AS own, COUNT(*) AS waiting "+
			"FROM information_schema.PROCESSLIST WHERE state='Waiting for backup lock'")
		waits := v["own"] != "0"
		var c counts
		if err == nil && waits {
			c, err = d.count(ctx, d.db, "")
		}
		if err != nil || v["waiting"] == v["own"] { // a server that does not answer is for others to see
			last = time.Now()
		}
		if err != nil || !waits || !c.held() {
			alone = time.Now()
		}
		switch {
		case time.Since(alone) >= absent:
			giveUp(fail.Errorf(fail.Failed, "its end waits for commits, and they for a replica that is not connected"))
			return
		case time.Since(last) < heldUp:
		case waits:
			giveUp(fail.Errorf(fail.Failed, "its end waited for statements that do not end, and commits waited %s "+
				"behind it: SHOW PROCESSLIST shows who", heldUp))
			return
		default:
			giveUp(fail.Errorf(fail.Failed, "commits waited %s for its end: the receiver does not take it, or is too slow", heldUp))
			return
		}
	}
}

// options writes user and password where only this user reads them: every process of the
// host can read arguments.
func (d *Driver) options(path string) error {
	password, err := d.cfg.Admin.password()
	if err != nil {
		return err
	}
	out := "[client]\nuser=" + quote(d.cfg.Admin.User) + "\n"
	if password != "" {
		out += "password=" + quote(password) + "\n"
	}
	return os.WriteFile(path, []byte(out), 0o600)
}

// quote writes a value of an option file.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// reseed replaces this node's data by a copy of the primary's and follows it. Until the copy
// is whole the old data are untouched; then both change places at once.
func (d *Driver) reseed(ctx context.Context, from replica.Source, peer []replica.Transaction) error {
	if from.Seed == nil {
		return fail.Errorf(fail.Refused, "this database can not follow the primary from where it is: want a copy of the primary")
	}
	next := d.cfg.Datadir + stage
	d.note(func(c *replica.Copy) { *c = replica.Copy{Stage: replica.Receiving, Begun: time.Now()} })
	defer d.note(func(c *replica.Copy) {
		if c.Stage != replica.Copied { // it has failed
			*c = replica.Copy{}
		}
	})
	if err := d.receive(ctx, from, next); err != nil {
		return errors.Join(fmt.Errorf("copy the primary: %w", err), os.RemoveAll(next))
	}
	if err := d.end(ctx); err != nil {
		return err
	}
	if err := swap(next, d.cfg.Datadir); err != nil {
		return err
	}
	d.note(func(c *replica.Copy) { c.Stage, c.Ended = replica.Copied, time.Now() })
	if from.Aside != "" {
		if err := aside(next, from.Aside); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(next); err != nil {
		return err
	}
	if err := d.start(ctx, "SLAVE"); err != nil {
		return err
	}
	if err := d.follow(ctx, from, peer); err != nil {
		if errors.Is(err, errReseed) {
			return fail.Errorf(fail.Failed, "a new copy of the primary can not follow it: %w", err)
		}
		return err
	}
	return nil
}

// receive makes a copy ready to be started on.
func (d *Driver) receive(ctx context.Context, from replica.Source, dir string) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fed := make(chan error, 1)
	go func() {
		err := from.Seed(ctx, counted{w, d}, func(bytes int64) error {
			d.note(func(c *replica.Copy) { c.About = bytes })
			return nil
		})
		fed <- errors.Join(err, w.Close())
	}()
	err = program(ctx, "mbstream", []string{"-x", "-C", dir}, r, nil)
	if err != nil {
		cancel()
	}
	err = errors.Join(err, r.Close(), <-fed)
	if err != nil {
		return err
	}
	d.note(func(c *replica.Copy) { c.Stage = replica.Preparing })
	if err := program(ctx, "mariadb-backup", []string{"--no-defaults", "--prepare", "--target-dir=" + dir}, nil, nil); err != nil {
		return err
	}
	if err := hasPosition(dir); err != nil {
		return err
	}
	return d.own(dir)
}

func hasPosition(dir string) error {
	for _, name := range positions {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && info.Size() > 0 {
			return nil
		}
	}
	return errors.New("the copy does not say where the primary was")
}

// own gives a copy the owner and the mode of the data directory, and puts it on disk.
func (d *Driver) own(dir string) error {
	info, err := os.Stat(d.cfg.Datadir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s has no owner", d.cfg.Datadir)
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
	return errors.Join(err, os.Chmod(dir, info.Mode().Perm()))
}

// aside moves data to where an operator finds them. It fails when something is there.
func aside(dir, to string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("move %s aside, to %s: %w", dir, to, err)
	}
	return durable.SyncDir(filepath.Dir(to))
}

// swap lets two directories change places, at once and for good.
func swap(a, b string) error {
	if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("put %s into the place of %s: %w", a, b, err)
	}
	return durable.SyncDir(filepath.Dir(b))
}
