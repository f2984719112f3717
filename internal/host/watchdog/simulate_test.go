package watchdog

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/try"
)

// talk sends text to a simulated device and returns the lines of the answer.
func talk(t *testing.T, socket, text string) []string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	var lines []string
	sc := bufio.NewScanner(conn)
	for sc.Scan() {
		lines = append(lines, sc.Text())
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// endless sends a line that does not end; the device has to hang up.
func endless(t *testing.T, socket string) {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = conn.Write([]byte(strings.Repeat("x", maxLine)))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("an endless line is read for ever")
	}
}

func TestSimulateProtocol(t *testing.T) {
	_, socket, fires := startSim(t, SimConfig{Identity: "test dog", MinTimeout: 20 * time.Millisecond})
	for _, c := range []struct{ send, want string }{
		{"info 500\n", "info 500 test dog"},
		{"info 5\n", "info 20 test dog"},
		{"timeout 60000\nkkkV", "ok 60000 test dog"},
		{"timeout 0\n", "err want info MS, timeout MS or power-cycle"},
		{"timeout -5\n", "err want info MS, timeout MS or power-cycle"},
		{"timeout 1e3\n", "err want info MS, timeout MS or power-cycle"},
		{"timeout 99999999999\n", "err want info MS, timeout MS or power-cycle"},
		{"hello\n", "err want info MS, timeout MS or power-cycle"},
		{"\n", "err want info MS, timeout MS or power-cycle"},
		{"power-cycle\n", "ok"},
		{"k", ""},
		{"", ""},
	} {
		if got := strings.Join(talk(t, socket, c.send), "|"); got != c.want {
			t.Errorf("%.20q was answered %q, want %q", c.send, got, c.want)
		}
	}
	if fires() != 0 {
		t.Errorf("fired %d times", fires())
	}
	endless(t, socket)
	talk(t, socket, "timeout 50\nVk") // the magic byte is not the last one
	try.Until(t, "the device to fire", func() bool { return fires() == 1 })
	talk(t, socket, "timeout 200\n")
	if err := PowerCycle(t.Context(), socket); err != nil {
		t.Fatal(err)
	}
	talk(t, socket, "timeout 400\nk")
	try.Until(t, "the device to fire", func() bool { return fires() >= 2 })
	if fires() != 2 {
		t.Errorf("fired %d times: also for the boot before the power cycle", fires())
	}
}

func TestSimulateTimer(t *testing.T) {
	at := make(chan time.Time, 1)
	socket := filepath.Join(try.ShortDir(t), "wd")
	ready := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	cfg := SimConfig{Socket: socket, OnFire: func() { at <- time.Now() }, Ready: func() { close(ready) }}
	go func() { done <- Simulate(ctx, cfg) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(socket); err == nil {
			t.Error("left its socket behind")
		}
	}()
	<-ready
	if fi, err := os.Stat(socket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v, want mode 0600", fi, err)
	}
	if err := Simulate(ctx, cfg); err == nil {
		t.Error("a second device took the socket")
	}
	// That it is not late is the matter of tests in virtual time.
	const timeout = 100 * time.Millisecond
	for range 3 {
		begin := time.Now()
		talk(t, socket, "timeout 100\n")
		if took := (<-at).Sub(begin); took < timeout {
			t.Fatalf("fired after %v, timeout %v", took, timeout)
		}
	}
}

func TestSimulateRefusesConfig(t *testing.T) {
	for name, cfg := range map[string]SimConfig{
		"no OnFire":     {Socket: filepath.Join(t.TempDir(), "wd")},
		"two lines":     {Socket: filepath.Join(t.TempDir(), "wd"), OnFire: func() {}, Identity: "a\nb"},
		"no such place": {Socket: filepath.Join(t.TempDir(), "no", "wd"), OnFire: func() {}},
	} {
		if err := Simulate(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A laboratory that was killed leaves its socket file; the next one replaces it.
func TestSimulateReplacesDeadSocket(t *testing.T) {
	socket := filepath.Join(try.ShortDir(t), "wd")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dev, _, _ := startSim(t, SimConfig{Socket: socket})
	if _, err := dev.Inspect(t.Context(), time.Second); err != nil {
		t.Error(err)
	}
}

func FuzzParseSimInfo(f *testing.F) {
	for _, s := range []string{"ok 500 dog", "info 1 a b c", "ok 0 x", "ok  x", "ok -1 x", "ok 99999999999999999999 x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		info, err := parseSimInfo(s, "ok")
		if err == nil && (info.Timeout <= 0 || info.Timeout > maxSimTimeout || !strings.HasPrefix(s, "ok ")) {
			t.Errorf("%q was read as %+v", s, info)
		}
	})
}
