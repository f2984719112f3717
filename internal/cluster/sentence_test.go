package cluster

import (
	"testing"
	"time"
)

// TestSentence: an event is said in words, whoever shows it.
func TestSentence(t *testing.T) {
	for _, c := range []struct {
		event Event
		want  string
	}{
		{Event{Kind: EvElected, Host: "h2", By: "h2"}, "h2, by h2"},
		{Event{Kind: EvAssigned, Host: "h1", Epoch: Epoch{Gen: 1, Seq: 1}, Proof: ProofFirst}, "h1, epoch 1.1, as there was no copy before"},
		{Event{Kind: EvTakeover, Host: "h3", To: "h1", Proof: ProofDeadline, Wait: 8600 * time.Millisecond, Detail: "its reset"},
			"h3 -> h1, as the deadline of the copy before has passed, after 8.6s: its reset"},
		{Event{Kind: EvAssigned, To: "h1", Proof: "of a later version"}, "to h1, proof of a later version"},
		{Event{Kind: EvWant, User: "root", Detail: "stop"}, "user root: stop"},
		{Event{Detail: "alone"}, "alone"},
		{Event{}, ""},
	} {
		if got := c.event.Sentence(); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
