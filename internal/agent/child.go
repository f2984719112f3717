package agent

import (
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
	if nd.n.Store.Member != nil && !nd.pairing.Alone() {
		out = append(out, nd.storeSpec())
	}
	if nd.n.Watchdog.Device != config.NoWatchdog {
		out = append(out, nd.spec(dogChild, "watchdog-holder", "--device", nd.n.Watchdog.Device, "--timeout", nd.cfg.Timings().Watchdog.String(),
			"--socket", nd.dogSocket(), "--boot-id-file", nd.n.BootIDFile))
	}
	return out
}
