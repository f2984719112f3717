package watchdog

import (
	"context"
	"errors"

	"holdfast/internal/cluster"
)

// None stands for the holder on a host without a watchdog.
type None struct{}

var errNone = errors.New("this host has no watchdog device")

// Arm fails.
func (None) Arm(context.Context, cluster.Instant) (Status, error) { return Status{}, errNone }

// Disarm has nothing to do.
func (None) Disarm(context.Context) error { return nil }

// Status says why there is none.
func (None) Status(context.Context) (Status, error) { return Status{Error: errNone.Error()}, nil }
