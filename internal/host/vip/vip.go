// Package vip puts a virtual address on an interface of this host and takes it off: asks first
// whether anybody has it (Probe), adds it and tells the neighbours (Add), repeats that and
// hears others that claim it (Hold), removes it and ends its connections (Remove).
// See docs/adr/0040.
//
// It decides nothing: who may have the address is known elsewhere. Nothing is remembered
// either: what is there is asked of the kernel each time, so a process that starts anew finds
// what the one before it has left. All of it happens in the network namespace of the goroutine
// that calls. It takes the right to change the network (CAP_NET_ADMIN) and to send frames
// (CAP_NET_RAW).
package vip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
)

// ErrForeign is what errors wrap when this host has the address, but not by Add.
var ErrForeign = errors.New("something else has set the address on this host")

// ErrNoLink is what errors wrap when the interface can not send: it is down, has no carrier, or
// takes no frames.
var ErrNoLink = errors.New("the interface sends nothing")

// How Probe asks. RFC 5227 waits up to 1 s, asks three times 1 to 2 s apart and waits 2 s more;
// that is for machines that are switched on together and choose their addresses by themselves.
// A switch of nodes waits for this, so it asks as often, but faster: 1.3 s in all. RFC 4862 asks
// once and waits 1 s.
const (
	probes    = 3
	probeGap  = 300 * time.Millisecond
	probeLast = 700 * time.Millisecond
)

// rounds is how often Remove looks for connections that others began meanwhile.
const rounds = 5

// VIP is a virtual address of this host.
type VIP struct {
	a      network.VIP
	others []netip.Addr
	log    *slog.Logger
}

// New makes a VIP. others are addresses of machines that it must not be, those of the peer.
// The host is not asked yet.
func New(a network.VIP, others []netip.Addr, log *slog.Logger) *VIP {
	return &VIP{a: a, others: others, log: log}
}

// Addr is the address itself.
func (v *VIP) Addr() netip.Addr { return v.a.Prefix.Addr() }

// Interface finds the interface for the address: that which has one in its subnet. An address
// that can not be a virtual one on this host is an error, which wraps ErrForeign when the host
// has it already and not by Add.
func (v *VIP) Interface() (net.Interface, error) {
	all, err := ports()
	if err != nil {
		return net.Interface{}, fmt.Errorf("virtual address %s: %w", v.a, err)
	}
	return choose(v.a, all, v.others)
}

// linked is Interface that has a link just now.
func (v *VIP) linked() (net.Interface, error) {
	dev, err := v.Interface()
	if err != nil {
		return dev, err
	}
	return dev, link(dev)
}

// link says whether an interface can send.
func link(dev net.Interface) error {
	switch {
	case dev.Flags&net.FlagUp == 0:
		return fmt.Errorf("%w: %s is down", ErrNoLink, dev.Name)
	case dev.Flags&net.FlagRunning == 0:
		return fmt.Errorf("%w: %s has no carrier", ErrNoLink, dev.Name)
	}
	return nil
}

// Probe asks the network whether another machine has the address, or asks for it at this
// moment, and returns its MAC; nil: nobody answered in 1.3 s. It wraps ErrNoLink when nobody
// could be asked. The answer is no proof: a machine behind a cut cable does not answer, and
// has the address all the same.
func (v *VIP) Probe(ctx context.Context) (net.HardwareAddr, error) {
	mac, err := v.probe(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask who has %s: %w", v.a.Prefix.Addr(), err)
	}
	return mac, nil
}

func (v *VIP) probe(ctx context.Context) (net.HardwareAddr, error) {
	dev, err := v.linked()
	if err != nil {
		return nil, err
	}
	w, err := listen(ctx, dev, v.a.Prefix.Addr())
	if err != nil {
		return nil, err
	}
	defer w.close()
	for i := range probes {
		if err := w.send(probe(dev.HardwareAddr, w.addr)); err != nil {
			return nil, err
		}
		wait := probeGap
		if i == probes-1 {
			wait = probeLast
		}
		c, err := w.hear(ctx, time.Now().Add(wait))
		if err != nil {
			return nil, err
		}
		if c != nil {
			return c.mac, nil
		}
	}
	after, err := v.linked()
	if err == nil && after.Index != dev.Index {
		err = fmt.Errorf("%w: %s was replaced meanwhile", ErrNoLink, dev.Name)
	}
	return nil, err
}

