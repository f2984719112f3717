// Package network has what several rooms need of networks, and decides nothing:
//
//   - requests to the kernel by netlink: addresses, links, routes, and TCP connections, which are
//     listed and ended. Each call opens a socket of its own, in the network namespace of the
//     thread that calls.
//   - Ethernet frames: their header, ARP for IPv4 (RFC 826), and the socket over which frames of
//     one kind go out and come in on one interface.
//   - connections of two hosts that have two networks between them: over the first one, and over
//     the second one where the first brings no connection soon. Who speaks over it need not know:
//     TLS is between the ends, and the name that a caller checks is that of the first address on
//     either path (docs/adr/0053).
//   - virtual addresses as operators write them.
package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// patience bounds the wait for the kernel, which does all of a request while it is sent.
var patience = unix.Timeval{Sec: 5}

// dumps is how often a list is asked for that changes while it is read.
const dumps = 20

// Request sends a request and returns what the kernel says to it: nil, or a unix.Errno. family
// is unix.NETLINK_ROUTE or another, kind and flags are those of the message's header; flags
// need not have NLM_F_REQUEST and NLM_F_ACK. body is what follows the header.
func Request(family int, kind, flags uint16, body []byte) error {
	fd, err := send(family, kind, flags|unix.NLM_F_ACK, body)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // there is nothing to flush
	answer := make([]byte, 4096)
	n, err := receive(fd, answer)
	if err != nil {
		return err
	}
	return verdict(answer[:n])
}

// List asks for a list, and returns its messages. One that has changed while it was read, so
// that something may be missing, is asked for again.
func List(family int, kind uint16, body []byte) (all []syscall.NetlinkMessage, err error) {
	for range dumps {
		var whole bool
		if all, whole, err = list(family, kind, body); err != nil || whole {
			return all, err
		}
	}
	return nil, errors.New("the list changes all the time")
}

func list(family int, kind uint16, body []byte) (all []syscall.NetlinkMessage, whole bool, err error) {
	fd, err := send(family, kind, unix.NLM_F_DUMP, body)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = unix.Close(fd) }() // there is nothing to flush
	whole = true
	for {
		b := make([]byte, 1<<16)
		n, err := receive(fd, b)
		if err != nil {
			return nil, false, err
		}
		part, end, intact, err := read(b[:n])
		if err != nil {
			return nil, false, err
		}
		all, whole = append(all, part...), whole && intact
		if end {
			return all, whole, nil
		}
	}
}

// read reads one datagram of a list. end: it is the last. intact: nothing had changed by then.
func read(b []byte) (part []syscall.NetlinkMessage, end, intact bool, err error) {
	if len(b)%unix.NLMSG_ALIGNTO != 0 { // the parser panics, and the kernel sends none
		return nil, false, false, fmt.Errorf("the kernel's list ends in the middle: %x", b)
	}
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, false, false, fmt.Errorf("read the kernel's list: %w", err)
	}
	intact = true
	for _, m := range messages {
		intact = intact && m.Header.Flags&unix.NLM_F_DUMP_INTR == 0
		switch m.Header.Type {
		case unix.NLMSG_ERROR:
			if len(m.Data) >= 4 {
				return nil, false, false, unix.Errno(-int32(binary.NativeEndian.Uint32(m.Data)))
			}
			return nil, false, false, fmt.Errorf("the kernel answered %x", b)
		case unix.NLMSG_DONE:
			return part, true, intact, nil
		}
		part = append(part, m)
	}
	return part, false, intact, nil
}

// send opens a socket and sends a message.
func send(family int, kind, flags uint16, body []byte) (fd int, err error) {
	m := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(m[0:], uint32(unix.SizeofNlMsghdr+len(body)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, family); err != nil {
		return -1, fmt.Errorf("open a socket to the kernel: %w", err)
	}
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience); err == nil {
		err = unix.Sendto(fd, append(m, body...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		_ = unix.Close(fd) // there is nothing to flush
		return -1, fmt.Errorf("send the kernel a request: %w", err)
	}
	return fd, nil
}

// receive receives a datagram of the kernel's; others can not send any to a socket without
// rights.
func receive(fd int, b []byte) (n int, err error) {
	for {
		var flags int
		n, _, flags, _, err = unix.Recvmsg(fd, b, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return 0, fmt.Errorf("read the kernel's answer: %w", err)
		case flags&unix.MSG_TRUNC != 0:
			return 0, fmt.Errorf("the kernel's answer is longer than %d bytes", len(b))
		}
		return n, nil
	}
}

// verdict reads struct nlmsgerr: 0, or a negative error number.
func verdict(answer []byte) error {
	if len(answer) < unix.SizeofNlMsghdr+4 || binary.NativeEndian.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return fmt.Errorf("the kernel answered %x", answer)
	}
	if e := -int32(binary.NativeEndian.Uint32(answer[unix.SizeofNlMsghdr:])); e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// Attribute appends an attribute (struct rtattr, padded to 4 bytes) to the body of a request.
func Attribute(body []byte, kind uint16, data []byte) []byte {
	body = binary.NativeEndian.AppendUint16(body, uint16(unix.SizeofRtAttr+len(data)))
	body = binary.NativeEndian.AppendUint16(body, kind)
	body = append(body, data...)
	for len(body)%unix.RTA_ALIGNTO != 0 {
		body = append(body, 0)
	}
	return body
}
