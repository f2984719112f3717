package told

import "holdfast/internal/cluster"

// ReceiverState says in a word or two how messages to a receiver go.
func ReceiverState(r cluster.Receiver) string {
	switch {
	case r.Failing && r.Attempts > 0:
		return "failing"
	case r.Failing:
		return "gave up"
	case r.Sent.IsZero():
		return "nothing yet"
	case r.Waiting > 0:
		return "waiting"
	}
	return "sent"
}
