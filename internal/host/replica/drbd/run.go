package drbd

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"syscall"

	"holdfast/internal/lib/proc"
	"holdfast/internal/lib/text"
)

// run runs a program, and calls ended when it has. When ctx ends before, it goes on.
func run(ctx context.Context, ended func(), name string, args ...string) (string, error) {
	cmd := proc.Foreign(context.Background(), name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is not for it
	if err := cmd.Start(); err != nil {
		ended()
		return "", err
	}
	done := make(chan error, 1)
	go func() { // ends with the program
		err := cmd.Wait()
		ended()
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil {
			err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, why(out.String()))
		}
		return out.String(), err
	case <-ctx.Done():
		return "", fmt.Errorf("%s %s: it goes on: %w", name, strings.Join(args, " "), ctx.Err())
	}
}

// command is what drbdadm tells of a program that it has started: all arguments, with the secret.
var command = text.Pattern(`(?m)^Command '.*$`)

// why is the end of what a program has said of its failure.
func why(said string) string {
	said = strings.TrimSpace(command().ReplaceAllString(said, ""))
	return said[max(0, len(said)-300):]
}
