// Package lvm takes snapshots of logical volumes, plain ones with room of their
// own and thin ones in their pool. Several volumes are one backup: all of them have
// a snapshot, or none. A restore merges the snapshots into their volumes, which
// must not be open, and uses them up: it can be finished after a crash, and not be
// done again.
package lvm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/clock"
)

// name is what plans call this provider.
const name = "lvm"

const (
	merging        = ".merging" // snapshots whose merge was begun, so that their absence is understood
	defaultPercent = 20         // of Options.Percent
	maxVolumes     = 64
	maxName        = 127 // of a volume, bytes
)

// Options say which volumes.
type Options struct {
	Volumes []string `json:"volumes"`           // GROUP/NAME
	Percent int      `json:"percent,omitempty"` // room for changes, of the volume's size, 1 to 100; default 20; not used for thin volumes
}

var volumeForm = regexp.MustCompile(`^([A-Za-z0-9+_.][A-Za-z0-9+_.-]*)/([A-Za-z0-9+_.][A-Za-z0-9+_.-]*)$`)

func (o *Options) check(id string) error {
	if len(o.Volumes) == 0 || len(o.Volumes) > maxVolumes {
		return fmt.Errorf("volumes: %d of them: want 1 to %d", len(o.Volumes), maxVolumes)
	}
	for i, v := range o.Volumes {
		m := volumeForm.FindStringSubmatch(v)
		switch {
		case m == nil:
			return fmt.Errorf("volume %q: want GROUP/NAME", v)
		case len(snapshotName(id, m[2])) > maxName:
			return fmt.Errorf("volume %s: its name is too long for a snapshot beside it", v)
		case slices.Contains(o.Volumes[:i], v):
			return fmt.Errorf("volume %s is there twice", v)
		}
	}
	if o.Percent == 0 {
		o.Percent = defaultPercent
	}
	if o.Percent < 1 || o.Percent > 100 {
		return fmt.Errorf("percent %d: want 1 to 100", o.Percent)
	}
	return nil
}

// snapshotName is how the snapshot of a volume is called, in the volume's group.
func snapshotName(id, volume string) string { return "hf." + id + "." + volume }

// Provider is the provider. Its zero value is ready.
type Provider struct{}

var _ backup.Provider = Provider{}

// Name is "lvm".
func (Provider) Name() string { return name }

// Backup makes a snapshot of each volume. File systems on them are caught as they
// are: stop what writes, or rely on their journals.
func (p Provider) Backup(ctx context.Context, q backup.Request) (backup.Receipt, error) {
	var o Options
	if err := q.Prepare(&o, func() error { return o.check(q.ID) }); err != nil {
		return backup.Receipt{}, err
	}
	return backup.Make(ctx, q, func(l *backup.Lock) (backup.State, error) { return tool{lock: l}.state(ctx, q, o) },
		func(l *backup.Lock) (backup.Receipt, error) {
			t := tool{lock: l}
			rec, err := t.all(ctx, q, o)
			if err != nil {
				// The context may have ended; what was made is taken back all the same.
				undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
				defer cancel()
				return rec, errors.Join(fmt.Errorf("backup %s of logical volumes: %w", q.ID, err),
					t.removeAll(undo, q.ID, o.Volumes), backup.Discard(q.File(), q.Path(merging)))
			}
			return rec, nil
		})
}

// undoLimit bounds the removal of snapshots after a failure.
const undoLimit = time.Minute

func (t tool) all(ctx context.Context, q backup.Request, o Options) (rec backup.Receipt, err error) {
	rec = backup.Receipt{Provider: name, ID: q.ID, Host: q.Host, Dir: q.Dir, What: o.Volumes,
		Where: "in the volume groups", Data: json.RawMessage("{}")}
	if rec.Tool, err = t.version(ctx); err != nil {
		return rec, err
	}
	if err := t.removeAll(ctx, q.ID, o.Volumes); err != nil {
		return rec, err
	}
	if err := backup.Discard(q.Path(merging)); err != nil {
		return rec, err
	}
	before, err := t.list(ctx, o.Volumes)
	if err != nil {
		return rec, err
	}
	if err := t.room(ctx, before, o); err != nil {
		return rec, err
	}
	for _, v := range o.Volumes {
		if err := t.create(ctx, q.ID, before[v], o.Percent); err != nil {
			return rec, err
		}
	}
	after, err := t.list(ctx, o.Volumes)
	if err != nil {
		return rec, err
	}
	for _, v := range o.Volumes {
		s, ok := after[before[v].snapshot(q.ID)]
		if !ok {
			return rec, fmt.Errorf("%s: lvcreate has made a snapshot that is not there", v)
		}
		rec.Snapshots = append(rec.Snapshots, backup.Snapshot{Of: v, Name: s.full(), ID: s.UUID})
		if !s.thin() {
			rec.Notes = append(rec.Notes, fmt.Sprintf("%s has room for changes of %d MiB; when they are more, the "+
				"way back is lost", s.full(), s.Size>>20))
		}
	}
	rec.When = time.Now().UTC().Truncate(time.Second)
	return rec, backup.Save(rec)
}

