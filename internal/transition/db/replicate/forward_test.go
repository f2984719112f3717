package replicate

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/transition/db/aligntest"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
)

// forwarder is an address behind which servers change, and replies are lost.
type forwarder struct {
	l     net.Listener
	to    atomic.Int64 // port
	lose  atomic.Bool  // the next reply to a COMMIT is lost, and its connection
	drop  atomic.Bool  // the next COMMIT is lost itself
	lost  atomic.Int64
	wait  sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func newForwarder(t *testing.T, to *aligntest.Rig) *forwarder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &forwarder{l: l}
	x.to.Store(int64(to.Port()))
	x.wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			x.wait.Go(func() { x.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close() // once
		x.cut()
		x.wait.Wait()
	})
	return x
}

// cut ends all connections.
func (x *forwarder) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		_ = c.Close() // ended already, if it can not
	}
	x.conns = nil
}

func (x *forwarder) serve(client net.Conn) {
	defer client.Close()
	up, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", x.to.Load()))
	if err != nil {
		return
	}
	defer up.Close()
	x.mu.Lock()
	x.conns = append(x.conns, client, up)
	x.mu.Unlock()
	var silent atomic.Bool
	x.wait.Go(func() {
		defer client.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := up.Read(buf)
			if err != nil {
				return
			}
			if silent.Load() {
				x.lost.Add(1)
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	})
	defer up.Close() // so that the other direction ends
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil && n == 0 {
			return
		}
		if bytes.HasSuffix(buf[:n], []byte("\x03COMMIT")) {
			if x.drop.Swap(false) {
				x.lost.Add(1)
				return
			}
			silent.Store(x.lose.Swap(false))
		}
		if _, err := io.Copy(up, bytes.NewReader(buf[:n])); err != nil {
			return
		}
	}
}

// server opens what is behind the address.
func (x *forwarder) server(t *testing.T, role string) *server.Server {
	t.Helper()
	dsn := fmt.Sprintf("%s:%s@tcp(%s)/", aligntest.User, aligntest.Password, x.l.Addr())
	s, err := server.Open(t.Context(), role, dsn, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // its connections are cut
	return s
}

// TestAnotherServerBehindTheAddress: the log of another server is not read, though it has
// a file and a position of the same name, and though it may have the same number.
func TestAnotherServerBehindTheAddress(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	x := newForwarder(t, w.src)
	w.source = x.server(t, "source")
	w.copy()
	w.mustFollow()
	at, err := now(t.Context(), w.source)
	if err != nil {
		t.Fatal(err)
	}
	for id := range 2 {
		other := aligntest.MariaDB(t, binlog(1+id)...)
		other.SQL(sourceSQL + idsSQL + firstRows)
		x.to.Store(int64(other.Port()))
		// The other connections are still to the source.
		s, err := open(t.Context(), w.source, at, w.none)
		if err == nil {
			s.close()
		}
		if err == nil || passing(err) || !strings.Contains(err.Error(), "another server answers at the same address") ||
			!strings.Contains(err.Error(), fmt.Sprintf("server_id %d, it was ", 1+id)) {
			t.Errorf("server %d: %v", 1+id, err)
		}
	}
	stop := make(chan struct{})
	defer close(stop)
	x.to.Store(int64(w.src.Port()))
	began, ended := make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		_, err := w.follow(Options{Stop: stop, Progress: func(Progress) { once.Do(func() { close(began) }) }})
		ended <- err
	}()
	select {
	case <-began:
	case err := <-ended:
		t.Fatal("it has ended: ", err)
	}
	other := aligntest.MariaDB(t, binlog(1)...)
	x.to.Store(int64(other.Port()))
	x.cut()
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "another server answers at the same address") {
			t.Error(err)
		}
	case <-time.After(patient):
		t.Fatal("it does not end")
	}
}

// TestAReplyThatIsLost: the target has the rows and the position, and this run does not
// know. Neither a commit that comes to nothing after that, nor a refusal, makes it forget.
func TestAReplyThatIsLost(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	x := newForwarder(t, w.dst)
	w.target = x.server(t, "target")
	w.copy()
	saved := w.state().Pos
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'a' WHERE id = 1")
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'b' WHERE id = 2")
	w.src.SQL("USE old_nova; UPDATE aggregates SET name = 'a' WHERE id = 1")
	w.src.SQL("USE old_nova; UPDATE aggregates SET name = 'b' WHERE id = 2; UPDATE aggregates SET name = 'agg2' WHERE id = 1")
	d := w.drive(hurryAt)
	d.transactionEnds()
	x.lose.Store(true)
	if err := d.carry(t.Context()); err == nil || !passing(err) || x.lost.Load() != 1 || w.state().Pos == saved {
		t.Fatalf("error %v, %d lost, the journal went from %d to %d", err, x.lost.Load(), saved, w.state().Pos)
	}
	saved = w.state().Pos
	d.transactionEnds()
	x.drop.Store(true)
	if err := d.carry(t.Context()); err == nil || !passing(err) || x.lost.Load() != 2 || w.state().Pos != saved {
		t.Fatalf("error %v, %d lost, the journal went from %d to %d", err, x.lost.Load(), saved, w.state().Pos)
	}
	d.transactionEnds()
	if err := d.carry(t.Context()); err != nil || d.failures != 1 {
		t.Fatal(err, d.failures)
	}
	d.transactionEnds()
	d.transactionEnds()
	if err := d.carry(t.Context()); err != nil || d.failures != 0 {
		t.Fatal(err, d.failures)
	}
	w.equal()
}

// TestOneLineForOneInterruption: people are told once, however often it is tried.
func TestOneLineForOneInterruption(t *testing.T) {
	need.More(t)
	w := newWorld(t, false)
	w.src.SQL(firstRows)
	x := newForwarder(t, w.src)
	w.source = x.server(t, "source")
	w.copy()
	var lines bytes.Buffer
	began, stop, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		_, err := w.follow(Options{Stop: stop, Log: slog.New(slog.NewTextHandler(&lines, nil)),
			Progress: func(Progress) { once.Do(func() { close(began) }) }})
		ended <- err
	}()
	select {
	case <-began:
	case err := <-ended:
		t.Fatal("it has ended: ", err)
	}
	x.to.Store(1) // nobody listens
	x.cut()
	time.Sleep(2 * time.Second) // several attempts
	x.to.Store(int64(w.src.Port()))
	w.src.SQL("USE old_nova; UPDATE instances SET name = 'after'")
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(lines.String(), "\n"); n != 1 || !strings.Contains(lines.String(), "following was interrupted, and is tried again") {
		t.Errorf("%d lines:\n%s", n, lines.String())
	}
	w.equal()
}
