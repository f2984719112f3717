package server

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"connectrpc.com/connect"

	"holdfast/internal/api"
	apiv1 "holdfast/internal/api/v1"
	"holdfast/internal/cluster"
	"holdfast/internal/inventory"
	"holdfast/internal/lib/fail"
)

const (
	maxKey      = 64   // characters of an idempotency key
	maxEvents   = 1000 // of one page
	pageEvents  = 100  // of one page by default
	newestAfter = -1   // after: the newest events
)

// handler answers the calls of one listener's clients.
type handler struct {
	cluster Cluster
	version string
	// settings is the file that has the agent's.
	settings string
	jobs     Jobs // nil: this host takes no part in them
	// certificates of the hosts; nil: nobody renews any.
	certificates Certificates
	grace        time.Duration
	stop         context.Context // ends, with its cause, when the server does
}

// GetStatus returns the cached status.
func (h *handler) GetStatus(context.Context, *apiv1.GetStatusRequest) (*apiv1.GetStatusResponse, error) {
	return &apiv1.GetStatusResponse{Status: api.Encode[*apiv1.Status](h.cluster.Status())}, nil
}

// WatchStatus sends the status at once, at each change and at every beat.
func (h *handler) WatchStatus(ctx context.Context, _ *apiv1.WatchStatusRequest,
	out *connect.ServerStream[apiv1.WatchStatusResponse]) error {
	return h.each(ctx, func(context.Context) (bool, error) {
		return false, out.Send(&apiv1.WatchStatusResponse{Status: api.Encode[*apiv1.Status](h.cluster.Status())})
	})
}

// each calls step at once, after each change and at every beat, until step is
// done or fails, the caller goes, or the server ends.
func (h *handler) each(ctx context.Context, step func(context.Context) (done bool, err error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.stop, func() { cancel(context.Cause(h.stop)) })()
	changed := h.cluster.Changed(ctx)
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		if done, err := step(ctx); done || err != nil {
			if ctx.Err() != nil && err != nil {
				return context.Cause(ctx)
			}
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case _, ok := <-changed:
			if !ok {
				changed = nil // the cluster ended first; ctx will end too
			}
		case <-tick.C:
		}
	}
}

