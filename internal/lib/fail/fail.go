// Package fail has the kinds of errors that callers act on, across processes, and their exit
// codes.
package fail

import (
	"errors"
	"fmt"
)

// Kind says what callers branch on when a request did not succeed.
type Kind string

// Kinds of errors.
const (
	Failed      Kind = "failed"      // it was tried, and did not work
	Unknown     Kind = "unknown"     // it may or may not have been carried out
	Invalid     Kind = "invalid"     // the request itself is wrong
	Refused     Kind = "refused"     // refused for safety, nothing was changed
	Unavailable Kind = "unavailable" // the agent, or the store behind it, is not reachable
	Timeout     Kind = "timeout"     // not done within the deadline
	Canceled    Kind = "canceled"    // the caller gave up
	Denied      Kind = "denied"      // the caller may not do this
)

// Exit codes of the command line.
const (
	ExitDone        = 0
	ExitFailed      = 1
	ExitInvalid     = 2
	ExitRefused     = 3
	ExitUnavailable = 4
)

// Exit returns the exit code of a command that ended with the kind.
func (k Kind) Exit() int {
	switch k {
	case Invalid:
		return ExitInvalid
	case Refused:
		return ExitRefused
	case Unavailable:
		return ExitUnavailable
	}
	return ExitFailed
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

// Because makes an error of a kind that has a cause, which its message does not repeat.
func Because(cause error, kind Kind, message string) *Error {
	return &Error{Kind: kind, Message: message, cause: cause}
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

// ExitCode returns the exit code for any error: that of the Error in it,
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
