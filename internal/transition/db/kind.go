package db

import (
	"context"
	"errors"

	"github.com/go-sql-driver/mysql"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/db/copier"
	"holdfast/internal/transition/db/ids"
	"holdfast/internal/transition/db/server"
)

// commonKind is the kind of errors that mean the same everywhere; "" for all others.
func commonKind(err error) fail.Kind {
	switch {
	case errors.Is(err, context.Canceled):
		return fail.Canceled
	case errors.Is(err, copier.ErrBusy), errors.Is(err, copier.ErrOther), errors.Is(err, ids.ErrOwner), errors.Is(err, server.ErrOther):
		return fail.Refused
	case server.Passing(err):
		return fail.Unavailable
	}
	return ""
}

// kinded gives an error a kind, unless it has one.
func kinded(err error, other fail.Kind) error {
	var e *fail.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	kind := commonKind(err)
	if kind == "" {
		kind = other
	}
	return fail.Errorf(kind, "%w", err)
}

// PlanError is one of the work before anything is written: what the server itself does
// not refuse is wrong in what was given.
func PlanError(err error) error {
	var refused *mysql.MySQLError
	switch {
	case errors.Is(err, context.Canceled):
		return fail.Errorf(fail.Canceled, "interrupted; this command has changed nothing")
	case errors.As(err, &refused):
		return kinded(err, fail.Failed)
	}
	return kinded(err, fail.Invalid)
}

// RunError is one of the work that writes.
func RunError(err error) error { return kinded(err, fail.Failed) }

// denied reports a server that says that an account may not read a database (1044) or a
// table (1142).
func denied(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == 1044 || e.Number == 1142)
}