// Verify looks whether the snapshots are there and have not run full.
func (Provider) Verify(ctx context.Context, rec backup.Receipt) error {
	if err := backup.CheckReceipt(rec, name, &struct{}{}); err != nil {
		return err
	}
	have, err := tool{}.list(ctx, rec.What)
	if err == nil {
		err = whole(rec, have, nil)
	}
	if err != nil {
		return fmt.Errorf("verify backup %s: %w", rec.ID, err)
	}
	return nil
}

// whole looks at every snapshot of the receipt, but not at those that are done
// with.
func whole(rec backup.Receipt, have map[string]volume, done []string) error {
	if len(rec.Snapshots) == 0 {
		return fmt.Errorf("%w: the receipt names no volume", backup.ErrDamaged)
	}
	for _, want := range rec.Snapshots {
		if slices.Contains(done, want.ID) {
			continue
		}
		s, ok := have[want.Name]
		switch {
		case !ok || s.UUID != want.ID || s.Group+"/"+s.Origin != want.Of:
			return fmt.Errorf("%w: there is no snapshot %s of %s of that time", backup.ErrDamaged, want.Name, want.Of)
		case s.invalid():
			return fmt.Errorf("%w: snapshot %s has run full", backup.ErrDamaged, want.Name)
		}
	}
	return nil
}

// Restore merges the snapshots into their volumes and waits until that is done. It
// fails with ErrBusy, and changes nothing, when one of them is open: LVM would put
// the merge off until the volume is activated anew.
func (Provider) Restore(ctx context.Context, rec backup.Receipt) error {
	return backup.Restore(ctx, rec, name, &struct{}{}, func(l *backup.Lock) error { return tool{lock: l}.restore(ctx, rec) })
}

func (t tool) restore(ctx context.Context, rec backup.Receipt) error {
	begun, err := readBegun(rec)
	if err != nil {
		return err
	}
	have, err := t.list(ctx, rec.What)
	if err != nil {
		return err
	}
	// A merge that was begun goes on by itself, and its snapshot disappears.
	var done []string
	for _, s := range rec.Snapshots {
		if now, there := have[s.Name]; slices.Contains(begun, s.ID) && (!there || now.Merging == yes) {
			done = append(done, s.ID)
		}
	}
	if err := whole(rec, have, done); err != nil {
		return err
	}
	for _, s := range rec.Snapshots {
		if !slices.Contains(done, s.ID) && (have[s.Of].Open == yes || have[s.Name].Open == yes) {
			return fmt.Errorf("%s or its snapshot %w: unmount it or stop what uses it", s.Of, backup.ErrBusy)
		}
	}
	for _, s := range rec.Snapshots {
		if !slices.Contains(done, s.ID) {
			begun = append(begun, s.ID)
			if err := writeBegun(rec, begun); err != nil {
				return err
			}
			if _, err := t.run(ctx, "lvconvert", "--yes", "--merge", "--interval", "1", s.Name); err != nil {
				return fmt.Errorf("merge %s: %w", s.Name, err)
			}
		}
	}
	return t.merged(ctx, rec)
}

// mergeAgain is the time between two looks at a merge.
const mergeAgain = time.Second

// merged waits until no snapshot of the receipt is there any more.
func (t tool) merged(ctx context.Context, rec backup.Receipt) error {
	for {
		have, err := t.list(ctx, rec.What)
		if err != nil {
			return err
		}
		left := ""
		for _, s := range rec.Snapshots {
			if now, there := have[s.Name]; there && now.UUID == s.ID {
				left = s.Name
			}
		}
		if left == "" {
			return nil
		}
		if !clock.Sleep(ctx, mergeAgain) {
			return fmt.Errorf("wait until %s is merged: %w", left, context.Cause(ctx))
		}
	}
}

// Delete removes the snapshots that are left, and the receipt.
func (Provider) Delete(ctx context.Context, rec backup.Receipt) error {
	return backup.Delete(ctx, rec, name, &struct{}{}, func(l *backup.Lock) error {
		if err := (tool{lock: l}).removeAll(ctx, rec.ID, rec.What); err != nil {
			return err
		}
		return backup.Discard(rec.Path(merging), rec.Request().File())
	})
}

// Probe looks for the snapshots and for the receipt.
func (Provider) Probe(ctx context.Context, q backup.Request) (backup.State, error) {
	var o Options
	if err := q.Check(&o); err != nil {
		return "", err
	}
	if err := o.check(q.ID); err != nil {
		return "", fmt.Errorf("backup %s: %w", q.ID, err)
	}
	return tool{}.state(ctx, q, o)
}

func (t tool) state(ctx context.Context, q backup.Request, o Options) (backup.State, error) {
	state, err := backup.Look(q, name, nil, []string{q.Path(merging)})
	if err != nil {
		return "", err
	}
	have, err := t.list(ctx, o.Volumes)
	if err != nil {
		return "", fmt.Errorf("look for backup %s: %w", q.ID, err)
	}
	n := 0
	for _, v := range o.Volumes {
		if _, there := have[have[v].snapshot(q.ID)]; there {
			n++
		}
	}
	switch {
	case state == backup.Done && n == len(o.Volumes):
		return backup.Done, nil
	case state == backup.NotDone && n == 0, state == backup.Partial && n == 0 && t.lock != nil:
		return backup.NotDone, nil // a lock that was seen with ours held is ours
	}
	return backup.Partial, nil
}
