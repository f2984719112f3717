package demo

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/cluster"
)

// guestTick is how often the VM writes its counter to the shared directory.
const guestTick = 50 * time.Millisecond

// Answer is what the VM answers to GET /.
type Answer struct {
	Boot  string         `json:"boot"` // of this life of the VM
	N     uint64         `json:"n"`    // counter in the shared directory
	Host  cluster.HostID `json:"host"`
	Epoch cluster.Epoch  `json:"epoch"`
	UpMS  int64          `json:"up_ms"` // since it started, ms
}

// guestArgs is the command line of the VM.
type guestArgs struct {
	host, epoch, uuid, socket, shared string
}

// Guest is the VM of the demo: an HTTP service on a unix socket that counts in a
// file of the shared directory and writes its starts and stops to the journal
// there. It takes no lock: nothing but the cluster protects it from running
// twice, so that an observer would see it. It returns when ctx ends.
//
// With --reap it is the demo's janitor instead, see janitor.go.
func Guest(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == reapFlag {
		return runJanitor(args[1:], os.Stdin)
	}
	a, err := parseGuest(args)
	if err != nil {
		return fmt.Errorf("demo guest: %w", err)
	}
	if err := runGuest(ctx, a); err != nil {
		return fmt.Errorf("demo guest on %s: %w", a.host, err)
	}
	return nil
}

func parseGuest(args []string) (guestArgs, error) {
	var a guestArgs
	flags := flag.NewFlagSet("demo-guest", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&a.host, "host", "", "host it runs on")
	flags.StringVar(&a.epoch, "epoch", "", "epoch it was started with")
	flags.StringVar(&a.uuid, "uuid", "", "its UUID")
	flags.StringVar(&a.socket, "socket", "", "unix socket to serve on")
	flags.StringVar(&a.shared, "shared", "", "directory that stands for the image")
	if err := flags.Parse(args); err != nil {
		return a, err
	}
	if flags.NArg() > 0 || a.host == "" || a.uuid == "" || a.socket == "" || a.shared == "" {
		return a, fmt.Errorf("arguments %q: want --host, --epoch, --uuid, --socket and --shared", args)
	}
	return a, nil
}

func runGuest(ctx context.Context, a guestArgs) (err error) {
	epoch, err := cluster.ParseEpoch(a.epoch)
	if err != nil {
		return err
	}
	g := &guestService{host: cluster.HostID(a.host), epoch: epoch, boot: randomID(), start: time.Now()}
	file, err := os.OpenFile(filepath.Join(a.shared, "counter"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := g.load(file); err != nil {
		return err
	}
	if err := os.Remove(a.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // the socket of an earlier life
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", a.socket)
	if err != nil {
		return err
	}
	if err := g.journal(a.shared, "start"); err != nil {
		return errors.Join(err, listener.Close())
	}
	err = g.serve(ctx, listener, file)
	return errors.Join(err, g.journal(a.shared, "stop"))
}

// guestService is one life of the VM.
type guestService struct {
	host  cluster.HostID
	epoch cluster.Epoch
	boot  string
	start time.Time
	n     atomic.Uint64
}

// load goes on counting where the last life of the VM stopped.
func (g *guestService) load(file io.ReaderAt) error {
	buf := make([]byte, 64)
	n, err := file.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the counter: %w", err)
	}
	text := strings.TrimSpace(string(buf[:n]))
	if text == "" {
		return nil
	}
	count, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("read the counter: %w", err)
	}
	g.n.Store(count)
	return nil
}

// serve answers and counts until ctx ends or one of the two fails.
func (g *guestService) serve(ctx context.Context, listener net.Listener, file *os.File) error {
	server := &http.Server{Handler: http.HandlerFunc(g.answer), ReadHeaderTimeout: time.Second, IdleTimeout: time.Minute}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	served := make(chan error, 1)
	go func() {
		defer cancel()
		served <- server.Serve(listener)
	}()
	countErr := g.count(ctx, file)
	closeErr := server.Close()
	serveErr := <-served
	if errors.Is(serveErr, http.ErrServerClosed) {
		serveErr = nil
	}
	return errors.Join(countErr, closeErr, serveErr)
}

// count writes and syncs the counter until ctx ends.
func (g *guestService) count(ctx context.Context, file *os.File) error {
	tick := time.NewTicker(guestTick)
	defer tick.Stop()
	for {
		n := g.n.Load() + 1
		if _, err := file.WriteAt(fmt.Appendf(nil, "%020d\n", n), 0); err != nil {
			return fmt.Errorf("write the counter: %w", err)
		}
		if err := file.Sync(); err != nil {
			return fmt.Errorf("sync the counter: %w", err)
		}
		g.n.Store(n)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (g *guestService) answer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// An error here means that the client has gone.
	_ = json.NewEncoder(w).Encode(Answer{
		Boot: g.boot, N: g.n.Load(), Host: g.host, Epoch: g.epoch, UpMS: time.Since(g.start).Milliseconds(),
	})
}

// journal appends one line for people who look into the shared directory.
func (g *guestService) journal(dir, what string) error {
	f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the journal: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s %s host=%s epoch=%s boot=%s pid=%d n=%d\n",
		time.Now().Format(time.RFC3339Nano), what, g.host, g.epoch, g.boot, unix.Getpid(), g.n.Load())
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	return nil
}
