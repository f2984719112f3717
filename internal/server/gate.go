package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	"holdfast/internal/api/v1/apiv1connect"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/traces"
	"holdfast/internal/store"
)

// errStopping is why streams end when the server does.
var errStopping = fail.Errorf(fail.Unavailable, "the agent is stopping").
	With("ask the agent of another host, or wait until this one is back")

// gate stands before every handler, behind the admission: it bounds calls that return
// once, and turns every error and panic into what the wire can carry.
type gate struct {
	log    *slog.Logger
	within time.Duration // bounds a call that returns once
	status func() cluster.Status
}

// What happens to calls while the store has no quorum.
const (
	staleWithin    = 1500 * time.Millisecond // of what is answered by what a member knows
	noQuorumWithin = 5 * time.Second         // of what waits for a quorum: shorter than callers wait
)

// stale are the calls that only tell, by the store: without a quorum they tell what a member knows, with its age.
var stale = map[string]bool{
	apiv1connect.ClusterServiceListEventsProcedure:  true,
	apiv1connect.ClusterServiceGetConfigProcedure:   true,
	apiv1connect.ClusterServiceListConfigsProcedure: true,
	apiv1connect.JobServiceListHostsProcedure:       true,
	apiv1connect.JobServiceListGuestsProcedure:      true,
	apiv1connect.JobServiceListJobsProcedure:        true,
	apiv1connect.JobServiceGetJobProcedure:          true,
	apiv1connect.UpgradeServiceGetUpgradeProcedure:  true,
	apiv1connect.PairServiceGetPairProcedure:        true,
}

// lasting bounds the calls that return once and take longer than others of their service.
var lasting = map[string]time.Duration{
	apiv1connect.PairServiceAddPartitionProcedure:    partitionTime,
	apiv1connect.PairServiceRemovePartitionProcedure: partitionTime,
	apiv1connect.HostServiceTestFenceProcedure:       fenceTime,
}

// written are the calls, by what people call them, that can not end without a quorum whatever the hosts say: they are refused
// before anybody waits. Those of a cluster's services refuse by themselves.
var written = map[string]string{
	apiv1connect.JobServiceDrainHostProcedure:         "empty a host",
	apiv1connect.JobServiceRunTransitionProcedure:     "run a transition",
	apiv1connect.JobServiceWriteFilesProcedure:        "write files of hosts",
	apiv1connect.JobServiceForgetHostProcedure:        "forget a host",
	apiv1connect.JobServiceCommandJobProcedure:        "change a job",
	apiv1connect.UpgradeServicePlanUpgradeProcedure:   "plan an upgrade",
	apiv1connect.UpgradeServiceCheckUpgradeProcedure:  "check an upgrade",
	apiv1connect.UpgradeServiceRunUpgradeProcedure:    "run an upgrade",
	apiv1connect.UpgradeServiceAdmitHostProcedure:     "admit a host",
	apiv1connect.UpgradeServiceReportUpgradeProcedure: "report on an upgrade",
}

// errLost ends a call that waits for the store when this host reaches no quorum of it any more.
var errLost = errors.New("the store was lost")

// lookEvery is how often it is looked whether the store was lost, while a call waits for it.
const lookEvery = 100 * time.Millisecond

// whileConnected ends with errLost as its cause.
func (g *gate) whileConnected(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	ctx, end := context.WithCancelCause(ctx)
	go func() {
		for clock.Sleep(ctx, lookEvery) {
			if !g.status().Connected {
				end(errLost)
			}
		}
	}()
	return ctx, end
}

