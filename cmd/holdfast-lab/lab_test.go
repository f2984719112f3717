package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast/internal/lib/lang"
	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestMain is also the program itself, and plays the one that agents are.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "version" {
		fmt.Println("holdfast test")
		os.Exit(0)
	}
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-test.") {
		main()
	}
	os.Exit(m.Run())
}

// ourselves is this program as a process of its own.
func ourselves(ctx context.Context, args ...string) (cmd *exec.Cmd, said *bytes.Buffer) {
	said = &bytes.Buffer{}
	cmd = exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", append(os.Environ(), lang.Env+"="), said, said
	return cmd, said
}

// TestLabNeedsRoot: each of its commands says so to others, as bad input, before anything else.
func TestLabNeedsRoot(t *testing.T) {
	const nobody = 65534
	dir := filepath.Join(t.TempDir(), "l")
	tried := 0
	for _, c := range lab.Command().Commands() {
		if c.Hidden {
			continue
		}
		words := []string{"h1", "0", "true"}
		n := slices.IndexFunc([]int{0, 1, 2, 3}, func(n int) bool { return c.ValidateArgs(words[:n]) == nil })
		args := slices.Concat([]string{c.Name(), "--dir", dir}, words[:n])
		cmd, said := ourselves(t.Context(), args...)
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		err := cmd.Run()
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) {
			t.Skip("missing: the right to run a program as another user: ", err)
		}
		if code := cmd.ProcessState.ExitCode(); code != 2 || said.String() != "holdfast-lab: the laboratory needs root\n  run it with sudo\n" {
			t.Errorf("%q: exit code %d, %v: %s", args, code, err, said)
		}
		tried++
	}
	if tried < 5 {
		t.Errorf("%d commands were tried", tried)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
}

// TestLabUpIsInterrupted as Ctrl-C does it: it says what it has removed, and nothing is left.
func TestLabUpIsInterrupted(t *testing.T) {
	need.Real(t, need.Root, func() error {
		if m := lab.Missing(); len(m) > 0 {
			return errors.New(strings.Join(m, ", "))
		}
		return nil
	})
	exe, err := os.Executable()
	try.Must(t, err)
	dir := filepath.Join(t.TempDir(), "l")
	cmd, said := ourselves(t.Context(), "up", "--dir", dir, "--hosts", "2", "--program", exe)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // not killed: it removes what it has made
	try.Must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		down, said := ourselves(context.Background(), "down", "--dir", dir) // the test's context has ended
		if _, err := os.Stat(dir); err == nil && down.Run() != nil {
			t.Error(said)
		}
	})
	try.Until(t, "the laboratory to be begun", func() bool {
		_, err := os.Stat(filepath.Join(dir, "state.json"))
		return err == nil || len(ended) > 0
	})
	try.Must(t, cmd.Process.Signal(os.Interrupt))
	err = <-ended
	code, want := cmd.ProcessState.ExitCode(), "holdfast-lab: interrupted; all of the laboratory in "+dir+" is removed, and nothing is left\n"
	if code != 1 || !strings.HasSuffix(said.String(), want) {
		t.Errorf("exit code %d, %v: %s", code, err, said)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	try.Must(t, err)
	for _, f := range lines {
		if line, err := os.ReadFile(f); err == nil && bytes.Contains(line, []byte(dir)) { // else it has ended
			t.Errorf("%s is left: %q", f, line)
		}
	}
}
