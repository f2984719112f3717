package drbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"holdfast/internal/fail"
)

// emptyBytes is the beginning of a disk where file systems, partitions, volumes of LVM and
// md have their marks.
const emptyBytes = 1 << 20

// Ready says why a host can have no device on a disk; nil: it can. It changes nothing but that the
// kernel has the module.
func Ready(ctx context.Context, disk string) error {
	for _, tool := range []string{"drbdadm", "drbdsetup", "drbdmeta"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fail.Errorf(fail.Refused, "drbd-utils: %w", err).With("install the package drbd-utils")
		}
	}
	if err := module(ctx); err != nil {
		return err
	}
	st, err := os.Stat(disk)
	if err != nil {
		return err
	}
	if st.Mode().Type() != os.ModeDevice {
		return fail.Errorf(fail.Refused, "%s is no block device (%s)", disk, st.Mode().Type())
	}
	out, err := run(ctx, func() {}, "drbdmeta", "--force", strconv.Itoa(maxMinor), "v08", disk, "internal", "dump-md")
	switch {
	case err == nil, strings.Contains(out, "unclean"): // as a loss of power leaves it
		return nil
	case strings.Contains(out, "No valid meta data"):
		return free(disk)
	case strings.Contains(out, "busy"): // by DRBD, when the host was installed before; Create finds out
		return nil
	}
	return err
}

// maxMinor is one that nobody has: drbdmeta looks whether it is in use.
const maxMinor = 1<<20 - 1

// module loads the kernel's module, and refuses one of another version.
func module(ctx context.Context) error {
	v, err := kernel(procFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := run(ctx, func() {}, "modprobe", "drbd"); err != nil {
			return fail.Errorf(fail.Refused, "the kernel has no DRBD: %w", err).With("run a kernel that has the module drbd")
		}
		v, err = kernel(procFile)
	}
	if err != nil {
		return err
	}
	if !strings.HasPrefix(v, "8.4.") {
		return fail.Errorf(fail.Refused, "the kernel has DRBD %s: want 8.4, whose ways this driver knows", v)
	}
	return nil
}

// free refuses a disk whose beginning is not empty.
func free(disk string) error {
	empty, err := Empty(disk)
	if err != nil || empty {
		return err
	}
	return fail.Errorf(fail.Refused, "%s has data, and none of DRBD", disk).
		With(fmt.Sprintf("give a disk of its own; or, when nobody needs what is on it: dd if=/dev/zero of=%s bs=1M count=1", disk))
}

// Empty reports that the beginning of a disk has zeros only.
func Empty(disk string) (empty bool, err error) {
	f, err := os.Open(disk)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b := make([]byte, emptyBytes)
	n, err := io.ReadFull(f, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("read the beginning of %s: %w", disk, err)
	}
	return bytes.Count(b[:n], []byte{0}) == n, nil
}

// Keep makes this copy one that may be promoted with what it has, by a person's word: it
// gets a history of its own, so that the peer's copy is never copied over it, however much newer
// that one is. It is not connected before Promote. fail.Refused: half of the peer's copy was
// copied over it, so it is no copy of any moment.
func (d *Driver) Keep(ctx context.Context) error {
	if err := d.Up(ctx, false); err != nil {
		return err
	}
	if err := d.Detach(ctx); err != nil {
		return err
	}
	st, err := d.Status(ctx)
	switch {
	case err != nil:
		return err
	case st.Good():
	case st.Disk == "Outdated":
		if err := d.force(ctx); err != nil {
			return err
		}
	default:
		return fail.Errorf(fail.Refused, "DRBD %s: this copy is %q: want UpToDate, Consistent or Outdated; what is on it is of no one moment", d.cfg.Resource, st.Disk)
	}
	return d.adm(ctx, "new-current-uuid")
}

// force has the kernel take an outdated copy for a good one. Nobody can write meanwhile: all
// writes are held back, and a later Promote lets them go.
func (d *Driver) force(ctx context.Context) error {
	if err := d.adm(ctx, "suspend-io"); err != nil {
		return err
	}
	if _, err := d.run(ctx, "drbdadm", "primary", "--force", d.cfg.Resource); err != nil {
		return errors.Join(err, d.adm(ctx, "resume-io"))
	}
	return errors.Join(d.Demote(ctx), d.adm(ctx, "resume-io"))
}

// giveUp has the kernel see that this copy is the one to go, which it does not by itself: the
// copy is no good any more. Where that was not enough, the two have nothing in common, as the
// peer has begun too many histories since: DRBD's own data are made anew.
func (d *Driver) giveUp(ctx context.Context) error {
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if st.Disk != "Inconsistent" {
		return d.adm(ctx, "invalidate")
	}
	if err := d.Down(ctx); err != nil {
		return err
	}
	if _, err := d.run(ctx, "drbdadm", "create-md", "--force", d.cfg.Resource); err != nil {
		return err
	}
	return d.Up(ctx, false)
}

// Frozen reports that all writes are held back.
func (d *Driver) Frozen(ctx context.Context) (bool, error) {
	st, err := d.Glance(ctx)
	return st.Frozen(), err
}

// Down takes the device away from the kernel. Nobody has it open. What is on the disks stays.
func (d *Driver) Down(ctx context.Context) error {
	if err := d.unset(upMark); err != nil {
		return err
	}
	return d.adm(ctx, "down")
}
