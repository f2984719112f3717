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

	"holdfast/internal/lib/fail"
)

// emptyBytes is the beginning of a disk where file systems, partitions, volumes of LVM and
// md have their marks.
const emptyBytes = 1 << 20

// Ready says why a host can have no device on a disk; nil: it can. It changes nothing but that the
// kernel has the module.
func Ready(ctx context.Context, disk string) error {
	_, err := ready(ctx, disk)
	return err
}

// Unused is Ready for a disk that DRBD never had: one with data of DRBD is refused as well.
func Unused(ctx context.Context, disk string) error {
	has, err := ready(ctx, disk)
	if err == nil && has {
		err = fail.Errorf(fail.Refused, "%s has the data of a DRBD device, or is in use by one", disk)
	}
	return err
}

// ready also reports that the disk has data of DRBD.
func ready(ctx context.Context, disk string) (has bool, err error) {
	for _, tool := range []string{"drbdadm", "drbdsetup", "drbdmeta"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false, fail.Errorf(fail.Refused, "drbd-utils: %w", err).With("install the package drbd-utils")
		}
	}
	v, err := module(ctx)
	if err != nil {
		return false, err
	}
	st, err := os.Stat(disk)
	if err != nil {
		return false, err
	}
	if st.Mode().Type() != os.ModeDevice {
		return false, fail.Errorf(fail.Refused, "%s is no block device (%s)", disk, st.Mode().Type())
	}
	dump := func(v version) (string, error) { return meta(ctx, v, disk, "dump-md") }
	if out, err := dump(v.other()); err == nil || strings.Contains(out, "unclean") {
		return false, fail.Errorf(fail.Refused, "%s has the data of a DRBD %s, and the kernel has %s", disk, v.other(), v).
			With("run a kernel with that DRBD, or give a disk of its own")
	}
	out, err := dump(v)
	switch {
	case err == nil, strings.Contains(out, "unclean"): // as a loss of power leaves it
		return true, nil
	case strings.Contains(out, "No valid meta data"):
		return false, free(disk)
	case strings.Contains(out, "busy"): // by DRBD, when the host was installed before; Create finds out
		return true, nil
	}
	return false, err
}

// meta runs a command about DRBD's own data on a disk that is no device's.
func meta(ctx context.Context, v version, disk, command string) (string, error) {
	return run(ctx, func() {}, "drbdmeta", "--force", strconv.Itoa(maxMinor), v.metaForm(), disk, "internal", command)
}

// maxMinor is one that nobody has: drbdmeta looks whether it is in use.
const maxMinor = 1<<20 - 1

// version is that of the kernel's module, such as 8.4.11.
type version string

// nine reports that it is DRBD 9, whose settings, numbers of nodes and own data on a disk
// are others than those of 8.4.
func (v version) nine() bool { return v == "9" || strings.HasPrefix(string(v), "9.") }

// other is the one of 8.4 and 9 that this one is not.
func (v version) other() version {
	if v.nine() {
		return "8.4"
	}
	return "9"
}

// metaForm is the form of DRBD's own data on a disk.
func (v version) metaForm() string {
	if v.nine() {
		return "v09"
	}
	return "v08"
}

// module loads the kernel's module, and refuses one of another version than 8.4 and 9.
func module(ctx context.Context) (version, error) {
	v, err := kernel(procFile)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := run(ctx, func() {}, "modprobe", "drbd"); err != nil {
			return "", fail.Errorf(fail.Refused, "the kernel has no DRBD: %w", err).With("run a kernel that has the module drbd")
		}
		v, err = kernel(procFile)
	}
	if err != nil {
		return "", err
	}
	if got := version(v); got.nine() || strings.HasPrefix(v, "8.4.") {
		return got, asks(helperFile)
	}
	return "", fail.Errorf(fail.Refused, "the kernel has DRBD %s: want 8.4 or 9, whose ways this driver knows", v)
}

// helperFile has the program by which the module asks who may go on.
const helperFile = "/sys/module/drbd/parameters/usermode_helper"

// asks refuses a module that asks nobody: DRBD 9 takes a peer for fenced then.
func asks(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("look for the helper of DRBD's module: %w", err)
	}
	helper := strings.TrimSpace(string(b))
	if strings.HasPrefix(helper, "/") {
		return nil
	}
	return fail.Errorf(fail.Refused, "%s: value %q: want the path of drbdadm: without it DRBD asks nobody who may go on alone", file, helper).
		With("take usermode_helper out of the options of the module drbd, and load it anew")
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

// Retain makes this copy one that may be promoted with what it has, by a person's word: it
// gets a history of its own, so that the peer's copy is never copied over it, however much newer
// that one is. It is not connected before Promote. fail.Refused: half of the peer's copy was
// copied over it, so it is no copy of any moment.
func (d *Driver) Retain(ctx context.Context) error {
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
		return fail.Errorf(fail.Refused, "DRBD %s: this copy is %q: want UpToDate, Consistent or Outdated; its data "+
			"are inconsistent", d.cfg.Resource, st.Disk)
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

// Remove takes the device away from the kernel, and DRBD's own data from the disk: what else is on
// it stays. The resource file and the marks go as well. Nobody has the device open. It can be
// called again.
func (d *Driver) Remove(ctx context.Context) error {
	v, err := module(ctx)
	if err != nil {
		return err
	}
	st, err := d.Status(ctx)
	if err != nil {
		return err
	}
	if st.Up {
		if err := d.Down(ctx); err != nil {
			return err
		}
	}
	out, err := meta(ctx, v, d.cfg.Disk, "dump-md")
	switch {
	case err == nil, strings.Contains(out, "unclean"):
		if _, err := meta(ctx, v, d.cfg.Disk, "wipe-md"); err != nil {
			return err
		}
	case !strings.Contains(out, "No valid meta data"):
		return err
	}
	for _, kind := range []string{aloneMark, promoteMark, detachedMark, upMark} {
		if err := d.unset(kind); err != nil {
			return err
		}
	}
	if err := os.Remove(d.cfg.file()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
