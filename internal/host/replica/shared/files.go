package shared

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"holdfast/internal/fail"
)

// UUID is that of a file system; of none it is zero.
type UUID [16]byte

func (u UUID) String() string {
	h := hex.EncodeToString(u[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// uuidOf is the UUID that the file system of a pair is made with: both nodes know it by the
// pair's name (RFC 9562, version 8: of a hash of our own).
func uuidOf(pair string) (u UUID) {
	sum := sha256.Sum256([]byte("holdfast pair's file system " + pair))
	copy(u[:], sum[:])
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return u
}

// UUID is that of the pair's file system.
func (d *Disk) UUID() UUID { return d.uuid }

// headBytes is the beginning of a disk, in which the file systems of a pair say who they are.
const headBytes = 4096

// parseHead reads the UUID of an ext4 or xfs file system from the beginning of its device
// (Linux: fs/ext4/ext4.h, struct ext4_super_block at byte 1024; fs/xfs/libxfs/xfs_format.h,
// struct xfs_dsb).
func parseHead(b []byte) (u UUID, ok bool) {
	switch {
	case len(b) >= 48 && string(b[:4]) == "XFSB":
		return UUID(b[32:48]), true
	case len(b) >= 1024+0x78 && b[1024+0x38] == 0x53 && b[1024+0x39] == 0xef:
		return UUID(b[1024+0x68:]), true
	}
	return u, false
}

// Check is nil when this node sees the pair's file system on the disk, past this host's cache.
// Errors: ErrPath; fail.Refused when there is another one, or none.
func (d *Disk) Check(ctx context.Context) error {
	return d.use(ctx, func(int) error {
		b, err := d.direct(0)
		if err != nil {
			return err
		}
		switch u, ok := parseHead(b); {
		case !ok:
			return fail.Errorf(fail.Refused, "it has no file system of ext4 or xfs: want that of this pair, %s", d.uuid)
		case u != d.uuid:
			return fail.Errorf(fail.Refused, "it has the file system %s: want that of this pair, %s", u, d.uuid)
		}
		return nil
	})
}

// Answers is nil when the disk gives a block of its own. A disk that takes SCSI commands is asked by one: a read past this host's cache
// would have the kernel write first what of that place is in the cache. Of any other one it is the last block. Errors: ErrAttention, ErrPath,
// and what the disk says.
func (d *Disk) Answers(ctx context.Context) error {
	return d.use(ctx, func(fd int) error {
		block, err := unix.IoctlGetInt(fd, unix.BLKSSZGET)
		if err != nil {
			return fmt.Errorf("%w: ioctl BLKSSZGET: %w", ErrPath, err)
		}
		if _, err = send(fd, commandRead(), make([]byte, block), fromDevice); !errors.Is(err, ErrNone) {
			return err
		}
		size, err := unix.IoctlGetInt(fd, unix.BLKGETSIZE64) // 64 bits are what an int has here
		if err != nil {
			return fmt.Errorf("%w: ioctl BLKGETSIZE64: %w", ErrPath, err)
		}
		_, err = d.direct(max(0, int64(size)/headBytes-1) * headBytes)
		return err
	})
}

// direct reads headBytes of the disk, past this host's cache. Errors: ErrPath.
func (d *Disk) direct(at int64) (b []byte, err error) {
	if b, err = readDirect(d.path, at); err != nil {
		err = fmt.Errorf("%w: %w", ErrPath, err)
	}
	return b, err
}

func readDirect(path string, at int64) (b []byte, err error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	// O_DIRECT wants memory at the beginning of a page.
	page, err := unix.Mmap(-1, 0, headBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	n, err := f.ReadAt(page, at)
	b = append(b, page[:n]...)
	if uerr := unix.Munmap(page); err == nil {
		err = uerr
	}
	return b, err
}

// Ready says why a disk can not be that of a pair whose name is pair, "" when it has none yet; nil: it can. own: it has that pair's
// file system already. It does not look who has it mounted, nor, unless it is the pair's own, what is on it. Errors: ErrNone, when nothing
// but its lack of reservations is against it; ErrAttention, ErrPath; fail.Refused.
func Ready(ctx context.Context, path, pair string) (own bool, err error) {
	d := New(path, pair, 0)
	return ask(ctx, d, func(fd int) (own bool, err error) {
		if err := whole(fd); err != nil {
			return false, err
		}
		b, err := d.direct(0)
		if err != nil {
			return false, err
		}
		u, ok := parseHead(b)
		own = pair != "" && ok && u == d.uuid
		if err := able(fd); err != nil {
			return own, err
		}
		r, err := holder(fd)
		if err == nil && r.Key != 0 && (pair == "" || r.Key != d.self && r.Key != d.other) {
			err = fail.Errorf(fail.Refused, "somebody else holds its reservation, by the key %s", r.Key)
		}
		return own, err
	})
}

// Fresh has this host forget what it has read of the disk: the other node may have written
// since. Nobody has it mounted here. Errors: ErrPath.
func (d *Disk) Fresh(ctx context.Context) error {
	return d.use(ctx, func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.BLKFLSBUF, 0); errno != 0 {
			return fmt.Errorf("%w: ioctl BLKFLSBUF: %w", ErrPath, errno)
		}
		return nil
	})
}
