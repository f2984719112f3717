package bmc

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// share is the longest that one device of a chain may take.
const share = 10 * time.Second

// Chain is the devices of one host, in the order in which they are tried.
type Chain []*Device

// Off tries the devices in order until one confirms the host off, and returns
// that one's name. Each gets an equal share of the time that is left, at most
// 10 s. When none does, the error joins those of all.
func (c Chain) Off(ctx context.Context) (name string, err error) {
	return c.first(ctx, func(ctx context.Context, d *Device) error { return d.Off(ctx) })
}

// ShownOff is nil when a device shows that the host is off: those behind it are not asked, as one that is dead
// would hold the proof up. Else the error joins those of all. Each gets its share of the time, as for Off.
func (c Chain) ShownOff(ctx context.Context) error {
	_, err := c.first(ctx, func(ctx context.Context, d *Device) error {
		st, err := d.Check(ctx)
		if err == nil && st.On {
			err = fmt.Errorf("%s: the host is on", d.Name())
		}
		return err
	})
	return err
}

// first has the devices do something, in order, until one has done it, and returns that one's name.
func (c Chain) first(ctx context.Context, do func(context.Context, *Device) error) (name string, err error) {
	if len(c) == 0 {
		return "", fmt.Errorf("no fence device: %w", ErrUnreachable)
	}
	var errs []error
	for i, d := range c {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("%d of %d devices were not tried: %w", len(c)-i, len(c), ctx.Err()))
			break
		}
		within, cancel := context.WithTimeout(ctx, part(ctx, len(c)-i))
		err := do(within, d)
		cancel()
		if err == nil {
			return d.Name(), nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// part is the time for the next of left devices.
func part(ctx context.Context, left int) time.Duration {
	end, ok := ctx.Deadline()
	if !ok {
		return share
	}
	return min(share, time.Until(end)/time.Duration(left))
}
