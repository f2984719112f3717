package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/lib/fail"
)

// ProgramName is the name of the program that agents are.
const ProgramName = "holdfast"

// ProgramFlag gives a command the flag that Program reads.
func ProgramFlag(c *cobra.Command, file *string) {
	c.Flags().StringVar(file, "program", "", "the `file` of the program holdfast, which agents are (default: the one beside this program)")
}

// Program is the program holdfast that a flag names, or else the one beside this program. It is refused unless it runs.
func Program(ctx context.Context, file string) (string, error) {
	if file == "" {
		self, err := os.Executable()
		if err != nil {
			return "", fmt.Errorf("find this program: %w", err)
		}
		file = filepath.Join(filepath.Dir(self), ProgramName)
	}
	exe, err := filepath.Abs(file)
	if err != nil {
		return "", fmt.Errorf("find the program holdfast: %w", err)
	}
	said, err := exec.CommandContext(ctx, exe, "version", "--socket", os.DevNull).Output() // no agent is asked
	if err == nil && !strings.HasPrefix(string(said), ProgramName+" ") {
		err = errors.New("it is another program")
	}
	if err != nil {
		return "", fail.Errorf(fail.Invalid, "%s is not the program holdfast, which agents are: %w", file,
			err).With("make build makes it beside this program; --program FILE names another one")
	}
	return exe, nil
}
