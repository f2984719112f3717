package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/proc"
)

// errNobody says that no process of the demo has the connection open.
var errNobody = errors.New("no process of the demo's hosts has opened it")

// ownerOf returns an identify that looks a connection up in the kernel's table
// of TCP sockets and in the descriptors of the demo's processes.
func ownerOf(m *marks) identify {
	return func(ctx context.Context, client, relay netip.AddrPort) (cluster.HostID, error) {
		var err error
		// The process may be a moment old and not yet known by its mark.
		for range 3 {
			var host cluster.HostID
			if host, err = owner(m, client, relay); !errors.Is(err, errNobody) {
				return host, err
			}
			if !clock.Sleep(ctx, 5*time.Millisecond) {
				return "", errors.Join(err, ctx.Err())
			}
		}
		return "", err
	}
}

func owner(m *marks, client, relay netip.AddrPort) (cluster.HostID, error) {
	socket, err := socketOf(client, relay)
	if err != nil {
		return "", err
	}
	found, err := m.Scan()
	if err != nil {
		return "", err
	}
	for _, p := range found {
		has, err := proc.Here.HasOpen(p.PID, socket.Name())
		if err != nil {
			return "", err
		}
		if has {
			return p.Host, nil
		}
	}
	return "", fmt.Errorf("connection from %s: %w", client, errNobody)
}

// socketOf finds the client's end of a connection.
func socketOf(client, relay netip.AddrPort) (proc.TCP, error) {
	all, err := proc.Here.TCP(os.Getpid())
	if err != nil {
		return proc.TCP{}, err
	}
	for _, c := range all {
		if c.From == unmapped(client) && c.To == unmapped(relay) {
			return c, nil
		}
	}
	return proc.TCP{}, fmt.Errorf("connection from %s: %w", client, errNobody)
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
