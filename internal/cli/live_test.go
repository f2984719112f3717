package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/cli/command"
	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/server/servertest"
)

// live is a command that runs while the test reads what it writes.
type live struct {
	t      *testing.T
	lines  chan string // of stdout and stderr
	cancel context.CancelFunc
	done   chan error
}

// runLive begins a command that is interrupted when the test ends.
func runLive(t *testing.T, a *clitest.Agent, args ...string) *live {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	r, w := io.Pipe()
	l := &live{t: t, lines: make(chan string, 1000), cancel: cancel, done: make(chan error, 1)}
	go func() {
		defer close(l.lines)
		for in := bufio.NewScanner(r); in.Scan(); {
			l.lines <- in.Text()
		}
	}()
	go func() {
		root := New(command.Env{Stdout: w, Stderr: w, Stdin: strings.NewReader("")})
		root.SetArgs(append(args, "--socket", a.Socket))
		err := root.ExecuteContext(ctx)
		l.done <- errors.Join(err, w.Close())
	}()
	t.Cleanup(func() {
		cancel()
		for range l.lines { // the command may be writing
		}
	})
	return l
}

// await reads on to a line that holds text.
func (l *live) await(text string) {
	l.t.Helper()
	var seen []string
	for line := range l.lines {
		if strings.Contains(line, text) {
			return
		}
		seen = append(seen, line)
	}
	l.t.Fatalf("no line with %q; seen:\n%s", text, strings.Join(seen, "\n"))
}

// interrupt ends the command as a signal does and returns its error.
func (l *live) interrupt() error {
	l.cancel()
	for range l.lines {
	}
	return <-l.done
}

func TestStatusWatch(t *testing.T) {
	a := clitest.NewAgent(t)
	l := runLive(t, a, "status", "--watch")
	l.await("mgmt VM   running on node1")
	a.Update(func(s *cluster.Status) { s.Waiting = "for a test" })
	l.await("waiting   for a test")
	if err := l.interrupt(); err != nil {
		t.Errorf("an interrupted watch is no error, got: %v", err)
	}

	l = runLive(t, a, "status", "--watch", "-o", "json")
	l.await(`"waiting":"for a test"`)
	l.await(`"waiting":"for a test"`) // the beat
	if err := l.interrupt(); err != nil {
		t.Error(err)
	}
}

func TestStatusWatchEndsWithTheAgent(t *testing.T) {
	a := clitest.NewAgent(t)
	l := runLive(t, a, "status", "--watch")
	l.await("takeover")
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	err := <-l.done
	if got := fail.ExitCode(err); got != fail.ExitUnavailable {
		t.Errorf("ended with %v, exit code %d, want %d", err, got, fail.ExitUnavailable)
	}
}

func TestEventsFollow(t *testing.T) {
	a := clitest.NewAgent(t)
	a.Log(cluster.Event{Time: clitest.Time(), Kind: cluster.EvStarted, Host: "node1"})
	l := runLive(t, a, "events", "--follow")
	l.await("started")
	a.Log(cluster.Event{Time: clitest.Time(), Kind: cluster.EvReleased, Host: "node1"})
	l.await("released")
	a.Log(cluster.Event{Time: clitest.Time(), Kind: cluster.EvTakeover, Host: "node1"})
	l.await("takeover")
	if err := l.interrupt(); err != nil {
		t.Errorf("an interrupted follow is no error, got: %v", err)
	}
}

func TestWaitSurvivesAnAgentRestart(t *testing.T) {
	a := clitest.NewAgent(t)
	l := runLive(t, a, "stop")
	l.await("waiting: the management VM is running on node1")
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
	l.await("waiting: for the agent to answer again")
	if err := a.Serve(); err != nil {
		t.Fatal(err)
	}
	l.await("waiting: the management VM is running on node1")
	a.Update(func(s *cluster.Status) { s.Owner.State = cluster.Released })
	l.await("the management VM is stopped")
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}

func TestWaitInterrupted(t *testing.T) {
	a := clitest.NewAgent(t)
	l := runLive(t, a, "stop")
	l.await("waiting: the management VM is running on node1")
	err := l.interrupt()
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Canceled || !strings.Contains(e.Remedy, "the request stands") {
		t.Errorf("got %v, want an error that says that the request stands", err)
	}
}

func TestMigrateInterrupted(t *testing.T) {
	a := clitest.NewAgent(t)
	l := runLive(t, a, "migrate", "node2")
	l.await("running to node2")
	err := l.interrupt()
	var e *fail.Error
	if !errors.As(err, &e) || e.Kind != fail.Canceled ||
		e.Remedy != "the migration goes on; follow it: holdfast status --watch; cancel it: holdfast migrate --cancel" {
		t.Errorf("got %+v, want an error that says that the migration goes on", err)
	}
}

// onTerminal runs a command with a terminal as stdout and returns what it wrote.
// shown is called when the first of it is there.
func onTerminal(t *testing.T, a *clitest.Agent, shown func(), args ...string) string {
	t.Helper()
	master, slave := clitest.OpenPTY(t)
	var out bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		first := make([]byte, 1)
		if n, err := master.Read(first); err == nil {
			out.Write(first[:n])
			shown()
		}
		_, _ = io.Copy(&out, master) // ends with EIO when the other end is closed
	}()
	root := New(command.Env{Stdout: slave, Stderr: io.Discard, Stdin: strings.NewReader("")})
	root.SetArgs(append(args, "--socket", a.Socket))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if err := root.ExecuteContext(ctx); err != nil {
		t.Errorf("%v: %v", args, err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	<-read
	return out.String()
}

func TestColours(t *testing.T) {
	a := clitest.NewAgent(t)
	t.Setenv("TERM", "xterm")
	for _, c := range []struct {
		noColor, term string
		want          bool
	}{{"", "xterm", true}, {"1", "xterm", false}, {"", "dumb", false}} {
		t.Setenv("NO_COLOR", c.noColor)
		t.Setenv("TERM", c.term)
		got := onTerminal(t, a, func() {}, "status")
		if !strings.Contains(got, "node1") {
			t.Fatalf("no status on the terminal: %q", got)
		}
		if has := strings.Contains(got, "\x1b[32malive\x1b[0m"); has != c.want || !c.want && strings.Contains(got, "\x1b") {
			t.Errorf("NO_COLOR=%q TERM=%s: coloured %v, want %v: %q", c.noColor, c.term, has, c.want, got)
		}
	}
}

func TestBarOnTerminal(t *testing.T) {
	a := clitest.NewAgent(t)
	shown := make(chan struct{})
	a.Obey(func(f *servertest.Fake, w cluster.Want) {
		select {
		case <-shown: // else the migration may be over before anything is shown
		case <-t.Context().Done():
		}
		clitest.Obey(f, w)
	})
	got := onTerminal(t, a, func() { close(shown) }, "migrate", "node3")
	if !strings.HasPrefix(got, "\r\x1b[K[") || !strings.HasSuffix(got, "\nthe management VM is running on node3, epoch 0.3\r\n") {
		t.Errorf("the terminal shows %q", got)
	}
}
