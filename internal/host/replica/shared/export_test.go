package shared

import "context"

// Clear takes all keys and the reservation away. No node does that: a test, as somebody else.
// Errors: ErrNone, ErrAttention, ErrPath.
func (d *Disk) Clear(ctx context.Context) error {
	return d.use(ctx, func(fd int) error {
		err := able(fd)
		if err == nil {
			err = d.out(fd, outRegisterIgnore, d.self)
		}
		if err == nil {
			err = d.out(fd, outClear, 0)
		}
		return err
	})
}
