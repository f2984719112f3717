package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serviceWithin is how long a service of a platform, or a program of it, may take for one thing:
// on a quiet machine some seconds.
const serviceWithin = 4 * time.Minute

// service is a program of the new platform that works for a test, and its log.
type service struct {
	name, log string
	cmd       *exec.Cmd
	ended     chan struct{} // closed when neither it nor a child of it is left
}

// start starts a program; it ends with the test at the latest.
func (c *newCloud) start(t *testing.T, name string, args ...string) *service {
	t.Helper()
	s := &service{name, filepath.Join(c.dir, name+".log"), exec.Command(args[0], args[1:]...), make(chan struct{})}
	log, err := os.Create(s.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go s.live(started)
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !s.hasEnded() {
			_ = s.cmd.Process.Kill() // it may end in this moment
		}
		if s.waitEnd(); !s.hasEnded() {
			t.Errorf("%s does not end after it was killed", name)
		}
		if t.Failed() {
			t.Logf("%s:\n%s", name, s.text(t))
		}
	})
	return s
}

// live starts the program, and stays until it has ended.
func (s *service) live(started chan<- error) {
	defer close(s.ended)
	// The kernel takes the end of the thread that started it for ours.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := s.cmd.Start()
	started <- err
	if err == nil {
		_ = s.cmd.Wait()                                      // how it ended is in its log
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // its children, when there are some
	}
}

func (s *service) hasEnded() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *service) waitEnd() {
	select {
	case <-s.ended:
	case <-time.After(serviceWithin):
	}
}

func (s *service) text(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// python are the arguments that run a service by its entry point: Debian has the program
// in a package of its own, which would start it.
func python(module, name string, args ...string) []string {
	code := fmt.Sprintf("import sys; sys.argv[0] = %q; from %s import main; main()", name, module)
	return append([]string{debianPython, "-c", code}, args...)
}

// asker gets the document of a path, and reads it into what is given.
type asker func(path string, into any) error

// answers waits until the service answers at an address, and returns what asks it with
// a header (names and values).
func (s *service) answers(t *testing.T, addr string) func(header ...string) asker {
	t.Helper()
	client := &http.Client{Timeout: 30 * time.Second}
	for end := time.Now().Add(serviceWithin); ; time.Sleep(50 * time.Millisecond) {
		r, err := client.Get("http://" + addr + "/")
		if err == nil {
			err = r.Body.Close()
		}
		if err == nil {
			break
		}
		if s.hasEnded() || time.Now().After(end) {
			t.Fatalf("%s does not answer: %v", s.name, err)
		}
	}
	return func(header ...string) asker {
		return func(path string, into any) error {
			return get(t.Context(), client, "http://"+addr+"/"+path, header, into)
		}
	}
}

// get gets a document; any status but 200 is an error.
func get(ctx context.Context, client *http.Client, url string, header []string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for h := range slices.Chunk(header, 2) {
		req.Header.Set(h[0], h[1])
	}
	r, err := client.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil || r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s, %v: %.300s", url, r.Status, err, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w: %.300s", url, err, text)
	}
	return nil
}

// standIn answers for Neutron, which knows of nothing, and below /placement for
// Placement, which tells its version.
func standIn(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		text := `{"ports": [], "networks": [], "security_groups": [], "extensions": []}`
		if strings.HasPrefix(r.URL.Path, "/placement") {
			text = `{"versions": [{"id": "v1.0", "status": "CURRENT", "min_version": "1.0", "max_version": "1.39", "links": [{"rel": "self", "href": ""}]}]}`
		}
		_, _ = io.WriteString(w, text) // a client that went away
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// spoil is a statement that spoils rows, and the beginning of what is to be said of it.
type spoil struct{ sql, says string }

// spoiled: what looks at the rows must find what is wrong, or it proves nothing. Each
// round spoils different things; then the rows of the tables are put back.
func (c *newCloud) spoiled(t *testing.T, tables []string, look func() []string, rounds ...[]spoil) {
	t.Helper()
	c.SQL("CREATE DATABASE IF NOT EXISTS kept")
	for _, x := range tables {
		c.SQL(fmt.Sprintf("CREATE OR REPLACE TABLE kept.`%s` AS SELECT * FROM %s", x, x))
	}
	for _, round := range rounds {
		for _, x := range round {
			c.SQL(x.sql)
		}
		faults := look()
		for _, x := range round {
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, x.says) }) {
				t.Errorf("%s: not found among %q", x.sql, faults)
			}
		}
		c.putBack(tables)
	}
	if faults := look(); len(faults) > 0 {
		t.Errorf("after all was put back: %q", faults)
	}
}

func (c *newCloud) putBack(tables []string) {
	var text strings.Builder
	text.WriteString("SET foreign_key_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO';")
	for _, x := range tables {
		fmt.Fprintf(&text, "DELETE FROM %s; INSERT INTO %s SELECT * FROM kept.`%s`;", x, x, x)
	}
	c.SQL(text.String())
}
