package action

import (
	"context"
	"errors"
	"path/filepath"

	"holdfast/internal/host/action/filetree"
	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
)

// treeStep swaps a directory of the host for one of the bundle. In the phase rollback the
// old one comes back, in the phase commit it is given up.
type treeStep struct {
	what *manifest.FileTree
	step *Step
}

func (t *treeStep) swap() *filetree.Swap {
	return &filetree.Swap{
		Source: filepath.Join(t.step.Bundle.Dir, t.what.Source), Target: t.what.Target,
		Backup: t.step.Values.Backup, Files: t.step.Bundle.tree(t.what.Source),
	}
}

func (t *treeStep) do(ctx context.Context) (program.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, t.step.Timeout)
	defer cancel()
	var err error
	switch t.step.Values.Phase {
	case manifest.Backup: // the swap itself keeps the old tree
	case manifest.Rollback:
		err = t.swap().Rollback()
	case manifest.Commit:
		err = t.swap().Commit()
	default:
		err = t.swap().Install(ctx)
	}
	if err != nil {
		return failed(err.Error()), nil
	}
	return program.Result{State: program.Done}, nil
}

func (t *treeStep) done(context.Context, program.Result) (program.Result, error) {
	phase := t.step.Values.Phase
	if phase == manifest.Backup {
		return program.Result{State: program.Done}, nil
	}
	place, err := t.swap().Probe()
	if errors.Is(err, filetree.ErrNothing) {
		return program.Result{State: program.NotDone}, nil
	}
	if err != nil {
		return program.Result{State: program.Unknown, Exit: -1, Why: err.Error()}, nil
	}
	over, err := t.swap().Over()
	if err != nil {
		return program.Result{}, err
	}
	switch phase {
	case manifest.Rollback, manifest.Commit:
		// Both remove a tree at their end, and can be repeated until that is done.
		if want := map[manifest.Phase]filetree.Place{manifest.Rollback: filetree.Old,
			manifest.Commit: filetree.New}[phase]; over && place == want {
			return program.Result{State: program.Done}, nil
		}
	default:
		if place == filetree.New {
			return program.Result{State: program.Done}, nil
		}
	}
	return program.Result{State: program.NotDone}, nil
}
