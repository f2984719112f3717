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
	"sync"
	"syscall"
	"time"
)

// Touch writes a file of its own into dir, puts it on disk, and reads it back. It
// may block for ever; it is what the process of a probe does.
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

// Options of a Prober.
type Options struct {
	Command  []string      // runs Touch in a process of its own
	Interval time.Duration // from the end of a probe to the next
	Timeout  time.Duration // after which a probe that has not ended means that the storage hangs
}

// State is what is known of the storage.
type State struct {
	Hangs bool   // a probe has been under way for longer than the timeout
	Why   string // why it does not work, "" when it does or nothing is known yet
}

// Prober probes again and again. At most one process of it exists.
type Prober struct {
	opt Options

	mu    sync.Mutex
	state State
}

// New makes a Prober; Run starts it.
func New(o Options) *Prober { return &Prober{opt: o} }

// State returns what is known now.
func (p *Prober) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *Prober) set(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

// Run probes until ctx ends. A process that hangs then is killed but not waited
// for: it goes when the storage lets it.
func (p *Prober) Run(ctx context.Context) {
	for {
		p.once(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(p.opt.Interval):
		}
	}
}

// once is one probe, to its end however long that takes.
func (p *Prober) once(ctx context.Context) {
	var said bytes.Buffer
	cmd := exec.Command(p.opt.Command[0], p.opt.Command[1:]...)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		p.set(State{Why: fmt.Sprintf("the storage probe does not start: %v", err)})
		return
	}
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	late := time.NewTimer(p.opt.Timeout)
	defer late.Stop()
	for {
		select {
		case err := <-ended:
			s := State{}
			if err != nil {
				s.Why = strings.TrimSpace(err.Error() + ": " + said.String())
			}
			p.set(s)
			return
		case <-late.C:
			p.set(State{Hangs: true, Why: fmt.Sprintf("the shared storage has not answered since %s", began.Format(time.TimeOnly))})
		case <-ctx.Done():
			// An error means that it has just ended.
			_ = cmd.Process.Kill()
			return
		}
	}
}
