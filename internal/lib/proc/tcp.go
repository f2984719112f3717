package proc

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// TCP is a TCP connection.
type TCP struct {
	From, To netip.AddrPort // From is this machine's end
	Inode    uint64
}

// Name is what HasOpen knows it by.
func (c TCP) Name() string { return socketName(c.Inode) }

func socketName(inode uint64) string { return fmt.Sprintf("socket:[%d]", inode) }

// TCP lists the connections of a process's network namespace, whoever has them. It wraps
// ErrGone when there is no such process.
func (t Table) TCP(pid int) (all []TCP, err error) {
	for _, file := range []string{"net/tcp", "net/tcp6"} {
		some, err := connections(t.path(pid, file))
		if file == "net/tcp6" && gone(err) { // a kernel without IPv6
			return all, nil
		}
		if err != nil {
			return nil, readError(pid, file, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// connections reads net/tcp or net/tcp6.
func connections(file string) (all []TCP, err error) {
	err = eachLine(file, func(line string) error {
		c, connected, err := parseTCP(line)
		if err == nil && connected {
			all = append(all, c)
		}
		return err
	})
	return all, err
}

// eachLine gives each line of a file, until there is an error.
func eachLine(file string, do func(line string) error) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if err := do(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// What field "st" of a line says where no connection is, or none yet: see tcp_states.h.
const (
	tcpListen   = "0A"
	tcpTimeWait = "06"
	tcpClosed   = "07"
)

// parseTCP reads a line. The heading is none.
func parseTCP(line string) (c TCP, connected bool, err error) {
	f := strings.Fields(line)
	if len(f) > 0 && f[0] == "sl" {
		return TCP{}, false, nil
	}
	if len(f) < 10 {
		return TCP{}, false, fmt.Errorf("%q: want 10 fields or more", line)
	}
	if slices.Contains([]string{tcpListen, tcpTimeWait, tcpClosed}, f[3]) {
		return TCP{}, false, nil
	}
	var errs [3]error
	c.From, errs[0] = parseEnd(f[1])
	c.To, errs[1] = parseEnd(f[2])
	c.Inode, errs[2] = strconv.ParseUint(f[9], 10, 64)
	return c, true, errors.Join(errs[:]...)
}

// parseEnd reads an address and a port: 32-bit words of the machine's byte order in
// hexadecimal digits, as the kernel has them, and a plain number.
func parseEnd(text string) (netip.AddrPort, error) {
	words, port, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(words)
	if err != nil {
		return netip.AddrPort{}, err
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	for i := 0; i+4 <= len(b); i += 4 {
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("%q is no address", text)
	}
	return netip.AddrPortFrom(addr, uint16(p)), nil
}
