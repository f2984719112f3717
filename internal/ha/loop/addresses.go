package loop

import (
	"context"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/seed"
)

// Addresser is a driver that reaches an agent in the guest, by which it gives the guest's
// cards their addresses.
type Addresser interface {
	SetAddresses(ctx context.Context, cards []cluster.Card) (changed []string, err error) // cluster.ErrNoAgent where there is none
}

// Times of the guest's addresses.
const (
	addressesEvery  = 5 * time.Second // a guest that has just moved is not reached before
	addressesWithin = 20 * time.Second
)

// setAddresses gives the guest the addresses that the configuration has for this host, once
// for each run of the guest here: the seed is read at its boot only, so a live migration
// leaves it those of the host that it came from. A guest without an agent keeps what its
// seed has said.
func (a *Agent) setAddresses(ctx context.Context) {
	d, ok := a.Driver.(Addresser)
	if !ok {
		return
	}
	type run struct {
		guest guestRun
		cards []cluster.Card
	}
	var done run
	said := ""
	every(ctx, addressesEvery, func() {
		var now run
		if !a.ask(ctx, func() { now.guest, now.cards = a.runningHere(), cardsOn(a.s.guest(), a.Host) }) {
			return
		}
		if now.guest == (guestRun{}) {
			done = run{}
		}
		if now.guest == (guestRun{}) || len(now.cards) == 0 || reflect.DeepEqual(now, done) {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, addressesWithin)
		defer cancel()
		changed, err := d.SetAddresses(ctx, now.cards)
		switch {
		case errors.Is(err, cluster.ErrNoAgent):
			return // it may be starting
		case err != nil:
			if err.Error() != said {
				said = err.Error()
				a.Log.Warn("the guest's addresses", "err", err)
			}
			return
		}
		done, said = now, ""
		if len(changed) == 0 {
			return
		}
		ev := cluster.Event{Kind: cluster.EvAddresses, By: a.Host, Resource: cluster.MgmtVM, Host: a.Host, Detail: strings.Join(changed, ", ")}
		if err := a.Tell(ctx, ev); err != nil {
			a.Log.Warn("the guest's addresses were set", "cards", changed, "err", err)
		}
	})
}

// cardsOn are the guest's cards on a host, those that the configuration gives an address.
func cardsOn(cl config.Cluster, host cluster.HostID) []cluster.Card {
	var out []cluster.Card
	here, _ := cl.For(host)
	for i, n := range here {
		addr, err := seed.NIC{IP: n.IP, Netmask: n.Netmask}.Prefix()
		if err != nil {
			continue // it has none: the configuration was checked
		}
		c := cluster.Card{MAC: n.MAC, Addr: addr}
		if gw, err := netip.ParseAddr(n.Gateway); err == nil && n.DefRoute {
			c.Gateway = gw
		}
		for _, node := range cl.Nodes() {
			there, _ := cl.For(node.Host)
			ip, err := netip.ParseAddr(there[i].IP)
			if err == nil && ip != addr.Addr() && !slices.Contains(c.Elsewhere, ip) {
				c.Elsewhere = append(c.Elsewhere, ip)
			}
		}
		out = append(out, c)
	}
	return out
}
