package cluster

import (
	"fmt"
	"strings"
	"time"
)

// proofWords say what a proof is.
var proofWords = map[ProofKind]string{
	ProofFirst:        "as there was no copy before",
	ProofReleased:     "as the copy before was stopped",
	ProofNeverStarted: "as the copy before was never started",
	ProofDeadline:     "as the deadline of the copy before has passed",
	ProofFenced:       "as a fence device showed the host of the copy before off",
	ProofOperator:     "as a person said that the host of the copy before is off",
	ProofRestored:     "as no host has a copy, after the restore of the store",
}

// Sentence says in one line who did what to whom, and why: all of an event but its time and
// its kind. It has texts of others: who shows it on a terminal cleans it.
func (e Event) Sentence() string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	switch {
	case e.To != "" && e.Host != "":
		add("%s -> %s", e.Host, e.To)
	case e.To != "":
		add("to %s", e.To)
	case e.Host != "":
		add("%s", e.Host)
	}
	if !e.Epoch.IsZero() {
		add("epoch %s", e.Epoch)
	}
	if why, known := proofWords[e.Proof]; known {
		add("%s", why)
	} else if e.Proof != ProofNone {
		add("proof %s", e.Proof)
	}
	if e.Wait != 0 {
		add("after %s", e.Wait.Round(100*time.Millisecond))
	}
	if e.User != "" {
		add("user %s", e.User)
	}
	if e.By != "" {
		add("by %s", e.By)
	}
	text := strings.Join(words, ", ")
	switch {
	case e.Detail != "" && text != "":
		text += ": " + e.Detail
	case e.Detail != "":
		text = e.Detail
	}
	return text
}
