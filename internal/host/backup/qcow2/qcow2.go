// Package qcow2 takes snapshots inside of qcow2 images that no guest uses. Several
// images are one backup: all of them have the snapshot, or none. That nobody has
// an image open is looked at by QEMU's own image locks, on every host that shares
// the file.
package qcow2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/backup"
)

// name is what plans call this provider.
const name = "qcow2"

// maxImages bounds the images of one backup.
const maxImages = 64

// Options say which images.
type Options struct {
	Images []string `json:"images"` // absolute paths
}

func (o Options) check() error {
	if len(o.Images) == 0 || len(o.Images) > maxImages {
		return fmt.Errorf("images: %d of them: want 1 to %d", len(o.Images), maxImages)
	}
	for i, p := range o.Images {
		switch {
		case !filepath.IsAbs(p) || filepath.Clean(p) != p:
			return fmt.Errorf("image %q: want an absolute path", p)
		case slices.Contains(o.Images[:i], p):
			return fmt.Errorf("image %s is there twice", p)
		}
	}
	return nil
}

// Provider is the provider. Its zero value is ready.
type Provider struct{}

var _ backup.Provider = Provider{}

// Name is "qcow2".
func (Provider) Name() string { return name }

// Backup makes a snapshot in each image. Images that already have it, from an
// attempt that was stopped half-way, are begun anew: all snapshots are of one
// call. It fails with ErrBusy when an image is in use.
func (p Provider) Backup(ctx context.Context, q backup.Request) (backup.Receipt, error) {
	var o Options
	if err := q.Prepare(&o, func() error { return o.check() }); err != nil {
		return backup.Receipt{}, err
	}
	t, err := find(nil)
	if err != nil {
		return backup.Receipt{}, fmt.Errorf("backup %s: %w", q.ID, err)
	}
	state := func(l *backup.Lock) (backup.State, error) {
		t.lock = l
		return t.state(ctx, q, o)
	}
	return backup.Make(ctx, q, state, func(*backup.Lock) (backup.Receipt, error) {
		rec, err := t.all(ctx, q, o)
		if err != nil {
			// The context may have ended; what was made is taken back all the same.
			undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoLimit)
			defer cancel()
			return rec, errors.Join(fmt.Errorf("backup %s of qcow2 images: %w", q.ID, err),
				t.removeAll(undo, o.Images, snapshotName(q.ID)), backup.Discard(q.File()))
		}
		return rec, nil
	})
}

// undoLimit bounds the removal of snapshots after a failure.
const undoLimit = time.Minute

// snapshotName is how our snapshots are called.
func snapshotName(id string) string { return "holdfast-" + id }

func (t *tool) all(ctx context.Context, q backup.Request, o Options) (rec backup.Receipt, err error) {
	rec = backup.Receipt{Provider: name, ID: q.ID, Host: q.Host, Dir: q.Dir, What: o.Images, Where: "in the images",
		Data: json.RawMessage("{}")}
	if rec.Tool, err = backup.Version(ctx, t.path, "--version"); err != nil {
		return rec, err
	}
	if err := t.removeAll(ctx, o.Images, snapshotName(q.ID)); err != nil {
		return rec, err
	}
	for _, image := range o.Images {
		if err := t.check(ctx, image); err != nil { // a damaged one must not get worse
			return rec, err
		}
	}
	for _, image := range o.Images {
		if _, err := t.run(ctx, "snapshot", "-c", snapshotName(q.ID), "--image-opts", opts(image)); err != nil {
			return rec, fmt.Errorf("%s: make a snapshot: %w", image, err)
		}
		s, err := t.snapshot(ctx, image, snapshotName(q.ID))
		if err != nil {
			return rec, err
		}
		if s == nil {
			return rec, fmt.Errorf("%s: qemu-img has made a snapshot that is not there", image)
		}
		rec.Snapshots = append(rec.Snapshots, backup.Snapshot{Of: image, Name: s.Name, ID: s.ref()})
	}
	rec.When = time.Now().UTC().Truncate(time.Second)
	return rec, backup.Save(rec)
}

