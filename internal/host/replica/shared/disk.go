package shared

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/fail"
)

// Disk is a node's view of the disk. Its methods may be called concurrently.
type Disk struct {
	path        string
	self, other Key
	uuid        UUID
	busy        chan struct{}
}

// New is the view of node me, 0 or 1, of the disk of a pair. path is a block device. Nothing
// is opened before it is used.
func New(path, pair string, me int) *Disk {
	return &Disk{path: path, self: KeyOf(pair, me), other: KeyOf(pair, 1-me), uuid: uuidOf(pair), busy: make(chan struct{}, 1)}
}

// Path is that of the device.
func (d *Disk) Path() string { return d.path }

// attempts is how often a command is sent that a unit attention has ended: each condition is
// told once (SAM-5, "Unit attention conditions"), and there are few kinds.
const attempts = 8

// answerWithin is how long the disk may take to answer all that one call asks of it.
const answerWithin = 15 * time.Second

// use does one thing at a time with the disk, and leaves it behind when ctx ends, or the disk has
// not answered in time: a command to a device whose path is lost can hang for longer than its time.
func (d *Disk) use(ctx context.Context, do func(fd int) error) error {
	_, err := ask(ctx, d, func(fd int) (struct{}, error) { return struct{}{}, do(fd) })
	return err
}

// ask is use for what has an answer: one that comes too late reaches nobody.
func ask[T any](ctx context.Context, d *Disk, do func(fd int) (T, error)) (answer T, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	select {
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return answer, fmt.Errorf("shared disk %s: %w: an earlier command still waits for it: %w", d.path, ErrPath, context.Cause(ctx))
	}
	type result struct {
		answer T
		err    error
	}
	done := make(chan result, 1)
	go func() { // ends when the disk answers
		var r result
		err := d.open(func(fd int) (err error) {
			r.answer, err = do(fd)
			return err
		})
		r.err = err
		<-d.busy
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return answer, fmt.Errorf("shared disk %s: %w", d.path, r.err)
		}
		return r.answer, nil
	case <-ctx.Done():
		return answer, fmt.Errorf("shared disk %s: %w: %w", d.path, ErrPath, context.Cause(ctx))
	}
}

// open opens the device for reading: the close of one that was open for writing would have
// udev look at it each time.
func (d *Disk) open(do func(fd int) error) (err error) {
	fd, err := unix.Open(d.path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%w: open: %w", ErrPath, err)
	}
	defer func() { err = errors.Join(err, unix.Close(fd)) }()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fail.Errorf(fail.Invalid, "it is no block device")
	}
	return do(fd)
}

// whole refuses a device of several paths, since a reservation is of one of them, and the others
// would be refused by the disk, or not be covered; and a part of a disk, since a reservation is
// of all of it.
func whole(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	for _, of := range []struct{ glob, why string }{
		{"dm", "a device of the device mapper (multipath, LVM): a reservation is of one path, and a registration for each path is not made"},
		{"holders/dm-*", "a device of the device mapper (multipath, LVM) is on it: a reservation is of one path, and a registration for each path is not made"},
		{"partition", "a partition: a reservation is of the whole disk"},
	} {
		found, err := filepath.Glob(filepath.Join(dir, of.glob))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fail.Errorf(fail.Refused, "%s", of.why)
		}
	}
	return nil
}

// send repeats a command that a unit attention has ended: it was not carried out.
func send(fd int, cdb, data []byte, direction int32) (b []byte, err error) {
	for range attempts {
		if b, err = command(fd, cdb, data, direction); !errors.Is(err, errAttention) {
			return b, err
		}
	}
	return nil, fmt.Errorf("%w: %w", ErrAttention, err)
}

// in asks. That the device does not know the question is ErrNone.
func in(fd int, action byte) ([]byte, error) {
	b, err := send(fd, commandIn(action), make([]byte, inBytes), fromDevice)
	if errors.Is(err, errIllegal) {
		err = fmt.Errorf("%w: %w", ErrNone, err)
	}
	return b, err
}

func (d *Disk) out(fd int, action byte, of Key) error {
	cdb, data := commandOut(action, d.self, of)
	_, err := send(fd, cdb, data, toDevice)
	if err != nil {
		err = fmt.Errorf("%s: %w", actions[action], err)
	}
	return err
}

var actions = map[byte]string{
	outReserve: "RESERVE", outRelease: "RELEASE", outClear: "CLEAR", outPreempt: "PREEMPT", outPreemptAbort: "PREEMPT AND ABORT",
	outRegisterIgnore: "REGISTER AND IGNORE EXISTING KEY",
}

