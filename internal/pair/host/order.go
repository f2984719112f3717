package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair"
)

// Times of an order.
const (
	meetWithin  = time.Minute     // until both copies have connected
	readyWithin = 2 * time.Minute // until both nodes have the partition, or have it no more
	orderEvery  = 300 * time.Millisecond
)

// AddPartition makes the partition, on the node that serves. Each part of it can be cut short: the
// configuration says how far it has come, and the same order goes on.
func (p *Service) AddPartition(ctx context.Context, user string, in cluster.PartitionOrder) error {
	if p.driver == nil {
		return fail.Errorf(fail.Refused, "%s only votes in the store",
			p.Node.Host).With("add it on the node that serves, one of " + strings.Join(p.cfg.Nodes, ", "))
	}
	if !p.adding.TryLock() {
		return fail.Errorf(fail.Refused, "the partition is being made already, by another command")
	}
	defer p.adding.Unlock()
	st, err := p.Pair(ctx)
	if err != nil {
		return err
	}
	act := st.Active()
	switch {
	case act == nil:
		return fail.Errorf(fail.Refused, "the services of the pair do not run").With("see what they wait for: holdfast pair status")
	case string(act.Host) != p.Node.Host:
		return fail.Errorf(fail.Refused, "%s serves", act.Host).With("add the partition on " + string(act.Host))
	}
	want := config.PairPartition{Name: in.Name, Disk: in.Disk, Mount: in.Mount}
	number, cfg, err := p.configured(ctx)
	if err != nil {
		return err
	}
	cur := cfg.Pair.Partition
	switch {
	case cur == nil:
		if err := mayAdd(st); err != nil {
			return err
		}
		// What a node has told of an earlier order is not taken for an answer to this one.
		if err := p.until(ctx, meetWithin, func(st cluster.PairStatus) string {
			for _, n := range st.Nodes {
				if n.Partition != nil {
					return fmt.Sprintf("%s to forget the partition %s", n.Host, n.Partition.Name)
				}
			}
			return ""
		}); err != nil {
			return err
		}
		want.State = config.PartitionMaking
		if err := p.order(ctx, user, number, cfg, &want); err != nil {
			return err
		}
	case cur.State == config.PartitionLeaving:
		return fail.Errorf(fail.Refused, "the partition %s is being taken away",
			cur.Name).With("finish that first: holdfast pair partition remove " + cur.Name)
	case !cur.Same(want):
		return fail.Errorf(fail.Refused, "the pair has the partition %s on %s at %s, and can have one", cur.Name, cur.Disk, cur.Mount)
	}
	if cur == nil || cur.State == config.PartitionMaking {
		if err := p.agree(ctx, user); err != nil {
			return err
		}
		if err := p.make(ctx, user); err != nil {
			return err
		}
	}
	return p.until(ctx, readyWithin, func(st cluster.PairStatus) string {
		for _, n := range st.Nodes {
			switch t := n.Partition; {
			case t == nil || t.State != cluster.PartitionReady:
				return fmt.Sprintf("%s to take the partition in", n.Host)
			case string(n.Host) == p.Node.Host && (t.Role != "active" || p.part.Load() == nil || p.part.Load().mount.State(ctx) != pair.Up):
				return fmt.Sprintf("%s to mount it", n.Host)
			}
		}
		return ""
	})
}

// configured is the configuration in force, with the number of its revision.
func (p *Service) configured(ctx context.Context) (int, config.Cluster, error) {
	rev, err := p.core.ReadConfig(ctx, 0)
	if err != nil {
		return 0, config.Cluster{}, err
	}
	cfg, err := rev.Cluster()
	if err == nil && cfg.Pair == nil {
		err = fail.Errorf(fail.Refused, "the configuration in force has no pair")
	}
	return rev.Number, cfg, err
}

// order has the configuration say something else of the partition, if nobody has changed it meanwhile.
func (p *Service) order(ctx context.Context, user string, number int, cfg config.Cluster, want *config.PairPartition) error {
	of := *cfg.Pair
	of.Partition = want
	cfg.Pair = &of
	_, err := p.core.ImportConfig(ctx, user, config.Import{Name: "cluster.json", Text: string(cfg.JSON()), Base: number, Order: true})
	return err
}

