package demo

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/procfs"
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
			if waitErr := sleep(ctx, 5*time.Millisecond); waitErr != nil {
				return "", errors.Join(err, waitErr)
			}
		}
		return "", err
	}
}

func owner(m *marks, client, relay netip.AddrPort) (cluster.HostID, error) {
	inode, err := socketInode(client, relay)
	if err != nil {
		return "", err
	}
	found, err := m.Scan()
	if err != nil {
		return "", err
	}
	name := "socket:[" + inode + "]"
	for _, p := range found {
		has, err := procfs.Here.HasOpen(p.PID, name)
		if err != nil {
			return "", err
		}
		if has {
			return p.Host, nil
		}
	}
	return "", fmt.Errorf("connection from %s: %w", client, errNobody)
}

// socketInode finds the client's end of a connection in /proc/net/tcp.
func socketInode(client, relay netip.AddrPort) (inode string, err error) {
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return "", fmt.Errorf("read the table of sockets: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	local, remote := procAddr(client), procAddr(relay)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		// sl local rem st queues timers retransmits uid timeout inode ...
		if len(fields) >= 10 && fields[1] == local && fields[2] == remote {
			return fields[9], nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("read the table of sockets: %w", err)
	}
	return "", fmt.Errorf("connection from %s: %w", client, errNobody)
}

// procAddr writes an IPv4 address and port as /proc/net/tcp does: on a
// little-endian machine 127.0.0.1:80 is 0100007F:0050.
func procAddr(a netip.AddrPort) string {
	b := a.Addr().Unmap().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(b[:]), a.Port())
}
