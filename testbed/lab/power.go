package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/clock"
)

// PowerDir holds the sockets by which a host asks for its own reboot, one for
// each host: HOST.sock.
const PowerDir = "/srv/power"

const (
	// shutdownLimit is how long processes may take to end at a reboot before they
	// are killed.
	shutdownLimit = time.Second
	// A reboot begins takenPause after the program that asked for it has ended, so
	// that its caller sees the success; it waits for that at most askerLimit.
	takenPause = 200 * time.Millisecond
	askerLimit = 3 * time.Second
	// powerLimit is the deadline of a question at a power socket.
	powerLimit = 5 * time.Second

	rebootOrder = "reboot"
	orderTaken  = "ok"
)

// RebootArgv is the command that reboots a host from inside, as "systemctl
// reboot" does on a real one. It ends with exit code 0 when the order is taken;
// 0.2 s later all that runs on the host, the caller included, is ended. The host
// is back some 3 s after that, with another boot id.
func (l *Lab) RebootArgv(host string) []string { return l.p.rebootArgv(host) }

func (p plan) rebootArgv(h string) []string {
	return []string{p.self(), rebootCommand, PowerDir + "/" + h + ".sock"}
}

// powerSocket is a host's power socket as the machine sees it.
func (p plan) powerSocket(h string) string { return p.path("power", h+".sock") }

// Reboot ends all processes of a host as a shutdown does (SIGTERM, SIGKILL
// after 1 s), switches it off, and on again after the firmware's 2 s. It returns
// when the host's libvirtd answers. Guests that run there die. As after a
// watchdog's reset, only a power-off by the management controller meanwhile
// keeps the host off.
func (l *Lab) Reboot(ctx context.Context, host string) error {
	hs, err := l.running(host)
	if err != nil {
		return err
	}
	err = l.p.record(host, "reboot", "")
	if err = errors.Join(err, l.p.shutDown(ctx, hs)); err != nil {
		return fmt.Errorf("reboot %s: %w", host, err)
	}
	if err := l.p.powerOff(ctx, host, hs); err != nil {
		return fmt.Errorf("reboot %s: %w", host, err)
	}
	if err := l.firmware(ctx, host, hs.Orders); err != nil {
		return fmt.Errorf("reboot %s: %w", host, err)
	}
	return nil
}

// shutDown asks all processes of a host to end, and waits at most shutdownLimit
// for its PID 1. Those that stay are left to the power-off.
func (p plan) shutDown(ctx context.Context, hs hostState) error {
	procs, err := toEnd(hs.Init)
	if err != nil {
		return err
	}
	for _, q := range procs {
		err = errors.Join(err, q.signal(unix.SIGTERM))
	}
	if err != nil {
		return err
	}
	if err := hs.Init.waitGone(ctx, shutdownLimit); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return ctx.Err()
}

// toEnd lists the processes that a shutdown ends, PID 1 of the host first: it
// must not start daemons again. None when the host is gone.
func toEnd(init Process) ([]Process, error) {
	procs, err := hostProcesses(init)
	if err != nil {
		return nil, err
	}
	own, err := identify(os.Getpid())
	if err != nil {
		return nil, err
	}
	// The list is the host's only if its PID 1 still lives: else the pid may be that
	// of a process outside, and the list all that runs on the machine.
	if !init.alive() {
		return nil, nil
	}
	if slices.Contains(procs, own) {
		return nil, errors.New("the host has no PID namespace of its own")
	}
	rest := slices.DeleteFunc(procs, func(q Process) bool { return q == init })
	return slices.Insert(rest, 0, init), nil
}

// firmware switches a host on again after the time that firmware takes, unless
// its management controller has switched it off since the given count of orders.
func (l *Lab) firmware(ctx context.Context, host string, orders int) error {
	if !clock.Sleep(ctx, resetDelay) {
		return ctx.Err()
	}
	s, err := loadState(l.p.Dir)
	if err != nil || s.Hosts[host].Orders != orders {
		return err
	}
	return l.On(ctx, host)
}

