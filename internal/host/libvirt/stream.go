package libvirt

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// QEMU sends the last part of a guest's memory with the guest stopped and its main lock
// held, and waits in send(2) without a limit. When the other host is lost then, or its QEMU
// takes nothing more, the monitor answers no question and takes no request to abort: the
// guest stands still until TCP gives up, some 15 minutes later. The kernel can end the
// connection at once (SOCK_DESTROY of sock_diag(7), as `ss --kill` does): then QEMU's write
// fails, the migration has failed, and the guest goes on here.

// firstStreamPort is the lowest port that libvirt lets QEMU receive a migration at, unless
// qemu.conf says otherwise (migration_port_min). Storage is served at lower ones.
const firstStreamPort = 49152

// firstOwnPort is the lowest port that Linux gives a connection which a process opens
// (ip_local_port_range). Those of consoles come in at lower ones.
const firstOwnPort = 32768

// stream is a TCP connection of a process.
type stream struct {
	from, to netip.AddrPort
	inode    uint64
}

// outgoing reports that a migration may go over it. Whether bytes wait on it does not tell:
// QEMU waits for the target's last word, too.
func (s stream) outgoing() bool {
	return s.to.Port() >= firstStreamPort && s.from.Port() >= firstOwnPort
}

// unhang takes the error of a request to abort a migration. When nobody has answered, it
// hangs up. nil: it did so, or the request succeeded; the migration may go on to its end.
func unhang(pid int, err error, log *slog.Logger) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	n, herr := hangUp(pid)
	if n == 0 || herr != nil {
		log.Warn("QEMU does not answer, and no connection to a target of a migration could be ended", "pid", pid, "err", herr)
		return errors.Join(err, herr)
	}
	log.Warn("QEMU hangs in a migration, its connection to the target is ended", "pid", pid)
	return nil
}

// hangUp ends a process's connections to targets of migrations, and returns how many there
// were.
func hangUp(pid int) (n int, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	own, err := sockets(filepath.Join(dir, "fd"))
	if err != nil {
		return 0, err
	}
	for _, file := range []string{"tcp", "tcp6"} {
		all, err := streams(filepath.Join(dir, "net", file))
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
			return n, err
		}
		for _, s := range all {
			if !s.outgoing() || !slices.Contains(own, s.inode) {
				continue
			}
			if err := destroy(s); err != nil {
				return n, fmt.Errorf("end the connection from %s to %s: %w", s.from, s.to, err)
			}
			n++
		}
	}
	return n, nil
}

// sockets are the inode numbers of a process's sockets.
func sockets(dir string) (inodes []uint64, err error) {
	fds, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, fd.Name()))
		if err != nil {
			continue // closed meanwhile
		}
		var inode uint64
		if _, err := fmt.Sscanf(to, "socket:[%d]", &inode); err == nil {
			inodes = append(inodes, inode)
		}
	}
	return inodes, nil
}

// streams reads the connections of proc(5)'s net/tcp or net/tcp6.
func streams(file string) (all []stream, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		s, connected, err := parseStream(lines.Text())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if connected {
			all = append(all, s)
		}
	}
	return all, lines.Err()
}

// What field "st" of a line says where no connection is, or none yet: see tcp_states.h.
const (
	stateListen   = "0A"
	stateTimeWait = "06"
	stateClosed   = "07"
)

// parseStream reads a line. The heading is none.
func parseStream(line string) (s stream, connected bool, err error) {
	f := strings.Fields(line)
	if len(f) > 0 && f[0] == "sl" {
		return stream{}, false, nil
	}
	if len(f) < 10 {
		return stream{}, false, fmt.Errorf("%q: want 10 fields or more", line)
	}
	if slices.Contains([]string{stateListen, stateTimeWait, stateClosed}, f[3]) {
		return stream{}, false, nil
	}
	var errs [3]error
	s.from, errs[0] = parseEnd(f[1])
	s.to, errs[1] = parseEnd(f[2])
	s.inode, errs[2] = strconv.ParseUint(f[9], 10, 64)
	return s, true, errors.Join(errs[:]...)
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

// Of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDestroy = 21
	requestSize = unix.SizeofNlMsghdr + 56 // struct inet_diag_req_v2
)

// destroy ends a connection. One that has ended meanwhile is none.
func destroy(s stream) error {
	m := make([]byte, requestSize)
	binary.NativeEndian.PutUint32(m[0:], requestSize)
	binary.NativeEndian.PutUint16(m[4:], sockDestroy)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	req := m[unix.SizeofNlMsghdr:]
	req[0], req[1] = unix.AF_INET, unix.IPPROTO_TCP
	if s.from.Addr().Is6() {
		req[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(req[4:], ^uint32(0)) // of any state
	id := req[8:]                                      // struct inet_diag_sockid
	binary.BigEndian.PutUint16(id[0:], s.from.Port())
	binary.BigEndian.PutUint16(id[2:], s.to.Port())
	copy(id[4:20], s.from.Addr().AsSlice())
	copy(id[20:36], s.to.Addr().AsSlice())
	for i := 40; i < 48; i++ { // any cookie
		id[i] = 0xff
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096) // the kernel has answered when the request was sent
	n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("the kernel answered %x", answer[:n])
	}
	if e := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); e != 0 && unix.Errno(e) != unix.ENOENT {
		return unix.Errno(e)
	}
	return nil
}
