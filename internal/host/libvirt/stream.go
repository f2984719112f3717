package libvirt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"holdfast/internal/procfs"
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

// outgoing reports that a migration may go over a connection. Whether bytes wait on it does not
// tell: QEMU waits for the target's last word, too.
func outgoing(c procfs.TCP) bool {
	return c.To.Port() >= firstStreamPort && c.From.Port() >= firstOwnPort
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
	all, err := procfs.Here.TCP(pid)
	if err != nil {
		return 0, err
	}
	for _, c := range all {
		if !outgoing(c) {
			continue
		}
		own, err := procfs.Here.HasOpen(pid, c.Name())
		if err != nil {
			return n, err
		}
		if !own {
			continue
		}
		if err := destroy(c); err != nil {
			return n, fmt.Errorf("end the connection from %s to %s: %w", c.From, c.To, err)
		}
		n++
	}
	return n, nil
}

// Of linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDestroy = 21
	requestSize = unix.SizeofNlMsghdr + 56 // struct inet_diag_req_v2
)

// destroy ends a connection. One that has ended meanwhile is none.
func destroy(c procfs.TCP) error {
	m := make([]byte, requestSize)
	binary.NativeEndian.PutUint32(m[0:], requestSize)
	binary.NativeEndian.PutUint16(m[4:], sockDestroy)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	req := m[unix.SizeofNlMsghdr:]
	req[0], req[1] = unix.AF_INET, unix.IPPROTO_TCP
	if c.From.Addr().Is6() {
		req[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(req[4:], ^uint32(0)) // of any state
	id := req[8:]                                      // struct inet_diag_sockid
	binary.BigEndian.PutUint16(id[0:], c.From.Port())
	binary.BigEndian.PutUint16(id[2:], c.To.Port())
	copy(id[4:20], c.From.Addr().AsSlice())
	copy(id[20:36], c.To.Addr().AsSlice())
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
