package nettest

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/testbed/ovstest"
	"holdfast/testbed/try"
)

// Bus is a RabbitMQ of one test, on 127.0.0.1.
type Bus struct {
	dir  string
	port int
	*process
}

const (
	rabbitServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	rabbitConf   = "listeners.tcp.1 = 127.0.0.1:%d\nlog.file = false\nlog.console = true\nlog.console.level = warning\n"
)

func (b *Bus) url() string {
	if b == nil {
		return "fake://"
	}
	return fmt.Sprintf("rabbit://guest:guest@127.0.0.1:%d/", b.port)
}

// StartBus starts a RabbitMQ. The test is skipped with -short, and where it is not installed.
func StartBus(t testing.TB) *Bus {
	t.Helper()
	needs(t)
	for _, p := range []string{rabbitServer, "/usr/bin/epmd"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("RabbitMQ is not installed: %v", err)
		}
	}
	b := &Bus{dir: try.ShortDir(t), port: freePort(t)}
	file := func(name string) string { return filepath.Join(b.dir, name) }
	for name, text := range map[string]string{"rabbitmq.conf": fmt.Sprintf(rabbitConf, b.port), "plugins": "[].\n", "env.conf": ""} {
		try.Must(t, os.WriteFile(file(name), []byte(text), 0o600))
	}
	// Erlang would start its register of names itself, which would then outlive the test.
	names := fmt.Sprint(freePort(t))
	begin(t, exec.Command("epmd", "-port", names, "-address", "127.0.0.1"), file("epmd.out"))
	try.Until(t, "the register of names", func() bool { return listens("127.0.0.1:" + names) })
	cmd := exec.Command(rabbitServer)
	cmd.Env = append(os.Environ(), "HOME="+b.dir, "ERL_EPMD_PORT="+names, "RABBITMQ_ALLOW_INPUT=1",
		"RABBITMQ_NODENAME=rabbit@localhost", "RABBITMQ_CONF_ENV_FILE="+file("env.conf"),
		"RABBITMQ_CONFIG_FILE="+file("rabbitmq.conf"), "RABBITMQ_MNESIA_BASE="+file("mnesia"),
		"RABBITMQ_LOG_BASE="+file("log"), "RABBITMQ_ENABLED_PLUGINS_FILE="+file("plugins"),
		fmt.Sprintf("RABBITMQ_DIST_PORT=%d", freePort(t)),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} -noinput")
	b.process = begin(t, cmd, file("out"))
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		if listens(b.addr()) {
			return b
		}
		if time.Now().After(end) || b.ended() {
			text, _ := os.ReadFile(file("out")) // the reason, if there is one
			t.Fatalf("RabbitMQ does not answer:\n%s", text)
		}
	}
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_ = c.Close() // it was only asked whether there is somebody
	}
	return err == nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (b *Bus) addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// Serve lets programs beside a switch reach the bus by the address that it has here.
func (b *Bus) Serve(t testing.TB, s *ovstest.Switch) {
	t.Helper()
	var l net.Listener
	try.Must(t, s.Inside(func() (err error) {
		l, err = net.Listen("tcp", b.addr())
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	var w sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		w.Wait()
	})
	w.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // it was closed
			}
			w.Go(func() { b.join(ctx, c) })
		}
	})
}

// join carries bytes between a connection and the bus until one of them ends, or ctx.
func (b *Bus) join(ctx context.Context, c net.Conn) {
	defer c.Close()
	to, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.addr())
	if err != nil {
		return // the other side sees it by the end of its connection
	}
	defer to.Close()
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{c, to}, {to, c}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1]) // its end is all that counts
			done <- struct{}{}
		}()
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}
