package watchdog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SimConfig describes a simulated watchdog.
type SimConfig struct {
	Socket   string // path of the unix socket; the device's name is "unix:" + Socket
	Identity string // what it calls itself; default "simulated watchdog"
	// OnFire resets the host. It is called once per arming, in a goroutine of its
	// own; Simulate returns only after it did.
	OnFire func()
	// Ready, if not nil, is called once, when the device can be opened.
	Ready func()
	// MinTimeout is the shortest timeout that the device can have; shorter ones
	// are raised to it. Default and least 1 ms.
	MinTimeout time.Duration
}

const (
	maxSimTimeout = 24 * time.Hour
	// A holder killed a moment ago may be gone before its end of the connection
	// was read here, so a newcomer waits this long before it is told "busy".
	busyWait = 200 * time.Millisecond
)

// Simulate is the far side of the device "unix:PATH", for laboratories: a timer
// that behaves like a kernel watchdog's. It must run outside the host that it
// guards, since it has to outlive everything there. It returns when ctx ends
// (nil; a running timer is forgotten, nothing fires) or it can not listen.
//
// Protocol. A client may send lines: "info MS" is answered "info MS IDENTITY"
// and changes nothing; "timeout MS" arms, or restarts the running timer, and is
// answered "ok MS IDENTITY" with the timeout in force, ms; "power-cycle" stops
// the timer as a loss of power does, and is answered "ok". Anything else is
// answered "err TEXT". After "timeout" the byte 'k' restarts the timer, and 'V'
// as the last byte before the client closes stops it; the device then closes its
// side. A close without 'V' lets the timer run on, and the next "timeout"
// continues it. One connection at a time holds the device, others get "err
// busy". When the timer ends the device drops its holder, calls OnFire, and has
// to be armed anew. The timer is late by less than 50 ms on a machine that is
// not overloaded.
func Simulate(ctx context.Context, cfg SimConfig) error {
	s, err := newSimulator(cfg)
	if err != nil {
		return err
	}
	l, err := listenUnix(ctx, cfg.Socket)
	if err != nil {
		return fmt.Errorf("simulated watchdog: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	wg.Go(func() { s.run(ctx) })
	if cfg.Ready != nil {
		cfg.Ready()
	}
	for {
		conn, err := l.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return errors.Join(fmt.Errorf("simulated watchdog: accept on %s: %w", cfg.Socket, err), l.Close())
		}
		wg.Go(func() { s.serve(ctx, conn) })
	}
}

// PowerCycle tells the simulated watchdog at the socket that its host lost
// power, so that the timer of the old boot does not reset the new one.
func PowerCycle(ctx context.Context, socket string) error {
	_, err := newSimDevice(socket).ask(ctx, "power-cycle")
	if err != nil {
		return fmt.Errorf("power-cycle the simulated watchdog at %s: %w", socket, err)
	}
	return nil
}

// simulator is the device itself. Its timer follows the monotonic clock.
type simulator struct {
	cfg  SimConfig
	kick chan struct{} // the next due time came nearer

	mu      sync.Mutex
	armed   bool
	due     time.Time // when armed
	timeout time.Duration
	holder  net.Conn      // nil: nobody has it open
	left    chan struct{} // closed when holder left
}

func newSimulator(cfg SimConfig) (*simulator, error) {
	if cfg.OnFire == nil {
		return nil, errors.New("simulated watchdog: OnFire is missing")
	}
	if strings.ContainsAny(cfg.Identity, "\r\n") {
		return nil, fmt.Errorf("simulated watchdog: identity %q: want one line", cfg.Identity)
	}
	if cfg.Identity == "" {
		cfg.Identity = "simulated watchdog"
	}
	cfg.MinTimeout = max(cfg.MinTimeout, time.Millisecond)
	return &simulator{cfg: cfg, kick: make(chan struct{}, 1)}, nil
}

// run fires the timer until ctx ends.
func (s *simulator) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.kick:
		case <-timer.C:
		}
		fire, next := s.expire()
		if fire {
			wg.Go(s.cfg.OnFire)
		}
		timer.Reset(next)
	}
}

