// Package aligntest is what tests of the alignment of databases share: real servers, and
// the databases of an old platform.
package aligntest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/lib/text"
	"holdfast/internal/transition/db/server"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// The user of a rig's server. It may do everything.
const (
	User     = "holdfast"
	Password = "p@ss:w/rd"
)

// patience is how long a server may take to start, and a client's text to run.
const patience = 60 * time.Second

// Rig is a MariaDB server of a test's own: its own files, a free port of 127.0.0.1 and
// a socket beside the files. It ends with the test, and with the test's process.
type Rig struct {
	t    testing.TB
	dir  string
	port int
	opt  []string
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended

	born string // its state when it had started, of one that may be given on; see Main
	logs bool   // it has a binary log
}

// MariaDB starts a server; opt are more options of mariadbd, such as "--log-bin". The
// test is skipped with -short, and where MariaDB is not installed.
func MariaDB(t testing.TB, opt ...string) *Rig {
	t.Helper()
	need.Real(t, Needs)
	if old := unused.take(opt); old != nil {
		r := *old
		r.t = t
		t.Cleanup(r.giveBack)
		return &r
	}
	// Not t.TempDir: the path of a socket has at most 107 bytes.
	dir, err := os.MkdirTemp("", "holdfast-rig-")
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{t: t, dir: dir, opt: slices.Clone(opt)}
	t.Cleanup(r.giveBack)
	r.install()
	// Between the choice of a port and its use somebody else may take it.
	for range 5 {
		r.port = freePort(t)
		if err = r.start(); err == nil {
			break
		}
	}
	if err == nil && unused.wants() {
		var log string
		log, err = r.ask("SELECT @@log_bin")
		r.logs = log == "1"
		if err == nil {
			r.born, err = r.state()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Needs is a MariaDB server's programs.
func Needs() error {
	if err := need.Programs("mariadb-server-core", "mariadbd", "mariadb-install-db")(); err != nil {
		return err
	}
	return need.Programs("mariadb-client", "mariadb")()
}

// giveBack is the end of a test's use of a server.
func (r *Rig) giveBack() {
	if r.born != "" && !r.t.Failed() {
		switch err := r.renew(); {
		case err != nil:
			r.t.Logf("no other test gets this server: %v", err)
		case unused.put(r):
			return
		}
	}
	r.remove()
}

// remove ends the server and removes its files.
func (r *Rig) remove() {
	r.Kill()
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Errorf("files of the test's server: %v", err)
	}
}

// find looks where daemons are, too: /usr/sbin is not in everybody's PATH.
func find(name string) (string, error) {
	for _, n := range []string{name, "/usr/sbin/" + name} {
		if p, err := exec.LookPath(n); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is neither in PATH nor in /usr/sbin", name)
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// common are options of the installation and of the server alike: small files and buffers,
// which a server fills with zeros when it starts, and no wait for the disk, since a process that dies loses nothing that was written. In a
// shared directory, a server that starts takes the temporary tables of others away.
func (r *Rig) common() []string {
	out := []string{"--no-defaults", "--datadir=" + r.data(), "--tmpdir=" + r.dir, "--innodb-log-file-size=8M",
		"--innodb-flush-log-at-trx-commit=2",
		"--innodb-log-buffer-size=2M", "--key-buffer-size=1M", "--aria-pagecache-buffer-size=1M", "--query-cache-size=0"}
	if os.Geteuid() == 0 {
		out = append(out, "--user=root")
	}
	return out
}

func (r *Rig) data() string   { return filepath.Join(r.dir, "data") }
func (r *Rig) socket() string { return filepath.Join(r.dir, "s") }
func (r *Rig) log() string    { return filepath.Join(r.dir, "log") }

func (r *Rig) install() {
	r.t.Helper()
	Install(r.t, r.data())
	password := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(Password)
	text := "CREATE USER IF NOT EXISTS '" + User + "'@'%' IDENTIFIED BY '" + password + "';\nGRANT ALL ON *.* TO '" +
		User + "'@'%' WITH GRANT OPTION;\n"
	if err := os.WriteFile(filepath.Join(r.dir, "init"), []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// Start starts the server anew, at the same port, from now on with more options.
func (r *Rig) Start(opt ...string) {
	r.t.Helper()
	r.opt = append(r.opt, opt...)
	if err := r.start(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *Rig) start() error {
	bin, err := find("mariadbd")
	if err != nil {
		return err
	}
	args := append(r.common(), "--socket="+r.socket(), "--bind-address=127.0.0.1", fmt.Sprintf("--port=%d", r.port),
		"--pid-file="+filepath.Join(r.dir, "pid"), "--log-error="+r.log(), "--init-file="+filepath.Join(r.dir, "init"),
		"--skip-name-resolve", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF", "--local-infile=1")
	r.cmd, r.done = exec.Command(bin, append(args, r.opt...)...), make(chan struct{})
	// The server dies with us, also when nobody cleans up. The kernel takes the end of
	// the thread that started it for ours: it is kept for as long as the server lives.
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func(cmd *exec.Cmd, done chan struct{}) {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}(r.cmd, r.done)
	if err := <-started; err != nil {
		return err
	}
	return r.ready()
}

// ready waits until the server answers.
func (r *Rig) ready() error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		select {
		case <-r.done:
			return fmt.Errorf("mariadbd ended at its start:\n%s", r.tail())
		default:
		}
		// The port may be somebody else's while ours dies of it: the socket is ours.
		if c, err := net.DialTimeout("unix", r.socket(), time.Second); err == nil {
			return c.Close()
		}
	}
	r.Kill()
	return fmt.Errorf("mariadbd does not answer after %v:\n%s", patience, r.tail())
}

// tail is the end of the server's log.
func (r *Rig) tail() string {
	text, err := os.ReadFile(r.log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// Kill ends the server at once, as a crash would, and returns when it is gone.
func (r *Rig) Kill() {
	r.t.Helper()
	r.born = "" // nobody else gets it
	if r.done == nil {
		return
	}
	select {
	case <-r.done:
		return
	default:
	}
	if err := r.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Errorf("kill of the test's server: %v", err)
	}
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Error("the test's server does not end after it was killed")
	}
}

// Port is the TCP port at 127.0.0.1.
func (r *Rig) Port() int { return r.port }

// Socket is the path of the unix socket.
func (r *Rig) Socket() string { return r.socket() }

// DSN is how server.Open reaches it, by TCP.
func (r *Rig) DSN() string {
	return fmt.Sprintf("%s:%s@tcp(127.0.0.1:%d)/", User, Password, r.port)
}

// Server opens the server; it is closed with the test.
func (r *Rig) Server(role string) *server.Server {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := server.Open(ctx, role, r.DSN(), server.Options{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			r.t.Errorf("close of the connections to the test's server: %v", err)
		}
	})
	return s
}

// packet is the longest text that goes to a server at once, which may have less room than usual.
const packet = 512 << 10

// clients are texts that only the client takes: with its DELIMITER or files of its own, and with
// statements that are empty, as what is behind the last one may be.
var clients = text.Pattern(`DELIMITER|LOCAL INFILE|(?m:^|;)\s*;|(?m:^)\s*(--|#).*\s*$`)

// SQL runs statements as the server's root, in a session of their own, and returns their
// rows: a line for each, values apart by tabs, no names of columns, nothing escaped. The
// mariadb client takes as long to start as most of them run: it has those that need it, and
// long texts, which it sends one statement at a time.
func (r *Rig) SQL(text string) string {
	r.t.Helper()
	if strings.TrimSpace(text) == "" {
		return ""
	}
	if !clients().MatchString(text) && len(text) <= packet {
		out, err := r.ask(text)
		if err != nil {
			r.t.Fatalf("%v\n%.2000s", err, text)
		}
		return out
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mariadb", "--no-defaults", "--socket="+r.socket(), "--user=root",
		"--batch", "--raw", "--skip-column-names", "--default-character-set=utf8mb4")
	cmd.Stdin = strings.NewReader(text)
	var out, fault strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &fault
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("mariadb: %v: %s\n%.2000s", err, fault.String(), text)
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// Load runs a file of internal/transition/db/mapping/testdata; the names of its databases begin with
// with, instead of prefix: Load("zed-schema.sql", "zed_", "new_").
func (r *Rig) Load(file, prefix, with string) {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(testdata(r.t), file))
	if err != nil {
		r.t.Fatal(err)
	}
	from := "`" + prefix
	if !strings.Contains(string(text), "USE "+from) {
		r.t.Fatalf("%s has no database whose name begins with %s", file, prefix)
	}
	r.SQL(strings.NewReplacer("USE "+from, "USE `"+with, "EXISTS "+from, "EXISTS `"+with).Replace(string(text)))
}

// testdata is the folder internal/transition/db/mapping/testdata, from wherever in the module the test runs.
func testdata(t testing.TB) string {
	t.Helper()
	return filepath.Join(try.Module(t), "internal", "transition", "db", "mapping", "testdata")
}
