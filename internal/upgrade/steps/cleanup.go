package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast/internal/host/action/program"
	"holdfast/internal/host/backup"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
)

// Cleanup removes from this host what an upgrade has left that nobody goes back
// on: backups, state directories and the bundle. It is upgrade.KindCleanup.
type Cleanup struct {
	Backups
	Have   func() ([]string, error) // SHA-256 of the bundles of this host
	Remove func(sha string) error   // a bundle; none of that hash is no error
}

var _ engine.Executor = (*Cleanup)(nil)

// cleanupPlan is what one step is to remove.
type cleanupPlan struct {
	args    upgrade.CleanupArgs
	backups string
	runs    string // "": the step's own job, which goes on
}

func (c *Cleanup) read(t engine.Task) (p cleanupPlan, err error) {
	if err := runArgs(t, &p.args); err != nil {
		return p, err
	}
	if p.backups, err = c.runDir(p.args.Run); err != nil {
		return p, fmt.Errorf("step %s: %w", t.Step.ID, err)
	}
	if p.args.Run != t.Job {
		p.runs = filepath.Join(c.Dir, "runs", p.args.Run)
	}
	return p, nil
}

// Do implements engine.Executor. It removes all that it can, and tells what it can
// not. A backup that is not deleted keeps its receipt.
func (c *Cleanup) Do(ctx context.Context, t engine.Task) error {
	p, err := c.read(t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.Step.Timeout)
	defer cancel()
	t.Note("removes the backups of "+p.args.Run, -1)
	errs := []error{c.discardBackups(ctx, t, p.backups)}
	if p.runs != "" {
		errs = append(errs, c.discardStates(p.runs))
	}
	if p.args.SHA256 != "" {
		if err := c.Remove(p.args.SHA256); err != nil {
			errs = append(errs, fmt.Errorf("remove the bundle: %w", err))
		}
	}
	return errors.Join(errs...)
}

// discardBackups deletes the backups of a run and its directory.
func (b *Backups) discardBackups(ctx context.Context, t engine.Task, dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for backups: %w", err)
	}
	errs := []error{b.discardReceipts(ctx, t, filepath.Join(dir, backupReceipts))}
	for _, e := range list {
		if e.Name() == backupReceipts && errs[0] != nil {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			errs = append(errs, fmt.Errorf("remove a backup: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := backup.Discard(dir); err != nil {
		return fmt.Errorf("remove the directory of backups: %w", err)
	}
	return nil
}

// discardReceipts deletes every backup that has a receipt in the directory.
func (b *Backups) discardReceipts(ctx context.Context, t engine.Task, dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for receipts of backups: %w", err)
	}
	suffix := filepath.Base(backup.Request{ID: "", Dir: dir}.File())
	var errs []error
	for _, e := range list {
		if id, ok := strings.CutSuffix(e.Name(), suffix); ok && id != "" {
			errs = append(errs, b.discardReceipt(ctx, t, backup.Request{ID: id, Dir: dir}))
		}
		if id, ok := strings.CutSuffix(e.Name(), backupByHand); ok {
			program.Say(t.Log, "the snapshots of %s were made by hand: delete them by hand", id)
		}
	}
	return errors.Join(errs...)
}

func (b *Backups) discardReceipt(ctx context.Context, t engine.Task, q backup.Request) error {
	rec, err := backup.Load(q)
	if err != nil {
		return err
	}
	p, err := b.provider(rec.Provider)
	if err != nil {
		return fmt.Errorf("delete backup %s: %w", q.ID, err)
	}
	if err := p.Delete(ctx, rec); err != nil {
		return err
	}
	program.Say(t.Log, "backup %s of %s is deleted", rec.ID, strings.Join(rec.What, ", "))
	return nil
}

// discardStates removes the state directories of a run. What runs keeps all of them.
func (b *Backups) discardStates(dir string) error {
	runs, err := program.Busy(dir)
	if err == nil && runs != "" {
		err = fmt.Errorf("a program of the run still runs, see %s", runs)
	}
	if err == nil {
		err = backup.Discard(dir)
	}
	if err != nil {
		return fmt.Errorf("remove the state directories: %w", err)
	}
	return nil
}

// Probe implements engine.Executor: done when nothing is left.
func (c *Cleanup) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	p, err := c.read(t)
	if err != nil {
		return engine.CanNotTell, err
	}
	for _, dir := range []string{p.backups, p.runs} {
		if dir == "" {
			continue
		}
		if there, err := backup.Exists(dir); err != nil {
			return engine.CanNotTell, fmt.Errorf("look what is left: %w", err)
		} else if there {
			return engine.NotDone, nil
		}
	}
	have, err := c.Have()
	if err != nil {
		return engine.CanNotTell, fmt.Errorf("look what is left: %w", err)
	}
	if slices.Contains(have, p.args.SHA256) {
		return engine.NotDone, nil
	}
	return engine.ProbedDone, nil
}
