package watchdog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
)

// callTimeout bounds a call to the holder whose context has no earlier deadline.
const callTimeout = 2 * time.Second

// ErrRefused: the holder refused the request, for example a limit that has passed.
var ErrRefused = errors.New("refused by the watchdog holder")

// Client talks to the holder. It connects anew for each call, so that a
// restart of the holder needs no care. It may be used concurrently.
type Client struct {
	socket string
	clock  *clock.Clock
}

// Dial returns a client of the holder that listens on the unix socket. It does
// not connect yet.
func Dial(socket string) *Client { return &Client{socket: socket, clock: clock.New()} }

// Arm arms the device if need be and lets the holder pet it until the limit at
// the latest. The limit in force only moves forward; Status.Limit tells it.
// After nil the device is armed and was petted as the rules (package keeper) say,
// in this call as a rule. After an error the device may be armed or not, and the
// caller must not rely on it; ErrRefused means that nothing changed.
//
// Status.Timeout is the actual W. A caller that computed the limit with another
// one must compare before it relies on the reset.
func (c *Client) Arm(ctx context.Context, until cluster.Instant) (Status, error) {
	return c.call(ctx, request{Format: format, Op: opArm, Until: until})
}

// Disarm stops the device's timer. nil means that it does not run. Call it only
// after the guest is proved gone, and not while an Arm is under way.
func (c *Client) Disarm(ctx context.Context) error {
	_, err := c.call(ctx, request{Format: format, Op: opDisarm})
	return err
}

// Status asks for the holder's state and changes nothing. A device that does
// not work is no error of the call: Status.Error tells it.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return c.call(ctx, request{Format: format, Op: opStatus})
}

func (c *Client) call(ctx context.Context, req request) (Status, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	st, err := c.exchange(ctx, req)
	if err != nil {
		return Status{}, fmt.Errorf("watchdog %s: ask the holder at %s: %w", req.Op, c.socket, err)
	}
	switch {
	case st.Refused:
		reason := strings.TrimPrefix(st.Error, ErrRefused.Error()+": ")
		return st, fmt.Errorf("watchdog %s: %w: %s", req.Op, ErrRefused, reason)
	case st.Error != "" && req.Op != opStatus:
		return st, fmt.Errorf("watchdog %s: %s", req.Op, st.Error)
	}
	return st, nil
}

func (c *Client) exchange(ctx context.Context, req request) (_ Status, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return Status{}, err
	}
	// A cancelled context ends the exchange at once, a deadline on time.
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		err = errors.Join(err, conn.Close())
		if cause := ctx.Err(); err != nil && cause != nil {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
	}()
	if deadline, ok := ctx.Deadline(); ok && req.Op != opStatus {
		// The wait for the reply is by a slewed clock: expire no later than it ends.
		req.Expires = c.clock.Now().Add(time.Until(deadline) / slewDen * slewNum)
	}
	line, err := json.Marshal(req)
	if err != nil {
		return Status{}, fmt.Errorf("encode the request: %w", err)
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return Status{}, err
	}
	reply, err := bufio.NewReaderSize(conn, maxLine).ReadSlice('\n')
	if err != nil {
		return Status{}, fmt.Errorf("read the reply: %w", err)
	}
	var st Status
	if err := json.Unmarshal(reply, &st); err != nil {
		return Status{}, fmt.Errorf("decode the reply: %w", err)
	}
	if st.Format != format {
		return Status{}, fmt.Errorf("format %d of the reply: want %d: restart this host, whose holder is of another version", st.Format, format)
	}
	return st, nil
}
