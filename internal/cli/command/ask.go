package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"holdfast/internal/api"
	"holdfast/internal/cli/output"
	"holdfast/internal/lib/fail"
)

// Ask asks a question, and returns the line that comes as its answer; a source that
// ends has answered with nothing.
func (a *App) Ask(ctx context.Context, question string) (string, error) {
	line, _, err := a.AskLine(ctx, question)
	return line, err
}

// AskLine asks a question, and returns the line that comes as its answer, or that the source has
// ended without one.
func (a *App) AskLine(ctx context.Context, question string) (answer string, ended bool, err error) {
	if err := output.Text(a.Env.Stderr, question); err != nil {
		return "", false, err
	}
	line, err := bufio.NewReader(Source(ctx, a.Env.Stdin)).ReadString('\n')
	// On a terminal who answers ends the question's line.
	if in, ok := a.Env.Stdin.(*os.File); question != "" && (err != nil || !ok || !output.IsTerminal(in)) {
		if werr := output.Text(a.Env.Stderr, "\n"); werr != nil {
			return "", false, werr
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return "", false, fmt.Errorf("read the answer: %w", err)
	}
	return strings.TrimSpace(line), err != nil && line == "", nil
}

// AskYesOf asks for a yes when the agent answers: what can not be done is not asked for.
func (a *App) AskYesOf(ctx context.Context, c *api.Client, question string) error {
	if _, err := c.Version(ctx); err != nil {
		return err
	}
	return a.AskYes(ctx, question)
}

// AskYes asks for a yes.
func (a *App) AskYes(ctx context.Context, question string) error {
	typed, err := a.Ask(ctx, question)
	if err != nil {
		return err
	}
	if typed != "yes" {
		return NotConfirmed("type yes, or give --yes")
	}
	return nil
}

// NotConfirmed is the end of every command whose question was not answered as it wants.
func NotConfirmed(hint string) error {
	return fail.Errorf(fail.Invalid, "not confirmed; nothing was changed").With(hint)
}

// Confirming asks before what can not be taken back by itself.
func (a *App) Confirming(yes bool) func(context.Context, string) error {
	return func(ctx context.Context, what string) error {
		return a.Sure(ctx, yes, what, "see first what it does: --check; then give --yes")
	}
}

// Sure asks whether something shall be done, unless yes. hint is for who can not be asked.
func (a *App) Sure(ctx context.Context, yes bool, what, hint string) error {
	if yes {
		return nil
	}
	if in, ok := a.Env.Stdin.(*os.File); !ok || !output.IsTerminal(in) {
		return fail.Errorf(fail.Refused, "%s: nobody can be asked without a terminal; nothing was changed",
			output.Clean(what)).With(hint)
	}
	return a.AskYes(ctx, output.Clean(what)+"? Type yes: ")
}
