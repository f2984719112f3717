package procfs

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Listening lists where somebody waits, in this process's network namespace: for connections
// (proto tcp), or for packets (udp).
func (t Table) Listening(proto string) (all []netip.AddrPort, err error) {
	state := tcpListen
	if proto == "udp" {
		state = tcpClosed // of a socket that is bound to no peer
	}
	for _, file := range []string{proto, proto + "6"} {
		err := t.eachRow("net/"+file, 10, func(f []string) error {
			if f[3] != state {
				return nil
			}
			end, err := parseEnd(f[1])
			all = append(all, end)
			return err
		})
		if err != nil && !(file == proto+"6" && gone(err)) { // a kernel without IPv6
			return nil, err
		}
	}
	return all, nil
}

// UnixListeners lists the paths of the Unix sockets on which somebody waits for connections, in
// this process's network namespace.
func (t Table) UnixListeners() (all []string, err error) {
	const accepts = 0x10000 // __SO_ACCEPTCON of linux/net.h
	err = t.eachRow("net/unix", 7, func(f []string) error {
		var flags uint32
		if _, err := fmt.Sscanf(f[3], "%x", &flags); err != nil {
			return err
		}
		if flags&accepts != 0 && len(f) > 7 {
			all = append(all, strings.Join(f[7:], " "))
		}
		return nil
	})
	return all, err
}

// eachRow gives the fields of each line of a table of the kernel but the heading.
func (t Table) eachRow(file string, least int, do func(fields []string) error) error {
	file = filepath.Join(string(t), file)
	heading := true
	return eachLine(file, func(line string) error {
		fields := strings.Fields(line)
		switch {
		case heading:
			heading = false
		case len(fields) < least:
			return fmt.Errorf("%s: %q: want %d fields or more", file, line, least)
		default:
			if err := do(fields); err != nil {
				return fmt.Errorf("%s: %q: %w", file, line, err)
			}
		}
		return nil
	})
}
