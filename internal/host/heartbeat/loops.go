package heartbeat

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// send turns at each interval until ctx ends.
func (b *Exchange) send(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next := b.interval()
		timer.Reset(next)
		b.turn(next)
	}
}

// turn sends one heartbeat to each peer, if it may. Failures are counted: the
// next turn comes soon.
func (b *Exchange) turn(next time.Duration) {
	known, err := b.out.sealer.use(b.opts.Key())
	if err != nil {
		b.trouble(nil, "heartbeats are not sent", err)
	}
	targets := b.plan(next)
	if !known || len(targets) == 0 {
		return
	}
	// UDP waits only for room in the socket's own queue, and not beyond the turn.
	for _, c := range b.conns {
		if err := c.SetWriteDeadline(time.Now().Add(next)); err != nil {
			b.trouble(&b.stats.SendErrors, "heartbeats are not sent", err)
			return
		}
	}
	sent := uint64(0)
	for i := range targets {
		for path, err := range b.sendTo(&targets[i]) {
			switch {
			case err == nil:
				sent++
			case path == 0:
				b.trouble(&b.stats.SendErrors, "heartbeats are not sent", err)
			default:
				b.trouble(&b.stats.SendErrors, "heartbeats are not sent over the second path", err)
			}
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.Sent += sent
}

// plan takes the turn in the table and says who gets a heartbeat.
func (b *Exchange) plan(next time.Duration) []target {
	b.mu.Lock()
	b.out.message.cluster = b.cluster
	b.out.targets = b.table.turn(b.opts.Clock(), next, &b.out.message, b.out.targets[:0])
	stalls, stalled := b.table.stalls, b.table.stalled
	b.mu.Unlock()
	if stalls != b.out.stalls {
		b.out.stalls = stalls
		b.warn("stall", "this process stood still: what it heard before is forgotten", "for", stalled, "stalls", stalls)
	}
	return b.out.targets
}

// sendTo sends the same over each path that leads to a peer, and tells how that went on each.
func (b *Exchange) sendTo(to *target) (failed []error) {
	m := &b.out.message
	m.to, m.echo = to.id, to.echo
	b.out.buf = b.out.sealer.seal(encode(b.out.buf[:0], m))
	for path, addr := range []netip.AddrPort{to.addr, to.second} {
		if !addr.IsValid() {
			break
		}
		_, err := b.conns[path].WriteToUDPAddrPort(b.out.buf, addr)
		if err != nil {
			err = fmt.Errorf("send a heartbeat: %w", err)
		}
		failed = append(failed, err)
	}
	return failed
}

// read hears over a path until its socket is closed, or ctx ends while it does not work.
func (b *Exchange) read(ctx context.Context, path int) {
	in := inbox{path: path}
	buf := make([]byte, maxDatagram+1)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		n, _, err := b.conns[path].ReadFromUDPAddrPort(buf)
		if err == nil {
			b.handle(&in, buf[:n])
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		b.trouble(&b.stats.ReadErrors, "heartbeats are not heard", err)
		pause.Reset(readPause)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}

// handle takes one datagram in, or counts why not.
func (b *Exchange) handle(in *inbox, datagram []byte) {
	why := b.take(in, b.open(in, datagram))
	switch why {
	case accepted:
		select {
		case b.wake <- struct{}{}:
		default: // one waits already
		}
	case Replayed: // networks double and reorder, and the other path was faster
	default:
		b.warn("drop "+string(why), "heartbeats are dropped", "reason", string(why))
	}
}

// take gives the inbox's message to the table, unless there is a reason against
// it already, and counts what became of it.
func (b *Exchange) take(in *inbox, why Reason) Reason {
	b.mu.Lock()
	defer b.mu.Unlock()
	if why == accepted {
		now := b.opts.Clock()
		why = b.table.receive(now, &in.message)
		b.table.came(now, &in.message, in.path, why)
	}
	if why == accepted {
		b.stats.Accepted++
	} else {
		b.stats.Dropped[why]++
	}
	return why
}

// open checks that a datagram is authentic and of this cluster, and decodes it
// into the inbox. Nothing of it is used before its HMAC has been checked, but for
// its version and cluster, which give the better reason.
func (b *Exchange) open(in *inbox, datagram []byte) Reason {
	known, err := in.sealer.use(b.opts.Key())
	if err != nil {
		b.trouble(nil, "heartbeats are not heard", err)
	}
	if !known {
		return NoKey
	}
	if len(datagram) < macSize || len(datagram) > maxDatagram {
		return Malformed
	}
	body, mac := datagram[:len(datagram)-macSize], datagram[len(datagram)-macSize:]
	switch err := decode(body, &in.message); {
	case errors.Is(err, errVersion):
		return BadVersion
	case err != nil:
		return Malformed
	case in.message.cluster != b.cluster:
		return Foreign
	case !in.sealer.check(body, mac):
		return Forged
	}
	return accepted
}

// trouble counts a failure that ends nothing, and logs it now and then.
func (b *Exchange) trouble(counter *uint64, what string, err error) {
	if counter != nil {
		b.mu.Lock()
		*counter++
		b.mu.Unlock()
	}
	b.warn(what, what, "err", err)
}

// warn logs unless the same trouble was logged lately. It holds no lock while it
// writes: the agent's main loop waits for that lock.
func (b *Exchange) warn(trouble, what string, args ...any) {
	b.mu.Lock()
	due := b.hushed.due(b.opts.Clock(), trouble)
	b.mu.Unlock()
	if due {
		b.opts.Log.Warn(what, args...)
	}
}
