package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// pipeWait bounds the wait for what a process that has ended has said: a child
// of it may hold its standard error open.
const pipeWait = time.Second

// Touch writes a file of its own into dir, puts it on disk, and reads it back. It
// may block for ever; it is what the process of Command does.
func Touch(dir, host string) error {
	file := filepath.Join(dir, ".holdfast-probe-"+host)
	want := []byte(rand.Text())
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("probe the shared storage: %w", err)
	}
	_, err = f.Write(want)
	if err = errors.Join(err, f.Sync()); err == nil {
		var got []byte
		if got, err = io.ReadAll(io.NewSectionReader(f, 0, int64(len(want)))); err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%s: what was written reads back as something else", file)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("probe the shared storage: %w", err)
	}
	return nil
}

// Command is a check by a process of its own, which runs Touch. It is killed when
// the context ends; one that the storage does not let go even then is waited for.
// What it says to its standard error is the reason when it fails.
func Command(name string, args ...string) func(context.Context) error {
	return func(ctx context.Context) error {
		var said bytes.Buffer
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Stderr, cmd.WaitDelay = &said, pipeWait
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("the storage probe does not start: %w", err)
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("%w: %s", err, strings.TrimSpace(said.String()))
		}
		return nil
	}
}