func holder(fd int) (r Reservation, err error) {
	b, err := in(fd, inReservation)
	if err != nil {
		return r, err
	}
	return parseReservation(b)
}

// able is nil when the device has reservations that this package can use. Errors: ErrNone.
func able(fd int) error {
	if _, err := holder(fd); err != nil {
		return err
	}
	b, err := in(fd, inCapabilities)
	if errors.Is(err, ErrNone) {
		return nil // it does not tell what it can: the command itself will
	}
	if err != nil {
		return err
	}
	has, err := parseCapabilities(b)
	if err == nil && !has {
		err = fmt.Errorf("%w of the type Write Exclusive", ErrNone)
	}
	return err
}

// Holder is who holds the reservation. Errors: ErrNone, ErrAttention, ErrPath.
func (d *Disk) Holder(ctx context.Context) (Reservation, error) {
	return ask(ctx, d, func(fd int) (r Reservation, err error) {
		if err = able(fd); err == nil {
			r, err = holder(fd)
		}
		return r, err
	})
}

// Keys are those that are registered. Errors: ErrNone, ErrAttention, ErrPath.
func (d *Disk) Keys(ctx context.Context) ([]Key, error) {
	return ask(ctx, d, func(fd int) ([]Key, error) {
		b, err := in(fd, inKeys)
		if err != nil {
			return nil, err
		}
		return parseKeys(b)
	})
}

// Self is this node's key.
func (d *Disk) Self() Key { return d.self }

// Claim takes the reservation for this node, and returns when the device says that this node
// holds it. take: from the other one, too, whose writes are refused from then on; the caller
// has a license for it. Errors: ErrNone, ErrConflict, ErrAttention, ErrPath; fail.Refused when
// it is neither node's, or the other one's without take, or the device is one of several paths
// or a part of a disk.
func (d *Disk) Claim(ctx context.Context, take bool) error {
	return d.use(ctx, func(fd int) error {
		err := able(fd)
		if err == nil {
			err = whole(fd)
		}
		if err != nil {
			return err
		}
		// Before anything of this node is on the device: whose is it?
		r, err := holder(fd)
		if err != nil {
			return err
		}
		if r.Key != 0 && r.Key != d.self && r.Key != d.other {
			return fail.Errorf(fail.Refused, "%s holds the reservation, which is neither node's key", r.Key)
		}
		if r.Key == d.other && !take {
			return fail.Errorf(fail.Refused, "the other node holds the reservation")
		}
		if err := d.out(fd, outRegisterIgnore, d.self); err != nil {
			return err
		}
		// It ends well for who holds it already. With this node's key that may be a nexus of
		// before a boot, so the key alone says nothing.
		err = d.out(fd, outReserve, 0)
		if errors.Is(err, ErrConflict) && r.Key != 0 { // one that has come since then is left: it belongs to a later license
			if err = d.preempt(fd, r.Key); err == nil {
				err = d.out(fd, outReserve, 0)
			}
		}
		if err != nil {
			return err
		}
		if r, err = holder(fd); err == nil && r != (Reservation{d.self, writeExclusive}) {
			err = fmt.Errorf("%w: read back: %s holds it, type %d", ErrConflict, r.Key, r.Type)
		}
		return err
	})
}

// preempt takes the reservation from who has that key, and ends what that one has sent. A
// device that can not end it (tgt) only refuses what comes later: that nothing is
// on its way any more is then the license's word alone.
func (d *Disk) preempt(fd int, of Key) error {
	err := d.out(fd, outPreemptAbort, of)
	if errors.Is(err, errIllegal) {
		err = d.out(fd, outPreempt, of)
	}
	return err
}

// Release gives the reservation back, and returns when the device says so. A reservation that
// this node does not hold is left as it is. Errors: ErrNone, ErrAttention, ErrPath.
func (d *Disk) Release(ctx context.Context) error {
	return d.use(ctx, func(fd int) error {
		r, err := holder(fd)
		if err != nil || r.Key != d.self {
			return err
		}
		err = d.out(fd, outRelease, 0)
		if errors.Is(err, ErrConflict) {
			return nil // this nexus is not registered any more, so its writes are refused
		}
		if err != nil {
			return err
		}
		if r, err = holder(fd); err == nil && r.Key == d.self {
			err = errors.New("RELEASE: read back: this node holds it still")
		}
		return err
	})
}
