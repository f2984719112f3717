package protected

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt/migration"
	"holdfast/internal/lib/domainxml"
	"holdfast/internal/lib/durable"
)

// vncPassword is the longest password that VNC has, bytes: it is a DES key.
const vncPassword = 8

// readVNC reads the password of the guest's VNC console, "" without one.
func readVNC(spec cluster.GuestSpec) (string, error) {
	if spec.VNC == nil {
		return "", nil
	}
	p, err := durable.ReadSecret(spec.VNC.PasswordFile)
	switch {
	case err != nil:
		return "", fmt.Errorf("VNC.Credential: %w", err)
	case len(p) > vncPassword:
		return "", fmt.Errorf("VNC.Credential: %s has %d bytes: want at most %d, VNC compares no more", spec.VNC.PasswordFile, len(p), vncPassword)
	case strings.ContainsFunc(p, func(r rune) bool { return r < ' ' || r > '~' }):
		return "", errors.New("VNC.Credential: " + spec.VNC.PasswordFile + " has other than printable ASCII characters")
	}
	return p, nil
}

// screen is the VNC console at the host's address; nil without one. Its port is
// the first free one from 5900.
func screen(spec cluster.GuestSpec, password string) *libvirtxml.DomainGraphic {
	if spec.VNC == nil {
		return nil
	}
	return &libvirtxml.DomainGraphic{VNC: &libvirtxml.DomainGraphicVNC{
		Port: -1, AutoPort: "yes", Passwd: password,
		Listeners: []libvirtxml.DomainGraphicListener{{Address: &libvirtxml.DomainGraphicListenerAddress{Address: spec.VNC.Listen}}},
	}}
}

// addScreen gives the domain that is built what people look at and type on.
func addScreen(d *libvirtxml.DomainDeviceList, spec cluster.GuestSpec, m machine, password string) {
	g := screen(spec, password)
	if g == nil {
		return
	}
	d.Graphics = []libvirtxml.DomainGraphic{*g}
	d.Videos = []libvirtxml.DomainVideo{{Model: libvirtxml.DomainVideoModel{Type: m.video}}}
	d.Inputs = []libvirtxml.DomainInput{{Type: "tablet", Bus: "usb"}, {Type: "keyboard", Bus: "usb"}}
}

// screenXML is the console's element for the operator's own domain, "" without one.
func screenXML(spec cluster.GuestSpec, password string) (string, error) {
	g := screen(spec, password)
	if g == nil {
		return "", nil
	}
	b, err := xml.Marshal(g)
	if err != nil {
		return "", fmt.Errorf("write the VNC console's XML: %w", err)
	}
	return string(b), nil
}

// listenAt is a migration's parameter with the domain as it is to be at the target,
// when it has a console at this host's address, which the target does not have.
func listenAt(l *golibvirt.Libvirt, dom golibvirt.Domain, target string) ([]golibvirt.TypedParam, error) {
	if _, err := netip.ParseAddr(target); err != nil {
		return nil, nil
	}
	text, err := l.DomainGetXMLDesc(dom, golibvirt.DomainXMLSecure|golibvirt.DomainXMLMigratable)
	if err != nil {
		return nil, err
	}
	def, err := domainxml.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("read the domain as libvirt has it: %w", err)
	}
	moved, changed, err := def.Listen(target)
	if err != nil || !changed {
		return nil, err
	}
	return []golibvirt.TypedParam{migration.Param(golibvirt.MigrateParamDestXML, moved)}, nil
}
