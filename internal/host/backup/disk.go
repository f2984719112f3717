package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Reserve is what a backup or a restore leaves free on a file system, bytes.
const Reserve = 64 << 20

// NeedSpace fails with ErrNoSpace when the file system of dir has not room for so
// many bytes and the reserve.
func NeedSpace(dir string, bytes int64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("look for free space in %s: %w", dir, err)
	}
	free := int64(s.Bavail) * s.Bsize
	if free < bytes+Reserve {
		return fmt.Errorf("%w in %s: %d MiB are free, %d MiB are needed", ErrNoSpace, dir, free>>20, (bytes+Reserve)>>20+1)
	}
	return nil
}

// MountID is the number of the mount in which a path is; links are not followed.
// Two paths with different numbers can not be renamed to each other.
func MountID(path string) (uint64, error) {
	var s unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID, &s)
	switch {
	case err != nil:
		return 0, &os.PathError{Op: "statx", Path: path, Err: err}
	case s.Mask&unix.STATX_MNT_ID == 0:
		return 0, &os.PathError{Op: "statx", Path: path, Err: errors.New("the kernel does not tell the mount")}
	}
	return s.Mnt_id, nil
}

// IsMountPoint reports whether something is mounted at the path.
func IsMountPoint(path string) (bool, error) {
	here, err := MountID(path)
	if err != nil {
		return false, err
	}
	above, err := MountID(filepath.Dir(path))
	return here != above || path == "/", err
}

// HashFile gives the SHA-256 of a file in hex and its size in bytes.
func HashFile(ctx context.Context, path string) (string, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	h := sha256.New()
	n, err := io.Copy(h, Reader(ctx, f))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, fmt.Errorf("read %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

// Reader is r until ctx ends.
func Reader(ctx context.Context, r io.Reader) io.Reader { return &reader{ctx: ctx, r: r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}
