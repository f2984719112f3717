package program

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxStdin bounds the lines for standard input, bytes: they must fit in a pipe.
const maxStdin = 32 << 10

func cgroupName(mark string) string {
	sum := sha256.Sum256([]byte(mark))
	return "holdfast-step-" + hex.EncodeToString(sum[:8])
}

// start forks the program. It is the leader of a session.
func (s *session) start(env []string) (err error) {
	argv, err := s.argv()
	if err != nil {
		return err
	}
	attr := &syscall.ProcAttr{Dir: s.spec.Dir, Env: env, Sys: &syscall.SysProcAttr{Setsid: true}}
	var in, out *os.File
	if s.spec.Terminal {
		if s.source, out, err = openPTY(); err != nil {
			return err
		}
		attr.Sys.Setctty, in = true, out
	} else {
		if s.source, out, err = os.Pipe(); err != nil {
			return fmt.Errorf("make a pipe for the output: %w", err)
		}
		if in, err = s.stdin(); err != nil {
			return errors.Join(err, out.Close(), s.source.Close())
		}
		defer func() { err = errors.Join(err, in.Close()) }()
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if s.link, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", out.Fd())); err != nil {
		return fmt.Errorf("name the output: %w", err)
	}
	attr.Files = []uintptr{in.Fd(), out.Fd(), out.Fd()}
	pid, err := s.fork(argv, attr)
	if err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	p, ok := statOf(pid) // also of one that has ended: it is not waited for yet
	if !ok {
		p.PID = pid
	}
	s.main = p
	return nil
}

// fork starts the program in its control group, and without one when the kernel
// refuses that.
func (s *session) fork(argv []string, attr *syscall.ProcAttr) (int, error) {
	if s.cgroup != "" {
		fd, err := unix.Open(s.cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
			pid, err := syscall.ForkExec(argv[0], argv, attr)
			if err == nil {
				return pid, nil
			}
		}
		attr.Sys.UseCgroupFD = false
	}
	return syscall.ForkExec(argv[0], argv, attr)
}

// argv returns the command line, with sudo where it is wanted.
func (s *session) argv() ([]string, error) {
	if !s.spec.Sudo {
		return s.spec.Argv, nil
	}
	path := ""
	for _, kv := range s.spec.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	sudo, err := LookIn(path, "sudo")
	if err != nil {
		return nil, err
	}
	if s.spec.Terminal {
		return append([]string{sudo, "-p", sudoPrompt, "--"}, s.spec.Argv...), nil
	}
	return append([]string{sudo, "-n", "--"}, s.spec.Argv...), nil
}

// UsualPath is where programs are looked for.
const UsualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Environment is what every program of a step gets.
func Environment(path string) []string {
	home := "/"
	if os.Geteuid() == 0 {
		home = "/root"
	}
	return []string{"PATH=" + path, "LANG=C.UTF-8", "HOME=" + home}
}

// LookIn finds a program in the directories of a search path, which must be
// absolute.
func LookIn(path, name string) (string, error) {
	for dir := range strings.SplitSeq(path, ":") {
		if strings.HasPrefix(dir, "/") {
			if p, err := exec.LookPath(dir + "/" + name); err == nil {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("the program %s is not installed: it is in none of %s", name, strings.ReplaceAll(path, ":", ", "))
}

// stdin is what the program reads.
func (s *session) stdin() (*os.File, error) {
	var text strings.Builder
	for _, a := range s.creds.Stdin {
		text.WriteString(s.creds.value(a) + "\n")
	}
	if text.Len() == 0 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			return nil, fmt.Errorf("open standard input: %w", err)
		}
		return f, nil
	}
	if text.Len() > maxStdin {
		return nil, fmt.Errorf("%d bytes of standard input: want at most %d", text.Len(), maxStdin)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for standard input: %w", err)
	}
	_, err = w.WriteString(text.String())
	if err := errors.Join(err, w.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("fill standard input: %w", err), r.Close())
	}
	return r, nil
}
