package arbitrate

import (
	"context"

	"holdfast/internal/lib/proc/supervise"
)

// member is the process of the store's member, which outlives the agent, and runs when its owner says so. One
// goroutine uses it.
type member struct {
	spec   supervise.Spec
	cancel context.CancelFunc // of its Keep; nil: none runs
	ended  chan error
	doubt  bool // it may run, and nobody keeps it
}

// adopt keeps a member that is running, or makes sure that none is.
func (c *member) adopt(ctx context.Context) error {
	c.doubt = true
	st, err := supervise.Read(c.spec.Dir, c.spec.Name)
	if err == nil && st.PID != 0 {
		c.start(ctx)
		return nil
	}
	return c.end(ctx) // it also finds one whose record is lost
}

// start keeps the member running.
func (c *member) start(ctx context.Context) {
	if c.cancel != nil {
		return
	}
	ctx, c.cancel = context.WithCancel(ctx)
	ended, spec := make(chan error, 1), c.spec
	c.ended, c.doubt = ended, false
	go func() { ended <- supervise.Run(ctx, spec) }() // until leave
}

// running reports that the member runs, or may be started again at any moment. An error
// means that it is not known.
func (c *member) running(ctx context.Context) (bool, error) {
	if c.cancel != nil {
		select {
		case err := <-c.ended:
			c.cancel()
			c.cancel, c.ended, c.doubt = nil, nil, true
			return false, err
		default:
			return true, nil
		}
	}
	if c.doubt {
		err := c.adopt(ctx)
		return c.cancel != nil, err
	}
	return false, nil
}

// leave ends the keeping, and lets the member go on.
func (c *member) leave() error {
	if c.cancel == nil {
		return nil
	}
	c.doubt = true
	c.cancel()
	err := <-c.ended
	c.cancel, c.ended = nil, nil
	return err
}

// stop ends the member. nil means that it is gone. After an error it may run.
func (c *member) stop(ctx context.Context) error {
	if err := c.leave(); err != nil {
		return err
	}
	return c.end(ctx)
}

func (c *member) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	c.doubt = true
	err := supervise.Stop(ctx, c.spec.Dir, c.spec.Name)
	c.doubt = err != nil
	return err
}
