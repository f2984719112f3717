package votedisk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
)

// Errors that callers tell apart.
var (
	// ErrForeign: it is not formatted, or for another pair.
	ErrForeign = errors.New("it is not the disk of this pair")
	// ErrDamaged: a node's block can not be read, so nothing is decided any more.
	ErrDamaged = errors.New("a block of it is damaged")
	// ErrBusy: an earlier contest still waits for the disk.
	ErrBusy = errors.New("an earlier contest still waits for it")
)

const (
	sector  = 4096
	sectors = 5 // whose it is, and two for each node
	magic   = "holdfast-votes-1:"
	// again is the longest pause after a try that the other one has cut short.
	again = 50 * time.Millisecond
)

// block is what a node has written.
type block struct {
	Seq       uint64 // of writes; 0: none yet
	Gen       uint64
	MBal, Bal uint64
	Inp       uint64 // 1 + the node that is voted for; 0: none
}

// Disk is one node's view of the disk.
type Disk struct {
	path string
	pair string
	me   int // 0 or 1
	busy chan struct{}
	torn func(b []byte) []byte // for tests: what of a write reaches the disk
}

// New is the view of node me, 0 or 1, of the disk of a pair. path is a device, or a
// file on storage that both nodes have mounted. Nothing is opened before it is used.
func New(path, pair string, me int) *Disk {
	return &Disk{path: path, pair: pair, me: me & 1, busy: make(chan struct{}, 1)}
}

// Prepare makes the disk that of the pair, which one of the nodes does before anybody contests:
// a file that the other one does not find is on storage that the two do not share. The disk
// of this pair stays as it is, with its votes; what holds anything else in its first 20 KiB
// is refused with ErrForeign.
func (d *Disk) Prepare(ctx context.Context) error {
	return d.use(ctx, func() error {
		create := unix.O_CREAT
		if strings.HasPrefix(d.path, "/dev/") {
			create = 0
		}
		f, err := d.open(create)
		if err != nil {
			return err
		}
		if err = d.mine(f); errors.Is(err, ErrForeign) {
			if err = d.empty(f); err == nil {
				err = d.format(f)
			}
		}
		return errors.Join(err, f.Close())
	})
}

