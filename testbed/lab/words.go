package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
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

// settledAfter is how long agents must say that nobody will have the VM: at its beginning a
// cluster has not been asked for it yet, either.
const settledAfter = 8 * time.Second

// askLimit bounds the question to one agent.
const askLimit = 10 * time.Second

// askAgain is the time between two rounds of questions to all agents.
const askAgain = 200 * time.Millisecond

// standing is who has the management VM, by the word of its host's own agent.
type standing struct {
	holder string
	others []string // hosts that could take it, in order
}

// absence is why nobody has the VM.
type absence struct {
	why     string
	settled bool   // nothing is under way that would change it
	remedy  string // of a settled one: what to have the laboratory do
}

// absenceOf is why nobody has the VM, as the agents say.
func absenceOf(said []cluster.Status) absence {
	for _, s := range said {
		idle := s.Owner.State == "" || s.Owner.State == cluster.Released
		switch {
		case !s.Connected: // what it says may be old
		case idle && s.OfPair() && s.Owner.State == "":
			return absence{"the pair has not begun", true, "exec h1 holdfast pair begin"}
		case idle && !s.Want.Run:
			return absence{"the cluster is not asked to run it", true, "exec h1 holdfast start"}
		case s.Waiting != "":
			return absence{why: "the cluster waits for " + s.Waiting}
		case s.Owner.State != "":
			return absence{why: fmt.Sprintf("it is %s on %s", s.Owner.State, s.Owner.Host)}
		default:
			return absence{why: "the cluster has given it to no host yet"}
		}
	}
	return absence{why: "no agent reaches a quorum of the store"}
}

// standing asks the agents. holder is "" while none of them says that it has the VM, such as
// during a takeover; then it is told why.
func (l *Lab) standing(ctx context.Context) (standing, absence, error) {
	if s, err := loadState(l.p.Dir); err != nil {
		return standing{}, absence{}, err
	} else if !s.Options.Agents {
		return standing{}, absence{}, fail.Errorf(fail.Invalid,
			"the laboratory runs no agents, which would tell who has the management VM: want one of h1..h%d", l.p.Hosts)
	}
	var said []cluster.Status
	for _, h := range l.p.hosts() {
		status := l.statusOf(ctx, h)
		if s := standingOf(status); s.holder != "" {
			return s, absence{}, ctx.Err()
		}
		said = append(said, status)
	}
	return standing{}, absenceOf(said), ctx.Err()
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

// await waits until there is a host that a word means, as long as there may be one.
func (l *Lab) await(ctx context.Context, word string) (host string, err error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return await(ctx, word, typed(exe, l.p.Dir), wordLimit, settledAfter, l.standing)
}

func await(ctx context.Context, word, lab string, limit, settled time.Duration,
	ask func(context.Context) (standing, absence, error)) (host string, err error) {
	what, nobody := "a host to have the management VM", "nobody has the management VM or the group"
	if word == wordOther {
		what, nobody = "another host that could take the management VM", "no other host could take the management VM or the group"
	}
	var none absence
	var since time.Time // of which none is settled
	err = poll(ctx, limit, what, func() (bool, error) {
		s, a, err := ask(ctx)
		if none = a; err != nil {
			return false, err
		}
		switch {
		case s.holder == "" && a.settled && since.IsZero():
			since = time.Now()
		case s.holder == "" && a.settled && time.Since(since) > settled:
			return false, fail.Errorf(fail.Refused, "%s: %s", nobody, a.why).With(lab + a.remedy)
		case !a.settled:
			since = time.Time{}
		}
		switch {
		case s.holder == "" && !clock.Sleep(ctx, askAgain):
			return false, ctx.Err()
		case word == wordHolder:
			host = s.holder
		case len(s.others) > 0:
			host = s.others[0]
		}
		return host != "", nil
	})
	var e *fail.Error
	switch {
	case errors.As(err, &e):
		return "", e
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		if none.why == "" {
			none.why = "none is alive and able to run it"
		}
		return "", fail.Errorf(fail.Timeout, "%s after %s: %s", nobody, limit, none.why).With("see: " + lab + "status")
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
