package cli

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

// pairWord is a state of the owner record, or a kind of event, in the words of a pair.
func pairWord(s string) string { return or(pairWords[s], s) }

// takeoverText says what the loss of the holder would mean, or means: silent is a holder that is.
func takeoverText(b *strings.Builder, p painter, t cluster.Takeover, unread bool, silent *cluster.HostStatus) {
	if unread {
		say(b, p, "takeover", yellow, "unknown: no record of the store has been read yet")
		return
	}
	text, c := "possible within "+secs(t.Within), plain
	switch {
	case !t.Possible:
		text, c = "NOT possible", red
	case silent != nil:
		text, c = fmt.Sprintf("under way, %s after the last word of %s", secs(t.Within), clean(silent.Name)), yellow
	case t.Within == 0:
		text = "not needed"
	}
	if t.Why != "" {
		text += ": " + clean(t.Why)
	}
	say(b, p, "takeover", c, text)
}
