package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cluster"
	"holdfast/internal/fail"
	"holdfast/internal/sleep"
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
const askLimit = 10 * time.Second

// askAgain is the time between two rounds of questions to all agents.
const askAgain = 200 * time.Millisecond

// standing is who has the management VM, by the word of its host's own agent.
type standing struct {
	holder string
	others []string // hosts that could take it, in order
}

// standing asks the agents. holder is "" while none of them says that it has the VM, such as
// during a takeover.
func (l *Lab) standing(ctx context.Context) (standing, error) {
	if s, err := loadState(l.p.Dir); err != nil {
		return standing{}, err
	} else if !s.Options.Agents {
		return standing{}, fail.Errorf(fail.Invalid, "the laboratory runs no agents, which would tell who has the management VM: want one of h1..h%d", l.p.Hosts)
	}
	for _, h := range l.p.hosts() {
		if s := standingOf(l.statusOf(ctx, h)); s.holder != "" {
			return s, ctx.Err()
		}
	}
	return standing{}, ctx.Err()
}

// statusOf is what a host's own agent says; nothing when it does not answer.
func (l *Lab) statusOf(ctx context.Context, host string) (s cluster.Status) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out, err := l.Exec(ctx, host, l.Exe(), "status", "-o", "json")
	if err != nil || json.Unmarshal([]byte(out), &s) != nil {
		return cluster.Status{} // it is off or frozen, or has no agent that answers
	}
	return s
}

// standingOf is what an agent says if it has the VM itself and reaches a quorum: what it says
// of others may be out of date.
func standingOf(s cluster.Status) (out standing) {
	if !s.Connected || s.Owner.State != cluster.Running || s.Owner.Host != s.Self {
		return standing{}
	}
	for _, h := range s.Hosts {
		switch {
		case h.Name == s.Self:
			out.holder = string(h.Name)
		case h.Alive && h.Fit && slices.Contains(s.Members, h.Name):
			out.others = append(out.others, string(h.Name))
		}
	}
	if out.holder == "" {
		return standing{}
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
		s, err := l.standing(ctx)
		switch {
		case err != nil:
			return false, err
		case s.holder == "" && !sleep.For(ctx, askAgain):
			return false, ctx.Err()
		case word == wordHolder:
			host = s.holder
		case len(s.others) > 0:
			host = s.others[0]
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
