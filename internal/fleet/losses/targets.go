package losses

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"holdfast/internal/lib/text"
)

// Bounds of a list of targets.
const (
	MaxTargets = 100_000
	maxLine    = 1000 // bytes
	maxName    = 64   // bytes
)

// Address is a target, and what people call it.
type Address struct {
	IP   netip.Addr `json:"ip"`
	Name string     `json:"name,omitempty"`
}

// String is the address, and the name where there is one.
func (a Address) String() string {
	if a.Name == "" {
		return a.IP.String()
	}
	return a.IP.String() + " (" + a.Name + ")"
}

// ReadTargets reads a list of targets: one address a line, and after it what people
// call it, if they do. What follows # is a comment. An error says the file, the line,
// what is there and what is allowed.
func ReadTargets(file string, r io.Reader) ([]Address, error) {
	var out []Address
	lines := map[netip.Addr]int{}
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	n := 0
	for s.Scan() {
		n++
		line, _, _ := strings.Cut(s.Text(), "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		a, err := target(line)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
		if before := lines[a.IP]; before != 0 {
			return nil, fmt.Errorf("%s:%d: %s is in line %d, too: want each address once", file, n, a.IP, before)
		}
		if len(out) == MaxTargets {
			return nil, fmt.Errorf("%s:%d: %s is one address too many: want at most %d", file, n, a.IP, MaxTargets)
		}
		lines[a.IP] = n
		out = append(out, a)
	}
	switch err := s.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, fmt.Errorf("%s:%d: the line is too long: want an address and a name, at most %d bytes", file, n+1, maxLine)
	case err != nil:
		return nil, fmt.Errorf("%s:%d: %w", file, n+1, err)
	case len(out) == 0:
		return nil, fmt.Errorf("%s: no address is in it: want one a line", file)
	}
	return out, nil
}

// target reads what is in a line.
func target(line string) (Address, error) {
	word, name := line, ""
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		word, name = line[:i], strings.TrimSpace(line[i:])
	}
	ip, err := netip.ParseAddr(word)
	ip = ip.Unmap()
	why := ""
	switch {
	case err != nil:
		why = "is no address"
	case ip.Zone() != "":
		why = "has a zone"
	case ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		why = "is the address of many"
	case ip.IsUnspecified():
		why = "is the address of none"
	case ip.Is6() && ip.IsLinkLocalUnicast():
		why = "is an address on every link"
	}
	if why != "" {
		return Address{}, fmt.Errorf("%q %s: want the IPv4 or IPv6 address of one machine, and perhaps a name after it", word, why)
	}
	if len(name) > maxName || text.Clean(name) != name {
		return Address{}, fmt.Errorf("the name %q: want at most %d bytes that can be printed", name, maxName)
	}
	return Address{ip, name}, nil
}
