package mariadb

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/durable"
)

// files copies the server's files while it runs, and prepares the copy so that a
// server can start on it.
func (s *server) files(ctx context.Context, q backup.Request, rec *backup.Receipt, d *data) error {
	tool, err := program("mariadb-backup", "mariabackup")
	if err != nil {
		return err
	}
	if rec.Tool, err = backup.Version(ctx, tool, "--version"); err != nil {
		return err
	}
	size, err := s.suits(ctx, d)
	if err != nil {
		return err
	}
	// Its log of what changes meanwhile, and the log that prepare makes, come on top.
	if err := backup.NeedSpace(q.Dir, size+size/4); err != nil {
		return err
	}
	part := q.Path(prepared + ".part")
	take := append(slices.Clone(s.args), "--backup", "--target-dir="+part, "--datadir="+s.datadir)
	take = slices.DeleteFunc(take, func(a string) bool { return strings.HasPrefix(a, "--protocol=") })
	for _, args := range [][]string{take, {"--prepare", "--target-dir=" + part}} {
		if _, err := backup.Run(ctx, backup.Command{Path: tool, Args: args, Hold: s.hold}); err != nil {
			return err
		}
	}
	if err := isPrepared(part); err != nil {
		return err
	}
	entries, err := survey(ctx, part)
	if err != nil {
		return err
	}
	return seal(q, part, entries, rec)
}

// suits looks whether the data directory can be replaced as a whole by a restore:
// better now than when the way back is needed. It gives the directory's size.
func (s *server) suits(ctx context.Context, d *data) (int64, error) {
	info, err := os.Lstat(s.datadir)
	if err != nil {
		return 0, fmt.Errorf("the server's data directory is not on this host: %w", err)
	}
	if !info.IsDir() {
		return 0, fmt.Errorf("the data directory %s is a link: use %q", s.datadir, Dump)
	}
	st := info.Sys().(*syscall.Stat_t)
	d.UID, d.GID, d.Mode = int(st.Uid), int(st.Gid), st.Mode&0o7777
	if at, err := backup.IsMountPoint(s.datadir); err != nil || at {
		return 0, errors.Join(fmt.Errorf("the data directory %s is a mount point and can not be replaced as a whole: "+
			"use %q, or the provider lvm", s.datadir, Dump), err)
	}
	if err := unused(s.datadir); !errors.Is(err, backup.ErrBusy) {
		return 0, errors.Join(fmt.Errorf("no server has %s open: the one that answers is on another host", s.datadir), err)
	}
	rows, err := s.query(ctx, "SHOW GLOBAL VARIABLES WHERE variable_name IN "+
		"('innodb_data_home_dir','innodb_log_group_home_dir','innodb_undo_directory')")
	if err != nil {
		return 0, err
	}
	for _, r := range rows {
		if len(r) != 2 {
			return 0, fmt.Errorf("ask the database for its directories: it says %q", r)
		}
		dir := r[1]
		if dir == "" {
			continue
		}
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(s.datadir, dir)
		}
		if filepath.Clean(dir) != s.datadir {
			return 0, fmt.Errorf("%s is %s, outside of the data directory: use %q", r[0], r[1], Dump)
		}
	}
	return usage(ctx, s.datadir)
}

// usage is what a directory takes on disk. Files may come and go meanwhile.
func usage(ctx context.Context, dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				sum += info.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		if err == nil && filepath.Ext(path) == ".isl" {
			return fmt.Errorf("%s: a table is outside of the data directory: use %q", path, Dump)
		}
		return err
	})
	return sum, err
}

// unused fails with ErrBusy when a server has the directory's InnoDB files open:
// it locks them as long as it runs.
func unused(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "ibdata1"), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	err = unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("look whether a server uses %s: %w", dir, err)
	}
	if lock.Type != unix.F_UNLCK {
		return fmt.Errorf("%s %w by process %d: stop the database first", dir, backup.ErrBusy, lock.Pid)
	}
	return nil
}

// isPrepared reads the mark that mariadb-backup leaves.
func isPrepared(dir string) error {
	var errs []error
	for _, n := range []string{"mariadb_backup_checkpoints", "xtrabackup_checkpoints"} {
		b, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for line := range strings.Lines(string(b)) {
			if k, v, _ := strings.Cut(line, "="); strings.TrimSpace(k) == "backup_type" {
				// mariadb-backup has always written the first, Percona's tool the second.
				if v = strings.TrimSpace(v); v == "log-applied" || v == "full-prepared" {
					return nil
				}
				return fmt.Errorf("mariadb-backup says that the backup is %q, want it prepared", strings.TrimSpace(v))
			}
		}
		errs = append(errs, fmt.Errorf("%s does not tell the kind of the backup", n))
	}
	return errors.Join(errs...)
}

// entry is one file or directory of the prepared backup.
type entry struct {
	Path   string `json:"path"` // relative
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"` // none: a directory
}

// survey lists and hashes the files of a directory.
func survey(ctx context.Context, dir string) ([]entry, error) {
	var out []entry
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		switch {
		case err != nil:
			return err
		case rel == ".":
			return nil
		case e.IsDir():
			out = append(out, entry{Path: rel})
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%s: neither a file nor a directory", path)
		}
		sum, size, err := backup.HashFile(ctx, path)
		out = append(out, entry{Path: rel, Size: size, SHA256: sum})
		return err
	})
	return out, err
}

