package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/internal/host/action/program"
	"holdfast/internal/job/engine"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/command"
)

// Tidy removes from this host what all earlier jobs of upgrades have left: backups,
// state directories and bundles. It is upgrade.KindTidy: whoever plans it knows that
// no run can be rolled back or committed any more, but its own.
type Tidy struct {
	Backups
	// Bundles removes what is unpacked and all bundles that nobody uses. The file of
	// the bundle with the SHA-256 keep stays; unpacked it stays only if staged.
	Bundles func(keep string, staged bool) error
}

var _ engine.Executor = (*Tidy)(nil)

// Do implements engine.Executor. It removes all that it can, and tells what it can not.
func (d *Tidy) Do(ctx context.Context, t engine.Task) error {
	var args upgrade.TidyArgs
	if err := runArgs(t, &args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.Step.Timeout)
	defer cancel()
	t.Note("removes what earlier runs have left", -1)
	return errors.Join(
		d.each(ctx, t, "backups", func(dir string) error { return d.discardBackups(ctx, t, dir) }),
		d.each(ctx, t, "runs", d.discardStates),
		d.bundles(ctx, args),
	)
}

// bundles removes bundles, unless the time is over: the next run may be bringing one.
func (d *Tidy) bundles(ctx context.Context, args upgrade.TidyArgs) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bundles: %w", err)
	}
	return d.Bundles(args.SHA256, args.Staged)
}

// each removes the directories that all jobs but the task's own have below one of
// the upgrades' directories. It ends with ctx: the next job's would count as of others.
func (d *Tidy) each(ctx context.Context, t engine.Task, below string, remove func(dir string) error) error {
	parent := filepath.Join(d.Dir, below)
	list, err := os.ReadDir(parent)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look what earlier runs have left: %w", err)
	}
	var errs []error
	for _, e := range list {
		if e.Name() == t.Job || !e.IsDir() || !command.IsName(e.Name(), "-") { // others are not ours
			continue
		}
		if err := ctx.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
			break
		}
		if err := remove(filepath.Join(parent, e.Name())); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Name(), err))
			continue
		}
		program.Say(t.Log, "%s of %s are removed", below, e.Name())
	}
	return errors.Join(errs...)
}

// Probe implements engine.Executor. It may be done again, so nobody needs to know.
func (d *Tidy) Probe(_ context.Context, t engine.Task) (engine.Probed, error) {
	var args upgrade.TidyArgs
	if err := runArgs(t, &args); err != nil {
		return engine.CanNotTell, err
	}
	return engine.NotDone, nil
}
