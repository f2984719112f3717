package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// gate lets the libvirtd of a migration's source through to this host's, while
// this agent process says so. A migration that was meant for a host whose
// watchdog was armed must not get in after that host has rebooted, or lost its
// agent: the port of the gate is new with every agent, and closes with it. It is
// a relay of bytes: transport security and authentication stay libvirtd's.
type gate struct {
	listener net.Listener
	target   string // of libvirtd on this host, host:port
	open     atomic.Bool
	log      *slog.Logger
}

// Ports of libvirtd by the transport of its URI (libvirt's remote URIs).
var libvirtdPorts = map[string]string{"qemu+tcp": "16509", "qemu+tls": "16514"}

const gateDial = 2 * time.Second

// newGate listens on a free port of addr. uri is the connection URI of a
// migration's target, with %s for its address.
func newGate(addr, uri string, log *slog.Logger) (*gate, error) {
	u, err := url.Parse(strings.Replace(uri, "%s", "host", 1))
	if err != nil {
		return nil, fmt.Errorf("libvirt.migrate_uri %q: %w", uri, err)
	}
	port, known := libvirtdPorts[u.Scheme]
	if !known {
		return nil, fmt.Errorf("libvirt.migrate_uri: value %q: want qemu+tls://%%s/system or qemu+tcp://%%s/system", uri)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		return nil, fmt.Errorf("listen for incoming migrations: %w", err)
	}
	return &gate{listener: l, target: net.JoinHostPort(addr, port), log: log}, nil
}

func (g *gate) port() int { return g.listener.Addr().(*net.TCPAddr).Port }

// serve relays until ctx ends.
func (g *gate) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { g.listener.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		in, err := g.listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				in.Close()
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept an incoming migration: %w", err)
		}
		wg.Go(func() {
			if err := g.relay(ctx, in); err != nil && ctx.Err() == nil {
				g.log.Warn("incoming migration", "from", in.RemoteAddr().String(), "err", err)
			}
		})
	}
}

// relay serves one connection. The gate is asked when it begins; closing it
// later cuts nothing, since libvirtd's last words must get through.
func (g *gate) relay(ctx context.Context, in net.Conn) error {
	defer in.Close()
	if !g.open.Load() {
		return errors.New("refused: this host is not the target of a migration, or its watchdog is not armed")
	}
	dctx, cancel := context.WithTimeout(ctx, gateDial)
	defer cancel()
	var d net.Dialer
	out, err := d.DialContext(dctx, "tcp", g.target)
	if err != nil {
		return fmt.Errorf("reach libvirtd: %w", err)
	}
	defer out.Close()
	stop := context.AfterFunc(ctx, func() { in.Close(); out.Close() })
	defer stop()
	done := make(chan error, 2)
	go func() { _, err := io.Copy(out, in); done <- err }()
	go func() { _, err := io.Copy(in, out); done <- err }()
	<-done
	// One direction has ended: so does the conversation.
	in.Close()
	out.Close()
	<-done
	return nil
}
