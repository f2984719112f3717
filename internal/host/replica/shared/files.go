package shared

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
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
		b, err := d.head()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrPath, err)
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

func (d *Disk) head() (head []byte, err error) {
	fd, err := unix.Open(d.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), d.path)
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
	n, err := f.ReadAt(page, 0)
	head = append(head, page[:n]...)
	if uerr := unix.Munmap(page); err == nil {
		err = uerr
	}
	return head, err
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