// Add puts the address on its interface and announces it once; Hold goes on with that. One
// that Add has put there before stays; on another interface it is taken off first. It wraps
// ErrForeign when the host has the address already by somebody else, and ErrNoLink when its
// interface has no link: then nothing was added, as nobody could be told. After any other error
// the address may be there. Whoever calls has made sure before that no other machine has it.
func (v *VIP) Add(ctx context.Context) error {
	if err := v.add(ctx); err != nil {
		return fmt.Errorf("add %s: %w", v.a.Prefix.Addr(), err)
	}
	return nil
}

func (v *VIP) add(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dev, err := v.linked()
	if err != nil {
		return err
	}
	addr := v.a.Prefix.Addr()
	found, err := entries(addr)
	if err != nil {
		return err
	}
	there := false
	for _, e := range found {
		if e.index == dev.Index {
			there = true // Interface has refused what is not ours
			continue
		}
		if err := change(unix.RTM_DELADDR, 0, net.Interface{Index: e.index}, addr); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("take it off another interface: %w", err)
		}
	}
	if !there {
		if err := change(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, dev, addr); err != nil {
			return fmt.Errorf("on %s: %w", dev.Name, err)
		}
		v.log.Info("virtual address added", "address", addr, "interface", dev.Name)
	}
	w, err := listen(ctx, dev, addr)
	if err != nil {
		return err
	}
	defer w.close()
	return w.announce()
}

// announce tells the neighbours once.
func (w *wire) announce() error {
	for _, f := range announcements(w.dev.HardwareAddr, w.addr) {
		if err := w.send(f); err != nil {
			return fmt.Errorf("announce it: %w", err)
		}
	}
	return nil
}

// Held reports whether this host has the address by Add.
func (v *VIP) Held() (bool, error) {
	found, err := entries(v.a.Prefix.Addr())
	return slices.ContainsFunc(found, func(e entry) bool { return e.ours }), err
}

// Remove takes the address off this host, on whatever interface Add or a process before this
// one has put it, reads back that it is gone, and ends the TCP connections over it. To remove
// what is not there succeeds. Hold must have ended, or it may announce the address once more.
//
// What somebody else has put there stays, and is an error that wraps ErrForeign: the host goes
// on to answer for the address. Clients are sent a reset where that is possible; one that
// connects in the middle of it may not be. Connections that could not be ended are only
// logged: without its address, the host sends nothing over them, and takes nothing.
func (v *VIP) Remove(ctx context.Context) error {
	if err := v.remove(ctx); err != nil {
		return fmt.Errorf("remove %s: %w", v.a.Prefix.Addr(), err)
	}
	return nil
}

func (v *VIP) remove(ctx context.Context) error {
	addr := v.a.Prefix.Addr()
	found, err := entries(addr)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(found, func(e entry) bool { return !e.ours }) {
		if _, err := endTCP(addr); err != nil { // while there is a way for the resets
			v.log.Warn("connections over the virtual address get no reset", "address", addr, "err", err)
		}
	}
	for _, e := range found {
		if !e.ours {
			continue
		}
		if err := change(unix.RTM_DELADDR, 0, net.Interface{Index: e.index}, addr); err != nil &&
			!errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.ENODEV) {
			return err
		}
		v.log.Info("virtual address removed", "address", addr)
	}
	left, err := entries(addr)
	if err != nil {
		return fmt.Errorf("read back whether it is gone: %w", err)
	}
	for _, e := range left {
		if e.ours {
			return fmt.Errorf("it is still on interface %s", deviceName(e.index))
		}
	}
	if len(left) > 0 {
		return foreign(v.a, deviceName(left[0].index), left[0])
	}
	for range rounds {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := endTCP(addr)
		if err != nil {
			v.log.Warn("connections over the virtual address could not be ended", "address", addr, "err", err)
		}
		if err != nil || n == 0 {
			break
		}
	}
	return nil
}

// deviceName is what errors call an interface.
func deviceName(index int) string {
	if dev, err := net.InterfaceByIndex(index); err == nil {
		return dev.Name
	}
	return fmt.Sprintf("number %d", index)
}

// endTCP ends all TCP connections whose end here is addr, those that a socket of IPv6 has for
// an address of IPv4, too. n is how many there were.
func endTCP(addr netip.Addr) (n int, err error) {
	all, err := network.TCP()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, c := range all {
		if c.From.Addr() == addr {
			n++
			errs = append(errs, c.End())
		}
	}
	return n, errors.Join(errs...)
}
