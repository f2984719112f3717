package guests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
)

// addressSources are whom libvirtd can ask, in the order in which they are
// believed. It has a third one, the host's ARP table; but libvirt 9.0 can not read
// that of Linux 6.18 ("wrong nlmsg len"), so it is read here.
var addressSources = [...]struct {
	name  string
	which golibvirt.DomainInterfaceAddressesSource
}{
	{"its agent", golibvirt.DomainInterfaceAddressesSrcAgent},
	{"libvirt's networks for its leases", golibvirt.DomainInterfaceAddressesSrcLease},
}

// Addresses returns the IP addresses of a running guest on the network cards
// that it has: those that its agent tells, else those that libvirt's networks have
// leased to it, else those of IPv4 at which this host has heard it of late. Addresses by which no other
// host can reach it (link-local ones and such) are left out. None is no error.
//
// What comes from the agent is the guest's own word.
func (f *Fleet) Addresses(ctx context.Context, uuid string) ([]netip.Addr, error) {
	addrs, err := f.knownAddresses(ctx, uuid)
	return addrs, libvirt.Doing("find the addresses of", uuid, err)
}

func (f *Fleet) knownAddresses(ctx context.Context, uuid string) ([]netip.Addr, error) {
	dom, err := f.lookup(ctx, uuid) // also a protected one: nothing is done to it
	if err != nil {
		return nil, err
	}
	var text string
	if err := f.client.Ask(ctx, "read its definition", func(l *golibvirt.Libvirt) (err error) {
		text, err = l.DomainGetXMLDesc(dom, 0)
		return err
	}); err != nil {
		return nil, err
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return nil, fmt.Errorf("its definition can not be read: %w", err)
	}
	cards := cardsOf(&def)
	if len(cards) == 0 {
		return nil, nil
	}
	var failed []error
	for _, s := range addressSources {
		if s.which == golibvirt.DomainInterfaceAddressesSrcAgent && !agentConnected(def.Devices.Channels) {
			continue
		}
		// An agent may hang. The connection is then given up, and the next source is
		// asked on another one.
		sctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, oneLimit))
		var found []golibvirt.DomainInterface
		err := f.client.Ask(sctx, "ask "+s.name, func(l *golibvirt.Libvirt) (err error) {
			found, err = l.DomainInterfaceAddresses(dom, uint32(s.which), 0)
			return err
		})
		cancel()
		if libvirt.HasCode(err, golibvirt.ErrOperationInvalid) &&
			s.which != golibvirt.DomainInterfaceAddressesSrcAgent || libvirt.HasCode(err, golibvirt.ErrNoDomain) {
			return nil, err // it does not run
		}
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if addrs := reachable(found, cards); len(addrs) > 0 {
			return addrs, nil
		}
		if err != nil && !libvirt.Answered(err) { // libvirtd's own no means that this source knows nothing
			failed = append(failed, err)
		}
	}
	addrs, err := f.heard(cards)
	if len(addrs) > 0 {
		return addrs, nil
	}
	return nil, errors.Join(append(failed, err)...)
}

// arpComplete is the flag of an entry whose hardware address is known.
const arpComplete = 0x2

// heard are the addresses of cards that are in the host's ARP table (IPv4 only).
func (f *Fleet) heard(cards []string) ([]netip.Addr, error) {
	b, err := os.ReadFile(filepath.Join(f.opt.ProcDir, "net/arp"))
	if err != nil {
		return nil, fmt.Errorf("read the host's ARP table: %w", err)
	}
	var found []golibvirt.DomainInterface
	for line := range strings.Lines(string(b)) {
		// address, hardware type, flags, hardware address, mask, device
		w := strings.Fields(line)
		if len(w) != 6 {
			continue // the heading
		}
		if flags, err := strconv.ParseUint(w[2], 0, 32); err == nil && flags&arpComplete != 0 {
			found = append(found, golibvirt.DomainInterface{Hwaddr: golibvirt.OptString{w[3]}, Addrs: []golibvirt.DomainIPAddr{{Addr: w[0]}}})
		}
	}
	return reachable(found, cards), nil
}

// cardsOf are the MAC addresses of a guest's network cards.
func cardsOf(def *libvirtxml.Domain) []string {
	if def.Devices == nil {
		return nil
	}
	var out []string
	for _, n := range def.Devices.Interfaces {
		if n.MAC != nil {
			out = append(out, strings.ToLower(n.MAC.Address))
		}
	}
	return out
}

// reachable picks the addresses that are on the guest's cards (an agent tells of
// bridges within the guest, too) and can be reached from elsewhere.
func reachable(found []golibvirt.DomainInterface, cards []string) []netip.Addr {
	var out []netip.Addr
	for _, n := range found {
		if len(n.Hwaddr) == 0 || !slices.Contains(cards, strings.ToLower(n.Hwaddr[0])) {
			continue
		}
		for _, x := range n.Addrs {
			a, err := netip.ParseAddr(x.Addr)
			if err != nil {
				continue // the guest's own word may be anything
			}
			if a = a.Unmap(); a.IsGlobalUnicast() && a.Zone() == "" && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}