// Start records that the guest shall run and that decisions are made again.
func (h *handler) Start(ctx context.Context, req *apiv1.StartRequest) (*apiv1.StartResponse, error) {
	err := h.request(ctx, req.IdempotencyKey, "start it", func(w *cluster.Want, _ cluster.Status) error {
		w.Run, w.HandsOff = true, false
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.StartResponse{}, nil
}

// Stop records that the guest shall not run, or that all decisions are frozen.
func (h *handler) Stop(ctx context.Context, req *apiv1.StopRequest) (*apiv1.StopResponse, error) {
	what := "stop it"
	if req.HandsOff {
		what = "take hands off"
	}
	err := h.request(ctx, req.IdempotencyKey, what, func(w *cluster.Want, _ cluster.Status) error {
		if req.HandsOff {
			w.HandsOff = true
		} else {
			w.Run = false
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.StopResponse{}, nil
}

// request records a change of what is asked for, in the caller's name.
func (h *handler) request(ctx context.Context, key, what string, change func(*cluster.Want, cluster.Status) error) error {
	who, err := callerOf(ctx)
	if err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	if err := checkQuorum(what, h.cluster.Status()); err != nil {
		return err
	}
	if err := h.cluster.Request(ctx, who.user, key, change); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func checkKey(key string) error {
	ok := key != "" && len(key) <= maxKey
	for _, b := range []byte(key) {
		ok = ok && b > ' ' && b < 0x7f
	}
	if !ok {
		return fail.Errorf(fail.Invalid, "idempotency_key %.70q: want 1 to %d printable ASCII characters without blanks", key, maxKey)
	}
	return nil
}

// checkQuorum refuses what can not be recorded, before the store is waited for.
func checkQuorum(what string, s cluster.Status) error {
	if s.Connected {
		return nil
	}
	why := ""
	if s.StoreError != "" {
		why = ": " + s.StoreError
	}
	return fail.Errorf(fail.Refused, "%s: the agent on %s reaches no quorum of the store%s", what, s.Self, why).
		With("see which hosts are missing: holdfast status; or ask the agent of another host with --server")
}

// ListEvents returns one page of the event log.
func (h *handler) ListEvents(ctx context.Context, req *apiv1.ListEventsRequest) (*apiv1.ListEventsResponse, error) {
	limit := req.Limit
	if limit == 0 {
		limit = pageEvents
	}
	if limit < 0 || limit > maxEvents {
		return nil, fail.Errorf(fail.Invalid, "limit %d: want 1 to %d, or 0 for %d", limit, maxEvents, pageEvents)
	}
	if err := checkAfter(req.After); err != nil {
		return nil, err
	}
	events, next, err := h.cluster.Events(ctx, req.After, int(limit))
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return &apiv1.ListEventsResponse{Events: api.Encode[[]*apiv1.Event](events), Next: next}, nil
}

func checkAfter(after int64) error {
	if after < newestAfter {
		return fail.Errorf(fail.Invalid, "after %d: want a revision, 0 for the oldest event, or -1 for the newest ones", after)
	}
	return nil
}

// WatchEvents sends the event log after a revision, page by page, as it grows.
func (h *handler) WatchEvents(ctx context.Context, req *apiv1.WatchEventsRequest,
	out *connect.ServerStream[apiv1.WatchEventsResponse]) error {
	if err := checkAfter(req.After); err != nil {
		return err
	}
	after := req.After
	return h.each(ctx, func(ctx context.Context) (bool, error) {
		for {
			events, next, err := h.readEvents(ctx, after)
			if err != nil {
				return false, err
			}
			if len(events) == 0 {
				after = max(after, next)
				return false, nil
			}
			after = next
			if err := out.Send(&apiv1.WatchEventsResponse{Events: api.Encode[[]*apiv1.Event](events), Next: next}); err != nil {
				return false, err
			}
		}
	})
}

// readEvents reads one page for a stream, with the deadline of a short call.
func (h *handler) readEvents(ctx context.Context, after int64) ([]cluster.Event, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, unaryTime)
	defer cancel()
	events, next, err := h.cluster.Events(ctx, after, pageEvents)
	if err != nil {
		return nil, 0, fmt.Errorf("read events after revision %d: %w", after, err)
	}
	return events, next, nil
}

// GetVersion names the build.
func (h *handler) GetVersion(context.Context, *apiv1.GetVersionRequest) (*apiv1.GetVersionResponse, error) {
	return &apiv1.GetVersionResponse{Version: h.version, Go: runtime.Version(), Api: "v1", Settings: h.settings}, nil
}

// ConfirmOff records the caller's word that a host is off. It speaks of the host
// as its record is now: a host that renews later is not meant.
func (h *handler) ConfirmOff(ctx context.Context, req *apiv1.ConfirmOffRequest) (*apiv1.ConfirmOffResponse, error) {
	who, err := callerOf(ctx)
	if err != nil {
		return nil, err
	}
	host := cluster.HostID(req.Host)
	mod := h.cluster.HostMod(host)
	err = h.request(ctx, req.IdempotencyKey, "confirm that host "+req.Host+" is off", func(w *cluster.Want, s cluster.Status) error {
		if err := api.MayBeOff(s, host); err != nil {
			return err
		}
		w.Off = slices.DeleteFunc(w.Off, func(o cluster.Off) bool { return o.Host == host })
		w.Off = append(w.Off, cluster.Off{Host: host, Mod: mod, User: who.user})
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.ConfirmOffResponse{}, nil
}

// SetMaintenance records that a host is to be emptied, or is of use again.
func (h *handler) SetMaintenance(ctx context.Context, req *apiv1.SetMaintenanceRequest) (*apiv1.SetMaintenanceResponse, error) {
	host := cluster.HostID(req.Host)
	reports, err := h.reports(ctx, host)
	if err != nil {
		return nil, err
	}
	err = h.request(ctx, req.IdempotencyKey, "maintenance of host "+req.Host, func(w *cluster.Want, s cluster.Status) error {
		if !reports && !isMember(s, host) && !slices.Contains(w.Maintenance, host) {
			return fail.Errorf(fail.Invalid, "host %q: no host of this cluster has that name", host)
		}
		w.SetMaintenance(host, req.On)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.SetMaintenanceResponse{}, nil
}

func isMember(s cluster.Status, host cluster.HostID) bool {
	return slices.Contains(s.Members, host) || slices.ContainsFunc(s.Hosts, func(x cluster.HostStatus) bool { return x.Name == host })
}

// reports tells whether a host that is no member reports its guests.
func (h *handler) reports(ctx context.Context, host cluster.HostID) (bool, error) {
	if h.jobs == nil || isMember(h.cluster.Status(), host) {
		return false, nil
	}
	all, err := h.jobs.Hosts(ctx)
	return slices.ContainsFunc(all, func(x inventory.Summary) bool { return x.Name == host }), err
}

// GetStoreStatus asks every member of the store.
func (h *handler) GetStoreStatus(ctx context.Context, _ *apiv1.GetStoreStatusRequest) (*apiv1.GetStoreStatusResponse, error) {
	s, err := h.cluster.StoreStatus(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the store's members: %w", err)
	}
	return api.Encode[*apiv1.GetStoreStatusResponse](s), nil
}

// BackUpStore writes a snapshot of the store.
func (h *handler) BackUpStore(ctx context.Context, _ *apiv1.BackUpStoreRequest) (*apiv1.BackUpStoreResponse, error) {
	b, err := h.cluster.BackUpStore(ctx)
	if err != nil {
		return nil, fmt.Errorf("back up the store: %w", err)
	}
	return &apiv1.BackUpStoreResponse{Backup: api.Encode[*apiv1.Backup](b)}, nil
}
