package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/fail"
)

// Words that commands take in place of a host's name.
const (
	wordHolder = "holder" // the host that has the management VM
	wordOther  = "other"  // the first of the others that could take it
	wordAll    = "all"    // every host, where a command takes several
)

// wordLimit is how long a host is waited for that a word means: a takeover and the start of
// the VM, on a machine that is busy.
const wordLimit = 2 * time.Minute

// askLimit bounds the question to one agent.
const askLimit = 2 * time.Second

// Standing is who has the management VM, by the word of its host's own agent.
type Standing struct {
	Holder string
	Others []string // hosts that could take it, in order
}

// Standing asks the agents. Holder is "" while none of them says that it has the VM, such as
// during a takeover.
func (l *Lab) Standing(ctx context.Context) (Standing, error) {
	if s, err := loadState(l.p.Dir); err != nil {
		return Standing{}, err
	} else if !s.Options.Agents {
		return Standing{}, fail.Errorf(fail.Invalid, "the laboratory runs no agents, which would tell who has the management VM: want one of h1..h%d", l.p.Hosts)
	}
	for _, h := range l.p.hosts() {
		if s := standing(l.statusOf(ctx, h)); s.Holder != "" {
			return s, ctx.Err()
		}
	}
	return Standing{}, ctx.Err()
}

// statusOf is what a host's own agent says; nothing when it does not answer.
func (l *Lab) statusOf(ctx context.Context, host string) (s cluster.Status) {
	path, err := l.RootPath(host, agentSocket)
	if err != nil {
		return s // it is off, or frozen
	}
	if _, err := os.Stat(path); err != nil {
		return s // no agent listens
	}
	c, err := api.Dial("unix:"+path, nil)
	if err != nil {
		return s
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if s, err = c.Status(ctx); err != nil {
		return cluster.Status{}
	}
	return s
}

// standing is what an agent says if it has the VM itself and reaches a quorum: what it says
// of others may be out of date.
func standing(s cluster.Status) (out Standing) {
	if !s.Connected || s.Owner.State != cluster.Running || s.Owner.Host != s.Self {
		return Standing{}
	}
	for _, h := range s.Hosts {
		switch {
		case h.Name == s.Self:
			out.Holder = string(h.Name)
		case h.Alive && h.Fit && slices.Contains(s.Members, h.Name):
			out.Others = append(out.Others, string(h.Name))
		}
	}
	if out.Holder == "" {
		return Standing{}
	}
	return out
}

// named is the host that an argument of a command means. One that is meant by a word is
// waited for, and told to people. more are words that are allowed elsewhere in its command.
func (l *Lab) named(ctx context.Context, tell io.Writer, word string, more ...string) (string, error) {
	if words := append([]string{wordHolder, wordOther}, more...); word != wordHolder && word != wordOther {
		if err := l.p.checkHost(word); err != nil {
			return "", fail.Errorf(fail.Invalid, "%w, or a word: %s", err, strings.Join(words, ", "))
		}
		return word, nil
	}
	h, err := l.await(ctx, word)
	if err == nil {
		_, err = fmt.Fprintf(tell, "%s: %s\n", word, h)
	}
	return h, err
}

// namedAll is named for a command that takes several hosts.
func (l *Lab) namedAll(ctx context.Context, tell io.Writer, words []string) (hosts []string, err error) {
	if slices.Contains(words, wordAll) {
		if len(words) > 1 {
			return nil, fail.Errorf(fail.Invalid, "hosts %q: want %q alone, or hosts without it", strings.Join(words, " "), wordAll)
		}
		return l.p.hosts(), nil
	}
	for _, w := range words {
		h, err := l.named(ctx, tell, w, wordAll)
		if err != nil {
			return nil, err
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// await waits until there is a host that a word means.
func (l *Lab) await(ctx context.Context, word string) (host string, err error) {
	what := "a host to have the management VM"
	if word == wordOther {
		what = "another host that could take the management VM"
	}
	err = poll(ctx, wordLimit, what, func() (bool, error) {
		s, err := l.Standing(ctx)
		switch {
		case err != nil:
			return false, err
		case word == wordHolder:
			host = s.Holder
		case len(s.Others) > 0:
			host = s.Others[0]
		}
		return host != "", nil
	})
	var e *fail.Error
	if errors.As(err, &e) {
		return "", e
	}
	return host, err
}

// withHost is withLab for a command one of whose arguments is a host: the one that stands as
// HOST in its line of use.
func withHost(dir *string, fn func(*cobra.Command, *Lab, []string) error) func(*cobra.Command, []string) error {
	return withLab(dir, func(cmd *cobra.Command, l *Lab, args []string) (err error) {
		if i := slices.Index(strings.Fields(cmd.Use)[1:], "HOST"); i >= 0 {
			args = slices.Clone(args)
			if args[i], err = l.named(cmd.Context(), cmd.ErrOrStderr(), args[i]); err != nil {
				return err
			}
		}
		return fn(cmd, l, args)
	})
}