// expire ends the timer if it is due, and tells when to look again.
func (s *simulator) expire() (fire bool, next time.Duration) {
	s.mu.Lock()
	if !s.armed {
		s.mu.Unlock()
		return false, time.Hour
	}
	if next = time.Until(s.due); next > 0 {
		s.mu.Unlock()
		return false, next
	}
	s.armed = false
	dropped := s.release()
	s.mu.Unlock()
	if dropped != nil {
		dropped.Close()
	}
	return true, time.Hour
}

// release forgets the holder and returns its connection. s.mu is held.
func (s *simulator) release() net.Conn {
	conn := s.holder
	if conn != nil {
		s.holder = nil
		close(s.left)
	}
	return conn
}

// serve talks to one client until it leaves, is dropped or ctx ends.
func (s *simulator) serve(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	magic := false
	// Before the close, so that who sees the close knows that it took effect.
	defer func() { s.leave(conn, magic) }()
	r := bufio.NewReaderSize(conn, maxLine)
	for {
		b, err := r.ReadByte()
		if err != nil {
			return
		}
		magic = b == 'V'
		switch b {
		case 'V':
			continue
		case 'k':
			if s.pet(conn) {
				continue
			}
			return
		}
		if err := r.UnreadByte(); err != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		reply := s.command(ctx, conn, strings.TrimSuffix(string(line), "\n"))
		if _, err := fmt.Fprintln(conn, reply); err != nil {
			return
		}
	}
}

// leave is the close of the device by conn.
func (s *simulator) leave(conn net.Conn, magic bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != conn {
		return
	}
	s.release()
	if magic {
		s.armed = false
	}
}

// pet restarts the timer, if conn holds the device.
func (s *simulator) pet(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != conn {
		return false
	}
	s.due = time.Now().Add(s.timeout)
	return true
}

// command answers one line.
func (s *simulator) command(ctx context.Context, conn net.Conn, line string) string {
	if line == "power-cycle" {
		s.mu.Lock()
		s.armed = false
		dropped := s.release()
		s.mu.Unlock()
		if dropped != nil {
			dropped.Close()
		}
		return "ok"
	}
	verb, arg, _ := strings.Cut(line, " ")
	ms, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || ms <= 0 || ms > maxSimTimeout.Milliseconds() || (verb != "info" && verb != "timeout") {
		return "err want info MS, timeout MS or power-cycle"
	}
	timeout := max(time.Duration(ms)*time.Millisecond, s.cfg.MinTimeout)
	if verb == "info" {
		return fmt.Sprintf("info %d %s", timeout.Milliseconds(), s.cfg.Identity)
	}
	if !s.arm(ctx, conn, timeout) {
		return "err busy"
	}
	return fmt.Sprintf("ok %d %s", timeout.Milliseconds(), s.cfg.Identity)
}

// arm starts or restarts the timer, with conn as the holder. False: another
// one holds the device.
func (s *simulator) arm(ctx context.Context, conn net.Conn, timeout time.Duration) bool {
	patience := time.NewTimer(busyWait)
	defer patience.Stop()
	for {
		left, ok := s.take(conn, timeout)
		if ok {
			return true
		}
		select {
		case <-left:
		case <-patience.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// take is one attempt of arm. When it fails, left closes as soon as the holder leaves.
func (s *simulator) take(conn net.Conn, timeout time.Duration) (left <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holder != nil && s.holder != conn {
		return s.left, false
	}
	if s.holder == nil {
		s.holder, s.left = conn, make(chan struct{})
	}
	s.armed, s.timeout, s.due = true, timeout, time.Now().Add(timeout)
	select {
	case s.kick <- struct{}{}:
	default: // one wake-up is enough
	}
	return nil, true
}
