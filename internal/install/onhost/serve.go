package onhost

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/install"
	"holdfast/internal/pair/group"
)

const (
	workDir  = "/var/lib/holdfast-install" // of placements that are not confirmed
	lockFile = "/run/holdfast-install.lock"
	maxLine  = 64 << 20 // bytes of a request
)

// Serve answers requests until in ends, and then takes back what was not confirmed.
// dir is removed at the end: it holds the program that the installation sent.
func Serve(ctx context.Context, in io.Reader, out io.Writer, dir string) (err error) {
	// The end of the connection must not end this before it has taken back what was
	// not confirmed.
	signal.Ignore(unix.SIGPIPE, unix.SIGHUP)
	defer func() { err = errors.Join(err, removeOwn(dir)) }()
	unlock, err := lock(lockFile)
	if err != nil {
		return err
	}
	defer unlock()
	if err := removeOld(dir); err != nil {
		return err
	}
	h := &host{placer: placer{root: "/", dir: workDir}, gate: newGate()}
	defer func() { err = errors.Join(err, h.close()) }()
	if h.undone, err = h.placer.recover(); err != nil {
		return fmt.Errorf("take back what an installation that died here had left: %w", err)
	}
	if err := h.gate.recover(ctx); err != nil {
		return fmt.Errorf("take back what an installation that died here had opened: %w", err)
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 1<<16), maxLine)
	enc := json.NewEncoder(out)
	for lines.Scan() {
		var r install.Request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		a, err := h.answer(ctx, r)
		if err != nil {
			a.Error = err.Error()
		}
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("answer %s: %w", r.Do, err)
		}
	}
	return lines.Err()
}

// lock makes sure that one installation works on this host at a time.
func lock(file string) (func(), error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("take the lock of installations: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		who := make([]byte, 64)
		n, _ := f.Read(who) // who it is only helps people
		f.Close()
		return nil, fmt.Errorf("%s (%s): wait for its end", install.Busy, strings.TrimSpace(string(who[:n])))
	}
	who := "pid " + strconv.Itoa(os.Getpid()) + " since " + time.Now().UTC().Format(time.DateTime)
	if err := errors.Join(f.Truncate(0), write(f, who)); err != nil {
		f.Close()
		return nil, fmt.Errorf("take the lock of installations: %w", err)
	}
	return func() { f.Close() }, nil
}

func write(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s+"\n"), 0)
	return err
}

// removeOwn removes the folder that an installation has made for this program.
func removeOwn(dir string) error {
	if dir == "" {
		return nil
	}
	if !strings.HasPrefix(dir, install.SentPrefix) || strings.Contains(dir[len(install.SentPrefix):], "/") {
		return fmt.Errorf("%s is no folder of an installation", dir)
	}
	return os.RemoveAll(dir)
}

// sentFor is longer than the program's way to a host takes.
const sentFor = time.Hour

// removeOld removes folders of installations that died before they could.
func removeOld(dir string) (err error) {
	all, err := filepath.Glob(install.SentPrefix + "*")
	for _, d := range all {
		if st, serr := os.Stat(d); serr == nil && d != dir && time.Since(st.ModTime()) > sentFor {
			err = errors.Join(err, os.RemoveAll(d))
		}
	}
	return err
}

// host is what answers.
type host struct {
	placer placer
	ports  listeners
	gate   gate
	undone []string
}

func (h *host) close() error {
	return errors.Join(h.ports.close(), h.placer.undo(), h.gate.undo())
}

func (h *host) answer(ctx context.Context, r install.Request) (a install.Answer, err error) {
	switch r.Do {
	case install.DoGather:
		a.Facts = h.gather(ctx, *r.Query)
	case install.DoNow:
		a.Now = time.Now()
	case install.DoNonce:
		err = nonce(*r.Nonce)
	case install.DoReach:
		a.Reached = reach(ctx, r.Peers)
	case install.DoKeys:
		a.Keys, err = keys()
	case install.DoOpen:
		err = h.gate.open(ctx, *r.Open)
	case install.DoPlace:
		if err = h.ports.close(); err == nil {
			a.Changed, err = h.placer.place(r.Files)
		}
	case install.DoKeep:
		if err = h.placer.keep(); err == nil {
			err = h.gate.keep()
		}
	case install.DoUndo:
		err = errors.Join(h.placer.undo(), h.gate.undo())
	case install.DoStart:
		err = start(ctx, r.Restart, r.TLS)
	case install.DoStop:
		err = stop(ctx)
	case install.DoRemove:
		a.Changed, a.Left, err = remove(ctx, r.Files)
	case install.DoAgent:
		a.Output, err = agent(ctx, r.Args, r.Input)
	case install.DoGuests:
		a.Guests, err = lookFor(ctx, *r.Guest)
	case install.DoDisown:
		a.Saved, err = disown(ctx, *r.Guest)
	case install.DoEnd:
		err = end(ctx, *r.Guest)
	case install.DoRelease:
		err = release(ctx, *r.Guest)
	case install.DoPair:
		a.Pair = ofPair(ctx, *r.Pair)
	case install.DoAnew:
		err = group.Disown(filepath.Join(r.DataDir, group.DirName))
	default:
		err = fmt.Errorf("unknown request %q", r.Do)
	}
	return a, err
}
