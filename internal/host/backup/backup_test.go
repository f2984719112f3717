package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/host/backup"
	"holdfast/internal/lib/proc"
	"holdfast/testbed/try"
)

func TestRun(t *testing.T) {
	ctx := try.Context(t)
	sh := func(script string) backup.Command {
		return backup.Command{Path: "/bin/sh", Args: []string{"-c", script}}
	}
	t.Setenv("HOLDFAST_TEST_LEAK", "yes")
	if out, err := backup.Run(ctx, sh(`printf %s "$LC_ALL$HOLDFAST_TEST_LEAK"`)); err != nil || string(out) != "C" {
		t.Errorf("environment: %q, %v", out, err)
	}
	_, err := backup.Run(ctx, sh(`echo one >&2; printf 'two\033[1m' >&2; exit 3`))
	var e *backup.ExitError
	if !errors.As(err, &e) || e.Code != 3 || e.Stderr != "one; two[1m" {
		t.Errorf("exit: %v", err)
	}
	if _, err := backup.Run(ctx, sh(`head -c 5000000 /dev/zero`)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("much output: %v", err)
	}
	var much bytes.Buffer
	c := sh(`head -c 5000000 /dev/zero`)
	c.Stdout = &much
	if _, err := backup.Run(ctx, c); err != nil || much.Len() != 5000000 {
		t.Errorf("much output to a writer: %v, %d bytes", err, much.Len())
	}
	if _, err := backup.Run(context.Background(), sh("true")); err == nil || !strings.Contains(err.Error(), "no deadline") {
		t.Errorf("no deadline: %v", err)
	}
	if _, err := backup.Run(ctx, backup.Command{Path: "/nowhere/program"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no program: %v", err)
	}
	tool := filepath.Join(t.TempDir(), "tool")
	try.Must(t, os.WriteFile(tool, []byte("#!/bin/sh\necho 'tool 1.2' >&2\necho more\n"), 0o700))
	if v, err := backup.Version(ctx, tool, "--version"); err != nil || v != "tool 1.2" {
		t.Errorf("version: %q, %v", v, err)
	}
	if v, err := backup.Version(ctx, "/bin/true", ""); err == nil {
		t.Errorf("a version of a program that says nothing: %q", v)
	}
	if v, err := backup.Version(ctx, "/bin/sh", "-c"); err == nil {
		t.Errorf("a version of a program that fails: %q", v)
	}
}

// TestRunIsCancelled ends a program with a child, which must go too.
func TestRunIsCancelled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancelCause(try.Context(t))
	why := errors.New("the run was aborted")
	done := make(chan error, 1)
	go func() {
		script := `sleep 60 & echo $! >"$0.new" && mv "$0.new" "$0"; wait`
		_, err := backup.Run(ctx, backup.Command{Path: "/bin/sh", Args: []string{"-c", script, file}})
		done <- err
	}()
	pid := readPid(t, file)
	cancel(why)
	if err := <-done; !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	gone(t, pid)
}

// readPid waits until a file has a process id.
func readPid(t *testing.T, file string) int {
	t.Helper()
	var pid int
	try.Until(t, "a process id in "+file, func() bool { // it is written in parts: whole with its line
		b, err := os.ReadFile(file)
		if err != nil || !strings.HasSuffix(string(b), "\n") {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		try.Must(t, err)
		return true
	})
	return pid
}

// gone waits until a process has ended; a zombie that nobody reaps has.
func gone(t *testing.T, pid int) {
	t.Helper()
	try.Until(t, fmt.Sprintf("the end of process %d", pid), func() bool { p, err := proc.Here.Read(pid); return err != nil || p.Dead() })
}

// TestAgentIsKilled kills a process that runs programs. One of them ends with it;
// the other goes on and keeps the lock until it has ended.
func TestAgentIsKilled(t *testing.T) {
	if dir := os.Getenv("HOLDFAST_TEST_AGENT"); dir != "" {
		agent(t, dir)
		return
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run", "^TestAgentIsKilled$")
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_AGENT="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	try.Must(t, cmd.Start())
	short, long := readPid(t, dir+"/short"), readPid(t, dir+"/long")
	t.Cleanup(func() { _ = syscall.Kill(long, syscall.SIGKILL) }) // it has ended when the test succeeds
	try.Must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Error("it was not killed")
	}
	gone(t, short)
	q := backup.Request{ID: "b", Dir: dir}
	if held, err := backup.Held(q); err != nil || !held {
		t.Fatalf("the lock is free while a program works: %v", err)
	}
	over, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if l, err := backup.Acquire(over, q); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("acquired %v, %v", l, err)
	}
	if s, err := backup.Look(q, "x", nil, nil); err != nil || s != backup.Partial {
		t.Errorf("it looks %q, %v", s, err)
	}
	try.Must(t, syscall.Kill(long, syscall.SIGKILL))
	l, err := backup.Acquire(try.Context(t), q)
	try.Must(t, err)
	try.Must(t, l.Release())
	if held, err := backup.Held(q); err != nil || held {
		t.Errorf("the lock is held: %v", err)
	}
}

// agent is the process that is killed.
func agent(t *testing.T, dir string) {
	l, err := backup.Acquire(try.Context(t), backup.Request{ID: "b", Dir: dir})
	try.Must(t, err)
	done := make(chan error)
	for _, name := range []string{"short", "long"} {
		c := backup.Command{Path: "/bin/sh", Args: []string{"-c",
			`echo $$ >"$0.new" && mv "$0.new" "$0" && exec sleep 60`, filepath.Join(dir, name)}}
		if name == "long" {
			c.Outlives, c.Hold = true, l
		}
		go func() {
			_, err := backup.Run(try.Context(t), c)
			done <- err
		}()
	}
	t.Fatal(<-done, <-done)
}

