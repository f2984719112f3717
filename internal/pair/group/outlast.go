package group

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// outlast does something once that may take longer than who waits for it: then it goes on, and the next one who comes
// waits for the same. Something slow that began anew each time would never be done.
type outlast struct {
	mu   sync.Mutex
	done bool
	now  *course // nil: nothing goes on
}

// course is one attempt.
type course struct {
	ended chan struct{} // closed when err is there
	err   error
}

// wait returns when do has succeeded, now or before, when it fails, or when ctx ends. An attempt may take as long as within.
func (o *outlast) wait(ctx context.Context, within time.Duration, do func(context.Context) error) error {
	o.mu.Lock()
	if o.done {
		o.mu.Unlock()
		return nil
	}
	c := o.now
	if c == nil {
		c = &course{ended: make(chan struct{})}
		o.now = c
		go func() { // ends with do
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
			defer cancel()
			c.err = do(ctx)
			o.mu.Lock()
			o.done, o.now = c.err == nil, nil
			o.mu.Unlock()
			close(c.ended)
		}()
	}
	o.mu.Unlock()
	select {
	case <-c.ended:
		return c.err
	case <-ctx.Done():
		return fmt.Errorf("it goes on: %w", ctx.Err())
	}
}
