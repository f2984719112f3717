package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/host/replica"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
	"holdfast/internal/store"
)

// busyWithin is how long Resolve waits for a moment in which nothing is under way.
const busyWithin = 15 * time.Second

// retainer is a copy that can be kept by a person's word. Keep makes it one that may be promoted
// with what it has; again does no harm.
type retainer interface {
	Retain(ctx context.Context) error
}

// Resolve makes this node's copy the only complete one, by a person's word, where no copy can
// be promoted. What the other one has beside it is saved there, and given up, when that node
// follows again. may says why it is refused, by what is known now of the node that has the group (""
// for none) and of the other copy. The record comes first: until the copy is ready as well nobody
// is promoted, and the call can be repeated. recorded: the record says so.
func (d *Driver) Resolve(ctx context.Context, may func(holder cluster.HostID) error) (recorded bool, err error) {
	if _, ok := d.now.Load().data.(retainer); !ok {
		return false, fail.Errorf(fail.Refused, "a copy of this kind is not chosen by a person's word")
	}
	put, err := d.choose(ctx, may)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, d.release(ctx)) }()
	if o := d.put(ctx, put); o.Why != "" {
		return false, fail.Errorf(fail.Unavailable, "whether the choice was recorded is not known: %s",
			o.Why).With("look at it with: holdfast pair status, and choose again")
	} else if !o.OK {
		return false, fail.Errorf(fail.Refused, "the records of the pair have changed meanwhile; nothing was changed")
	}
	d.opt.Log.Warn("pair", "chosen", describe(put))
	data := d.now.Load().data.(retainer) // nothing changes it while this node is held
	if err := data.Retain(ctx); err != nil {
		return true, fail.Errorf(fail.Failed, "the choice is recorded, and this copy can not be promoted yet: %w",
			err).With("choose again, this copy or the other one")
	}
	return true, nil
}

// choose waits until nothing is under way on this node, and holds it so.
func (d *Driver) choose(ctx context.Context, may func(holder cluster.HostID) error) (p pair.Put, err error) {
	ctx, cancel := context.WithTimeout(ctx, busyWithin)
	defer cancel()
	for {
		// What may finds out is of these records, or newer: the transaction compares them.
		var owner pair.OwnerRec
		var sync int64
		if err := d.ask(ctx, func() { owner, sync = d.m.Owner, d.m.Sync.Mod }); err != nil {
			return p, err
		}
		if err := may(owner.Holder()); err != nil {
			return p, err
		}
		why, busy := "", false
		if err := d.ask(ctx, func() {
			switch {
			case !d.ready:
				why, busy = errNotReady.Error(), true
			case d.held || d.m.Acting != nil || d.m.Writing || !d.m.Judged() || d.m.Owner.Mod != owner.Mod || d.m.Sync.Mod != sync:
				why, busy = "this node is busy, or its copy can not be looked at", true
			default:
				p, why = d.m.Resolve()
				d.held = why == ""
			}
		}); err != nil {
			return p, err
		}
		switch {
		case why == "":
			return p, nil
		case !busy || !clock.Sleep(ctx, stepEvery):
			return p, fail.Errorf(fail.Refused, "%s; nothing was changed", why)
		}
	}
}

// release lets the loop go on. What was seen before does not count.
func (d *Driver) release(ctx context.Context) error {
	return d.ask(context.WithoutCancel(ctx), func() {
		d.held = false
		d.m.Touched, d.m.Risked = d.opt.Clock(), d.opt.Clock()
		d.lookNow()
	})
}

// Retain makes this copy one that may be promoted with what it has.
func (d *Database) Retain(ctx context.Context) error {
	run, wrote, err := readWrote(d.Dir)
	if err != nil {
		return err
	}
	st, err := d.DB.Status(ctx)
	if err != nil {
		return err
	}
	if wrote && (st.Role == replica.Down || st.Run == run) {
		return nil // it has kept all that it had
	}
	if run, err = d.DB.Retain(ctx); err != nil {
		return err
	}
	if err := d.know(); err != nil {
		return err
	}
	return durable.WriteFile(wroteFile(d.Dir), []byte(run), 0o600)
}

// Change gives the group other data and members while it goes on: the core knows nothing of this
// node until the next look. before is called while nothing else is under way on this node, and nothing else
// begins: it ends here what the group has no more. serves says that the group runs here by a license, so
// before may start what it gets, too. When before fails, nothing is changed.
func (d *Driver) Change(ctx context.Context, data Data, members []Member, before func(ctx context.Context, serves bool) error) (err error) {
	serves := false
	for held := false; !held; {
		if err := d.ask(ctx, func() {
			m := d.m
			if held = d.ready && !d.held && m.Acting == nil && (m.Phase == pair.Serving || m.Phase == pair.Ended); held {
				d.held, serves = true, m.Serves()
			}
		}); err != nil {
			return err
		}
		if !held && !clock.Sleep(ctx, stepEvery) {
			return fail.Errorf(fail.Unavailable, "this node is busy, or its copy can not be looked at")
		}
	}
	defer func() { err = errors.Join(err, d.release(ctx)) }()
	if err := before(ctx, serves); err != nil {
		return err
	}
	now := &parts{data, members}
	return d.ask(context.WithoutCancel(ctx), func() {
		d.now.Store(now)
		d.m.Changed(now.specs())
	})
}

// makingName is the file in a copy's directory that says that what the group begins with was
// begun to be made, and was not finished.
const makingName = "pair-making"

// makeWithin is how long that may take.
const makeWithin = 10 * time.Minute

// makeOnce has make put on an empty device what the group begins with, again where it was
// cut short. A device that has anything else is left as it is. Nobody else uses it.
func makeOnce(ctx context.Context, dir, device string, make func(ctx context.Context) error) error {
	empty, err := drbd.Empty(device)
	if err != nil {
		return err
	}
	making := filepath.Join(dir, makingName)
	if _, err := os.Stat(making); !empty && err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if err := durable.WriteFile(making, nil, 0o600); err != nil {
		return err
	}
	// Whoever asked for it may not wait that long: what was begun goes on.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeWithin)
	defer cancel()
	if err := make(ctx); err != nil {
		return fmt.Errorf("make what the group begins with: %w", err)
	}
	return made(dir)
}

// made notes that what is on the device is not to be made anew.
func made(dir string) error {
	return removed(filepath.Join(dir, makingName))
}

// Restored takes back, in a store that was restored from a backup, that copies of a pair have every acknowledged write: the
// one that was complete then may have missed all that the other one took since. A person chooses (docs/adr/0048). false: the
// store has no such record.
func Restored(ctx context.Context, st store.Store) (bool, error) {
	kv, found, err := st.Get(ctx, KeySync)
	if err != nil || !found {
		return false, err
	}
	s, err := records.Decode[pair.Sync](kv, false)
	if err != nil {
		return false, err
	}
	s.InSync, s.To, s.Proof = nil, "", ""
	_, ok, err := st.Txn(ctx, []store.Cmp{{Key: KeySync, Rev: kv.ModRev}}, []store.Op{{Key: KeySync, Value: records.Encode(s)}})
	if err == nil && !ok {
		err = errors.New("it has changed meanwhile")
	}
	if err != nil {
		return false, fmt.Errorf("take back which copies are complete: %w", err)
	}
	return true, nil
}
