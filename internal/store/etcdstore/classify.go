package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"holdfast/internal/store"
)

// call is what is known of a request that failed.
type call int

const (
	reading      call = iota // it changes nothing
	writing                  // it may have reached a member
	writeNotSent             // a write of which no byte left this process
)

// classify gives an error of etcd, gRPC or a context its kind: the result wraps
// err and exactly one of the errors of package store.
func classify(err error, c call) error {
	kind := verdict(err)
	switch c {
	case reading:
		// A read that failed may always be repeated, unless that is known to be in vain.
		if kind == store.ErrUnknown {
			kind = store.ErrRetry
		}
	case writeNotSent:
		if kind == store.ErrUnknown {
			kind = store.ErrRetry
		}
	case writing:
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// verdict is THE table: what an error says of a write that may have reached a
// member. Everything that is not listed is unknown, which is always safe.
// Checked against the server's sources of etcd v3.7.3.
func verdict(err error) error {
	// Error finds the entry by the message, as some reach us with another code.
	var known rpctypes.EtcdError
	if errors.As(rpctypes.Error(err), &known) {
		switch known {
		// Refused by the member before the request was proposed to the cluster.
		case rpctypes.ErrNoLeader, // we require a leader: the interceptor looks before it calls the handler
			rpctypes.ErrNotCapable,                                    // the member starts, its cluster version is not known yet
			rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner),    // another member will do it
			rpctypes.ErrTooManyRequests,                               // checked before the proposal
			rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision: // the next attempt has the new one
			return store.ErrRetry

		// Never of writes: a watch that was cancelled without a reason.
		case rpctypes.ErrFutureRev:
			return store.ErrRetry

		// Only of watches and compactions.
		case rpctypes.ErrCompacted:
			return store.ErrCompacted

		// NOSPACE is no refusal: the quota is looked at before the proposal, which
		// would be one, but again when the entry is applied, and then the entry IS
		// applied and the error returned all the same (apply/quota.go).
		case rpctypes.ErrNoSpace:
			return store.ErrUnknown

		// Proposed, and then the answer did not come: the entry may be applied yet.
		case rpctypes.ErrTimeout, rpctypes.ErrTimeoutDueToLeaderFail, rpctypes.ErrTimeoutDueToConnectionLost,
			rpctypes.ErrStopped,       // also returned by a member that stops while it waits for its proposal
			rpctypes.ErrLeaderChanged, // of reads and leases today; the name promises nothing for writes
			rpctypes.ErrUnhealthy, rpctypes.ErrNotLeader:
			return store.ErrUnknown
		}
		return byCode(known.Code())
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return store.ErrUnknown
	}
	if s, ok := status.FromError(err); ok {
		if strings.HasPrefix(s.Message(), refusedForNow) {
			return store.ErrRetry // by the bounds of our own members, before anything was done
		}
		return byCode(s.Code())
	}
	return store.ErrUnknown
}

// byCode is the rest of the table, for errors that have no line of their own.
func byCode(c codes.Code) error {
	switch c {
	// The server looked at the request and does not do it: bad form, denied, wrong
	// cluster, no such method. The checks that come while an entry is applied
	// (authority, corruption alarm) refuse it as well.
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.OutOfRange, codes.Unimplemented, codes.Unauthenticated, codes.DataLoss:
		return store.ErrDefinite
	// Unavailable: the connection broke or the member went away, at any point.
	// ResourceExhausted: also of an answer that was too large to be received.
	// Unknown: also of a proposal that raft dropped, on this member or on another.
	case codes.Canceled, codes.DeadlineExceeded, codes.Unavailable, codes.ResourceExhausted,
		codes.Aborted, codes.Internal, codes.Unknown, codes.OK:
		return store.ErrUnknown
	}
	return store.ErrUnknown
}