// Verify looks for the snapshot in each image, and checks the images that are not
// in use.
func (Provider) Verify(ctx context.Context, rec backup.Receipt) error {
	if err := backup.CheckReceipt(rec, name, &struct{}{}); err != nil {
		return err
	}
	t, err := find(nil)
	if err == nil {
		err = t.verify(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("verify backup %s: %w", rec.ID, err)
	}
	return nil
}

func (t *tool) verify(ctx context.Context, rec backup.Receipt) error {
	if len(rec.Snapshots) == 0 {
		return fmt.Errorf("%w: the receipt names no image", backup.ErrDamaged)
	}
	for _, want := range rec.Snapshots {
		s, err := t.snapshot(ctx, want.Of, want.Name)
		if err != nil {
			return err
		}
		if s == nil || s.ref() != want.ID {
			return fmt.Errorf("%w: %s has no snapshot %s of that time", backup.ErrDamaged, want.Of, want.Name)
		}
		if err := t.check(ctx, want.Of); err != nil && !errors.Is(err, backup.ErrBusy) {
			return err
		}
	}
	return nil
}

// Restore gives each image the content of its snapshot, which stays. It fails with
// ErrBusy, and changes nothing, when one of them is in use.
func (Provider) Restore(ctx context.Context, rec backup.Receipt) error {
	return backup.Restore(ctx, rec, name, &struct{}{}, func(l *backup.Lock) error {
		t, err := find(l)
		if err != nil {
			return err
		}
		return t.restore(ctx, rec)
	})
}

func (t *tool) restore(ctx context.Context, rec backup.Receipt) error {
	if err := t.verify(ctx, rec); err != nil {
		return err
	}
	for _, s := range rec.Snapshots {
		if err := t.check(ctx, s.Of); err != nil {
			return err
		}
	}
	for _, s := range rec.Snapshots {
		if _, err := t.run(ctx, "snapshot", "-a", s.Name, "--image-opts", opts(s.Of)); err != nil {
			return fmt.Errorf("%s: go back to snapshot %s: %w", s.Of, s.Name, err)
		}
	}
	return nil
}

// Delete removes the snapshots and the receipt. An image that is in use is
// ErrBusy.
func (Provider) Delete(ctx context.Context, rec backup.Receipt) error {
	return backup.Delete(ctx, rec, name, &struct{}{}, func(l *backup.Lock) error {
		t, err := find(l)
		if err != nil {
			return err
		}
		if err := t.removeAll(ctx, rec.What, snapshotName(rec.ID)); err != nil {
			return err
		}
		return backup.Discard(rec.Request().File())
	})
}

// Probe looks into the images and for the receipt.
func (Provider) Probe(ctx context.Context, q backup.Request) (backup.State, error) {
	var o Options
	if err := q.Check(&o); err != nil {
		return "", err
	}
	if err := o.check(); err != nil {
		return "", fmt.Errorf("backup %s: %w", q.ID, err)
	}
	t, err := find(nil)
	if err != nil {
		return "", fmt.Errorf("backup %s: %w", q.ID, err)
	}
	return t.state(ctx, q, o)
}

func (t *tool) state(ctx context.Context, q backup.Request, o Options) (backup.State, error) {
	state, err := backup.Look(q, name, nil, nil)
	if err != nil {
		return "", err
	}
	have := 0
	for _, image := range o.Images {
		s, err := t.snapshot(ctx, image, snapshotName(q.ID))
		if err != nil {
			return "", fmt.Errorf("look for backup %s: %w", q.ID, err)
		}
		if s != nil {
			have++
		}
	}
	switch {
	case state == backup.Done && have == len(o.Images):
		return backup.Done, nil
	case state == backup.NotDone && have == 0:
		return backup.NotDone, nil
	case state == backup.Partial && have == 0 && t.lock != nil:
		return backup.NotDone, nil // the lock that was seen is ours
	}
	return backup.Partial, nil
}

// tool is qemu-img.
type tool struct {
	path string
	lock *backup.Lock
}

// find finds it; programs that it starts hold the lock, too, if there is one.
func find(l *backup.Lock) (*tool, error) {
	p, err := exec.LookPath("qemu-img")
	if err != nil {
		return nil, fmt.Errorf("qemu-img is not installed: %w", err)
	}
	return &tool{path: p, lock: l}, nil
}

// opts names an image so that its format is never guessed from its content.
func opts(image string) string {
	return "driver=qcow2,file.driver=file,file.filename=" + strings.ReplaceAll(image, ",", ",,")
}

// run runs qemu-img. It goes on when the agent is killed: it changes the image's
// tables, and half of that is damage.
func (t *tool) run(ctx context.Context, args ...string) ([]byte, error) {
	out, err := backup.Run(ctx, backup.Command{Path: t.path, Args: args, Hold: t.lock, Outlives: true})
	if err != nil && (strings.Contains(err.Error(), "lock") && strings.Contains(err.Error(), "Failed to get") ||
		strings.Contains(err.Error(), "another process using")) {
		return nil, fmt.Errorf("the image %w: %w", backup.ErrBusy, err)
	}
	return out, err
}

// snapshotInfo is a snapshot as qemu-img tells it.
type snapshotInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Seconds int64  `json:"date-sec"`
	Nanos   int64  `json:"date-nsec"`
}

// ref tells one snapshot from another with the same name.
func (s snapshotInfo) ref() string { return fmt.Sprintf("%s at %d.%09d", s.ID, s.Seconds, s.Nanos) }

// snapshot gives our snapshot of an image, nil when there is none. The image may
// be in use.
func (t *tool) snapshot(ctx context.Context, image, want string) (*snapshotInfo, error) {
	out, err := t.run(ctx, "info", "--force-share", "--output=json", "--image-opts", opts(image))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", image, err)
	}
	var info struct {
		Snapshots []snapshotInfo `json:"snapshots"`
	}
	if err := json.Unmarshal(out, &info); err != nil {
		return nil, fmt.Errorf("%s: read what qemu-img says: %w", image, err)
	}
	var found *snapshotInfo
	for i, s := range info.Snapshots {
		if s.Name != want {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%s has two snapshots %s", image, want)
		}
		found = &info.Snapshots[i]
	}
	return found, nil
}

// check fails when an image is in use, or damaged beyond blocks that nobody uses.
func (t *tool) check(ctx context.Context, image string) error {
	const onlyLeaks = 3
	_, err := t.run(ctx, "check", "--image-opts", opts(image))
	var e *backup.ExitError
	switch {
	case err == nil || errors.As(err, &e) && e.Code == onlyLeaks && ctx.Err() == nil:
		return nil
	case errors.As(err, &e) && e.Code == 2:
		return fmt.Errorf("%s: %w: %w", image, backup.ErrDamaged, err)
	}
	return fmt.Errorf("%s: %w", image, err)
}

// removeAll takes the snapshot out of the images that have it.
func (t *tool) removeAll(ctx context.Context, images []string, snapshot string) error {
	var errs []error
	for _, image := range images {
		s, err := t.snapshot(ctx, image, snapshot)
		if err == nil && s != nil {
			_, err = t.run(ctx, "snapshot", "-d", snapshot, "--image-opts", opts(image))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: remove snapshot %s: %w", image, snapshot, err))
		}
	}
	return errors.Join(errs...)
}
