package told

import "holdfast/internal/cluster"

// ReceiverState says how messages to a receiver go.
type ReceiverState string

// States of receivers.
const (
	ReceiverFailing ReceiverState = "failing" // and it is tried again
	ReceiverGaveUp  ReceiverState = "gave up" // the last message
	ReceiverNew     ReceiverState = "nothing yet"
	ReceiverWaits   ReceiverState = "waiting" // something is to be sent
	ReceiverSent    ReceiverState = "sent"
)

// StateOf is that of a receiver.
func StateOf(r cluster.Receiver) ReceiverState {
	switch {
	case r.Failing && r.Attempts > 0:
		return ReceiverFailing
	case r.Failing:
		return ReceiverGaveUp
	case r.Waiting > 0:
		return ReceiverWaits
	case r.Sent.IsZero():
		return ReceiverNew
	}
	return ReceiverSent
}
