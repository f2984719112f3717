package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	apiv1 "holdfast/internal/api/v1"
)

// Kind says what callers branch on when a request did not succeed.
type Kind string

// Kinds of errors.
const (
	KindFailed      Kind = "failed"      // it was tried, and did not work
	KindUnknown     Kind = "unknown"     // it may or may not have been carried out
	KindInvalid     Kind = "invalid"     // the request itself is wrong
	KindRefused     Kind = "refused"     // refused for safety, nothing was changed
	KindUnavailable Kind = "unavailable" // the agent, or the store behind it, is not reachable
	KindTimeout     Kind = "timeout"     // not done within the deadline
	KindCanceled    Kind = "canceled"    // the caller gave up
	KindDenied      Kind = "denied"      // the caller may not do this
)

// Exit codes of the command line.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitInvalid     = 2
	ExitRefused     = 3
	ExitUnavailable = 4
)

// kindRow ties a kind to its code on the wire and to its exit code.
type kindRow struct {
	kind Kind
	code connect.Code
	exit int
}

// kindTable is the one table of error kinds; KindFailed, its first row, stands
// for every code that is not in it.
func kindTable() []kindRow {
	return []kindRow{
		{KindFailed, connect.CodeInternal, ExitFailed},
		{KindUnknown, connect.CodeUnknown, ExitFailed},
		{KindInvalid, connect.CodeInvalidArgument, ExitInvalid},
		{KindRefused, connect.CodeFailedPrecondition, ExitRefused},
		{KindUnavailable, connect.CodeUnavailable, ExitUnavailable},
		{KindTimeout, connect.CodeDeadlineExceeded, ExitFailed},
		{KindCanceled, connect.CodeCanceled, ExitFailed},
		{KindDenied, connect.CodePermissionDenied, ExitFailed},
	}
}

func (k Kind) row() kindRow {
	rows := kindTable()
	for _, r := range rows {
		if r.kind == k {
			return r
		}
	}
	return rows[0]
}

// Code returns the code that carries the kind on the wire.
func (k Kind) Code() connect.Code { return k.row().code }

// Exit returns the exit code of a command that ended with the kind.
func (k Kind) Exit() int { return k.row().exit }

// KindOf returns the kind that a wire code carries.
func KindOf(code connect.Code) Kind {
	for _, r := range kindTable() {
		if r.code == code {
			return r.kind
		}
	}
	return KindFailed
}

// Error is what every call of a Client ends with that did not succeed, and what
// a server returns when it can say more than "failed".
type Error struct {
	Kind    Kind
	Message string // what was tried and what came of it, without an end mark
	Remedy  string // what the user can do, "" when there is nothing to say
	cause   error
}

// Errorf makes an error of a kind. Args may hold one error for %w.
func Errorf(kind Kind, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Message: err.Error(), cause: errors.Unwrap(err)}
}

// With returns a copy of e with a remedy.
func (e *Error) With(remedy string) *Error {
	c := *e
	c.Remedy = remedy
	return &c
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, nil when the error came over the wire.
func (e *Error) Unwrap() error { return e.cause }

// ExitCode returns the exit code for any error: that of the api.Error in it,
// ExitFailed without one, ExitDone for nil.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind.Exit()
	}
	return ExitFailed
}

// ToWire turns e into the error that a handler returns.
func ToWire(e *Error) *connect.Error {
	out := connect.NewError(e.Kind.Code(), errors.New(text(e.Message)))
	if e.Remedy == "" {
		return out
	}
	// A remedy that can not be packed must not hide the error itself.
	if d, err := connect.NewErrorDetail(&apiv1.ErrorDetail{Remedy: text(e.Remedy)}); err == nil {
		out.AddDetail(d)
	}
	return out
}

// fromWire turns the error of a call under ctx into an *Error. target is what was
// called.
func fromWire(ctx context.Context, target string, err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return &Error{Kind: KindFailed, Message: fmt.Sprintf("call the agent at %s: %v", target, err), cause: err}
	}
	if !connect.IsWireError(err) || ce.Code() == connect.CodeDeadlineExceeded && ending(ctx) {
		return local(ctx, target, ce)
	}
	e := &Error{Kind: KindOf(ce.Code()), Message: ce.Message()}
	for _, d := range ce.Details() {
		if v, derr := d.Value(); derr == nil {
			if detail, ok := v.(*apiv1.ErrorDetail); ok {
				e.Remedy = detail.Remedy
			}
		}
	}
	if ce.Code() == connect.CodeUnimplemented {
		e.Message = fmt.Sprintf("the agent at %s does not know this request: %s", target, ce.Message())
		e.Remedy = "the agent is older than this command, or it is not an agent; compare with: holdfast version"
	}
	return e
}

// ending reports whether ctx is at its deadline. The agent knows that deadline
// too, and may say a moment before the caller's own clock does that it has
// passed; then the rest is waited for, so that callers see one and the same end.
func ending(ctx context.Context) bool {
	const latency = time.Second
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > latency {
		return false
	}
	<-ctx.Done()
	return true
}

// local explains an error that the agent did not send: the connection failed,
// or the caller's own context ended. The context is asked, because a connection
// that broke in its handshake also ends as "canceled" or "deadline exceeded".
func local(ctx context.Context, target string, ce *connect.Error) *Error {
	e := &Error{Kind: KindUnavailable, cause: ce.Unwrap()}
	switch code := ce.Code(); {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Kind = KindCanceled
		e.Message = "given up before the agent answered"
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Message = fmt.Sprintf("the agent at %s gave no answer in time", target)
		e.Remedy = "see whether it hangs: systemctl status holdfast; journalctl -u holdfast"
	case KindOf(code) == KindFailed || KindOf(code) == KindInvalid:
		e.Kind = KindFailed
		e.Message = fmt.Sprintf("call the agent at %s: %s", target, ce.Message())
	default:
		e.Message = fmt.Sprintf("can not reach the agent at %s: %s", target, ce.Message())
		e.Remedy = reachRemedy(target, ce)
	}
	return e
}

func reachRemedy(target string, err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "the socket is for root only; run the command as root"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "start the agent: systemctl start holdfast; another place is named with --socket, $HOLDFAST_SOCKET or --server"
	case isTLS(err):
		return "check --ca, --cert and --key against the agent's certificate and its cluster"
	case strings.HasPrefix(target, "https:"):
		// An agent that does not take a certificate just hangs up.
		return "check the address, whether the agent listens there, and whether --cert is signed by the cluster's CA"
	}
	return "check the address, the network and whether the agent runs: systemctl status holdfast"
}
