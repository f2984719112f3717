package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"holdfast/internal/api"
	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/watchdog"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/proc/supervise"
	pair "holdfast/internal/pair/host"
)

// retireWithin bounds each question to the agent and to the watchdog holder.
const retireWithin = 10 * time.Second

// MayRetire tells whether Holdfast can be taken from this host without harm: nil, or an
// error of kind fail.Refused with a remedy. An agent that does not run is not asked: who
// stopped it has decided about the member of the store.
func MayRetire(ctx context.Context, nodeFile string) error {
	nd, err := retiring(nodeFile)
	if err != nil || nd == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, retireWithin)
	defer cancel()
	if err := nd.disarmed(ctx); err != nil {
		return err
	}
	c, err := api.Dial("unix:"+nd.socket(), nil)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := c.Status(ctx)
	var e *fail.Error
	if errors.As(err, &e) && e.Kind == fail.Unavailable {
		return nil
	}
	if err != nil {
		return err
	}
	o := s.Owner
	if held := o.State != "" && o.State != cluster.Released; held && (o.Host == s.Self || o.To == s.Self) {
		return fail.Errorf(fail.Refused, "what the cluster keeps up is %s on this host",
			o.State).With("move it first: " + cluster.MoveCommand(nd.cfg.Type) + "; or stop it: holdfast stop")
	}
	if nd.n.Store.Member == nil {
		return nil
	}
	st, err := c.StoreStatus(ctx)
	if err != nil {
		return err
	}
	voters, left := 0, 0
	for _, m := range st.Members {
		if m.Learner {
			continue
		}
		voters++
		if m.Reachable && m.Name != nd.n.Host {
			left++
		}
	}
	if left <= voters/2 {
		return fail.Errorf(fail.Refused, "without this host %d of %d members of the store are left, no majority: "+
			"what the cluster keeps up would be stopped", left, voters).
			With("bring other members back (holdfast store status); or, when the cluster is given up, stop the agent first: systemctl stop holdfast")
	}
	return nil
}

// Retire ends the member of the store and the watchdog holder of a host whose agent is
// stopped, and what a pair has there, and tells what it ended. apart: the host does not come back, so its
// database is made one of its own.
func Retire(ctx context.Context, nodeFile string, apart bool) (ended []string, err error) {
	nd, err := retiring(nodeFile)
	if err != nil || nd == nil {
		return nil, err
	}
	ask, cancel := context.WithTimeout(ctx, retireWithin)
	defer cancel()
	if err := nd.disarmed(ask); err != nil {
		return nil, err
	}
	for name, what := range map[string]string{storeChild: "the member of the store", dogChild: "the watchdog holder"} {
		dir := filepath.Join(nd.n.RunDir, name)
		was, err := supervise.Read(dir, name)
		if err == nil {
			err = supervise.Stop(ctx, dir, name)
		}
		if errors.Is(err, supervise.ErrKept) {
			return ended, fail.Errorf(fail.Refused, "the agent runs: %w", err).With("stop it first: systemctl stop holdfast")
		}
		if err != nil {
			return ended, err
		}
		if was.PID != 0 {
			ended = append(ended, fmt.Sprintf("%s, process %d, has ended", what, was.PID))
		}
	}
	more, err := nd.endPair(ctx, apart)
	return append(ended, more...), err
}

// lookEvery is how often it is looked whether the watchdog is still armed.
const lookEvery = 200 * time.Millisecond

// AwaitDisarmed returns nil once the watchdog of this host is not armed, so that its agent, who pets it, may be stopped: after
// an order to stop, the agent disarms it a moment later. Within that time it is an error of kind fail.Refused else.
func AwaitDisarmed(ctx context.Context, nodeFile string, within time.Duration) error {
	nd, err := retiring(nodeFile)
	if err != nil || nd == nil {
		return err
	}
	for end := time.Now().Add(within); ; {
		ask, cancel := context.WithTimeout(ctx, retireWithin)
		err := nd.disarmed(ask)
		cancel()
		if err == nil || time.Now().After(end) || !clock.Sleep(ctx, lookEvery) {
			return err
		}
	}
}

// endPair ends what an agent has left of a pair's group: its members, and the database, which
// goes on read-only after the group was stopped.
func (nd *node) endPair(ctx context.Context, apart bool) (ended []string, err error) {
	nd.Log = slog.New(slog.DiscardHandler)
	if _, err := os.Stat(nd.n.ConfigFile); nd.n.GuestsOnly || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err := nd.loadCluster(); err != nil {
		return nil, err
	}
	if nd.cfg.Type != config.PairConf {
		return nil, nil
	}
	return pair.End(ctx, nd.pairOptions(nil), apart)
}

// restartWithin bounds the end of the store's member and its new start.
const restartWithin = 30 * time.Second

// RestartMember has the agent of this host, which runs, start the member of the store anew:
// a member knows the others' names from the settings that it began with. also are names
// that the new process counts as members', too: of one that is about to leave, and votes until
// then.
func RestartMember(ctx context.Context, nodeFile string, also []string) error {
	n, err := config.LoadNode(nodeFile)
	if err != nil {
		return fail.Errorf(fail.Invalid, "%w", err)
	}
	if n.Store.Member == nil {
		return errNoMember
	}
	ctx, cancel := context.WithTimeout(ctx, restartWithin)
	defer cancel()
	if err := durable.WriteFile(alsoFile(n), []byte(strings.Join(also, "\n")), 0o600); err != nil {
		return fmt.Errorf("tell the member who else is one: %w", err)
	}
	return supervise.Restart(ctx, filepath.Join(n.RunDir, storeChild), storeChild)
}

func alsoFile(n config.Node) string { return filepath.Join(n.RunDir, storeChild, "also") }

// Also returns the names that RestartMember has left for the member's process that begins
// now, once: they are not those of the next one.
func Also(nodeFile string) (names []string, err error) {
	n, err := config.LoadNode(nodeFile)
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(alsoFile(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = os.Remove(alsoFile(n))
	}
	return strings.Fields(string(raw)), err
}

// retiring reads the settings; nil when there are none, so that nothing of it runs.
func retiring(nodeFile string) (*node, error) {
	n, err := config.LoadNode(nodeFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail.Errorf(fail.Invalid, "%w", err).With("mend that file; or, when nothing of Holdfast runs on " +
			"this host any more, move the file away")
	}
	return &node{n: n}, nil
}

// disarmed refuses while the watchdog is armed: without its holder it resets the host.
func (nd *node) disarmed(ctx context.Context) error {
	if nd.n.Watchdog.Device == config.NoWatchdog {
		return nil
	}
	st, err := watchdog.Dial(nd.dogSocket()).Status(ctx)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil // nobody holds it
	}
	if err != nil {
		return err
	}
	if st.Armed {
		return fail.Errorf(fail.Refused, "the watchdog of this host is armed, for what the cluster keeps up: without "+
			"its holder this host is reset").
			With("move it first: " + cluster.MoveCommand(nd.cfg.Type) + "; or stop it: holdfast stop")
	}
	return nil
}