// WrapUnary guards calls that return once.
func (g *gate) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (resp connect.AnyResponse, err error) {
		procedure, st := req.Spec().Procedure, g.status()
		old, within := !st.Connected && stale[procedure], cmp.Or(lasting[procedure], g.within)
		if !st.Connected && within == unaryTime {
			within = noQuorumWithin
		}
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		err = g.guard(ctx, procedure, func(ctx context.Context) error {
			if what := written[procedure]; what != "" {
				if err := checkQuorum(what, st); err != nil {
					return err
				}
			}
			if !stale[procedure] {
				resp, err = next(ctx, req)
				return err
			}
			if !old {
				attempt, end := g.whileConnected(ctx)
				resp, err = next(attempt, req)
				old = err != nil && errors.Is(context.Cause(attempt), errLost)
				end(nil)
				if !old {
					return err
				}
				st = g.status()
			}
			ctx, cancel := context.WithTimeout(store.Stale(ctx), staleWithin)
			defer cancel()
			resp, err = next(ctx, req)
			var e *fail.Error
			if err != nil && !(errors.As(err, &e) && (e.Kind == fail.Refused || e.Kind == fail.Invalid)) { // those are none of the store's
				err = fail.Errorf(fail.Unavailable, "no quorum of the store (%s), and no member tells what it knows: %w", st.StoreError, err).
					With("see which hosts are silent: holdfast status")
			}
			return err
		})
		if err != nil {
			return nil, err // a response beside an error would be a typed nil
		}
		if old {
			age := time.Duration(-1) // not known
			if !st.AsOf.IsZero() {
				age = st.Time.Sub(st.AsOf)
			}
			resp.Header().Set(api.AgeHeader, strconv.FormatInt(int64(age), 10))
		}
		return resp, nil
	}
}

// WrapStreamingHandler guards streams.
func (g *gate) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return g.guard(ctx, conn.Spec().Procedure, func(ctx context.Context) error { return next(ctx, conn) })
	}
}

// WrapStreamingClient is for clients; this is a server.
func (g *gate) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// guard runs one call for a known caller.
func (g *gate) guard(ctx context.Context, procedure string, call func(context.Context) error) (err error) {
	who, err := callerOf(ctx)
	if err != nil {
		return wireError(err)
	}
	begin := time.Now()
	ctx, end := traces.Request(ctx, strings.TrimPrefix(procedure, "/"), traces.Pair{Name: "rpc.system", Value: "connect_rpc"},
		traces.Pair{Name: "holdfast.user", Value: who.user})
	defer func() {
		if r := recover(); r != nil {
			g.log.Error("api call panicked", "call", procedure, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = wireError(fail.Errorf(fail.Failed, "the agent failed inside %s", procedure).With("see its journal, and report it"))
		}
		end(said(err), traces.Pair{Name: "rpc.connect_rpc.status", Value: resultOf(err)})
	}()
	err = wireError(call(ctx))
	// The answer tells the caller what happened; this line tells who called.
	g.log.Debug("api call", "call", procedure, "user", who.user, "pid", who.pid,
		"took", time.Since(begin), "result", resultOf(err))
	return err
}

// said is the text of an error, "" for none, and for a caller who has gone.
func said(err error) string {
	if err == nil || connect.CodeOf(err) == connect.CodeCanceled {
		return ""
	}
	return err.Error()
}

func resultOf(err error) string {
	if err == nil {
		return "ok"
	}
	return connect.CodeOf(err).String()
}

// wireError turns any error of a handler into the one that goes out.
func wireError(err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		return ce // made by connect itself: a message too large, a broken stream
	}
	return api.ToWire(classify(err))
}

// classify finds the kind of an error.
func classify(err error) *fail.Error {
	var e *fail.Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, store.ErrUnknown):
		return fail.Because(err, fail.Unknown, store.Said(err.Error())).
			With("it may have been carried out; see: holdfast status. Asking again is safe")
	case errors.Is(err, store.ErrRetry):
		return fail.Because(err, fail.Unavailable, store.Said(err.Error())).
			With("nothing was changed; ask again, or ask the agent of another host")
	case errors.Is(err, context.DeadlineExceeded):
		return fail.Errorf(fail.Timeout, "%w", err).With("see: holdfast status")
	case errors.Is(err, context.Canceled):
		return fail.Errorf(fail.Canceled, "%w", err)
	}
	return fail.Errorf(fail.Failed, "%w", err)
}
