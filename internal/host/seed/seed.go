package seed

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/kdomanski/iso9660"

	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/text"
)

// Seed is what a guest is told at its boot.
type Seed struct {
	InstanceID string   // cloud-init takes a changed one for a new machine
	Hostname   string   // RFC 1123
	NICs       []NIC    // in the order of the guest's cards
	DNS        []string // IP addresses of name servers
	NTP        []string // time servers, IP addresses or names
	ConsoleIP  string   // address under which users reach consoles, "" for the guest's own
}

// NIC is a card's static address. A card without IP is left alone.
type NIC struct {
	MAC      string
	IP       string
	Netmask  string // of an IPv4 address 255.255.255.0 or 24, of an IPv6 address 64
	Gateway  string // used when DefRoute is set
	DefRoute bool
}

// volume is the label by which cloud-init finds the data source NoCloud.
const volume = "cidata"

// Write checks s and puts its image at path, mode 0644 because QEMU may run as
// another user. A file that is there is replaced in one step, so that a reader
// sees either the old or the new one.
func Write(path string, s Seed) (err error) {
	content, err := s.files()
	if err != nil {
		return fmt.Errorf("write seed %s: %w", path, err)
	}
	image, err := pack(content)
	if err != nil {
		return fmt.Errorf("write seed %s: %w", path, err)
	}
	if err := durable.WriteFile(path, image, 0o644); err != nil {
		return fmt.Errorf("write seed %s: %w", path, err)
	}
	return nil
}

type file struct{ name, text string }

// files renders the data source: see cloud-init's documentation of NoCloud and
// of network configuration version 2.
func (s Seed) files() ([]file, error) {
	network, err := s.network()
	if err != nil {
		return nil, err
	}
	if !plain().MatchString(s.InstanceID) {
		return nil, fmt.Errorf("instance id %q: want letters, digits and . _ - only", s.InstanceID)
	}
	if !hostname().MatchString(s.Hostname) {
		return nil, fmt.Errorf("hostname %q: want the form of RFC 1123", s.Hostname)
	}
	user := "#cloud-config\npreserve_hostname: false\nssh_deletekeys: false\n"
	for i, server := range s.NTP {
		if _, err := netip.ParseAddr(server); err != nil && !hostname().MatchString(server) {
			return nil, fmt.Errorf("time server %q: want an IP address or a name", server)
		}
		if i == 0 {
			user += "ntp:\n  enabled: true\n  servers:\n"
		}
		user += fmt.Sprintf("    - \"%s\"\n", server)
	}
	if s.ConsoleIP != "" {
		ip, err := netip.ParseAddr(s.ConsoleIP)
		if err != nil {
			return nil, fmt.Errorf("console address: %w", err)
		}
		user += fmt.Sprintf("write_files:\n  - path: /etc/holdfast/console-ip\n    permissions: \"0644\"\n    content: \"%s\\n\"\n", ip)
	}
	return []file{
		{"meta-data", fmt.Sprintf("instance-id: \"%s\"\nlocal-hostname: \"%s\"\n", s.InstanceID, s.Hostname)},
		{"network-config", network},
		{"user-data", user},
	}, nil
}

var (
	plain    = text.Pattern(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
	hostname = text.Pattern(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

func (s Seed) network() (string, error) {
	servers, err := s.nameservers()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("version: 2\n")
	routes, cards := 0, 0
	for i, n := range s.NICs {
		if n.IP == "" {
			continue
		}
		if cards++; cards == 1 {
			b.WriteString("ethernets:\n")
		}
		if n.DefRoute {
			routes++
		}
		text, err := n.ethernet(i)
		if err != nil {
			return "", fmt.Errorf("network card %d: %w", i+1, err)
		}
		b.WriteString(text)
		// Resolvers are a property of the host, but the format hangs them on a card.
		if cards == 1 {
			b.WriteString(servers)
		}
	}
	switch {
	case routes > 1:
		return "", fmt.Errorf("%d network cards have the default route: want at most one", routes)
	case cards == 0 && servers != "":
		return "", errors.New("name servers but no network card with an address")
	}
	return b.String(), nil
}

func (s Seed) nameservers() (string, error) {
	if len(s.DNS) == 0 {
		return "", nil
	}
	text := "    nameservers:\n      addresses:\n"
	for _, d := range s.DNS {
		ip, err := netip.ParseAddr(d)
		if err != nil {
			return "", fmt.Errorf("name server: %w", err)
		}
		text += fmt.Sprintf("        - \"%s\"\n", ip)
	}
	return text, nil
}

// ethernet renders a card, found by its MAC address and named eth<i>.
func (n NIC) ethernet(i int) (string, error) {
	mac, err := net.ParseMAC(n.MAC)
	if err != nil || len(mac) != 6 {
		return "", fmt.Errorf("MAC address %q: want the form 52:54:00:01:02:03", n.MAC)
	}
	addr, err := n.Prefix()
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("  eth%d:\n    match:\n      macaddress: \"%s\"\n    set-name: \"eth%d\"\n    dhcp4: false\n "+
		"   addresses:\n      - \"%s\"\n", i, mac, i, addr)
	if !n.DefRoute {
		return text, nil
	}
	gw, err := netip.ParseAddr(n.Gateway)
	if err != nil {
		return "", fmt.Errorf("gateway of the default route: %w", err)
	}
	if !addr.Contains(gw) || gw == addr.Addr() {
		return "", fmt.Errorf("gateway %s: want another address in %s", gw, addr.Masked())
	}
	to := "0.0.0.0/0" // "default" is not known to older versions
	if gw.Is6() {
		to = "::/0"
	}
	return text + fmt.Sprintf("    routes:\n      - to: \"%s\"\n        via: \"%s\"\n", to, gw), nil
}

// Prefix is the address with its netmask.
func (n NIC) Prefix() (netip.Prefix, error) {
	ip, err := netip.ParseAddr(n.IP)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("address: %w", err)
	}
	bits := n.Netmask
	if m, err := netip.ParseAddr(n.Netmask); err == nil && m.Is4() && ip.Is4() {
		ones, size := net.IPMask(m.AsSlice()).Size()
		if size == 0 {
			return netip.Prefix{}, fmt.Errorf("netmask %q: its ones are not at the left", n.Netmask)
		}
		bits = fmt.Sprint(ones)
	}
	p, err := netip.ParsePrefix(ip.String() + "/" + bits)
	if err != nil || p.Bits() == 0 {
		return netip.Prefix{}, fmt.Errorf("netmask %q of %s: want for example 255.255.255.0 or 24", n.Netmask, ip)
	}
	return p, nil
}

// pack makes the ISO image.
func pack(files []file) (image []byte, err error) {
	w, err := iso9660.NewWriter()
	if err != nil {
		return nil, fmt.Errorf("stage the image: %w", err)
	}
	defer func() {
		if e := w.Cleanup(); e != nil && err == nil {
			err = fmt.Errorf("remove the staged image: %w", e)
		}
	}()
	for _, f := range files {
		if err := w.AddFile(strings.NewReader(f.text), f.name); err != nil {
			return nil, fmt.Errorf("stage %s: %w", f.name, err)
		}
	}
	var b bytes.Buffer
	if err := w.WriteTo(&b, volume); err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	return b.Bytes(), nil
}
