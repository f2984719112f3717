package proc

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// Listener is a socket on which somebody waits.
type Listener struct {
	At    netip.AddrPort // of TCP and UDP
	Path  string         // of a Unix socket
	Inode uint64
}

// Name is what HasOpen knows it by.
func (l Listener) Name() string { return socketName(l.Inode) }

// Listening lists where somebody waits, in this process's network namespace: for connections
// (proto tcp), or for packets (udp).
func (t Table) Listening(proto string) (all []Listener, err error) {
	state := tcpListen
	if proto == "udp" {
		state = tcpClosed // of a socket that is bound to no peer
	}
	for _, file := range []string{proto, proto + "6"} {
		err := t.eachRow("net/"+file, 10, func(f []string) error {
			if f[3] != state {
				return nil
			}
			l := Listener{}
			var errs [2]error
			l.At, errs[0] = parseEnd(f[1])
			l.Inode, errs[1] = strconv.ParseUint(f[9], 10, 64)
			all = append(all, l)
			return errors.Join(errs[:]...)
		})
		if err != nil && !(file == proto+"6" && gone(err)) { // a kernel without IPv6
			return nil, err
		}
	}
	return all, nil
}

// UnixListeners lists the Unix sockets with a path on which somebody waits for connections, in
// this process's network namespace.
func (t Table) UnixListeners() (all []Listener, err error) {
	const accepts = 0x10000 // __SO_ACCEPTCON of linux/net.h
	err = t.eachRow("net/unix", 7, func(f []string) error {
		var flags uint32
		if _, err := fmt.Sscanf(f[3], "%x", &flags); err != nil {
			return err
		}
		if flags&accepts == 0 || len(f) <= 7 {
			return nil
		}
		inode, err := strconv.ParseUint(f[6], 10, 64)
		all = append(all, Listener{Path: strings.Join(f[7:], " "), Inode: inode})
		return err
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
