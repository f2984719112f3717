package etcdstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/network"
)

// SecondPath is another network between this member and one other (docs/adr/0053).
// etcd knows nothing of it: members have one peer URL each. What it sends to members
// goes through a proxy in this process, which connects to the other member over the
// path that answers; what comes over the second path is handed to etcd's own port.
type SecondPath struct {
	Own   netip.Addr `json:"own"`   // of this host on the second path
	Peer  netip.Addr `json:"peer"`  // in the other member's peer URL
	There netip.Addr `json:"there"` // of that member's host on the second path

	cut atomic.Int64 // when the first path was seen to be cut, in ns of Unix time
}

const (
	// stallEvery is the time between two looks for connections that get no answers.
	stallEvery = 100 * time.Millisecond
	// A path counts as cut when the kernel has repeated a packet after 200 ms or more in
	// vain, and has heard nothing over that connection for unheard. The leader sends
	// something ten times a second, and steps down when it hears nothing for 1 s: both
	// hosts must have noticed by then. Who is wrong connects anew, in milliseconds.
	unheard = 300 * time.Millisecond
	// cutFor is for how long new connections are tried over the second path first.
	cutFor = 2 * time.Second
	// peerWithin bounds a connection to a member.
	peerWithin = 2 * time.Second
)

// open has etcd's connections use both paths, from the first one that this process
// makes, until close is called. The variables of the environment are those that
// net/http reads once.
func (p *SecondPath) open(c MemberConfig) (close func(), err error) {
	own, port, err := hostPort(c.ListenPeer)
	if err != nil {
		return nil, fmt.Errorf("read listen_peer: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open the members' proxy: %w", err)
	}
	for name, value := range map[string]string{"HTTPS_PROXY": "http://" + l.Addr().String(), "https_proxy": "",
		"NO_PROXY": "", "no_proxy": ""} {
		err = errors.Join(err, os.Setenv(name, value))
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	proxy := http.Server{Handler: p.proxy(ctx), ReadHeaderTimeout: peerWithin}
	var w sync.WaitGroup
	w.Go(func() { _ = proxy.Serve(l) }) // until Close
	w.Go(func() {
		network.Forward(ctx, netip.AddrPortFrom(p.Own, port), own, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	})
	return func() {
		cancel()
		proxy.Close() // its listener is all that it has
		w.Wait()
	}, nil
}

// proxy joins whoever sends CONNECT with the member that it names. It listens on
// loopback, and gives nobody there a way that he has not without it.
func (p *SecondPath) proxy(life context.Context) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, err := netip.ParseAddrPort(r.Host)
		if err != nil || r.Method != http.MethodConnect {
			http.Error(w, "want CONNECT IP:PORT", http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), peerWithin)
		defer cancel()
		var to net.Conn
		if at.Addr().Unmap() == p.Peer {
			first, second := at.String(), netip.AddrPortFrom(p.There, at.Port()).String()
			if time.Since(time.Unix(0, p.cut.Load())) < cutFor {
				first, second = second, first
			}
			to, err = network.Dial(ctx, first, second)
		} else { // another voter
			to, err = (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		from, buffered, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, err = buffered.WriteString("HTTP/1.1 200 OK\r\n\r\n")
		}
		if err == nil {
			err = buffered.Flush()
		}
		if err != nil { // etcd tries again
			to.Close()
			if from != nil {
				from.Close()
			}
			return
		}
		network.Join(life, from, to)
	})
}

// endStalled ends all connections over a path on which a packet was repeated in vain:
// etcd has several, most of which only listen and would not notice, and makes new
// ones at once.
func (p *SecondPath) endStalled(all []socket) error {
	stalled := map[netip.Addr]bool{}
	for _, x := range all {
		if at := x.from.Addr(); at == p.Peer || at == p.There {
			info, err := unix.GetsockoptTCPInfo(x.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			stalled[at] = stalled[at] || err == nil && info.Retransmits > 0 && time.Duration(info.Last_ack_recv)*time.Millisecond >= unheard
		}
	}
	if stalled[p.Peer] {
		p.cut.Store(time.Now().UnixNano())
	}
	var failed error
	for _, x := range all {
		if stalled[x.from.Addr()] {
			failed = errors.Join(failed, endConn(x.fd, x.from))
		}
	}
	return failed
}

// remote is the address at the other end of a TCP connection.
func remote(fd int) (netip.AddrPort, bool) {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || kind != unix.IPPROTO_TCP {
		return netip.AddrPort{}, false
	}
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}, false
	}
	return addrPort(sa)
}

// addrPort reads the address of a socket.
func addrPort(sa unix.Sockaddr) (netip.AddrPort, bool) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), true
	}
	return netip.AddrPort{}, false
}

// endConn ends a connection to at, if that is still what the descriptor is: the
// duplicate can not become another one meanwhile.
func endConn(fd int, at netip.AddrPort) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil // closed meanwhile
	}
	defer unix.Close(own)
	if is, ok := remote(own); !ok || is != at {
		return nil
	}
	if err := unix.Shutdown(own, unix.SHUT_RDWR); err != nil && !errors.Is(err, unix.ENOTCONN) {
		return os.NewSyscallError("shutdown", err)
	}
	return nil
}
