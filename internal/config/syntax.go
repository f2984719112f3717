package config

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

const (
	hostnameRule = "want an RFC 1123 host name: letters, digits and -, parts of 1 to 63 separated by dots, at most " +
		"253 in all, not an IP address"
	letters    = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	labelRunes = letters + "0123456789-_./"
)

// broadcast is 255.255.255.255.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// IsHostname reports whether s is a host name by RFC 1123. A name whose last
// part is a number is refused, it would be taken for an address.
func IsHostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	last := ""
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || len(part) > 63 || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
		if strings.Trim(part, letters+"0123456789-") != "" {
			return false
		}
		last = part
	}
	_, err := strconv.ParseUint(last, 10, 64)
	return err != nil || !strings.Contains(s, ".")
}

// parseIPv4 reads an IPv4 address; want is empty, or says what is allowed.
func parseIPv4(s string) (a netip.Addr, want string) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return netip.Addr{}, "want an IPv4 address such as 192.0.2.10"
	case !a.Is4():
		return netip.Addr{}, "want an IPv4 address such as 192.0.2.10, not IPv6"
	}
	return a, ""
}

// isIP reports whether s is an IPv4 or IPv6 address without a zone.
func isIP(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Zone() == "" && !a.IsUnspecified()
}

// isHostPort reports whether s is an address or host name with a port, which
// may be absent unless needPort.
func isHostPort(s string, needPort bool) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return !needPort && (isIP(s) || IsHostname(s))
	}
	return (isIP(host) || IsHostname(host)) && isPort(port)
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// prefixLen reads a dotted netmask. It takes only masks that leave room for a
// network address, a broadcast address and two hosts.
func prefixLen(s string) (bits int, ok bool) {
	a, want := parseIPv4(s)
	if want != "" {
		return 0, false
	}
	b := a.As4()
	mask := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	for bits = 1; bits <= 30; bits++ {
		if mask == ^uint32(0)<<(32-bits) {
			return bits, true
		}
	}
	return 0, false
}

// isBridge reports whether s can be the name of a Linux network interface.
func isBridge(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\"'<>&%")
}

// checkMAC says what is wrong with a MAC address; empty means nothing.
func checkMAC(s string) string {
	const form = "want a unicast MAC address such as 02:00:5e:10:00:01"
	hw, err := net.ParseMAC(s)
	switch {
	case err != nil || len(s) != 17 || s[2] != ':':
		return form
	case strings.Trim(s, "fF:") == "":
		return form + ", not the broadcast address"
	case hw[0]&1 == 1:
		return form + ", not a multicast address (the first byte must be even)"
	case strings.Trim(s, "0:") == "":
		return form + ", not all zero"
	}
	return ""
}
