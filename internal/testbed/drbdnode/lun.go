package drbdnode

import (
	"net"
	"sync"
	"testing"

	"holdfast/internal/testbed/tgt"
	"holdfast/internal/testbed/try"
)

// lunTarget is the iSCSI target of a LUN.
const lunTarget = "iqn.2020-05.example.lab:shared"

// LUN is unit 1 of an iSCSI target on this machine's loopback, which has SCSI-3 persistent
// reservations. The nodes' QEMU is the initiator, and passes SG_IO through.
type LUN struct{ paths [2]*path }

// NewLUN serves an empty unit of that many bytes until the end of the test.
func NewLUN(t testing.TB, bytes int64) *LUN {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	try.Must(t, err)
	portal := l.Addr().String()
	try.Must(t, l.Close())
	tgt.Serve(t, lunTarget, portal, bytes, nil)
	lun := &LUN{}
	for i := range lun.paths {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		try.Must(t, err)
		p := &path{to: portal, l: l, ends: map[net.Conn]bool{}}
		p.flows.L = &p.mu
		lun.paths[i] = p
		p.work.Go(p.serve)
		t.Cleanup(p.close)
	}
	return lun
}

// Silence lets nothing pass between a node, 0 or 1, and the target, in either direction, until it
// is healed: what was sent meanwhile arrives then.
func (l *LUN) Silence(node int, silent bool) { l.paths[node].hush(silent) }

// path is the way of one node to the target.
type path struct {
	to   string
	l    net.Listener
	work sync.WaitGroup

	mu     sync.Mutex
	flows  sync.Cond // closed or not silent any more
	silent bool
	closed bool
	ends   map[net.Conn]bool // of connections
}

func (p *path) hush(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
	p.flows.Broadcast()
}

// close ends the path at the end of the test.
func (p *path) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.l.Close() // serve has nothing to accept then
	for c := range p.ends {
		_ = c.Close() // nor its copies anything to read
	}
	p.flows.Broadcast()
	p.mu.Unlock()
	p.work.Wait()
}

func (p *path) serve() {
	for {
		near, err := p.l.Accept()
		if err != nil {
			return // closed
		}
		far, err := net.Dial("tcp", p.to)
		if err != nil {
			_ = near.Close() // the node tries again
			continue
		}
		if !p.keep(near, far) {
			return
		}
		for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
			p.work.Go(func() { p.copy(way[0], way[1]) })
		}
	}
}

// keep notes the ends of a connection. It reports whether the path is open still.
func (p *path) keep(ends ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range ends {
		if p.ends[c] = true; p.closed {
			_ = c.Close() // nobody uses it
		}
	}
	return !p.closed
}

// copy hands on what comes, and ends both ends with either.
func (p *path) copy(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }() // the other direction does so, too
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		if !p.wait() {
			return
		}
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// wait returns when the path lets something pass. It reports whether it is open still.
func (p *path) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.silent && !p.closed {
		p.flows.Wait()
	}
	return !p.closed
}
