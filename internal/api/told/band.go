package told

import (
	"slices"
	"time"

	"holdfast/internal/cluster"
)

// State is what a part of a band was like.
type State string

// States of a band.
const (
	NotKnown State = "not known" // no event tells of it, or this host did not reach the store
	Up       State = "up"
	Moving   State = "moving"  // by a live migration or a switch
	Halted   State = "stopped" // as somebody has asked for
	Down     State = "down"
)

// Block is a part of a band. It begins where the one before ends.
type Block struct {
	State    State
	From, To time.Time
	Host     cluster.HostID // that had it; "": none, or it is not known
	Takeover time.Time      // of a Down that a takeover has ended: of that event
}

// Band says what the management VM, or the services of a pair, were like since a time, by the events that are known (oldest
// first) and by what the status knows of now. Clocks of hosts differ: what would begin before the block before it begins with
// its end.
func Band(s cluster.Status, events []cluster.Event, since time.Time) []Block {
	b := band{at: Block{State: NotKnown}}
	for _, e := range events {
		b.take(e)
	}
	switch o, h := s.Owner, silentHolder(s); {
	case !s.Connected:
		b.turn(s.AsOf, NotKnown, "")
	case h != nil:
		b.turn(s.Time.Add(-h.Silent), Down, "")
	case o.State == cluster.Running && (b.at.State == NotKnown || b.at.State == Halted):
		b.turn(o.Time, Up, o.Host)
	case o.State == cluster.Released && !s.Want.Run:
		b.turn(o.Time, Halted, "")
	}
	b.end(s.Time)
	return after(b.all, since)
}

// band is one in the making.
type band struct {
	all   []Block
	at    Block     // To is not known yet
	least time.Time // before which it does not end: how long a silence was is known by one clock
}

// turn ends the block at a time, and begins another one.
func (b *band) turn(t time.Time, to State, host cluster.HostID) {
	if to == b.at.State && host == b.at.Host {
		return
	}
	b.end(t)
	b.at = Block{State: to, From: b.at.To, Host: host}
}

// lost ends the block with the last word of its host, which a silence followed.
func (b *band) lost(e cluster.Event) {
	b.turn(e.Time.Add(-e.Wait), Down, "")
	b.least = b.at.From.Add(e.Wait)
}

// end ends the block at a time.
func (b *band) end(t time.Time) {
	b.at.To = latest(t, b.at.From, b.least)
	if b.at.To.After(b.at.From) {
		b.all = append(b.all, b.at)
	}
}

func latest(all ...time.Time) time.Time { return slices.MaxFunc(all, time.Time.Compare) }

// take goes on by an event.
func (b *band) take(e cluster.Event) {
	switch e.Kind {
	case cluster.EvStarted, cluster.EvAdopted, cluster.EvMigrated, cluster.EvMigrateEnd:
		b.turn(e.Time, Up, e.Host)
	case cluster.EvMigrating:
		b.turn(e.Time, Moving, e.Host)
	case cluster.EvStopping:
		b.turn(e.Time, Halted, "")
	case cluster.EvTakeover:
		b.lost(e)
		b.at.Takeover = e.Time
	case cluster.EvReleased:
		if b.at.State != Halted {
			b.lost(e)
		}
	case cluster.EvOutage:
		b.turn(e.Time, Down, "")
	case cluster.EvOutageOver:
		b.turn(e.Time, Up, e.Host)
	}
}

// after are the blocks since a time; what is before it is not known of in the same way.
func after(all []Block, since time.Time) []Block {
	var out []Block
	for _, b := range all {
		if !b.To.After(since) {
			continue
		}
		if b.From.Before(since) {
			b.From = since
		}
		out = append(out, b)
	}
	return out
}
