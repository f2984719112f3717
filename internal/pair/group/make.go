package group

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/durable"
)

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
