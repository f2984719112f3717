package mariadb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/durable"
)

// lastLine is how a dump that is whole ends.
const lastLine = "-- Dump completed"

// dump writes all databases, as they are at one moment, with routines, events,
// triggers and accounts.
func (s *server) dump(ctx context.Context, q backup.Request, rec *backup.Receipt) error {
	tool, err := program("mariadb-dump", "mysqldump")
	if err != nil {
		return err
	}
	if rec.Tool, err = backup.Version(ctx, tool, "--version"); err != nil {
		return err
	}
	if err := s.measure(ctx, q.Dir, rec); err != nil {
		return err
	}
	part := q.Path(dumped + ".part")
	args := append(slices.Clone(s.args),
		"--all-databases", "--add-drop-database", "--single-transaction", "--quick", "--routines", "--events", "--triggers",
		"--hex-blob", "--flush-privileges", "--default-character-set=utf8mb4", "--comments", "--dump-date")
	if rec.SHA256, rec.Size, err = compress(part, func(w io.Writer) error {
		_, err := backup.Run(ctx, backup.Command{Path: tool, Args: args, Stdout: w, Hold: s.hold})
		return err
	}); err != nil {
		return err
	}
	rec.Where = q.Path(dumped)
	if err := durable.Rename(part, rec.Where); err != nil {
		return err
	}
	return verifyDump(ctx, *rec)
}

// measure makes sure that there is room, and notes what a dump can not hold still.
func (s *server) measure(ctx context.Context, dir string, rec *backup.Receipt) error {
	rows, err := s.query(ctx, "SELECT COALESCE(SUM(data_length),0), COALESCE(SUM(engine NOT IN ('InnoDB','ROCKSDB') "+
		"AND table_type='BASE TABLE' "+
		"AND table_schema NOT IN ('mysql','sys','information_schema','performance_schema')),0) FROM information_schema.tables")
	if err != nil {
		return err
	}
	if len(rows) != 1 || len(rows[0]) != 2 {
		return fmt.Errorf("ask the database for its size: it says %q", rows)
	}
	size, err := strconv.ParseInt(rows[0][0], 10, 64)
	if err != nil {
		return fmt.Errorf("ask the database for its size: %w", err)
	}
	if n := rows[0][1]; n != "0" {
		rec.Notes = append(rec.Notes, n+" tables have no transactions: what was written to them during the dump may be in it in part")
	}
	return backup.NeedSpace(dir, size)
}

// compress writes what f prints into a new file, and gives its hash and size.
func compress(path string, f func(io.Writer) error) (sum string, size int64, err error) {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	hash := sha256.New()
	z, err := zstd.NewWriter(io.MultiWriter(out, hash), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	if err != nil {
		return "", 0, err
	}
	if err := errors.Join(f(z), z.Close()); err != nil {
		return "", 0, err
	}
	if err := out.Sync(); err != nil {
		return "", 0, err
	}
	info, err := out.Stat()
	if err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(hash.Sum(nil)), info.Size(), nil
}

// verifyDump looks at the hash of the file and at the last line of the dump.
func verifyDump(ctx context.Context, rec backup.Receipt) error {
	end := &ending{}
	sum, err := expand(ctx, rec.Path(dumped), end)
	if err != nil {
		return fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	if sum != rec.SHA256 {
		return fmt.Errorf("%w: the dump has the hash %s", backup.ErrDamaged, sum)
	}
	lines := strings.Split(strings.TrimSpace(string(end.b)), "\n")
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, lastLine) {
		return fmt.Errorf("%w: the dump does not end with %q", backup.ErrDamaged, lastLine)
	}
	return nil
}

// expand writes what is in a compressed file to w, and gives the file's hash.
func expand(ctx context.Context, path string, w io.Writer) (sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	hash := sha256.New()
	raw := io.TeeReader(backup.Reader(ctx, f), hash)
	z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return "", err
	}
	defer z.Close()
	if _, err := io.Copy(w, z); err != nil {
		return "", err
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// ending keeps the last 512 bytes.
type ending struct{ b []byte }

func (e *ending) Write(p []byte) (int, error) {
	e.b = append(e.b, p[max(0, len(p)-512):]...)
	e.b = bytes.Clone(e.b[max(0, len(e.b)-512):])
	return len(p), nil
}

// restoreDump feeds the dump to the client. It may be repeated: the dump drops
// every database before it makes it.
func (p Provider) restoreDump(ctx context.Context, rec backup.Receipt, d data, lock *backup.Lock) (err error) {
	s, err := open(ctx, d.Server, rec.Request(), lock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.datadir != d.Datadir {
		return fmt.Errorf("the server has the data directory %s, the one of the backup had %s", s.datadir, d.Datadir)
	}
	now, err := s.databases(ctx)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	feeder := make(chan error, 1)
	go func() {
		_, err := expand(ctx, rec.Path(dumped), w)
		feeder <- err
		w.CloseWithError(err)
	}()
	args := append(slices.Clone(s.args), "--batch", "--binary-mode", "--default-character-set=utf8mb4")
	_, err = backup.Run(ctx, backup.Command{Path: s.client, Args: args, Stdin: r, Hold: lock})
	// Without a reader the feeder ends; its own error is then that of the pipe.
	r.CloseWithError(io.ErrClosedPipe)
	if fed := <-feeder; fed != nil && !errors.Is(fed, io.ErrClosedPipe) {
		err = errors.Join(err, fed)
	}
	if err != nil {
		return err
	}
	for _, db := range now {
		if !slices.Contains(d.Databases, db) {
			p.log().Warn("a database that the backup does not know was left as it is", "backup", rec.ID, "database", db)
		}
	}
	return nil
}
