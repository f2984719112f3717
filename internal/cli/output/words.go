package output

import (
	"fmt"
	"strings"

	"holdfast/internal/cluster"
)

// pairWords are the words for states and events that a pair has by other names.
var pairWords = map[string]string{
	string(cluster.Migrating):    "switching",
	string(cluster.EvMigrated):   "switched",
	string(cluster.EvMigrateEnd): "switch-failed",
}

// PairWord is a state of the owner record, or a kind of event, in the words of a pair.
func PairWord(s string) string { return Or(pairWords[s], s) }

// Takeover says what the loss of the holder would mean, or means: silent is a holder that is.
func Takeover(b *strings.Builder, p Painter, t cluster.Takeover, unread bool, silent *cluster.HostStatus) {
	if unread {
		Say(b, p, "takeover", Yellow, "unknown: no record of the store has been read yet")
		return
	}
	text, c := "possible within "+Secs(t.Within), Plain
	switch {
	case !t.Possible:
		text, c = "NOT possible", Red
	case silent != nil:
		text, c = fmt.Sprintf("under way, %s after the last word of %s", Secs(t.Within), Clean(silent.Name)), Yellow
	case t.Within == 0:
		text = "not needed"
	}
	if t.Why != "" {
		text += ": " + Clean(t.Why)
	}
	Say(b, p, "takeover", c, text)
}
