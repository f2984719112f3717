package program

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Defaults of a Spec.
const (
	DefaultGrace     = 10 * time.Second
	DefaultMaxOutput = 16 << 20
	DefaultSilence   = 30 * time.Second
)

// Errors of this package.
var (
	// ErrBegun means that the state directory was used before.
	ErrBegun = errors.New("the state directory has an attempt already")
	// ErrLeft means that the caller stopped waiting and the program goes on.
	ErrLeft = errors.New("the program goes on")
	// ErrSecrets means that a credentials file is not safe or not readable.
	ErrSecrets = errors.New("credentials file refused")
)

// Spec says what to run.
type Spec struct {
	Argv    []string      `json:"argv"`    // the program's absolute path, then its arguments
	Env     []string      `json:"env"`     // KEY=VALUE, all of it but the mark
	Dir     string        `json:"dir"`     // working directory, absolute
	Timeout time.Duration `json:"timeout"` // ns, from the fork; then the whole tree is ended

	Grace     time.Duration `json:"grace,omitempty"`     // ns, between SIGTERM and SIGKILL; 0: DefaultGrace
	MaxOutput int64         `json:"maxOutput,omitempty"` // bytes that are kept; 0: DefaultMaxOutput

	// Verify is compared with the program's file just before it is started.
	Verify *File `json:"verify,omitempty"`
	// Credentials is the path of a file with answers and secrets; see Credentials.
	Credentials string `json:"credentials,omitempty"`
	// Terminal gives the program a terminal and answers its prompts. Without it,
	// standard input is the credentials' Stdin, else /dev/null.
	Terminal bool `json:"terminal,omitempty"`
	// Sudo starts the program by sudo: "sudo -n", or with Terminal sudo's own
	// prompt answered by the secret "sudo". The program then has sudo's environment.
	Sudo bool `json:"sudo,omitempty"`
	// KillLeftovers ends what the program has left running, also when it succeeded.
	KillLeftovers bool `json:"killLeftovers,omitempty"`
}

// File is what a file must be.
type File struct {
	Path   string `json:"path"` // absolute
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

func (s *Spec) check() error {
	switch {
	case len(s.Argv) == 0 || !filepath.IsAbs(s.Argv[0]):
		return fmt.Errorf("program %q: want an absolute path", s.Argv)
	case strings.ContainsRune(strings.Join(s.Argv, ""), 0):
		return fmt.Errorf("program %q: an argument has a null byte", s.Argv)
	case !filepath.IsAbs(s.Dir):
		return fmt.Errorf("working directory %q: want an absolute path", s.Dir)
	case s.Timeout <= 0:
		return fmt.Errorf("timeout %s: want a positive duration", s.Timeout)
	case s.Grace < 0 || s.MaxOutput < 0:
		return fmt.Errorf("grace %s, output of %d bytes: want no negative numbers", s.Grace, s.MaxOutput)
	case s.Credentials != "" && !filepath.IsAbs(s.Credentials):
		return fmt.Errorf("credentials file %q: want an absolute path", s.Credentials)
	}
	if s.Grace == 0 {
		s.Grace = DefaultGrace
	}
	if s.MaxOutput == 0 {
		s.MaxOutput = DefaultMaxOutput
	}
	return nil
}

// State is what became of something.
type State string

// States of something that was to be done.
const (
	NotDone State = "not done" // it may be begun, in another directory; a program never will be in this one
	Running State = "running"
	Done    State = "done"    // of a program: it ended by itself with exit code 0
	Failed  State = "failed"  // Exit says how
	Unknown State = "unknown" // begun, and nobody can tell
)

// Result is what is known of something that was to be done.
type Result struct {
	State     State     `json:"state"`
	Exit      int       `json:"exit,omitempty"`      // exit code; 128 + N for signal N; -1: nothing was started
	Why       string    `json:"why,omitempty"`       // not done, for people
	Began     time.Time `json:"began,omitzero"`      // by the host's clock
	Ended     time.Time `json:"ended,omitzero"`      // of the program itself
	Output    int64     `json:"output,omitempty"`    // bytes kept
	Discarded int64     `json:"discarded,omitempty"` // bytes not kept: too many, or the disk did not take them
	// Leftovers are processes that the program started and that lived when it
	// was over. Those with Holds keep its output open.
	Leftovers []Process `json:"leftovers,omitempty"`
	// OutputFile has what the last command of an attempt has said, both outputs.
	OutputFile string `json:"-"`
}

// OK reports that it is done.
func (r Result) OK() bool { return r.State == Done }

// Process is a process that was seen.
type Process struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"` // clock ticks since boot
	Name   string `json:"name"`  // as the kernel has it, at most 15 bytes
	Holds  bool   `json:"holds,omitempty"`
	Killed bool   `json:"killed,omitempty"`
}
