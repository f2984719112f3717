package watchdog

import (
	"time"

	"holdfast/internal/cluster"
)

// maxLine is the longest request or reply, in bytes.
const maxLine = 4096

// Operations of a request.
const (
	opArm    = "arm"
	opDisarm = "disarm"
	opStatus = "status"
)

// clockRaw is the clock of this version's instants (host/clock). Earlier versions
// name none, neither in a request nor in a reply, and mean CLOCK_BOOTTIME, from
// which it differs by all that was ever slewed: seconds. So a holder converts for
// a client that names none, and a client for such a holder; both to the safe side.
const clockRaw = "raw"

// request is one line to the holder.
type request struct {
	Op    string          `json:"op"`
	Until cluster.Instant `json:"until_ns,omitempty"` // opArm: the limit
	// Expires is when the client stopped waiting; 0: never. A frozen holder that
	// wakes up must not carry out an old disarm after a new arm.
	Expires cluster.Instant `json:"expires_ns,omitempty"`
	// Clock is that of the instants here and in the reply: clockRaw or "".
	Clock string `json:"clock,omitempty"`
}

// Status is what the holder says of itself and of its device.
type Status struct {
	Armed    bool            `json:"armed"`             // the device's timer runs, or may run
	Limit    cluster.Instant `json:"limit_ns"`          // no pet after it; 0 when not armed. From a holder of an earlier version: petted until then at least
	LastPet  cluster.Instant `json:"last_pet_ns"`       // an instant not before the last pet; 0: none by this holder
	Timeout  time.Duration   `json:"timeout_ns"`        // W: from the limit to the reset at the latest (keeper.Promise); 0: no device
	Identity string          `json:"identity"`          // of the device
	Error    string          `json:"error,omitempty"`   // why the request, or else the device, failed; "" when all is well
	Refused  bool            `json:"refused,omitempty"` // the request was wrong, the device is not to blame
	Clock    string          `json:"clock,omitempty"`   // of the instants on the wire; the client gives its own ones
}

// told is the limit that a client of an earlier version gave last, by both clocks,
// so that it is told the same again.
type told struct{ boot, limit cluster.Instant }

// fromOld moves a request of an earlier version to the host's clock.
func (k *keeper) fromOld(req request) request {
	if req.Clock != "" {
		return req
	}
	now, boot := k.now(), k.boot()
	until := req.Until
	if until > 0 {
		req.Until = max(sooner(until, boot, now), 1)
		if req.Until > k.old.limit {
			k.old = told{until, req.Until}
		}
	}
	if req.Expires != 0 {
		req.Expires = sooner(req.Expires, boot, now)
	}
	req.Clock = clockRaw
	return req
}

// toOld moves the reply to a request of an earlier version to CLOCK_BOOTTIME.
func (k *keeper) toOld(req request, st Status) Status {
	if req.Clock != "" {
		return st
	}
	now, boot := k.now(), k.boot()
	switch {
	case st.Limit == 0:
	case st.Limit == k.old.limit:
		st.Limit = k.old.boot
	default:
		st.Limit = sooner(st.Limit, now, boot)
	}
	if st.LastPet != 0 {
		st.LastPet = later(st.LastPet, now, boot)
	}
	st.Clock = ""
	return st
}
