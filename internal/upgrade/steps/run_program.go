package steps

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"holdfast/internal/host/action/program"
)

// runPath is where programs of the platform look for others.
const runPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runProgram is the runner of one program of the host.
type runProgram struct {
	helper  program.Helper
	argv    []string
	timeout time.Duration
}

func (p *runProgram) single() bool { return true }

// command is the directory of the one command of an attempt.
func (p *runProgram) command(dir string) string { return filepath.Join(dir, "1") }

func (p *runProgram) begin(ctx context.Context, dir string, log io.Writer) (program.Result, error) {
	home := "/"
	if os.Geteuid() == 0 {
		home = "/root"
	}
	r, err := p.helper.Run(ctx, p.command(dir), program.Spec{
		Argv: p.argv, Env: []string{"PATH=" + runPath, "LANG=C.UTF-8", "HOME=" + home}, Dir: "/", Timeout: p.timeout,
	}, log)
	return r, err
}

func (p *runProgram) probe(_ context.Context, dir string) (program.Result, error) {
	r, err := program.Probe(p.command(dir))
	return r, err
}

func (p *runProgram) follow(ctx context.Context, dir string, log io.Writer, from int64) (program.Result, error) {
	r, err := program.Attach(ctx, p.command(dir), log, from)
	return r, err
}

func (p *runProgram) stop(ctx context.Context, dir string) error {
	_, err := program.Stop(ctx, p.command(dir))
	return err
}
