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

// format is the number of this protocol. An agent adopts the holder that it finds, of
// whatever version: each refuses what it does not know. What a holder reads must not mean
// something else in another format: then the names of fields change, too.
const format = 1

// request is one line to the holder.
type request struct {
	Op    string          `json:"op"`
	Until cluster.Instant `json:"limit_ns,omitempty"` // opArm: the limit
	// Expires is when the client stopped waiting; 0: never. A frozen holder that
	// wakes up must not carry out an old disarm after a new arm.
	Expires cluster.Instant `json:"expires_ns,omitempty"`
	Format  int             `json:"format"`
}

// Status is what the holder says of itself and of its device.
type Status struct {
	Format   int             `json:"format"`
	Armed    bool            `json:"armed"`             // the device's timer runs, or may run
	Limit    cluster.Instant `json:"limit_ns"`          // no pet after it; 0 when not armed
	LastPet  cluster.Instant `json:"last_pet_ns"`       // an instant not before the last pet; 0: none by this holder
	Timeout  time.Duration   `json:"timeout_ns"`        // W: from the limit to the reset at the latest (keeper.Promise); 0: no device
	Identity string          `json:"identity"`          // of the device
	Error    string          `json:"error,omitempty"`   // why the request, or else the device, failed; "" when all is well
	Refused  bool            `json:"refused,omitempty"` // the request was wrong, the device is not to blame
}
