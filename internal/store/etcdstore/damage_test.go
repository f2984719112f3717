package etcdstore

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"holdfast/testbed/try"
)

// needle is a value that can be found in files.
const needle = "the-needle-in-the-haystack"

func TestDamage(t *testing.T) {
	c := startCluster(t)
	a := c.admin(t)
	cl := c.open(t, c.prefix())
	for i := range 3 * aheadOfLog {
		insist(t, cl, "k"+strconv.Itoa(i%50), "v"+strconv.Itoa(i))
	}
	insist(t, cl, "needle", needle)
	c.status(t, a, func(all []MemberStatus) error {
		for _, m := range all {
			if m.Behind > 0 {
				return errors.New(m.trouble())
			}
		}
		return allHealthy(all)
	})
	m := c.other(t, c.leader(t))
	m.end(t, unix.SIGTERM)
	whole := filepath.Join(t.TempDir(), "whole")
	copyDir(t, m.conf.DataDir, whole)
	for _, d := range damages() {
		t.Run(d.name, func(t *testing.T) {
			d.do(t, m.conf.DataDir)
			out, code := m.runAndFail(t)
			if code != 1 || !strings.Contains(out, ErrCorrupt.Error()) || !strings.Contains(out, m.conf.DataDir) || !strings.Contains(out, d.want) ||
				strings.Contains(out, "goroutine ") {
				t.Errorf("exit %d: %s", code, out)
			}
			if err := os.RemoveAll(m.conf.DataDir); err != nil {
				t.Fatal(err)
			}
			copyDir(t, whole, m.conf.DataDir)
		})
	}
	m.start(t)
	c.status(t, a, allHealthy)
}

type damage struct {
	name string
	do   func(t *testing.T, dir string)
	want string // in the error
}

func damages() []damage {
	log := func(dir string) string { return filepath.Join(walDir(dir), "0000000000000000-0000000000000000.wal") }
	return []damage{
		{"log, one bit", func(t *testing.T, dir string) {
			edit(t, log(dir), func(b []byte) []byte {
				b[bytes.Index(b, []byte(needle))] ^= 1
				return b
			})
		}, "crc mismatch"},
		{"log, cut off", func(t *testing.T, dir string) {
			edit(t, log(dir), func(b []byte) []byte { return b[:len(bytes.TrimRight(b, "\x00"))/10] })
		}, "the log ends at entry"},
		{"log, its first page", func(t *testing.T, dir string) {
			edit(t, log(dir), func(b []byte) []byte { clearBytes(b[:4096]); return b })
		}, "log"},
		{"log, gone", func(t *testing.T, dir string) { remove(t, walDir(dir)) }, "no log"},
		{"database, cut off", func(t *testing.T, dir string) {
			edit(t, dbFile(dir), func(b []byte) []byte { return b[:3*4096] })
		}, "bytes of"},
		{"database, a page overwritten", func(t *testing.T, dir string) {
			edit(t, dbFile(dir), func(b []byte) []byte {
				at := bytes.LastIndex(b, []byte(needle)) &^ 4095
				for i := range 4096 {
					b[at+i] = 0xa5
				}
				return b
			})
		}, "read "},
		{"database, both first pages", func(t *testing.T, dir string) {
			edit(t, dbFile(dir), func(b []byte) []byte { clearBytes(b[:2*4096]); return b })
		}, "invalid database"},
		{"database, empty", func(t *testing.T, dir string) {
			edit(t, dbFile(dir), func(b []byte) []byte { return nil })
		}, "no database"},
		{"database, gone", func(t *testing.T, dir string) { remove(t, dbFile(dir)) }, "no database"},
		{"all gone but our marks", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "member")) }, "the log is gone"},
	}
}

func clearBytes(b []byte) {
	for i := range b {
		b[i] = 0
	}
}

func edit(t *testing.T, file string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, f(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func copyDir(t *testing.T, from, to string) {
	t.Helper()
	err := os.Remove(filepath.Join(from, etcdSocket)) // which a member that was killed leaves
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, os.CopyFS(to, os.DirFS(from))); err != nil {
		t.Fatal(err)
	}
}

// runAndFail runs the member, which must end by itself, and returns what it says.
func (m *member) runAndFail(t *testing.T) (out string, code int) {
	t.Helper()
	cmd := m.command(t)
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Errorf("%s ended without an error", m.conf.Name)
	}
	return buf.String(), cmd.ProcessState.ExitCode()
}

// A crash while a log is being written is no damage.
func TestTornLogIsNoDamage(t *testing.T) {
	c := single(t)
	m := c.members[0]
	c.run(t)
	cl := c.open(t, "/")
	insist(t, cl, "k", needle)
	m.end(t, unix.SIGKILL)
	edit(t, filepath.Join(walDir(m.conf.DataDir), "0000000000000000-0000000000000000.wal"), func(b []byte) []byte {
		// The last record was written in part: the rest of the file is zero.
		end := len(bytes.TrimRight(b, "\x00"))
		return append(b[:end], 0x20, 0, 0, 0, 0, 0, 0, 0, 8, 2, 16)
	})
	m.start(t)
	kv, ok, err := cl.Get(try.Context(t), "k")
	if err != nil || !ok || string(kv.Value) != needle {
		c.fail(t, "%+v, %v", kv, err)
	}
}

func TestDiagnose(t *testing.T) {
	full := &os.PathError{Op: "write", Path: "wal", Err: unix.ENOSPC}
	for _, tc := range []struct {
		err  error
		want error // nil: none of ours
	}{
		{errors.New("failed to read WAL, cannot be repaired: walpb: crc mismatch"), ErrCorrupt},
		{errors.Join(errors.New("failed to read WAL"), full), nil},
		{errors.New("tocommit(9) is out of range [lastIndex(3)]. Was the raft log corrupted, truncated, or lost?"), ErrCorrupt},
		{errors.New("member 8e9e05c52164694d has already been bootstrapped"), ErrLost},
		{errors.New("no idea"), nil},
	} {
		got := diagnose("/data", tc.err)
		for _, k := range []error{ErrCorrupt, ErrLost} {
			if errors.Is(got, k) != (k == tc.want) {
				t.Errorf("%v: got %v", tc.err, got)
			}
		}
		if !errors.Is(got, tc.err) {
			t.Errorf("%v: the cause is lost in %v", tc.err, got)
		}
	}
}
