package vip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
)

// backlog is how many frames hear looks at when its time is over.
const backlog = 4096

// wire sends and receives the frames of one virtual address on one interface.
type wire struct {
	dev  net.Interface
	addr netip.Addr
	f    *os.File
	raw  syscall.RawConn
	join *os.File // of IPv6: its membership of the address's group; nil of IPv4
	stop func() bool
}

// listen opens a wire. It ends to wait when ctx does.
func listen(ctx context.Context, dev net.Interface, addr netip.Addr) (*wire, error) {
	w := &wire{dev: dev, addr: addr}
	if err := w.open(); err != nil {
		w.close()
		return nil, err
	}
	w.stop = context.AfterFunc(ctx, func() {
		_ = w.f.SetReadDeadline(time.Unix(1, 0)) // it fails on a closed file only, which nobody waits for
	})
	return w, nil
}

func (w *wire) open() (err error) {
	kind, tune := uint16(network.TypeARP), func(int) error { return nil }
	if w.addr.Is6() {
		kind, tune = network.TypeIPv6, onlyND
	}
	if w.f, err = network.OpenFrames(w.dev, kind, tune); err != nil {
		return err
	}
	if w.raw, err = w.f.SyscallConn(); err != nil {
		return fmt.Errorf("listen on %s: %w", w.dev.Name, err)
	}
	if w.addr.Is6() {
		if err := w.joinGroup(); err != nil {
			return fmt.Errorf("listen on %s: %w", w.dev.Name, err)
		}
	}
	return nil
}

// onlyND keeps from the socket all but neighbour discovery. read checks all of it again.
func onlyND(fd int) error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: network.HeaderSize + 6, Size: 1}, // next header
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: icmp6, SkipTrue: 4},
		bpf.LoadAbsolute{Off: network.HeaderSize + ip6Size, Size: 1}, // type
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: askND, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: tellND, SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 16},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("make a filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}); err != nil {
		return fmt.Errorf("set a filter: %w", err)
	}
	return nil
}

// joinGroup makes this host a member of the address's solicited-node group, as RFC 4862, 5.4.2
// wants: others that ask for the address at the same time ask that group, and switches with
// MLD snooping carry it to members only.
func (w *wire) joinGroup() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.join = os.NewFile(uintptr(fd), "group of "+w.addr.String())
	if err := unix.SetsockoptIPv6Mreq(fd, unix.IPPROTO_IPV6, unix.IPV6_JOIN_GROUP,
		&unix.IPv6Mreq{Multiaddr: group(w.addr).As16(), Interface: uint32(w.dev.Index)}); err != nil {
		return fmt.Errorf("join the group %s (is IPv6 on there?): %w", group(w.addr), err)
	}
	return nil
}

func (w *wire) close() {
	if w.stop != nil {
		w.stop()
	}
	for _, f := range []*os.File{w.f, w.join} {
		if f != nil {
			_ = f.Close() // a socket: there is nothing to flush
		}
	}
}

func (w *wire) send(frame []byte) (err error) {
	control := w.raw.Control(func(fd uintptr) {
		for {
			if err = unix.Sendto(int(fd), frame, unix.MSG_DONTWAIT, &unix.SockaddrLinklayer{Ifindex: w.dev.Index}); !errors.Is(err, unix.EINTR) {
				return
			}
		}
	})
	switch err = errors.Join(control, err); {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENETDOWN): // a pulled cable says both, before its flag does
		return fmt.Errorf("send on %s: %w: %w", w.dev.Name, ErrNoLink, err)
	}
	return fmt.Errorf("send on %s: %w", w.dev.Name, err)
}

// hear waits until end for a frame of another machine that claims the address, or asks for it.
// nil: there was none; what has come in by then was looked at, however long this process did
// not run.
func (w *wire) hear(ctx context.Context, end time.Time) (*claim, error) {
	b := make([]byte, 2048)
	for late := 0; late < backlog; {
		n, own, err := w.receive(ctx, end, b)
		if time.Now().After(end) {
			late++
		}
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, unix.EAGAIN) {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", w.dev.Name, err)
		}
		c, ok := read(b[:n])
		if own || !ok || c.addr != w.addr {
			continue
		}
		mine, err := isMine(c.mac)
		if err != nil {
			return nil, err
		}
		if !mine {
			return &c, nil
		}
	}
	return nil, nil
}

// receive waits for a frame. own: this host has sent it.
func (w *wire) receive(ctx context.Context, end time.Time, b []byte) (n int, own bool, err error) {
	var from unix.Sockaddr
	take := func(fd uintptr) bool {
		for {
			if n, from, err = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT); !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	}
	if err := w.f.SetReadDeadline(end); err != nil {
		return 0, false, err
	}
	if ctx.Err() != nil { // it may have ended before the deadline was set
		return 0, false, os.ErrDeadlineExceeded
	}
	if waited := w.raw.Read(take); waited != nil {
		if !errors.Is(waited, os.ErrDeadlineExceeded) || ctx.Err() != nil {
			return 0, false, waited
		}
		if cerr := w.raw.Control(func(fd uintptr) { take(fd) }); cerr != nil {
			return 0, false, cerr
		}
	}
	if err != nil {
		return 0, false, err
	}
	link, ok := from.(*unix.SockaddrLinklayer)
	return n, ok && link.Pkttype == unix.PACKET_OUTGOING, nil
}

// isMine reports whether a MAC is of any interface of this host: a host may answer for an
// address of one interface on another that is in the same network.
func isMine(mac net.HardwareAddr) (bool, error) {
	all, err := net.Interfaces()
	if err != nil {
		return false, fmt.Errorf("list the interfaces of this host: %w", err)
	}
	for _, i := range all {
		if i.HardwareAddr.String() == mac.String() {
			return true, nil
		}
	}
	return false, nil
}
