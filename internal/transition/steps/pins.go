package steps

import (
	"holdfast/internal/cluster"
	"holdfast/internal/transition/pin/bridge"
	"holdfast/internal/transition/pin/pinstep"
)

// Pins is the step of an upgrade that pins bridges of a host, with its Open vSwitch.
func Pins(host cluster.HostID) *pinstep.Step {
	return &pinstep.Step{Host: host, Pin: bridge.Pin, Unpin: bridge.Unpin, Has: bridge.Has}
}
