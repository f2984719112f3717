package server

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// ListenAgain is the time between two tries to listen.
const ListenAgain = time.Second

// Again listens at an address that may not be there yet, or be another one's: the agent has more important things to do than
// to end for that. The zero value is ready to use.
type Again struct {
	mu      sync.Mutex // guards trouble
	trouble string
}

// Trouble tells why nothing listens though it should; "" when it does, or nobody has asked for it.
func (a *Again) Trouble() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.trouble
}

func (a *Again) set(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.trouble = text
}

// Listen tries until it can, and returns nil when ctx has ended. says is what Trouble makes of an error, a format; warn is
// called when that is another one than before.
func (a *Again) Listen(ctx context.Context, listen func(context.Context) (net.Listener, error), says string,
	warn func(error)) net.Listener {
	for {
		ln, err := listen(ctx)
		if err == nil {
			a.set("")
			return ln
		}
		if ctx.Err() != nil {
			return nil
		}
		text := fmt.Sprintf(says, err)
		if a.Trouble() != text {
			warn(err)
		}
		a.set(text)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(ListenAgain):
		}
	}
}
