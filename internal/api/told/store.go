package told

import (
	"fmt"
	"time"

	"holdfast/internal/cluster"
)

// Table is one for people.
type Table struct {
	Heads []string
	Rows  [][]Cell
}

// StoreMembers are the members of the store.
func StoreMembers(s cluster.StoreStatus) Table {
	t := Table{Heads: []string{"MEMBER", "ROLE", "STATE", "VERSION", "SIZE", "IN USE", "QUOTA", "BEHIND"}}
	for _, m := range s.Members {
		t.Rows = append(t.Rows, storeRow(m))
	}
	return t
}

// storeRow is a member's line of that table.
func storeRow(m cluster.StoreMember) []Cell {
	role, state := "follower", Cell{"ok", Good}
	switch {
	case m.Leader:
		role = "leader"
	case m.Learner:
		role = "learner"
	}
	if !m.Reachable {
		state, role = Cell{"away", Bad}, "-"
	} else if len(m.Alarms) > 0 {
		state = Cell{"alarm", Bad}
	} else if m.Error != "" {
		state = Cell{"no leader", Warn}
	}
	size, used, quota, behind := Bytes(m.Size), Bytes(m.InUse), Bytes(m.Quota), fmt.Sprint(m.Behind)
	if !m.Reachable { // it has told nothing
		size, used, quota, behind = "-", "-", "-", "-"
	}
	return []Cell{{Clean(m.Name), Plain}, {role, Plain}, state, {Or(m.Version, "-"), Plain}, {size, Plain}, {used, Plain},
		{quota, Plain}, {behind, Plain}}
}

// StoreNotes are what is to be said of the members beside the table.
func StoreNotes(s cluster.StoreStatus) (out []Line) {
	for _, m := range s.Members {
		switch {
		case m.Error != "":
			out = append(out, Line{"", Warn, fmt.Sprintf("%s: %s", Clean(m.Name), Clean(m.Error))})
		case !m.Reachable:
			out = append(out, Line{"", Warn, Clean(m.Name) + ": it does not answer"})
		}
		for _, al := range m.Alarms {
			out = append(out, Line{"", Bad, fmt.Sprintf("%s: alarm %s", Clean(m.Name), Clean(al))})
		}
	}
	return out
}

// Restores says how often the store was restored from a backup.
func Restores(s cluster.StoreStatus) string {
	return fmt.Sprintf("%d (generation %d)", max(s.Generation, 1)-1, s.Generation)
}

// Backup says what a backup of the store is.
func Backup(k cluster.Backup) string {
	return fmt.Sprintf("%s, %s, revision %d: %s", k.Time.UTC().Format(time.DateTime), Bytes(k.Size), k.Revision, Clean(k.File))
}

// Bytes is a size, of bytes, in MiB.
func Bytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