// empty is nil when it is a new file, or no sector holds anything.
func (d *Disk) empty(f *os.File) error {
	if info, err := f.Stat(); err != nil || info.Mode().IsRegular() && info.Size() == 0 {
		return err
	}
	for i := range sectors {
		data, err := get(f, i)
		if err == nil && len(bytes.Trim(data, "\x00")) > 0 {
			err = fmt.Errorf("%w: its first 20 KiB hold something else", ErrForeign)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// format writes whose the disk is last: before, it is nobody's.
func (d *Disk) format(f *os.File) error {
	for i := sectors - 1; i > 0; i-- {
		if err := put(f, i, nil); err != nil {
			return err
		}
	}
	return put(f, 0, d.head())
}

// Check reads the disk, and fails when it could not decide.
func (d *Disk) Check(ctx context.Context) error {
	return d.use(ctx, func() error {
		f, err := d.open(0)
		if err != nil {
			return err
		}
		err = d.mine(f)
		for i := range 2 {
			if err == nil {
				_, err = d.block(f, i)
			}
		}
		return errors.Join(err, f.Close())
	})
}

// Tiebreak reports whether this node is the winner of a generation. After an error
// that is not known; it may be asked again. A disk that hangs keeps one goroutine
// until it answers; the vote may still be cast then.
func (d *Disk) Tiebreak(ctx context.Context, gen uint64) (won bool, err error) {
	err = d.use(ctx, func() error {
		f, err := d.open(0)
		if err != nil {
			return err
		}
		if err = d.mine(f); err == nil {
			won, err = d.contest(ctx, f, gen)
		}
		return errors.Join(err, f.Close())
	})
	return won && err == nil, err
}

// use does one thing at a time with the disk, and leaves it behind when ctx ends.
func (d *Disk) use(ctx context.Context, do func() error) error {
	select {
	case d.busy <- struct{}{}:
	default:
		return fmt.Errorf("vote disk %s: %w", d.path, ErrBusy)
	}
	done := make(chan error, 1)
	go func() { // ends when the disk answers
		err := do()
		<-d.busy
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("vote disk %s: %w", d.path, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("vote disk %s: %w", d.path, context.Cause(ctx))
	}
}

func (d *Disk) open(flags int) (*os.File, error) {
	return os.OpenFile(d.path, unix.O_RDWR|unix.O_DIRECT|unix.O_DSYNC|flags, 0o600)
}

// contest tries ballots until one of them decides.
func (d *Disk) contest(ctx context.Context, f *os.File, gen uint64) (bool, error) {
	for ballot := uint64(d.me); ; {
		mine, err := d.block(f, d.me)
		if err != nil {
			return false, err
		}
		other, err := d.block(f, 1-d.me)
		if err != nil {
			return false, err
		}
		if mine.Gen > gen || other.Gen > gen {
			return false, nil
		}
		if mine.Gen < gen {
			mine = block{Seq: mine.Seq, Gen: gen}
		}
		if other.Gen < gen {
			other = block{}
		}
		for ballot <= mine.MBal || ballot <= other.MBal {
			ballot += 2
		}
		winner, err := d.try(f, mine, ballot)
		if err != nil || winner != 0 {
			return winner == uint64(d.me)+1, err
		}
		if !clock.Sleep(ctx, rand.N(again)) {
			return false, context.Cause(ctx)
		}
	}
}

// try is the two phases of one ballot. winner is 1 + a node; 0: the other one has a
// higher ballot, or has gone on to a later generation.
func (d *Disk) try(f *os.File, mine block, ballot uint64) (winner uint64, err error) {
	mine.MBal = ballot
	other, ok, err := d.exchange(f, &mine)
	if err != nil || !ok {
		return 0, err
	}
	switch {
	case other.Inp != 0 && other.Bal > mine.Bal:
		mine.Inp = other.Inp
	case mine.Inp == 0:
		mine.Inp = uint64(d.me) + 1
	}
	mine.Bal = ballot
	if _, ok, err = d.exchange(f, &mine); err != nil || !ok {
		return 0, err
	}
	return mine.Inp, nil
}

// exchange writes this node's block and reads the other's after it. ok is false when
// that one has a higher ballot.
func (d *Disk) exchange(f *os.File, mine *block) (other block, ok bool, err error) {
	mine.Seq++
	if err := d.write(f, *mine); err != nil {
		return other, false, err
	}
	other, err = d.block(f, 1-d.me)
	switch {
	case err != nil:
		return other, false, err
	case other.Gen < mine.Gen:
		return block{}, true, nil
	}
	return other, other.Gen == mine.Gen && other.MBal < mine.MBal, nil
}

// head is sector 0.
func (d *Disk) head() []byte { return append([]byte(magic), d.pair...) }

// mine makes sure that the disk is this pair's.
func (d *Disk) mine(f *os.File) error {
	data, err := get(f, 0)
	if err != nil {
		return err
	}
	if have := bytes.TrimRight(data, "\x00"); !bytes.Equal(have, d.head()) {
		return ErrForeign
	}
	return nil
}

// sectorOf is where a node's write of that number lies.
func sectorOf(node int, seq uint64) int { return 1 + 2*node + int(seq%2) }

var table = crc64.MakeTable(crc64.ECMA)

// write puts this node's block on disk, beside the one of before.
func (d *Disk) write(f *os.File, b block) error {
	data := binary.LittleEndian.AppendUint64(nil, uint64(d.me)+1)
	for _, v := range []uint64{b.Seq, b.Gen, b.MBal, b.Bal, b.Inp} {
		data = binary.LittleEndian.AppendUint64(data, v)
	}
	data = binary.LittleEndian.AppendUint64(data, crc64.Checksum(data, table))
	if d.torn != nil {
		data = d.torn(data)
	}
	return put(f, sectorOf(d.me, b.Seq), data)
}

// block reads the newest complete block of a node. A sector that is torn was being
// written; the one of before is what counts.
func (d *Disk) block(f *os.File, node int) (newest block, err error) {
	torn := 0
	for i := range uint64(2) {
		data, err := get(f, sectorOf(node, i))
		if err != nil {
			return block{}, err
		}
		b, ok := parse(data, node)
		switch {
		case !ok:
			torn++
		case b.Seq > newest.Seq:
			newest = b
		}
	}
	if torn == 2 {
		return block{}, ErrDamaged
	}
	return newest, nil
}

// parse reads a sector; one of zeros is a block that was never written.
func parse(data []byte, node int) (block, bool) {
	if len(bytes.TrimRight(data, "\x00")) == 0 {
		return block{}, true
	}
	word := func(i int) uint64 { return binary.LittleEndian.Uint64(data[8*i:]) }
	ok := word(0) == uint64(node)+1 && word(6) == crc64.Checksum(data[:48], table)
	return block{word(1), word(2), word(3), word(4), word(5)}, ok
}

// buffer is a sector in memory at an address that O_DIRECT takes.
func buffer() ([]byte, error) {
	return unix.Mmap(-1, 0, sector, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
}

func put(f *os.File, i int, data []byte) error {
	b, err := buffer()
	if err != nil {
		return err
	}
	copy(b, data)
	_, err = f.WriteAt(b, int64(i)*sector)
	return errors.Join(err, unix.Munmap(b))
}

func get(f *os.File, i int) ([]byte, error) {
	b, err := buffer()
	if err != nil {
		return nil, err
	}
	n, err := f.ReadAt(b, int64(i)*sector)
	if n < sector && errors.Is(err, io.EOF) {
		err = ErrForeign // it is shorter than what Format makes
	}
	data := bytes.Clone(b)
	if err := errors.Join(err, unix.Munmap(b)); err != nil {
		return nil, err
	}
	return data, nil
}
