package aid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc"
	"holdfast/internal/lib/text"
)

// Bounds of an archive: the command itself ends its parts after two minutes.
const (
	reportWithin = 5 * time.Minute
	reportMost   = 256 << 20 // bytes
	maxSaid      = 4 << 10   // of what the command says of an error
	endWithin    = 5 * time.Second
	lowNice      = 10
)

// Report has a host make its archive, and writes it. One is made at a time on a host.
func (s *Service) Report(ctx context.Context, host cluster.HostID, days int, to io.Writer) error {
	if host != "" && host != s.Host {
		p, err := s.peer(host)
		if err != nil {
			return err
		}
		defer p.Close()
		return p.Report(ctx, host, days, to)
	}
	if !s.making.TryLock() {
		return fail.Errorf(fail.Unavailable, "%s makes an archive for somebody else now", s.Host).With("ask again in a minute")
	}
	defer s.making.Unlock()
	ctx, cancel := context.WithTimeout(ctx, reportWithin)
	defer cancel()
	s.Log.Info("an archive for those who help is made", "days", days)
	out := &bounded{to: to, left: reportMost}
	said := text.Tail{Most: maxSaid}
	cmd := proc.Foreign(ctx, s.Exe, "report", "--out", "-", "--days", strconv.Itoa(days), "--config", s.File)
	cmd.Env = append(os.Environ(), "HOLDFAST_SOCKET="+s.Socket, "LC_ALL=C")
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, &said, endWithin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what it has begun ends with it
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := run(cmd)
	switch {
	case out.err != nil:
		return out.err
	case ctx.Err() != nil:
		return fmt.Errorf("make an archive: %w", context.Cause(ctx))
	case err != nil:
		return fail.Errorf(fail.Failed, "the archive of %s was not made: %w: %s", s.Host, err, strings.TrimSpace(said.String()))
	}
	return nil
}

// run runs a command behind all others: the agent's own priority is above that of guests.
func run(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	err := syscall.Setpriority(syscall.PRIO_PROCESS, cmd.Process.Pid, lowNice)
	if errors.Is(err, syscall.ESRCH) { // it has ended
		err = nil
	}
	return errors.Join(err, cmd.Wait())
}

// bounded writes what is left at most. The first error ends it.
type bounded struct {
	to   io.Writer
	left int
	err  error
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		b.err = errors.New("the archive is larger than what is taken")
		return 0, b.err
	}
	n, err := b.to.Write(p)
	b.err = err
	return n, err
}