// mayAdd refuses what can not be. Nothing was changed yet.
func mayAdd(st cluster.PairStatus) error {
	if h, why := st.Health(); h != cluster.Healthy {
		return fail.Errorf(fail.Refused, "the pair is not healthy: %s; nothing was changed",
			strings.Join(why, "; ")).With("see that both nodes are well first: holdfast pair status")
	}
	return nil
}

// agree waits until both nodes have found their disks good, and have begun with them. Where one
// has not, nothing was changed on any, and the configuration forgets the partition.
func (p *Service) agree(ctx context.Context, user string) error {
	var why []string
	err := p.until(ctx, meetWithin, func(st cluster.PairStatus) string {
		why = nil
		sizes, missing := map[int64]bool{}, ""
		for _, n := range st.Nodes {
			switch t := n.Partition; {
			case t == nil || t.State == cluster.PartitionLeaving:
				missing = fmt.Sprintf("%s to look at its disk", n.Host)
				continue
			case t.State == cluster.PartitionRefused:
				why = append(why, fmt.Sprintf("%s: %s", n.Host, t.Problem))
			case t.State == cluster.PartitionChecked:
				missing = fmt.Sprintf("%s to make its disk ready", n.Host)
			}
			sizes[n.Partition.Bytes] = true
		}
		switch {
		case missing != "" && len(why) == 0 && len(sizes) < 2:
			return missing
		case len(why) == 0 && len(sizes) > 1:
			why = []string{differ(st)}
		}
		return ""
	})
	if err != nil || len(why) == 0 {
		return err
	}
	number, cfg, err := p.configured(ctx)
	if err == nil && cfg.Pair.Partition != nil && cfg.Pair.Partition.State == config.PartitionMaking {
		err = p.order(ctx, user, number, cfg, nil)
	}
	if err != nil {
		return fmt.Errorf("%s; and take the partition out of the configuration: %w", strings.Join(why, "; "), err)
	}
	return fail.Errorf(fail.Refused, "%s; nothing was changed", strings.Join(why, "; "))
}

// differ says that the disks of both nodes are not of one size.
func differ(st cluster.PairStatus) string {
	var all []string
	for _, n := range st.Nodes {
		if t := n.Partition; t != nil {
			all = append(all, fmt.Sprintf("%s has %d bytes on %s", t.Disk, t.Bytes, n.Host))
		}
	}
	return strings.Join(all, ", ") + ": want the same size"
}

// make makes the file system on the copies of both nodes, which have nothing yet, and the partition
// a part of the group.
func (p *Service) make(ctx context.Context, user string) error {
	err := p.until(ctx, meetWithin, func(cluster.PairStatus) string {
		pt := p.part.Load()
		if pt == nil {
			return p.Node.Host + " to make its disk ready"
		}
		st := pt.dev.Last()
		switch {
		case st.Problem != "":
			return st.Problem
		case st.Connection != "Connected":
			return fmt.Sprintf("both copies to connect, by TCP at port %d", p.cfg.PartitionPort())
		case st.Disk != st.PeerDisk:
			return fmt.Sprintf("both copies to be alike: they are %s and %s", st.Disk, st.PeerDisk)
		}
		return ""
	})
	if err != nil {
		return err
	}
	p.making.Lock()
	defer p.making.Unlock()
	number, cfg, err := p.configured(ctx)
	if err != nil {
		return err
	}
	pt, cur := p.part.Load(), cfg.Pair.Partition
	if pt == nil || cur == nil || cur.State != config.PartitionMaking || !cur.Same(pt.PairPartition) || pt.joined.Load() {
		return fail.Errorf(fail.Refused, "the configuration was changed meanwhile, by another command")
	}
	if err := pt.dev.First(ctx); err != nil {
		return err
	}
	if err := pt.format(ctx); err != nil {
		return err
	}
	want := *cur
	want.State = ""
	return p.order(ctx, user, number, cfg, &want)
}

