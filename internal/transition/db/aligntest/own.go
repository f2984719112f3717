package aligntest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/testbed/need"
)

// Own is a server that a test starts in its own way, as another than a Rig's.
type Own struct {
	Program string // mariadbd
	Options string // path of its option file
	Data    string // its data directory, as installed
	Socket  string
	Log     string
	Port    int // of 127.0.0.1
}

// NewOwn installs a server below dir, with more lines of its option file. It skips the test
// where what replicates servers is not installed, and with -short.
func NewOwn(t testing.TB, dir string, more []string) Own {
	t.Helper()
	o := Prepare(t, dir, more)
	Install(t, o.Data)
	return o
}

// Prepare is NewOwn without any data.
func Prepare(t testing.TB, dir string, more []string) Own {
	t.Helper()
	need.Real(t, Needs, need.Programs("mariadb-client", "mariadb-binlog"), need.Programs("mariadb-backup", "mariadb-backup", "mbstream"))
	path, err := find("mariadbd")
	if err != nil {
		t.Fatal(err)
	}
	o := Own{
		Program: path, Options: filepath.Join(dir, "cnf"), Data: filepath.Join(dir, "data"), Socket: filepath.Join(dir, "s"),
		Log: filepath.Join(dir, "log"), Port: lowPort(t),
	}
	lines := append([]string{
		"[mysqld]", "datadir=" + o.Data, "tmpdir=" + dir, "socket=" + o.Socket, "pid-file=" + filepath.Join(dir, "pid"),
		"bind-address=127.0.0.1", fmt.Sprintf("port=%d", o.Port), "innodb_buffer_pool_size=32M",
		"innodb_log_file_size=8M", "performance_schema=OFF",
		"innodb_log_buffer_size=2M", "key_buffer_size=1M", "aria_pagecache_buffer_size=1M", "query_cache_size=0",
	}, more...)
	if os.Geteuid() == 0 {
		lines = append(lines, "user=root")
	}
	if err := os.WriteFile(o.Options, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return o
}

// Tell logs the end of what the server said, of a test that failed.
func (o Own) Tell(t testing.TB, name string) {
	if text, err := os.ReadFile(o.Log); err == nil && t.Failed() {
		t.Logf("server %s:\n%s", name, text[max(0, len(text)-1500):])
	}
}

// lowPort is a port below those that the kernel gives to clients: none of them takes it while
// the server does not run.
func lowPort(t testing.TB) int {
	t.Helper()
	for range 200 {
		p := 20000 + int(time.Now().UnixNano()/1000)%12000
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p)); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			return p
		}
	}
	t.Fatal("no free port")
	return 0
}
