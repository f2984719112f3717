package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"holdfast/internal/lib/proc"
	"holdfast/internal/pair"
	"holdfast/internal/pair/group"
)

// End ends what an agent that has ended has left of its pair on this host: the members of the group, the partition,
// and the database, which goes on read-only after the group was stopped. It tells what it ended. apart: the host
// does not come back, so its database is made one of its own. opt needs neither store nor peer.
func End(ctx context.Context, opt Options, apart bool) (ended []string, err error) {
	p := &Part{Options: opt, cfg: opt.Cluster.Pair.Full()}
	peer := p.cfg.Peer(p.Node.Host)
	if peer == "" {
		return nil, nil
	}
	members, err := p.members()
	if err != nil {
		return nil, err
	}
	if ended, err = endAll(ctx, members); err != nil {
		return ended, err
	}
	more, err := p.endPartition(ctx)
	ended = append(ended, more...)
	if err != nil {
		return ended, err
	}
	if p.cfg.Device != nil {
		more, err := p.endDevice(ctx)
		return append(ended, more...), err
	}
	if apart {
		db, err := p.database(peer)
		if err != nil {
			return ended, err
		}
		defer db.Close()
		if left, err := db.Leave(ctx); err != nil {
			return ended, fmt.Errorf("make the database one of its own: %w", err)
		} else if left {
			return append(ended, "the database has ended, and replicates no more; its data are in "+p.cfg.Database.Datadir), nil
		}
	}
	cmd := p.server()
	if _, err := cmd.Process(ctx); errors.Is(err, proc.ErrGone) {
		return ended, nil
	}
	if err := cmd.Kill9(ctx); err != nil {
		return ended, err
	}
	return append(ended, "the database has ended; its data are in "+p.cfg.Database.Datadir), nil
}

// endAll ends members, the last one first, and tells of each that was there.
func endAll(ctx context.Context, members []group.Member) (ended []string, err error) {
	for _, m := range slices.Backward(members) {
		if m.State(ctx) == pair.Down {
			continue
		}
		if err := m.Stop(ctx, true); err != nil {
			return ended, err
		}
		ended = append(ended, m.Spec().Name+" has ended")
	}
	return ended, nil
}

// endDevice ends the file system and the database of a group whose members have ended, and
// takes the device away. The data stay on the disk.
func (p *Part) endDevice(ctx context.Context) (ended []string, err error) {
	drv, err := p.drbd(p.cfg.Peer(p.Node.Host))
	if err != nil {
		return nil, err
	}
	if ended, err = endAll(ctx, p.below(p.mountOf(drv))); err != nil {
		return ended, err
	}
	if _, err := os.Stat(drv.Device()); errors.Is(err, fs.ErrNotExist) {
		return ended, nil // the kernel has no such device
	}
	st, err := drv.Status(ctx)
	if err != nil || !st.Up {
		return ended, err
	}
	if err := drv.Demote(ctx); err != nil {
		return ended, err
	}
	if err := drv.Down(ctx); err != nil {
		return ended, err
	}
	return append(ended, "the DRBD device has ended; its data are on "+p.cfg.Device.Disk), nil
}

// endPartition ends the partition of a host that is retired: what is above it has ended. Its data
// stay on the disk, and DRBD's own data as well.
func (p *Part) endPartition(ctx context.Context) (ended []string, err error) {
	pt, err := p.noted()
	if err != nil || pt == nil {
		return nil, err
	}
	if _, err := os.Stat(pt.dev.DB.Device()); errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the kernel has no such device
	}
	st, err := pt.dev.DB.Status(ctx)
	if err != nil || !st.Up {
		return nil, err
	}
	if err := pt.mount.Stop(ctx, true); err != nil {
		return nil, err
	}
	if err := pt.dev.DB.Demote(ctx); err != nil {
		return nil, err
	}
	if err := pt.dev.DB.Down(ctx); err != nil {
		return nil, err
	}
	return []string{"the partition " + pt.Name + " has ended; its data are on " + pt.Disk}, nil
}