// seal writes the list, puts everything on disk and gives it its name.
func seal(q backup.Request, part string, entries []entry, rec *backup.Receipt) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	for i := range entries {
		if err := enc.Encode(&entries[i]); err != nil {
			return err
		}
		rec.Size += entries[i].Size
	}
	if err := durable.WriteFile(q.Path(list), text.Bytes(), 0o600); err != nil {
		return err
	}
	sum := sha256.Sum256(text.Bytes())
	rec.SHA256, rec.Where = hex.EncodeToString(sum[:]), q.Path(prepared)
	if err := syncAll(part); err != nil {
		return err
	}
	return durable.Rename(part, rec.Where)
}

// syncAll puts the file system of a directory on disk.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Syncfs(int(f.Fd())), f.Close()); err != nil {
		return fmt.Errorf("put %s on disk: %w", dir, err)
	}
	return nil
}

// readList gives the files that the receipt stands for.
func readList(ctx context.Context, rec backup.Receipt) ([]entry, error) {
	path := rec.Path(list)
	sum, _, err := backup.HashFile(ctx, path)
	if err == nil && sum != rec.SHA256 {
		err = errors.New("the list of files has another hash")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var out []entry
	for dec := json.NewDecoder(bufio.NewReader(f)); dec.More(); {
		var e entry
		if err := dec.Decode(&e); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if !filepath.IsLocal(e.Path) {
			return nil, errors.Join(fmt.Errorf("%q leads out of the directory", e.Path), f.Close())
		}
		out = append(out, e)
	}
	return out, f.Close()
}

// verifyFiles hashes every file.
func verifyFiles(ctx context.Context, rec backup.Receipt) ([]entry, error) {
	want, err := readList(ctx, rec)
	if err != nil {
		return nil, err
	}
	got, err := survey(ctx, rec.Path(prepared))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			return nil, fmt.Errorf("%w: %s is not as it was", backup.ErrDamaged, want[i].Path)
		}
	}
	if len(got) != len(want) {
		return nil, fmt.Errorf("%w: %d files and directories, there were %d", backup.ErrDamaged, len(got), len(want))
	}
	return want, isPrepared(rec.Path(prepared))
}

// restoreFiles puts a copy of the prepared backup in the place of the data
// directory. No server may run on it.
func restoreFiles(ctx context.Context, rec backup.Receipt, d data) error {
	entries, err := verifyFiles(ctx, rec)
	if err != nil {
		return err
	}
	p := backup.Place{Path: d.Datadir, ID: rec.ID}
	above := filepath.Dir(d.Datadir)
	if err := durable.MakeDirs(above, 0o755); err != nil {
		return err
	}
	if err := p.Recover(); err != nil {
		return err
	}
	there, err := backup.Exists(d.Datadir)
	if err == nil && there {
		err = replaceable(d.Datadir)
	}
	if err == nil {
		err = backup.NeedSpace(above, rec.Size)
	}
	if err == nil {
		err = stage(ctx, rec.Path(prepared), p.Stage(), entries, d)
	}
	if err == nil && there {
		err = unused(d.Datadir) // copying takes its time
	}
	if err != nil {
		return errors.Join(err, backup.Discard(p.Stage()))
	}
	return p.Swap()
}

func replaceable(dir string) error {
	if err := unused(dir); err != nil {
		return err
	}
	if at, err := backup.IsMountPoint(dir); err != nil || at {
		return errors.Join(fmt.Errorf("%s is a mount point now and can not be replaced", dir), err)
	}
	return nil
}

// stage copies the backup, looks at every hash on the way, and gives the files to
// the owner of the data directory.
func stage(ctx context.Context, from, to string, entries []entry, d data) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if leaveOut(e.Path) {
			continue
		}
		at := filepath.Join(to, e.Path)
		var err error
		if e.SHA256 == "" {
			err = os.Mkdir(at, 0o700)
		} else {
			err = copyFile(ctx, filepath.Join(from, e.Path), at, e.SHA256)
		}
		if err == nil {
			err = own(at, d)
		}
		if err != nil {
			return err
		}
	}
	if err := own(to, d); err != nil {
		return err
	}
	if err := os.Chmod(to, fs.FileMode(d.Mode&0o777)); err != nil {
		return err
	}
	return syncAll(to)
}

// leaveOut reports what mariadb-backup has left for itself.
func leaveOut(path string) bool {
	return path == "backup-my.cnf" || strings.HasPrefix(path, "xtrabackup_") || strings.HasPrefix(path, "mariadb_backup_")
}

func own(path string, d data) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st := info.Sys().(*syscall.Stat_t); int(st.Uid) == d.UID && int(st.Gid) == d.GID {
		return nil
	}
	return os.Lchown(path, d.UID, d.GID)
}

func copyFile(ctx context.Context, from, to, want string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o660)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := out.Chmod(0o660); err != nil { // the server's own mode, whatever the umask
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), backup.Reader(ctx, in)); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		return fmt.Errorf("%w: %s has the hash %s", backup.ErrDamaged, from, got)
	}
	return nil
}