// format makes the file system, whatever is there: nothing that anybody has written.
func (pt *partition) format(ctx context.Context) (err error) {
	if err := pt.dev.DB.Promote(ctx, "the partition is made"); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partitionStep)
		defer cancel()
		err = errors.Join(err, pt.dev.DB.Demote(ctx))
	}()
	return tool(ctx, partitionFSType, forced(partitionFS), "-q", pt.dev.DB.Device())
}

// until waits for what both nodes report; ready says what is missing.
func (p *Service) until(ctx context.Context, within time.Duration, ready func(cluster.PairStatus) string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	why := ""
	for {
		st, err := p.Pair(ctx)
		switch {
		case err == nil:
			if why = ready(st); why == "" {
				return nil
			}
			for _, n := range st.Nodes {
				if t := n.Partition; t != nil && t.Problem != "" {
					why += fmt.Sprintf("; %s: %s", n.Host, t.Problem)
				}
			}
		case ctx.Err() == nil:
			why = err.Error()
		}
		if !clock.Sleep(ctx, orderEvery) {
			return fail.Errorf(fail.Failed, "it is not done yet: waited for %s", why).With("the same command goes on with it")
		}
	}
}

// RemovePartition takes the partition away. A node that is not there does so when it is back.
func (p *Service) RemovePartition(ctx context.Context, user, name string) (left []string, err error) {
	number, cfg, err := p.configured(ctx)
	if err != nil {
		return nil, err
	}
	cur := cfg.Pair.Partition
	switch {
	case cur == nil:
		return nil, fail.Errorf(fail.Invalid, "partition %q: the pair has none", name)
	case cur.Name != name:
		return nil, fail.Errorf(fail.Invalid, "partition %q: want %s, the one that there is", name, cur.Name)
	case cur.State != config.PartitionLeaving:
		want := *cur
		want.State = config.PartitionLeaving
		if err := p.order(ctx, user, number, cfg, &want); err != nil {
			return nil, err
		}
	}
	err = p.until(ctx, readyWithin, func(st cluster.PairStatus) string {
		left = nil
		for _, n := range st.Nodes {
			switch {
			case n.Partition == nil:
			case n.Alive:
				return fmt.Sprintf("%s to take it away", n.Host)
			default:
				left = append(left, string(n.Host))
			}
		}
		return ""
	})
	if err != nil || len(left) > 0 {
		return left, err
	}
	if number, cfg, err = p.configured(ctx); err != nil {
		return nil, err
	}
	if cur := cfg.Pair.Partition; cur == nil || cur.State != config.PartitionLeaving {
		return nil, nil // somebody else has come to the end of it
	}
	return nil, p.order(ctx, user, number, cfg, nil)
}

// disk says why a disk of this node can not be that of a partition, or how many bytes it has.
// Nothing is changed. fresh: DRBD never had it.
func (p *Part) disk(ctx context.Context, want config.PairPartition, fresh bool) (bytes int64, err error) {
	if _, err := exec.LookPath(partitionFSType); err != nil {
		return 0, fail.Errorf(fail.Refused, "%w", err).With("install the package e2fsprogs")
	}
	if fresh {
		err = drbd.Unused(ctx, want.Disk)
	} else {
		err = drbd.Ready(ctx, want.Disk)
	}
	if err != nil {
		return 0, err
	}
	if bytes, err = drbd.Size(want.Disk); err != nil {
		return 0, err
	}
	if bytes < partitionMiB<<20 {
		return 0, fail.Errorf(fail.Refused, "%s has %d bytes: want at least %d MiB", want.Disk, bytes, partitionMiB)
	}
	arbiter := ""
	if a := p.cfg.Arbiter; a != nil {
		arbiter = a.Disk
	}
	luns, err := drbd.LUNs(arbiter)
	if err != nil {
		return 0, err
	}
	if fresh && len(luns) > 0 {
		return 0, fail.Errorf(fail.Refused, "disks of FC or iSCSI are attached: %s",
			strings.Join(luns, ", ")).With("add the partition before they are, or detach them for now; templates on them need no partition")
	}
	return bytes, emptyDir(want.Mount)
}

// emptyDir refuses a mount point that has something in it, which nobody would see any more.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = fail.Errorf(fail.Refused, "%s is not empty", dir).With("give another mount point: --mount DIR")
	}
	return err
}
