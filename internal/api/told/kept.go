package told

import (
	"fmt"
	"strconv"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/text"
)

// Kept names what the cluster keeps up, in a column or a line: the management VM, or the services of a pair, which have
// no guest and do not migrate.
func Kept(s cluster.Status) string {
	if s.OfPair() {
		return "services"
	}
	return "mgmt VM"
}

// KeptHead is the head of the column that says what a host has of it.
func KeptHead(pair bool) string {
	if pair {
		return "SERVICES"
	}
	return "MGMT VM"
}

// pairWords are the words for states and events that a pair has by other names.
var pairWords = map[string]string{
	string(cluster.Migrating):    "switching",
	string(cluster.EvMigrated):   "switched",
	string(cluster.EvMigrateEnd): "switch-failed",
}

// PairWord is a state of the owner record, or a kind of event, in the words of a pair.
func PairWord(s string) string { return Or(pairWords[s], s) }

// OwnerState is the state of the owner record, "" where there is none.
func OwnerState(s cluster.Status) string {
	if s.OfPair() {
		return PairWord(string(s.Owner.State))
	}
	return Clean(s.Owner.State)
}

// Stopped says that it does not run.
func Stopped(s cluster.Status) string {
	if s.OfPair() {
		return "the services are stopped"
	}
	return "the management VM is stopped"
}

// Old says how old all is that the agent does not see itself, "" for nothing.
func Old(s cluster.Status) string {
	if s.Connected || s.AsOf.IsZero() {
		return ""
	}
	return Ago(s.Time.Sub(s.AsOf))
}

// withAge adds to a text how old it is.
func withAge(text string, s cluster.Status) string {
	if o := Old(s); o != "" {
		text += fmt.Sprintf("; this is %s old", o)
	}
	return text
}

func coordinator(s cluster.Status) string {
	if s.Coordinator == "" {
		return "no coordinator elected"
	}
	return fmt.Sprintf("coordinator %s (term %d)", Clean(s.Coordinator), s.Term)
}

// keptLine says what state it is in, and where.
func keptLine(s cluster.Status, tr func(string) string) Line {
	o := s.Owner
	text := tr(Or(OwnerState(s), "unknown"))
	if o.Host != "" {
		text += " on " + Clean(o.Host)
	}
	if o.State == cluster.Migrating {
		text += fmt.Sprintf(" -> %s, %d %%", Clean(o.To), s.Percent)
	}
	if !o.Time.IsZero() {
		text += " since " + WallClock(o.Time)
	}
	if !o.Epoch.IsZero() {
		text += ", epoch " + o.Epoch.String()
	}
	if o.Failures > 0 && o.State != cluster.Running {
		text += fmt.Sprintf(", %d failed starts", o.Failures)
	}
	tone := Warn
	if o.State == cluster.Running {
		tone = Good
	}
	text = withAge(text, s)
	if h := silentHolder(s); h != nil {
		text, tone = text+fmt.Sprintf("; this is %s old: %s is silent", Ago(h.Silent), Clean(h.Name)), Warn
	}
	if Old(s) != "" && o.Holder() == s.Self && HostOf(s, s.Self).Guest == cluster.GuestAbsent { // this host's own line is of now
		text, tone = fmt.Sprintf("not on this host any more; where it runs now is not known. What is known: %s", text), Warn
	}
	return Line{Kept(s), tone, text}
}

func proof(p cluster.Proof, tr func(string) string) string {
	text := tr(Clean(p.Kind))
	if p.Host != "" {
		text += " of " + Clean(p.Host)
	}
	if !p.Epoch.IsZero() {
		text += ", epoch " + p.Epoch.String()
	}
	if p.Wait != 0 {
		text += ", silent for " + Secs(p.Wait)
	}
	if p.By != "" {
		text += ", by " + Clean(p.By)
	}
	if p.Note != "" {
		text += ": " + Clean(p.Note)
	}
	return text
}

// HostOf is a host of a status; one that is not in it has no name.
func HostOf(s cluster.Status, name cluster.HostID) cluster.HostStatus {
	for _, h := range s.Hosts {
		if h.Name == name {
			return h
		}
	}
	return cluster.HostStatus{}
}

// silentHolder is the host that has the VM, or the services, and is silent; nil: there is none, or nothing is known of it.
func silentHolder(s cluster.Status) *cluster.HostStatus {
	h := HostOf(s, s.Owner.Holder())
	if h.Name == "" || !s.Connected || HostState(s, h) != Silent || !h.Expelled.IsZero() {
		return nil
	}
	return &h
}

// HolderSilent reports whether the host that has the VM, or the services, is silent: whether it runs is not known.
func HolderSilent(s cluster.Status) bool { return silentHolder(s) != nil }

// Takeover says what the loss of the holder would mean, or means: silent is a holder that is.
func Takeover(t cluster.Takeover, unread bool, silent *cluster.HostStatus) Line {
	if unread {
		return Line{"takeover", Warn, "unknown: no record of the store has been read yet"}
	}
	text, tone := "possible within "+Secs(t.Within), Plain
	switch {
	case !t.Possible:
		text, tone = "NOT possible", Bad
	case silent != nil:
		text, tone = fmt.Sprintf("under way, %s after the last word of %s", Secs(t.Within), Clean(silent.Name)), Warn
	case t.Within == 0:
		text = "not needed"
	}
	if t.Why != "" {
		text += ": " + Clean(t.Why)
	}
	return Line{"takeover", tone, text}
}

func want(s cluster.Status) Line {
	text, tone := Stopped(s), Plain
	switch {
	case s.Want.Run && s.OfPair():
		text = "the services run"
	case s.Want.Run:
		text = "the management VM runs"
	}
	if s.Want.MoveTo != "" {
		text += ", on " + Clean(s.Want.MoveTo)
	}
	if s.Want.HandsOff {
		text, tone = text+"; HANDS OFF: nothing is decided", Warn
	}
	return Line{"wanted", tone, withAge(text, s)}
}

// Clean makes text of others safe to be shown, and says what libraries say in plain words.
func Clean[S ~string](s S) string { return text.Plain(text.Clean(string(s))) }

// Or returns s, or what stands for nothing.
func Or[S ~string](s S, none string) string {
	if s == "" {
		return none
	}
	return Clean(s)
}

// Secs writes a duration to a tenth of a second.
func Secs(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }

// Ago writes a silence in four characters as a rule.
func Ago(d time.Duration) string {
	switch {
	case d < 100*time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 100*time.Minute:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// WallClock writes a wall clock time in the zone of the process.
func WallClock(t time.Time) string {
	if t.IsZero() {
		return "unknown"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// Thousands writes a number with its thousands apart.
func Thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
