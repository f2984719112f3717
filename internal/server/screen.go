package server

import (
	"context"
	"errors"
	"io"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
)

// Screens opens screens of guests. All methods may be called concurrently. Errors that are the caller's are *fail.Error.
type Screens interface {
	// OpenScreen opens the screen of a guest, wherever it runs, by its UUID or cluster.MgmtVM, in the name of a user.
	// Close of the screen may be called more than once, and while somebody reads or writes.
	OpenScreen(ctx context.Context, user, guest string) (host cluster.HostID, name string, screen io.ReadWriteCloser, err error)
	// ServeScreen opens the screen of a guest of this host. Close as with OpenScreen.
	ServeScreen(ctx context.Context, uuid string) (io.ReadWriteCloser, error)
}

// screenHandler answers the calls about screens.
type screenHandler struct {
	screens Screens
	cluster Cluster
	stop    context.Context // ends, with its cause, when the server does
}

// OpenScreen opens a screen in the caller's name. Without a quorum it could not be seen later who has, so it is refused.
func (h *screenHandler) OpenScreen(ctx context.Context, st *connect.BidiStream[apiv1.OpenScreenRequest, apiv1.OpenScreenResponse]) error {
	who, err := callerOf(ctx)
	if err != nil {
		return err
	}
	if err := checkQuorum("open a screen", h.cluster.Status()); err != nil {
		return err
	}
	first, err := st.Receive()
	if err != nil {
		return err
	}
	host, name, screen, err := h.screens.OpenScreen(ctx, who.user, first.GetGuest())
	if err != nil {
		return err
	}
	defer screen.Close()
	if err := st.Send(&apiv1.OpenScreenResponse{Host: string(host), Guest: name}); err != nil {
		return err
	}
	return carry(ctx, h.stop, screen, func() ([]byte, error) {
		m, err := st.Receive()
		return m.GetChunk(), err
	}, func(b []byte) error { return st.Send(&apiv1.OpenScreenResponse{Chunk: b}) })
}

// screensHere are those that other agents ask for.
type screensHere struct {
	screens Screens         // nil: there are none
	stop    context.Context // ends, with its cause, when the server does
}

// ServeScreen opens a screen of this host.
func (h *screensHere) ServeScreen(ctx context.Context,
	st *connect.BidiStream[apiv1.ServeScreenRequest, apiv1.ServeScreenResponse]) error {
	if h.screens == nil {
		return fail.Errorf(fail.Refused, "this host shows no screens of guests")
	}
	first, err := st.Receive()
	if err != nil {
		return err
	}
	screen, err := h.screens.ServeScreen(ctx, first.GetGuest())
	if err != nil {
		return err
	}
	defer screen.Close()
	if err := st.Send(&apiv1.ServeScreenResponse{}); err != nil {
		return err
	}
	return carry(ctx, h.stop, screen, func() ([]byte, error) {
		m, err := st.Receive()
		return m.GetChunk(), err
	}, func(b []byte) error { return st.Send(&apiv1.ServeScreenResponse{Chunk: b}) })
}

// errScreenOver is why a screen ends by itself.
var errScreenOver = fail.Errorf(fail.Unavailable, "the guest's VNC server has closed its screen").
	With("it does when the guest moves to another host, or ends")

// carry carries bytes between a caller and a screen until one of them ends, or the server does. It holds one message of each
// direction: who takes nothing is not sent more, and is cut off by patience. nil: the caller has closed the screen.
func carry(ctx, stop context.Context, screen io.ReadWriteCloser, receive func() ([]byte, error), send func([]byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(stop, func() { cancel(context.Cause(stop)) })()
	defer context.AfterFunc(ctx, func() { _ = screen.Close() })() // it has no more to say: the cause is known
	go func() {                                                   // until the call ends, which ends what it receives
		for {
			b, err := receive()
			if err == nil && len(b) > 0 {
				_, err = screen.Write(b)
			}
			if err != nil {
				cancel(err)
				return
			}
		}
	}()
	buf := make([]byte, api.ScreenChunk)
	for {
		n, err := screen.Read(buf)
		if n > 0 {
			if serr := send(buf[:n]); serr != nil {
				return serr
			}
		}
		if err == nil {
			continue
		}
		switch cause := context.Cause(ctx); {
		case errors.Is(cause, io.EOF):
			return nil
		case cause != nil:
			return cause
		case errors.Is(err, io.EOF):
			return errScreenOver
		}
		return err
	}
}
