package proc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"holdfast/internal/lib/text"
)

// Run runs a program to its end, in the language of its code, with input as standard input. said is
// what it wrote to standard error, in one line for a message. The error wraps exec.ErrNotFound where
// there is no such program.
func Run(ctx context.Context, within time.Duration, input, name string, args ...string) (out, said string, err error) {
	caller := ctx
	ctx, cancel := context.WithTimeout(caller, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = strings.NewReader(input)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil && ctx.Err() != nil && caller.Err() == nil { // that it was killed tells nobody why
		err = fmt.Errorf("it has not ended within %s: %w", within, err)
	}
	return string(b), strings.TrimSpace(text.Clean(stderr.String())), err
}

// Told adds to the error of a program what the program has said, if that is anything.
func Told(err error, said string) error {
	if said == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, said)
}
