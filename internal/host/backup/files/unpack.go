package files

import (
	"archive/tar"
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
	"path"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"holdfast/internal/host/backup"
)

// read goes through the archive and its list together, and gives each member to u,
// if there is one. It fails when anything is not as the receipt says.
func read(ctx context.Context, rec backup.Receipt, d data, u *unpacker) error {
	if err := contents(ctx, rec, d, u); err != nil {
		return fmt.Errorf("read backup %s: %w", rec.ID, err)
	}
	return nil
}

func contents(ctx context.Context, rec backup.Receipt, d data, u *unpacker) (err error) {
	q := rec.Request()
	sum, _, err := backup.HashFile(ctx, q.Path(list))
	if err == nil && sum != d.List {
		err = errors.New("the list of files has another hash")
	}
	if err != nil {
		return errors.Join(backup.ErrDamaged, err)
	}
	l, err := os.Open(q.Path(list))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	a, err := os.Open(q.Path(archive))
	if err != nil {
		return errors.Join(backup.ErrDamaged, err)
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	hash := sha256.New()
	raw := io.TeeReader(backup.Reader(ctx, a), hash)
	z, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return err
	}
	defer z.Close()
	if err := members(tar.NewReader(&source{ctx: ctx, r: z}), json.NewDecoder(bufio.NewReader(l)), u); err != nil {
		return err
	}
	// The rest is read too, so that the hash is that of the whole file.
	if _, err := io.Copy(io.Discard, z); err != nil {
		return fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return err
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != rec.SHA256 {
		return fmt.Errorf("%w: the archive has the hash %s", backup.ErrDamaged, got)
	}
	return nil
}

// source is an archive that is damaged when it can not be read, unless ctx has
// ended.
type source struct {
	ctx context.Context
	r   io.Reader
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && s.ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", backup.ErrDamaged, err)
	}
	return n, err
}

// members compares the archive with the list, member by member.
func members(t *tar.Reader, want *json.Decoder, u *unpacker) error {
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			if want.More() {
				return fmt.Errorf("%w: the archive ends before the list does", backup.ErrDamaged)
			}
			return nil
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", backup.ErrDamaged, err)
		}
		if err != nil {
			return err
		}
		var e Entry
		if err := want.Decode(&e); err != nil {
			return fmt.Errorf("%w: the archive has %s, the list ends: %w", backup.ErrDamaged, h.Name, err)
		}
		if at := "/" + path.Clean(h.Name); at != e.Path || kinds[h.Typeflag] != e.Type || h.Size != e.Size {
			return fmt.Errorf("%w: the archive has %s, the list has %s", backup.ErrDamaged, at, e.Path)
		}
		sum := sha256.New()
		if u == nil {
			_, err = io.Copy(sum, t)
		} else {
			err = u.one(h, e, io.TeeReader(t, sum))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		if got := hex.EncodeToString(sum.Sum(nil)); h.Typeflag == tar.TypeReg && got != e.SHA256 {
			return fmt.Errorf("%w: %s has the hash %s", backup.ErrDamaged, e.Path, got)
		}
	}
}

// unpacker makes files beside the paths that they will replace.
type unpacker struct {
	places []backup.Place
	made   map[string]bool // directories that this unpacker made, so that no link leads out
	dirs   []*tar.Header   // their owners, modes and times come last
	at     []string
}

func newUnpacker() *unpacker { return &unpacker{made: map[string]bool{}} }

// stage is where a path is made.
func (u *unpacker) stage(path string) (string, error) {
	for _, p := range u.places {
		if path == p.Path {
			return p.Stage(), nil
		}
		if within(path, p.Path) {
			return p.Stage() + path[len(p.Path):], nil
		}
	}
	return "", errors.New("it is in none of the paths")
}

// one makes one file.
func (u *unpacker) one(h *tar.Header, e Entry, content io.Reader) error {
	at, err := u.stage(e.Path)
	if err != nil {
		return err
	}
	root := false
	for _, p := range u.places {
		root = root || p.Path == e.Path
	}
	if !root && !u.made[filepath.Dir(at)] {
		return errors.New("its directory is not in the archive")
	}
	switch h.Typeflag {
	case tar.TypeDir:
		u.made[at], u.dirs, u.at = true, append(u.dirs, h), append(u.at, at)
		return os.Mkdir(at, 0o700)
	case tar.TypeLink:
		target, err := u.stage(e.Target)
		if err != nil {
			return err
		}
		return os.Link(target, at)
	case tar.TypeReg:
		err = file(at, h, content)
	case tar.TypeSymlink:
		err = os.Symlink(h.Linkname, at)
	case tar.TypeFifo:
		err = unix.Mknod(at, unix.S_IFIFO|0o600, 0)
	case tar.TypeChar:
		err = unix.Mknod(at, unix.S_IFCHR|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	case tar.TypeBlock:
		err = unix.Mknod(at, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))))
	default:
		err = fmt.Errorf("type %q is not known", h.Typeflag)
	}
	if err != nil {
		return err
	}
	return meta(at, h)
}

// file makes a regular file, with holes where the archive has them.
func file(at string, h *tar.Header, content io.Reader) (err error) {
	f, err := os.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if h.PAXRecords["GNU.sparse.major"] == "" {
		_, err = io.Copy(f, content)
		return err
	}
	if err := skipZeros(f, content); err != nil {
		return err
	}
	return f.Truncate(h.Size)
}

// skipZeros writes blocks that hold something, and leaves holes for the others.
func skipZeros(f *os.File, r io.Reader) error {
	const grain = 4096
	none, b := make([]byte, grain), make([]byte, 64*grain)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, b)
		for from := 0; from < n; from += grain {
			part := b[from:min(from+grain, n)]
			if bytes.Equal(part, none[:len(part)]) {
				continue
			}
			if _, err := f.WriteAt(part, at+int64(from)); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// finish gives the directories what is theirs, the inner ones first: what is made
// in a directory changes its time.
func (u *unpacker) finish() error {
	for i := len(u.dirs) - 1; i >= 0; i-- {
		if err := meta(u.at[i], u.dirs[i]); err != nil {
			return fmt.Errorf("%s: %w", u.dirs[i].Name, err)
		}
	}
	return nil
}

// meta sets owner, mode, extended attributes and time, in this order: a change of
// the owner takes capabilities and set-id bits away.
func meta(at string, h *tar.Header) error {
	var st unix.Stat_t
	if err := unix.Lstat(at, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: at, Err: err}
	}
	if h.Uid != int(st.Uid) || h.Gid != int(st.Gid) {
		if err := os.Lchown(at, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	if h.Typeflag != tar.TypeSymlink {
		if err := unix.Chmod(at, uint32(h.Mode&0o7777)); err != nil {
			return &fs.PathError{Op: "chmod", Path: at, Err: err}
		}
	}
	if err := setAttributes(at, h.PAXRecords); err != nil {
		return err
	}
	t := h.ModTime
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: t.Unix(), Nsec: int64(t.Nanosecond())}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, at, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &fs.PathError{Op: "set the time " + t.Format(time.RFC3339Nano), Path: at, Err: err}
	}
	return nil
}
