package group

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/host/replica/mariadb"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
	"holdfast/internal/pair"
)

// Server is a member that is a MariaDB server whose files are on a file system of the group:
// no other server has a copy of them that it runs on.
type Server struct {
	Name     string
	Restarts int
	Cmd      *mariadb.Command
	Socket   string // path
}

// greetWithin is how long a server may take to greet.
const greetWithin = time.Second

// Spec is what the core knows of it.
func (s *Server) Spec() pair.Member { return pair.Member{Name: s.Name, Restarts: s.Restarts} }

// StartWithin has time for the recovery of a large log: that of MariaDB's own unit (TimeoutStartSec).
func (s *Server) StartWithin() time.Duration { return 15 * time.Minute }

// State looks for the process, and for a server that greets. One that does not has failed,
// for now: it may be starting, or ending.
func (s *Server) State(ctx context.Context) pair.State {
	_, err := s.Cmd.Process(ctx)
	switch {
	case errors.Is(err, proc.ErrGone):
		return pair.Down
	case err != nil:
		return pair.StateUnknown
	case s.greets(ctx) != nil:
		return pair.Failed
	}
	return pair.Up
}

// greets reads the first packet of the protocol: a length of 3 bytes, a number, and the
// version 10 of the handshake, or 255 for an error.
func (s *Server) greets(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, greetWithin)
	defer cancel()
	var dial net.Dialer
	c, err := dial.DialContext(ctx, "unix", s.Socket)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if end, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(end); err != nil {
			return err
		}
	}
	var packet [5]byte
	if _, err := io.ReadFull(c, packet[:]); err != nil {
		return err
	}
	if packet[4] != 10 {
		return fmt.Errorf("%s: the database greets with %d: want 10", s.Socket, packet[4])
	}
	return nil
}

// Start starts it and waits until it greets: its recovery is over then. One that ends at its
// start is started once more, by its binary log.
func (s *Server) Start(ctx context.Context) error {
	ended, err := s.start(ctx)
	if ended {
		marked, merr := s.Cmd.MarkCrashed(ctx)
		if err = errors.Join(err, merr); marked {
			_, err = s.start(ctx)
		}
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", s.Name, err)
	}
	return nil
}

// start starts it once. It reports that it has ended before it greeted.
func (s *Server) start(ctx context.Context) (ended bool, err error) {
	if err := s.Cmd.Start(ctx, nil); err != nil {
		return false, err
	}
	for {
		switch s.State(ctx) {
		case pair.Up:
			return false, nil
		case pair.Down:
			return true, fmt.Errorf("%s ended at its start; see %s", s.Cmd.Path, s.Cmd.Log)
		}
		if !clock.Sleep(ctx, lookAgain) {
			return false, fmt.Errorf("it does not answer: %w", ctx.Err())
		}
	}
}

// Stop asks it to end, and proves its end. Hard: it is killed.
func (s *Server) Stop(ctx context.Context, hard bool) error {
	if hard {
		return s.Cmd.Kill9(ctx)
	}
	id, err := s.Cmd.Process(ctx)
	if err == nil {
		err = proc.Here.Signal(id, unix.SIGTERM)
	}
	if errors.Is(err, proc.ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	for {
		alive, err := proc.Here.Alive(id)
		if err != nil || !alive {
			return err
		}
		if !clock.Sleep(ctx, lookAgain) {
			return fmt.Errorf("stop %s: process %d goes on: %w", s.Name, id.PID, ctx.Err())
		}
	}
}
