package sim

import (
	"fmt"
	"maps"
	"time"

	"holdfast/internal/cluster"
)

const (
	// restoreAfter is how long the old store must have had no quorum before a
	// backup is restored.
	restoreAfter = 3 * time.Second
	// restoreJump is added to the revision.
	restoreJump = 1_000_000
)

// connected is the store that the agent talks to: each restore makes another.
func (a *agent) connected() int {
	if !a.core.Synced {
		return a.host.world.store.restores // not yet to any
	}
	return a.store
}

// newer ends an agent that finds another generation than the one that it has
// read: a new one begins, which trusts nothing that this one knew.
func (a *agent) newer() bool {
	w := a.host.world
	if !a.core.Synced || a.store == w.store.restores || !a.host.canAsk() || !a.host.canHear() {
		return false
	}
	w.say(a.host, "agent ends: the store was restored")
	a.crash()
	return true
}

// cmdRestore brings the store's content back as it was some time ago. The command
// of the product refuses while the old store answers; so it does nothing here.
func (w *World) cmdRestore(args []string) error {
	age, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	if age < 0 {
		return fmt.Errorf("age %s: want none below 0", age)
	}
	if w.lost < 0 || w.now-w.lost < int64(restoreAfter) {
		w.lines = append(w.lines, Line{time.Duration(w.now), "", "~restore refused: the old store answers"})
		return nil
	}
	w.store.restore(w.now - int64(age))
	w.lines = append(w.lines, Line{time.Duration(w.now), "",
		fmt.Sprintf("~the store is restored as it was %s ago, generation %d", age, w.store.gen)})
	return nil
}

// restore makes a new store from a backup of the true time at: no hosts are
// registered, revisions go on far above any before, and the generation is one
// higher than that of the backup or than that of any store that was.
func (s *store) restore(at int64) {
	old := store{world: s.world, hosts: map[cluster.HostID]hostRow{}}
	if s.base != nil {
		old = *s.base
		old.hosts = maps.Clone(s.base.hosts)
	}
	for _, b := range s.log {
		if b.at <= at {
			old.take(b)
		}
	}
	n := store{
		world: s.world, rev: s.rev + restoreJump, gen: s.gen + 1, restores: s.restores + 1,
		coord: old.coord, owner: old.owner, want: old.want, hosts: map[cluster.HostID]hostRow{},
	}
	n.want.Off = nil // the words of operators were said of hosts as they were then
	base := n
	base.hosts = map[cluster.HostID]hostRow{}
	n.base = &base
	*s = n
}
