package guests

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/fail"
)

// screenDial is how long the VNC server of a guest may take to answer, which is on this host.
const screenDial = 3 * time.Second

// OpenScreen connects to the VNC server of a guest of this host, also of a protected one, where its live definition has
// it. libvirt would hand the connection over as a descriptor, which its Go client does not take.
// What is not so that somebody can see it, such as a guest that is off, is KindRefused.
func (f *Fleet) OpenScreen(ctx context.Context, uuid string) (net.Conn, error) {
	u, err := libvirt.ParseUUID(uuid)
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "guest %.70q: %w", uuid, err)
	}
	var text string
	var state int32
	dom := golibvirt.Domain{Name: uuid}
	err = f.client.Ask(ctx, "look at its definition", func(l *golibvirt.Libvirt) (err error) {
		if dom, err = l.DomainLookupByUUID(u); err != nil {
			return err
		}
		if state, _, err = l.DomainGetState(dom, 0); err == nil {
			text, err = l.DomainGetXMLDesc(dom, 0)
		}
		return err
	})
	if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
		return nil, fail.Errorf(fail.Refused, "the guest is not on this host now").With("if it moves, wait until it has arrived")
	}
	if err != nil {
		return nil, libvirt.Doing("open the screen of", uuid, err)
	}
	if s := golibvirt.DomainState(state); s == golibvirt.DomainShutoff || s == golibvirt.DomainCrashed {
		return nil, fail.Errorf(fail.Refused, "%s is shut off", dom.Name).With("start it, and its screen is shown")
	}
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return nil, libvirt.Doing("open the screen of", dom.Name, fmt.Errorf("its definition can not be read: %w", err))
	}
	network, at, err := screenAt(dom.Name, &def)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, screenDial)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, network, at)
	if err != nil {
		return nil, fail.Errorf(fail.Unavailable, "the VNC server of %s does not answer at %s: %w", dom.Name, at, err).
			With("if the guest moves or has just ended, wait; else look at its log on the host")
	}
	return c, nil
}

// screenAt is where the VNC server of a running guest listens, for net.Dial.
func screenAt(name string, def *libvirtxml.Domain) (network, at string, err error) {
	const remedy = "give it <graphics type='vnc' listen='127.0.0.1'/> in its definition, and start it anew"
	other := ""
	if def.Devices != nil {
		for _, g := range def.Devices.Graphics {
			if g.VNC != nil {
				return vncAt(name, g.VNC)
			}
			if g.Spice != nil {
				other = "SPICE"
			} else if other == "" {
				other = "another kind"
			}
		}
	}
	if other != "" {
		return "", "", fail.Errorf(fail.Refused, "%s has a screen of %s only, and this page shows VNC", name, other).With(remedy)
	}
	return "", "", fail.Errorf(fail.Refused, "%s has no screen", name).With(remedy)
}

// vncAt is where a VNC server listens.
func vncAt(name string, g *libvirtxml.DomainGraphicVNC) (network, at string, err error) {
	if g.Socket != "" {
		return "unix", g.Socket, nil
	}
	address := g.Listen
	for _, l := range g.Listeners {
		switch {
		case l.Socket != nil && l.Socket.Socket != "":
			return "unix", l.Socket.Socket, nil
		case l.Address != nil && l.Address.Address != "":
			address = l.Address.Address
		case l.Network != nil && l.Network.Address != "":
			address = l.Network.Address
		}
	}
	if g.Port <= 0 {
		return "", "", fail.Errorf(fail.Refused, "the VNC server of %s listens nowhere: only libvirt itself reaches it", name).
			With("give it <graphics type='vnc' listen='127.0.0.1'/> in its definition, and start it anew")
	}
	switch ip, perr := netip.ParseAddr(address); {
	case address == "" || perr == nil && ip == netip.IPv4Unspecified():
		address = "127.0.0.1"
	case perr == nil && ip == netip.IPv6Unspecified():
		address = "::1"
	}
	return "tcp", net.JoinHostPort(address, strconv.Itoa(g.Port)), nil
}
