package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/config"
)

// limit is for what takes moments, or never comes.
const limit = 2 * time.Minute

// TestMain makes this binary play the programs that the demo starts.
func TestMain(m *testing.M) {
	if len(os.Args) < 2 {
		os.Exit(m.Run())
	}
	roles := map[string]func([]string) error{
		guestCommand: playGuest, "agent": playAgent, "play-idle": playIdle, "play-family": playFamily,
		"play-caller": playCaller, "play-demo": playDemo,
	}
	role, ok := roles[os.Args[1]]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(os.Args[2:]); err != nil {
		log.Fatal(err)
	}
}

func playGuest(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	return Guest(ctx, args)
}

// playAgent is an agent that only has a child that outlives it.
func playAgent(args []string) error {
	if len(args) != 2 || args[0] != "--config" {
		return fmt.Errorf("arguments %q", args)
	}
	if _, err := config.LoadNode(args[1]); err != nil {
		return err
	}
	return playFamily(nil)
}

// playIdle does nothing for a minute, so that none is left behind by a test that
// was itself killed.
func playIdle([]string) error {
	time.Sleep(time.Minute)
	return nil
}

// playFamily has a child in a session of its own.
func playFamily([]string) error {
	cmd := exec.Command(os.Args[0], "play-idle")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return playIdle(nil)
}

// playCaller connects to an address and passes lines from its standard input
// there, and lines from there to its standard output.
func playCaller(args []string) error {
	conn, err := net.DialTimeout("tcp", args[0], limit)
	if err != nil {
		return err
	}
	fmt.Println("connected")
	go func() {
		if _, err := io.Copy(os.Stdout, conn); err != nil {
			log.Print(err)
		}
		fmt.Println("closed")
	}()
	_, err = io.Copy(conn, os.Stdin)
	return err
}

// playDemo is a demo that has started its janitor and one process of a host.
func playDemo(args []string) error {
	run, dir := args[0], args[1]
	if _, err := startJanitor(os.Args[0], run, dir); err != nil {
		return err
	}
	child := exec.Command(os.Args[0], "play-family")
	child.Env = append(os.Environ(), newMarks(run).env("h1"))
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println("ready")
	return playIdle(nil)
}

// spawn starts this binary in a role and ends it with the test.
func spawn(t *testing.T, env string, args ...string) (*exec.Cmd, *bufio.Scanner, io.WriteCloser) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), env)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // the test may have ended it already
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out), in
}

// testMarks makes the marks of a new run and ends what is left of it.
func testMarks(t *testing.T) *marks {
	t.Helper()
	m := newMarks("test" + randomID())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := m.Kill(ctx, anyHost); err != nil {
			t.Error(err)
		}
	})
	return m
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	within(t, limit, what, ok)
}

func within(t *testing.T, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(most); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("not reached within %v: %s", most, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func ctxFor(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