func TestLockOneAfterTheOther(t *testing.T) {
	q := backup.Request{ID: "b", Dir: t.TempDir()}
	var inside atomic.Int32
	total := make(chan error)
	for range 8 {
		go func() {
			l, err := backup.Acquire(try.Context(t), q)
			if err != nil {
				total <- err
				return
			}
			if inside.Add(1) != 1 {
				err = errors.New("two are inside")
			}
			inside.Add(-1)
			total <- errors.Join(err, l.Release())
		}()
	}
	for range 8 {
		if err := <-total; err != nil {
			t.Error(err)
		}
	}
}

func TestSecret(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		content string
		mode    os.FileMode
		want    string
		fault   string
	}{
		{"word\n", 0o600, "word", ""},
		{"word\r\n", 0o400, "word", ""},
		{" spaces stay ", 0o600, " spaces stay ", ""},
		{"", 0o600, "", "is empty"},
		{"\n", 0o600, "", "is empty"},
		{"a\nb", 0o600, "", "more than one line"},
		{strings.Repeat("x", 1025), 0o600, "", "longer than"},
		{"word", 0o640, "", "chmod 600"},
		{"word", 0o604, "", "chmod 600"},
	} {
		path := filepath.Join(dir, "s")
		try.Must(t, os.WriteFile(path, []byte(tc.content), 0o600))
		try.Must(t, os.Chmod(path, tc.mode))
		got, err := backup.SecretRef(path).Read()
		if got != tc.want || (err == nil) != (tc.fault == "") || err != nil && !strings.Contains(err.Error(), tc.fault) {
			t.Errorf("%q %o: got %q, %v", tc.content, tc.mode, got, err)
		}
		try.Must(t, os.Remove(path))
	}
	pipe := filepath.Join(dir, "pipe")
	try.Must(t, syscall.Mkfifo(pipe, 0o600))
	for _, path := range []string{"", pipe, dir, dir + "/none"} {
		if got, err := backup.SecretRef(path).Read(); err == nil {
			t.Errorf("%q: got %q", path, got)
		}
	}
}

func TestReceipt(t *testing.T) {
	r := backup.Receipt{Provider: "x", ID: "b", Host: "h1", Dir: t.TempDir(), What: []string{"a"},
		When: time.Unix(1e9, 0).UTC(), Data: json.RawMessage(`{"k":1}`)}
	q := r.Request()
	if _, err := backup.Load(q); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	var data struct{ K int }
	try.Must(t, backup.CheckReceipt(r, "x", &data))
	try.Must(t, backup.Save(r))
	try.Must(t, backup.CheckReceipt(r, "x", &data))
	if info, err := os.Stat(q.File()); err != nil || info.Mode().Perm() != 0o600 || data.K != 1 {
		t.Errorf("%v, %v, %v", info, err, data)
	}
	if err := backup.CheckReceipt(r, "y", &data); err == nil {
		t.Error("the receipt of another provider is accepted")
	}
	if err := backup.CheckReceipt(r, "x", &struct{}{}); err == nil {
		t.Error("data that are not known are accepted")
	}
	other := r
	other.SHA256 = "00"
	if err := backup.CheckReceipt(other, "x", &data); !errors.Is(err, backup.ErrDamaged) {
		t.Errorf("a receipt unlike the one beside: %v", err)
	}
	try.Must(t, os.Rename(q.File(), filepath.Join(r.Dir, "c.receipt.json")))
	if _, err := backup.Load(backup.Request{ID: "c", Dir: r.Dir}); err == nil {
		t.Error("a receipt with another name is accepted")
	}
	r.Notes = []string{strings.Repeat("x", 256<<10)}
	if err := backup.Save(r); err == nil {
		t.Error("a receipt that is too large is written")
	}
	left, err := os.ReadDir(r.Dir)
	if err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestRequest(t *testing.T) {
	for _, q := range []backup.Request{
		{ID: "", Dir: "/x"}, {ID: "../a", Dir: "/x"}, {ID: "a b", Dir: "/x"}, {ID: strings.Repeat("a", 49), Dir: "/x"},
		{ID: "-a", Dir: "/x"}, {ID: "a", Dir: "x"}, {ID: "a", Dir: "/x/../y"}, {ID: "a", Dir: "/x", Options: json.RawMessage(`{"b":1}`)},
		{ID: "a", Dir: "/x", Options: json.RawMessage(`{} {}`)}, {ID: "a", Dir: "/x", Options: json.RawMessage(`[`)},
	} {
		if err := q.Check(&struct{}{}); err == nil {
			t.Errorf("%+v is accepted", q)
		}
	}
	try.Must(t, backup.Request{ID: "Up-1_2", Dir: "/x"}.Check(&struct{}{}))
}

func TestSpace(t *testing.T) {
	dir := t.TempDir()
	try.Must(t, backup.NeedSpace(dir, 1))
	if err := backup.NeedSpace(dir, 1<<60); !errors.Is(err, backup.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
	if at, err := backup.IsMountPoint("/proc"); err != nil || !at {
		t.Errorf("/proc: %v, %v", at, err)
	}
	if at, err := backup.IsMountPoint(dir); err != nil || at {
		t.Errorf("%s: %v, %v", dir, at, err)
	}
}
