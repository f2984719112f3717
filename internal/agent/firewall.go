package agent

import (
	"context"
	"path/filepath"

	"holdfast/internal/host/firewall"
	"holdfast/internal/lib/clock"
)

// letIn keeps this host's firewall open for the others, as the file beside the settings
// says: plain rules of nftables and iptables are gone after a boot, or when they are loaded
// anew. What fails is told when it changes, and tried again.
func (nd *node) letIn(ctx context.Context) {
	told := ""
	for {
		changed, err := nd.mend(ctx)
		now := ""
		if err != nil {
			now = err.Error()
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && now != told:
			nd.Log.Error("the firewall may shut other hosts out", "error", err)
		case changed > 0:
			nd.Log.Info("rules of the firewall were gone, or others', and are as they should be", "changed", changed)
		}
		told = now
		if !clock.Sleep(ctx, firewall.Every) {
			return
		}
	}
}

func (nd *node) mend(ctx context.Context) (int, error) {
	f, err := firewall.Read(filepath.Dir(nd.NodeFile))
	if err != nil || f == nil {
		return 0, err
	}
	return firewall.New(f.Addr).Mend(ctx, f.Rules)
}
