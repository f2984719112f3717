package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"holdfast/internal/config"
	"holdfast/internal/lib/proc/supervise"
	"holdfast/internal/store/etcdstore"
)

// storeSpec is the process of the store's member.
func (nd *node) storeSpec() supervise.Spec {
	args := []string{"store-member", "--config", nd.NodeFile}
	if every := memberHeartbeat(nd.cfg.Timings().Lease); every > etcdstore.Heartbeat {
		args = append(args, "--heartbeat", every.String())
	}
	return nd.spec(storeChild, slices.Concat(args, nd.memberPaths())...)
}

// memberHeartbeat is the time between two heartbeats of the store's members, whose elections take ten to twenty times as
// long: a third of a lease at most. Leases are long where hosts are slow: one that stands still for a second would cost the
// store its leader each time.
func memberHeartbeat(lease time.Duration) time.Duration {
	return min(max(lease/60, etcdstore.Heartbeat), 3*etcdstore.Heartbeat)
}

func (nd *node) spec(name string, args ...string) supervise.Spec {
	return supervise.Spec{Name: name, Exe: nd.Exe, Args: args, Env: os.Environ(), Dir: filepath.Join(nd.n.RunDir, name), Log: nd.Log}
}

// children are the processes that outlive the agent, and that it always keeps running.
func (nd *node) children() (out []supervise.Spec) {
	if nd.n.Store.Member != nil && (nd.pairing == nil || nd.pairing.alone == nil) {
		out = append(out, nd.storeSpec())
	}
	if nd.n.Watchdog.Device != config.NoWatchdog {
		out = append(out, nd.spec(dogChild, "watchdog-holder", "--device", nd.n.Watchdog.Device, "--timeout", nd.cfg.Timings().Watchdog.String(),
			"--socket", nd.dogSocket(), "--boot-id-file", nd.n.BootIDFile))
	}
	return out
}

// child is a process that outlives the agent, and runs when its owner says so. One
// goroutine uses it.
type child struct {
	spec   supervise.Spec
	cancel context.CancelFunc // of its Keep; nil: none runs
	ended  chan error
	doubt  bool // it may run, and nobody keeps it
}

// adopt keeps a child that is running, or makes sure that none is.
func (c *child) adopt(ctx context.Context) error {
	c.doubt = true
	st, err := supervise.Read(c.spec.Dir, c.spec.Name)
	if err == nil && st.PID != 0 {
		c.start(ctx)
		return nil
	}
	return c.end(ctx) // it also finds one whose record is lost
}

// start keeps the child running.
func (c *child) start(ctx context.Context) {
	if c.cancel != nil {
		return
	}
	ctx, c.cancel = context.WithCancel(ctx)
	ended, spec := make(chan error, 1), c.spec
	c.ended, c.doubt = ended, false
	go func() { ended <- supervise.Keep(ctx, spec) }() // until leave
}

// running reports that the child runs, or may be started again at any moment. An error
// means that it is not known.
func (c *child) running(ctx context.Context) (bool, error) {
	if c.cancel != nil {
		select {
		case err := <-c.ended:
			c.cancel()
			c.cancel, c.ended, c.doubt = nil, nil, true
			return false, err
		default:
			return true, nil
		}
	}
	if c.doubt {
		err := c.adopt(ctx)
		return c.cancel != nil, err
	}
	return false, nil
}

// leave ends the keeping, and lets the child go on.
func (c *child) leave() error {
	if c.cancel == nil {
		return nil
	}
	c.doubt = true
	c.cancel()
	err := <-c.ended
	c.cancel, c.ended = nil, nil
	return err
}

// stop ends the child. nil means that it is gone. After an error it may run.
func (c *child) stop(ctx context.Context) error {
	if err := c.leave(); err != nil {
		return err
	}
	return c.end(ctx)
}

func (c *child) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	c.doubt = true
	err := supervise.Stop(ctx, c.spec.Dir, c.spec.Name)
	c.doubt = err != nil
	return err
}
