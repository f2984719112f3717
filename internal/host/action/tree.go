package action

import (
	"context"
	"errors"
	"path/filepath"

	"holdfast/internal/host/action/filetree"
	"holdfast/internal/host/action/program"
)

// treeStep swaps a directory.
type treeStep struct {
	what *FileTree
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
	case PhaseBackup: // the swap itself keeps the old tree
	case PhaseRollback:
		err = t.swap().Rollback()
	case PhaseCommit:
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
	if phase == PhaseBackup {
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
	case PhaseRollback, PhaseCommit:
		// Both remove a tree at their end, and can be repeated until that is done.
		if want := map[string]filetree.Place{PhaseRollback: filetree.Old, PhaseCommit: filetree.New}[phase]; over && place == want {
			return program.Result{State: program.Done}, nil
		}
	default:
		if place == filetree.New {
			return program.Result{State: program.Done}, nil
		}
	}
	return program.Result{State: program.NotDone}, nil
}
