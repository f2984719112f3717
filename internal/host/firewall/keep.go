package firewall

import (
	"context"
	"log/slog"

	"holdfast/internal/lib/clock"
)

// Maintain keeps this host's firewall open for the others until ctx ends, as the file in dir
// says: plain rules of nftables and iptables are gone after a boot, or when they are loaded
// anew. What fails is told when it changes, and tried again.
func Maintain(ctx context.Context, dir string, log *slog.Logger) {
	told := ""
	for {
		changed, err := mend(ctx, dir)
		now := ""
		if err != nil {
			now = err.Error()
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && now != told:
			log.Error("the firewall may shut other hosts out", "error", err)
		case changed > 0:
			log.Info("rules of the firewall were gone, or others', and are as they should be", "changed", changed)
		}
		told = now
		if !clock.Sleep(ctx, every) {
			return
		}
	}
}

func mend(ctx context.Context, dir string) (int, error) {
	f, err := Read(dir)
	if err != nil || f == nil {
		return 0, err
	}
	return New(f.Addr).Mend(ctx, f.Rules)
}
