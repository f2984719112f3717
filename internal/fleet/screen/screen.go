// Package screen opens the screens of guests: of any guest for who asks this host, by the host that runs it, and of this
// host's guests for the agents of members. Who has opened and closed which is in the events.
package screen

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/ha/records"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// Peer is the agent of another host.
type Peer interface {
	// ServeScreen opens the screen of a guest of that host.
	ServeScreen(ctx context.Context, uuid string) (io.ReadWriteCloser, error)
}

// Service opens screens. All fields are required.
type Service struct {
	Host    cluster.HostID // this one
	Store   store.Store
	Status  func() cluster.Status
	Managed string // UUID of the management VM
	// Seen gives what all hosts report; false: that is not read yet.
	Seen func() (map[cluster.HostID]report.Seen, bool)
	// Open connects to the VNC server of a guest of this host.
	Open  func(ctx context.Context, uuid string) (net.Conn, error)
	Reach func(cluster.HostID) (Peer, error)
	Log   *slog.Logger
}

const (
	openWithin  = 15 * time.Second // here: longer than libvirtd may take to answer
	writeWithin = 5 * time.Second  // of an event
	maxName     = 64               // bytes of a guest's name in an event
)

// guest is one with its place.
type guest struct {
	uuid, name string
	host       cluster.HostID
}

// OpenScreen is as server.Screens wants it.
func (s *Service) OpenScreen(ctx context.Context, user, what string) (cluster.HostID, string, io.ReadWriteCloser, error) {
	g, err := s.find(what, time.Now())
	if err != nil {
		return "", "", nil, err
	}
	c, err := s.at(ctx, g)
	if err != nil {
		return "", "", nil, err
	}
	if err := s.tell(ctx, user, g, "was opened"); err != nil {
		return "", "", nil, fmt.Errorf("note who has opened it: %w", errors.Join(err, c.Close()))
	}
	began := time.Now()
	return g.host, g.name, &noted{ReadWriteCloser: c, note: func() {
		how := "was closed after " + time.Since(began).Round(time.Second).String()
		if err := s.tell(context.WithoutCancel(ctx), user, g, how); err != nil {
			s.Log.Warn("who has closed a screen is not in the events", "user", user, "guest", g.uuid, "err", err)
		}
	}}, nil
}

// ServeScreen is as server.Screens wants it.
func (s *Service) ServeScreen(ctx context.Context, uuid string) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	return s.Open(ctx, uuid)
}

// at opens the screen of a guest on the host that runs it.
func (s *Service) at(ctx context.Context, g guest) (io.ReadWriteCloser, error) {
	if g.host == s.Host {
		return s.ServeScreen(ctx, g.uuid)
	}
	peer, err := s.Reach(g.host)
	if err != nil {
		return nil, fail.Errorf(fail.Unavailable, "host %s is not reached: %w", g.host, err)
	}
	return peer.ServeScreen(ctx, g.uuid)
}

// find tells where a guest runs, by what hosts have told last.
func (s *Service) find(what string, now time.Time) (guest, error) {
	if what == string(cluster.MgmtVM) || what == s.Managed {
		return s.managed()
	}
	seen, ok := s.Seen()
	if !ok {
		return guest{}, fmt.Errorf("the hosts' reports are not read yet: %w", store.ErrRetry)
	}
	best, why := guest{}, fail.Errorf(fail.Invalid, "guest %.70q: no host tells of one", what)
	for host, h := range seen {
		for _, vm := range h.VMs {
			switch g := (guest{what, name(vm), host}); {
			case vm.UUID != what:
			case h.Up(now) && vm.Running:
				return g, nil
			case !h.Up(now) && best.uuid == "":
				best, why = g, fail.Errorf(fail.Unavailable, "%s is on host %s, which is not heard since %s", g.name, host,
					now.Sub(h.SeenAt).Round(time.Second)).With("see the host: its agent, or its network, may be down")
			case h.Up(now):
				best, why = g, fail.Errorf(fail.Refused, "%s is shut off", g.name).With("start it, and its screen is shown")
			}
		}
	}
	return guest{}, why
}

// managed tells where the management VM runs.
func (s *Service) managed() (guest, error) {
	st := s.Status()
	if st.OfPair() {
		return guest{}, fail.Errorf(fail.Refused, "this cluster is a pair, whose hosts run no guests")
	}
	switch st.Owner.State {
	case cluster.Running, cluster.Migrating, cluster.Settling, cluster.Stopping:
		return guest{s.Managed, cluster.GuestName, st.Owner.Host}, nil
	}
	return guest{}, fail.Errorf(fail.Refused, "the management VM does not run").With("see: holdfast status")
}

// name is what a guest is called where it is told of.
func name(vm inventory.VM) string {
	if vm.Name == "" {
		return vm.UUID
	}
	return vm.Name[:min(len(vm.Name), maxName)]
}

// tell writes an event.
func (s *Service) tell(ctx context.Context, user string, g guest, how string) error {
	ctx, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	ev := cluster.Event{Time: time.Now().UTC(), Kind: cluster.EvScreen, By: s.Host, Host: g.host, User: user,
		Detail: fmt.Sprintf("the screen of %s (%s) %s", g.name, g.uuid, how)}
	_, _, err := s.Store.Txn(ctx, nil, []store.Op{{Key: records.LogKey(ev, mathrand.Uint64()), Value: records.Encode(ev)}})
	return err
}

// noted is a screen whose end is noted, once.
type noted struct {
	io.ReadWriteCloser
	once sync.Once
	note func()
}

// Close closes the screen.
func (n *noted) Close() error {
	err := n.ReadWriteCloser.Close()
	n.once.Do(n.note)
	return err
}