// startPower starts the process that reboots hosts at their own request, unless
// it is there, and waits for the sockets.
func (l *Lab) startPower(ctx context.Context) error {
	log := l.p.path("power", "log")
	if err := l.startHelper(ctx, powerCommand, log, func(s *state) *Process { return &s.Power }); err != nil {
		return fmt.Errorf("start power switches: %w", err)
	}
	s, err := loadState(l.p.Dir)
	if err != nil {
		return err
	}
	err = poll(ctx, patience, "the power sockets", func() (bool, error) {
		if !s.Power.alive() {
			return false, errors.New("their process has ended")
		}
		for _, h := range l.p.hosts() {
			if !listens(l.p.powerSocket(h)) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("start power switches: %w%s", err, tail(log))
	}
	return nil
}

// listens reports that somebody takes connections at a socket: its file is there before that.
func listens(socket string) bool {
	conn, err := net.Dial("unix", socket)
	return err == nil && conn.Close() == nil
}

// powerMain is the process that reboots hosts at their own request. It lives
// outside the hosts, until SIGTERM or Down.
func powerMain(ctx context.Context, dir string) error {
	return outside(ctx, dir, func(ctx context.Context, l *Lab, h string) error {
		b := &powerButton{l: l, host: h, log: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("host", h)}
		return b.serve(ctx)
	})
}

// powerButton serves the power socket of one host.
type powerButton struct {
	l    *Lab
	host string
	log  *slog.Logger

	mu   sync.Mutex
	busy bool // a reboot is under way
}

// serve takes orders until ctx ends, and returns when what it began has ended.
func (b *powerButton) serve(ctx context.Context) error {
	socket := b.l.p.powerSocket(b.host)
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old power socket: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("serve power socket: %w", err)
	}
	stop := context.AfterFunc(ctx, func() {
		if err := listener.Close(); err != nil {
			b.log.Error("close power socket", "err", err)
		}
	})
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("serve power socket: %w", err)
		}
		wg.Go(func() { b.handle(ctx, conn) })
	}
}

// handle takes one order, answers it, and carries it out.
func (b *powerButton) handle(ctx context.Context, conn net.Conn) {
	asker, err := peer(conn)
	if err == nil {
		err = b.take(conn)
	}
	answer := orderTaken
	if err != nil {
		b.log.Warn("refused", "err", err)
		answer = err.Error()
	}
	_, werr := fmt.Fprintln(conn, answer)
	if werr = errors.Join(werr, conn.Close()); werr != nil {
		b.log.Warn("answer at the power socket", "err", werr) // who asked may have died: the order stands
	}
	if err != nil {
		return
	}
	defer b.free()
	if err := asker.waitGone(ctx, askerLimit); err != nil && ctx.Err() == nil {
		b.log.Warn("who asked for the reboot goes on", "err", err)
	}
	if !clock.Sleep(ctx, takenPause) {
		return
	}
	if err := b.l.Reboot(ctx, b.host); err != nil && ctx.Err() == nil {
		b.log.Error("reboot", "err", err)
	}
}

// peer is the process at the other end of a unix socket.
func peer(conn net.Conn) (Process, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return Process{}, errors.New("not a unix socket")
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return Process{}, err
	}
	var cred *unix.Ucred
	var cerr error
	err = raw.Control(func(fd uintptr) { cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, cerr); err != nil {
		return Process{}, fmt.Errorf("find who asks: %w", err)
	}
	return identify(int(cred.Pid))
}

// take reads an order and reserves the host for it.
func (b *powerButton) take(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(powerLimit)); err != nil {
		return err
	}
	line, err := bufio.NewReaderSize(conn, 64).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read order: %w", err)
	}
	if line != rebootOrder+"\n" {
		return fmt.Errorf("order %q is not known", line)
	}
	if _, err := b.l.running(b.host); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy {
		return errors.New("a reboot is under way")
	}
	b.busy = true
	return nil
}

func (b *powerButton) free() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
}

// askReboot hands the order to reboot over at a host's power socket.
func askReboot(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, powerLimit)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("ask for a reboot: %w", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(powerLimit)); err != nil {
		return fmt.Errorf("ask for a reboot: %w", err)
	}
	if _, err := fmt.Fprintln(conn, rebootOrder); err != nil {
		return fmt.Errorf("ask for a reboot: %w", err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("ask for a reboot: %w", err)
	}
	if answer = strings.TrimSpace(answer); answer != orderTaken {
		return fmt.Errorf("ask for a reboot: refused: %s", answer)
	}
	return nil
}
