package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/lib/fail"
)

// codes are the kinds of errors as the wire carries them. KindFailed stands for every code
// that is not among them.
func codes() map[fail.Kind]connect.Code {
	return map[fail.Kind]connect.Code{
		fail.Failed:      connect.CodeInternal,
		fail.Unknown:     connect.CodeUnknown,
		fail.Invalid:     connect.CodeInvalidArgument,
		fail.Refused:     connect.CodeFailedPrecondition,
		fail.Unavailable: connect.CodeUnavailable,
		fail.Timeout:     connect.CodeDeadlineExceeded,
		fail.Canceled:    connect.CodeCanceled,
		fail.Denied:      connect.CodePermissionDenied,
	}
}

// CodeOf returns the code that carries a kind on the wire.
func CodeOf(k fail.Kind) connect.Code {
	if c, known := codes()[k]; known {
		return c
	}
	return connect.CodeInternal
}

// KindOf returns the kind that a wire code carries.
func KindOf(code connect.Code) fail.Kind {
	for k, c := range codes() {
		if c == code {
			return k
		}
	}
	return fail.Failed
}

// StatusOf returns the status of HTTP that answers an error of a kind where people or programs speak HTTP alone.
func StatusOf(k fail.Kind) int {
	if s, known := map[fail.Kind]int{
		fail.Invalid: http.StatusBadRequest, fail.Denied: http.StatusForbidden, fail.Refused: http.StatusConflict,
		fail.Unavailable: http.StatusServiceUnavailable, fail.Timeout: http.StatusGatewayTimeout, fail.Unknown: http.StatusBadGateway,
		fail.Canceled: http.StatusRequestTimeout,
	}[k]; known {
		return s
	}
	return http.StatusInternalServerError
}

// ToWire turns e into the error that a handler returns.
func ToWire(e *fail.Error) *connect.Error {
	out := connect.NewError(CodeOf(e.Kind), errors.New(text(e.Message)))
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
		return fail.Because(err, fail.Failed, fmt.Sprintf("call the agent at %s: %v", target, err))
	}
	if ce.Code() == connect.CodeUnimplemented { // the service, or this call of it
		return fail.Errorf(fail.Failed, "the agent at %s is of another version, it does not know this call (%s)", target, ce.Message()).
			With(sameVersion)
	}
	if !connect.IsWireError(err) || ce.Code() == connect.CodeDeadlineExceeded && ending(ctx) {
		return local(ctx, target, ce)
	}
	return Sent(ce)
}

// Sent is the error that a handler has turned into ce by ToWire.
func Sent(ce *connect.Error) *fail.Error {
	e := &fail.Error{Kind: KindOf(ce.Code()), Message: ce.Message()}
	for _, d := range ce.Details() {
		if v, derr := d.Value(); derr == nil {
			if detail, ok := v.(*apiv1.ErrorDetail); ok {
				e.Remedy = detail.Remedy
			}
		}
	}
	return e
}

const sameVersion = "use the same version for commands and agents; see: holdfast version, holdfast host list"

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
func local(ctx context.Context, target string, ce *connect.Error) *fail.Error {
	var said *fail.Error
	if errors.As(ce, &said) { // by what makes the connection
		return said
	}
	e := fail.Because(ce.Unwrap(), fail.Unavailable, "")
	switch code := ce.Code(); {
	case errors.Is(ctx.Err(), context.Canceled):
		e.Kind = fail.Canceled
		e.Message = "given up before the agent answered"
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Message = fmt.Sprintf("the agent at %s gave no answer in time", target)
		e.Remedy = "see whether it hangs: systemctl status holdfast; journalctl -u holdfast"
	case errors.Is(ce, io.ErrUnexpectedEOF):
		e.Message = fmt.Sprintf("the agent at %s ended in the middle of its answer", target)
		e.Remedy = "see why, and whether it is back: systemctl status holdfast; journalctl -u holdfast"
	case KindOf(code) == fail.Failed || KindOf(code) == fail.Invalid:
		e.Kind = fail.Failed
		e.Message = fmt.Sprintf("call the agent at %s: %s", target, ce.Message())
	default:
		e.Message = fmt.Sprintf("can not reach the agent at %s: %s", target, whyOf(target, ce))
		e.Remedy = reachRemedy(target, ce)
	}
	return e
}

// whyOf is what an error says, without the address where the target has it.
func whyOf(target string, ce *connect.Error) string {
	var op *net.OpError
	if !errors.As(ce.Unwrap(), &op) || op.Addr == nil || !strings.Contains(target, op.Addr.String()) {
		return ce.Message()
	}
	_, why, found := strings.Cut(ce.Message(), op.Addr.String()+": ")
	if !found {
		return ce.Message()
	}
	return why
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

// isTLS reports whether a connection failed in its handshake.
func isTLS(err error) bool {
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	return errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &record) ||
		strings.Contains(fmt.Sprint(err), "remote error: tls:")
}
