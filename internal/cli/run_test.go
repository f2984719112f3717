package cli

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/command"
	"holdfast/internal/lib/fail"
)

// TestExitCodeOfAnotherCommand is that of the one that ran it, without a word.
func TestExitCodeOfAnotherCommand(t *testing.T) {
	var out bytes.Buffer
	run := &cobra.Command{Use: "runs", RunE: func(*cobra.Command, []string) error { return errors.Join(&fail.Ran{Code: 7}) }}
	env := command.Env{Stdout: &out, Stderr: &out, Stdin: strings.NewReader(""), Extra: []*cobra.Command{run}}
	if code := Main([]string{"runs"}, env); code != 7 || out.Len() > 0 {
		t.Errorf("exit code %d: %s", code, &out)
	}
}
