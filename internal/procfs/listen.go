package procfs

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
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
		err := t.eachLine("net/"+file, 10, func(f []string) error {
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
	err = t.eachLine("net/unix", 7, func(f []string) error {
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

// eachLine gives the fields of each line but the heading.
func (t Table) eachLine(file string, least int, do func(fields []string) error) error {
	file = filepath.Join(string(t), file)
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	for n := 0; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		switch {
		case n == 0:
		case len(fields) < least:
			return fmt.Errorf("%s: %q: want %d fields or more", file, lines.Text(), least)
		default:
			if err := do(fields); err != nil {
				return fmt.Errorf("%s: %q: %w", file, lines.Text(), err)
			}
		}
	}
	return lines.Err()
}
