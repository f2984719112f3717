package remote

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"holdfast/internal/lib/text"
)

// endWithin bounds the end of the program on this host after its last request.
const endWithin = dialWithin

// Here is this host, on which package onhost answers as it does on others. It is for one
// goroutine at a time.
type Here struct {
	*talk
	cmd *exec.Cmd
}

// BeginHere starts the program on this host, as root: by sudo when this process is not.
func BeginHere(p Program) (*Here, error) {
	argv := []string{p.File, "on-host", ""}
	if os.Geteuid() != 0 {
		argv = append([]string{"sudo", "-n"}, argv...)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	// A signal of the terminal ends this process, and by the end of its input the other one.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the program here: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start the program here: %w", err)
	}
	h := &Here{cmd: cmd}
	h.talk = newTalk(in, out, sync.OnceValue(cmd.Wait), func() {
		_, _ = in.Close(), out.Close() // its end is told by wait
	})
	cmd.Stderr = h.said
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the program here: %w", err)
	}
	return h, nil
}

// Close ends the program, and waits for its end.
func (h *Here) Close() error {
	_ = h.in.Close() // its end is told by wait
	t := time.AfterFunc(endWithin, func() { _ = h.cmd.Process.Kill() })
	defer t.Stop()
	if err := h.wait(); err != nil {
		return fmt.Errorf("end the program here: %w: %s", err, text.Clean(h.said.String()))
	}
	return nil
}
