package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/lib/clock"
)

// How the writer writes.
const (
	writeEvery  = 10 * time.Millisecond // one row after the other
	writeWithin = 10 * time.Second      // a node that takes longer is left for the next one
)

// dbWriter writes the rows 1, 2, 3... one by one, into one node at a time. A node
// that refuses, or does not answer, is left for the next one, and the same row is
// written there again.
type dbWriter struct {
	c    *dbCluster
	stop context.CancelFunc
	done chan struct{}
	once sync.Once // what is told at the end

	node    int        // that is in use
	session *dbSession // to it; nil: none yet

	// Once done is closed.
	Rows   int           // that a node has acknowledged: 1 to Rows, each
	Gap    time.Duration // the longest time between two acknowledgements
	Moves  int           // to another node
	errors []string      // why, at most a few
}

// write begins to write, after the rows of the writer before. Without an end by the
// caller it ends with the test.
func (c *dbCluster) write(t testing.TB) *dbWriter {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	w := &dbWriter{c: c, stop: stop, done: make(chan struct{}), Rows: c.rows}
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
	t.Cleanup(func() { w.end(t) })
	return w
}

// end waits for the row that is under way.
func (w *dbWriter) end(t testing.TB) {
	t.Helper()
	w.stop()
	<-w.done
	w.once.Do(func() { w.tell(t) })
}

func (w *dbWriter) tell(t testing.TB) {
	w.c.rows = w.Rows
	t.Logf("%d rows written, longest gap %s, %d times to another node: %s", w.Rows, w.Gap.Round(time.Millisecond),
		w.Moves, strings.Join(w.errors, "; "))
}

// run writes until ctx ends, and then until the row that was begun is
// acknowledged, a minute at most: else nobody knew whether it is there.
func (w *dbWriter) run(ctx context.Context) {
	defer func() { w.session.close() }()
	for last := time.Now(); ctx.Err() == nil; w.Rows++ {
		for {
			err := w.try(ctx, w.Rows+1)
			if err == nil {
				break
			}
			if len(w.errors) < 12 {
				w.errors = append(w.errors, err.Error())
			}
			if ctx.Err() != nil && time.Since(last) > time.Minute {
				w.errors = append(w.errors, fmt.Sprintf("row %d was given up", w.Rows+1))
				return
			}
			w.Moves++
			time.Sleep(writeEvery) // before the next node is tried
		}
		w.Gap = max(w.Gap, time.Since(last))
		last = time.Now()
		clock.Sleep(ctx, writeEvery)
	}
}

// try writes a row into the node that is in use. After an error the next node is.
func (w *dbWriter) try(ctx context.Context, n int) (err error) {
	hosts := w.c.lab.Hosts()
	h := hosts[w.node]
	if w.session == nil {
		w.session, err = w.c.open(context.WithoutCancel(ctx), h)
	}
	if err == nil {
		err = w.session.insert(n, h)
	}
	if err == nil {
		return nil
	}
	err = errors.Join(err, w.session.close())
	w.session, w.node = nil, (w.node+1)%len(hosts)
	return fmt.Errorf("%s at row %d: %s", h, n, strings.ReplaceAll(err.Error(), "\n", ", "))
}

// dbSession is a client that is connected to one node.
type dbSession struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errs   *strings.Builder
	limit  *time.Timer // kills it
	cancel context.CancelFunc
}

// open connects to a node, from its own host, when it is in step with the others.
func (c *dbCluster) open(ctx context.Context, h string) (*dbSession, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd, err := c.lab.Command(ctx, h, "mariadb", "-N", "-B", "-n", "--connect-timeout=5", "app")
	if err != nil {
		cancel()
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	s := &dbSession{cmd: cmd, errs: &strings.Builder{}, cancel: cancel}
	cmd.Stderr = s.errs
	in, ierr := cmd.StdinPipe()
	out, oerr := cmd.StdoutPipe()
	if err = errors.Join(ierr, oerr); err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	s.in, s.out = in, bufio.NewReader(out)
	s.limit = time.AfterFunc(writeWithin, cancel)
	state, err := s.ask("SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'wsrep_local_state_comment'")
	if err == nil && state != "Synced" {
		err = fmt.Errorf("it is %s", state)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// ask sends a query and reads one line.
func (s *dbSession) ask(query string) (string, error) {
	s.limit.Reset(writeWithin)
	defer s.limit.Stop()
	if _, err := io.WriteString(s.in, query+";\n"); err != nil {
		return "", err
	}
	line, err := s.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

// insert writes a row. It succeeds also when the row is there already: the node
// that took it may have ended before its answer came.
func (s *dbSession) insert(n int, h string) error {
	got, err := s.ask(fmt.Sprintf("INSERT INTO log (n, node) VALUES (%d, '%s') ON DUPLICATE KEY UPDATE n = n; SELECT %d", n, h, n))
	if err == nil && got != fmt.Sprint(n) {
		err = fmt.Errorf("answer %q", got)
	}
	return err
}

// close ends the client. Its error is what the client said, if it ended by itself.
func (s *dbSession) close() error {
	if s == nil {
		return nil
	}
	s.limit.Stop()
	err := s.in.Close()
	s.cancel()
	werr := s.cmd.Wait()
	for line := range strings.Lines(s.errs.String()) {
		if strings.HasPrefix(line, "ERROR") { // beside the query
			err = errors.Join(err, werr, errors.New(strings.TrimSpace(line)))
		}
	}
	return err
}
