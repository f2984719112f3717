package reboot

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is a host whose reboot command writes down that it was called.
type lab struct {
	*Host
	boot, log string
}

func newLab(t *testing.T, script string, timeout time.Duration) lab {
	t.Helper()
	dir := t.TempDir()
	l := lab{boot: filepath.Join(dir, "boot_id"), log: filepath.Join(dir, "log")}
	l.booted(t, "b1")
	h, err := New(Options{Command: []string{"sh", "-c", "echo $1 >> " + l.log + "; " + script, "sh", "now"}, BootID: l.boot, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	l.Host = h
	return l
}

func (l lab) booted(t *testing.T, id string) {
	t.Helper()
	if err := os.WriteFile(l.boot, []byte(id+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// called counts the calls of the command.
func (l lab) called(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(l.log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "now\n")
}

func TestRebootIsOrderedOncePerBoot(t *testing.T) {
	l := newLab(t, "exit 0", 0)
	boot, err := l.Boot()
	if err != nil || boot != "b1" {
		t.Fatalf("boot id %q, %v", boot, err)
	}
	if err := l.Reboot(t.Context(), Request{Boot: boot, Guests: []string{"a", "b"}}); !errors.Is(err, ErrGuests) ||
		!strings.Contains(err.Error(), "a, b") {
		t.Errorf("with guests: %v, want ErrGuests", err)
	}
	if err := l.Reboot(t.Context(), Request{}); err == nil {
		t.Error("a reboot of any boot")
	}
	if n := l.called(t); n != 0 {
		t.Errorf("refused, and called %d times", n)
	}
	if err := l.Reboot(t.Context(), Request{Boot: boot}); err != nil {
		t.Errorf("reboot: %v", err)
	}
	l.booted(t, "b2")
	if err := l.Reboot(t.Context(), Request{Boot: boot}); !errors.Is(err, ErrDone) {
		t.Errorf("repeated after the reboot: %v, want ErrDone", err)
	}
	if n := l.called(t); n != 1 {
		t.Errorf("called %d times, want once", n)
	}
}

func TestRebootThatFails(t *testing.T) {
	l := newLab(t, "echo inhibited >&2; exit 1", 0)
	if err := l.Reboot(t.Context(), Request{Boot: "b1"}); err == nil || !strings.Contains(err.Error(), "inhibited") {
		t.Errorf("%v, want what the command said", err)
	}
	l = newLab(t, "exec sleep 60", 100*time.Millisecond)
	if err := l.Reboot(t.Context(), Request{Boot: "b1"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a command that hangs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l = newLab(t, "exit 0", 0)
	if err := l.Reboot(ctx, Request{Boot: "b1"}); !errors.Is(err, context.Canceled) || l.called(t) != 0 {
		t.Errorf("cancelled: %v", err)
	}
	for _, text := range []string{"", "gone"} {
		l.booted(t, text)
		if text == "gone" {
			if err := os.Remove(l.boot); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Reboot(t.Context(), Request{Boot: "b1"}); err == nil {
			t.Errorf("boot id %q: rebooted", text)
		}
	}
}

// TestBackgroundIsNotWaitedFor: the lab's command leaves something behind that
// ends the host a moment later.
func TestBackgroundIsNotWaitedFor(t *testing.T) {
	l := newLab(t, "sleep 600 & echo $! > \"$0.pid\"", 0)
	l.opt.Command[3] = l.log // $0
	err := l.Reboot(t.Context(), Request{Boot: "b1"})
	b, readErr := os.ReadFile(l.log + ".pid")
	if readErr != nil {
		t.Fatal(readErr)
	}
	endSleep(t, strings.TrimSpace(string(b))) // it is there: nobody waited for it
	if err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	h, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := h.Boot(); err != nil || len(id) != 36 {
		t.Errorf("this host's boot id: %q, %v", id, err)
	}
	for _, bad := range []Options{{Command: []string{""}}, {Command: []string{"bin/reboot"}}, {Timeout: -1}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// endSleep ends the process that the command left behind.
func endSleep(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(n, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// TestNotOrdered: each error tells whether the command can have been heard.
func TestNotOrdered(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	program := func(path string) func(*lab) { return func(l *lab) { l.opt.Command[0] = path } }
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		ctx     context.Context
		r       Request
		change  func(*lab)
		also    error
		ordered bool
	}{
		"guests":        {r: Request{Boot: "b1", Guests: []string{"a"}}, also: ErrGuests},
		"no boot id":    {},
		"another boot":  {r: Request{Boot: "b0"}, also: ErrDone},
		"ended":         {ctx: ended, r: Request{Boot: "b1"}, also: context.Canceled},
		"not there":     {r: Request{Boot: "b1"}, change: program("/nonexistent/reboot"), also: os.ErrNotExist},
		"not found":     {r: Request{Boot: "b1"}, change: program("nonexistent-reboot")},
		"no program":    {r: Request{Boot: "b1"}, change: program(text), also: syscall.ENOEXEC},
		"boot id lost":  {r: Request{Boot: "b1"}, change: func(l *lab) { l.opt.BootID += ".none" }, also: os.ErrNotExist},
		"it has failed": {r: Request{Boot: "b1"}, ordered: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, "exit 1", 0)
			if x.change != nil {
				x.change(&l)
			}
			if x.ctx == nil {
				x.ctx = t.Context()
			}
			err := l.Reboot(x.ctx, x.r)
			if err == nil || errors.Is(err, ErrNotOrdered) == x.ordered || x.also != nil && !errors.Is(err, x.also) ||
				(l.called(t) == 1) != x.ordered {
				t.Errorf("called %d times, %v; want ErrNotOrdered: %v, %v", l.called(t), err, !x.ordered, x.also)
			}
		})
	}
}
