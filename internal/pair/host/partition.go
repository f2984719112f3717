package host

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/durable"
	"holdfast/internal/pair"
	"holdfast/internal/pair/group"
)

// A pair's partition is what the configuration in force says: each node's agent makes its part of it
// so, again and again. What it has, it notes on its own disk before, so that an agent that begins
// without the store knows what it has to end. See docs/adr/0054.

const (
	partitionName = "holdfast-partition" // of DRBD's resource
	partitionFS   = "ext4"
)

// Times of the partition.
const (
	partitionEvery  = time.Second // between two looks at what the configuration says
	partitionStep   = 30 * time.Second
	earlyWithin     = 5 * time.Second  // for which the group is held up while the partition comes to it
	unmountWithin   = 10 * time.Second // the same when it leaves
	partitionMiB    = 32               // the least size of its disk
	partitionFSType = "mkfs." + partitionFS
)

// partition is this node's part in the partition.
type partition struct {
	config.PairPartition // its State is not used
	bytes                int64
	dir                  string
	dev                  *group.Device
	mount                *group.Mount
	data                 *group.Composite // with the group's own copy
	promoted             *group.Promoted
	joined               atomic.Bool // it is part of the group
	leaving              atomic.Bool // it is taken away
}

// partitionDir has the note and what the copy notes of itself.
func (p *Part) partitionDir() string { return filepath.Join(p.dir(), "partition") }

func (p *Part) partitionNote() string { return filepath.Join(p.partitionDir(), "partition.json") }

// newPartition prepares the drivers; nothing is touched.
func (p *Part) newPartition(c config.PairPartition) (*partition, error) {
	secret, err := p.partitionSecret(c.Name)
	if err != nil {
		return nil, err
	}
	drv, err := p.resource("Pair.Partition", p.cfg.Peer(p.Node.Host), drbd.Config{
		Resource: partitionName, Minor: p.cfg.PartitionMinor(), Disk: c.Disk, Secret: secret,
	}, p.cfg.PartitionPort())
	if err != nil {
		return nil, err
	}
	pt := &partition{PairPartition: c, dir: p.partitionDir()}
	pt.mount = held(&group.Mount{Name: c.Name, Restarts: deviceRestarts, Device: drv.Device(), Dir: c.Mount, Type: partitionFS}, drv)
	pt.dev = &group.Device{DB: drv, Dir: pt.dir, Mount: pt.mount}
	pt.data = &group.Composite{Data: p.own, Part: pt.dev}
	pt.promoted = &group.Promoted{Name: c.Name + " device", Restarts: deviceRestarts, Copy: pt.data}
	return pt, nil
}

// partitionSecret is made of one that both nodes have already; "" where they have none.
func (p *Part) partitionSecret(name string) (string, error) {
	file := ""
	if d := p.cfg.Device; d != nil {
		file = d.SecretFile()
	} else if p.cfg.Database != nil {
		file = p.cfg.Database.Replication.File()
	}
	if file == "" {
		return "", nil
	}
	key, err := durable.ReadSecret(file)
	if err != nil {
		return "", fmt.Errorf("the secret of the partition: %w", err)
	}
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte("partition " + name))
	return hex.EncodeToString(h.Sum(nil))[:drbd.MaxSecret], nil
}

// noted is the partition that this node had when the agent ended; nil: none.
func (p *Part) noted() (*partition, error) {
	var c partitionNoted
	b, err := os.ReadFile(p.partitionNote())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.partitionNote(), err)
	}
	pt, err := p.newPartition(c.PairPartition)
	if err != nil {
		return nil, err
	}
	if err := durable.MakeDirs(pt.Mount, 0o755); err != nil { // a boot may have taken it
		return nil, err
	}
	pt.bytes = c.Bytes
	pt.joined.Store(c.State == "")
	return pt, nil
}

// partitionNoted is the note.
type partitionNoted struct {
	config.PairPartition
	Bytes int64
}

// note keeps what this node has of the partition: "" as its state is part of the group.
func (pt *partition) note(state string) error {
	n := partitionNoted{pt.PairPartition, pt.bytes}
	n.State = state
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(pt.dir, "partition.json"), b, 0o600)
}

// parts are the copy and the members of the group, with a partition that is part of it.
func (p *Part) parts(pt *partition) (group.Data, []group.Member) {
	if pt == nil || !pt.joined.Load() {
		return p.own, append(p.first[:len(p.first):len(p.first)], p.services...)
	}
	return pt.data, pt.members(p)
}

func (pt *partition) members(p *Part) []group.Member {
	out := append(p.first[:len(p.first):len(p.first)], pt.promoted, pt.mount)
	return append(out, above(p.services, pt.mount)...)
}

// keepPartition makes this node's part what the configuration says, until ctx ends.
func (p *Service) keepPartition(ctx context.Context) {
	for {
		step, cancel := context.WithTimeout(ctx, partitionStep)
		err := p.keepOnce(step)
		cancel()
		if ctx.Err() != nil {
			return
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if was := p.odd.Swap(&text); text != "" && (was == nil || *was != text) {
			p.Log.Warn("the pair's partition", "err", err)
		}
		if !clock.Sleep(ctx, partitionEvery) {
			return
		}
	}
}

// keepOnce takes one step.
func (p *Service) keepOnce(ctx context.Context) error {
	cfg, ok := p.core.InForce(ctx)
	if !ok || cfg.Pair == nil || !p.making.TryLock() {
		return nil
	}
	defer p.making.Unlock()
	want, have := cfg.Pair.Partition, p.part.Load()
	if want == nil || want.State == config.PartitionLeaving {
		p.checked.Store(nil)
	}
	switch {
	case want == nil && have == nil:
		return nil
	case want == nil:
		// A store that was restored may be of before it was added: nothing is given up for that.
		return fmt.Errorf("this node has the partition %s on %s, and the configuration has none; it is left as it is", have.Name, have.Disk)
	case have != nil && !have.Same(*want):
		return fmt.Errorf("this node has the partition %s on %s, and the configuration has %s on %s", have.Name, have.Disk, want.Name, want.Disk)
	case want.State == config.PartitionLeaving && have == nil:
		return nil
	case want.State == config.PartitionLeaving:
		return p.takeAway(ctx, have)
	case have == nil:
		bytes, err := p.check(ctx, *want)
		if err != nil || bytes == 0 {
			return err
		}
		if have, err = p.takeIn(*want, bytes); err != nil {
			return err
		}
	}
	p.checked.Store(nil)
	if have.joined.Load() {
		return nil // the group looks after it
	}
	if _, _, err := have.dev.Look(ctx, pair.Sync{}); err != nil { // it attaches and connects
		return err
	}
	switch {
	case want.State != config.PartitionMaking:
		return p.join(ctx, have)
	case have.dev.Last().Role == "Primary": // whoever made the file system was ended
		return have.dev.DB.Demote(ctx)
	}
	return nil
}

// check looks at the disk for a partition that the configuration has and this node has not, and
// tells what it found. It gives the bytes of the disk when the other node has found its own as good;
// until then nothing is changed, and it gives 0.
func (p *Service) check(ctx context.Context, want config.PairPartition) (int64, error) {
	c := p.checked.Load()
	if c == nil || c.State == cluster.PartitionRefused || c.Name != want.Name || c.Disk != want.Disk || c.Mount != want.Mount {
		c = &cluster.PairPartition{Name: want.Name, Disk: want.Disk, Mount: want.Mount, State: cluster.PartitionChecked, Role: "off"}
		_, err := p.newPartition(want)
		if err == nil {
			c.Bytes, err = p.disk(ctx, want, want.State == config.PartitionMaking)
		}
		if err != nil {
			c.State, c.Problem = cluster.PartitionRefused, err.Error()
		}
		p.checked.Store(c)
	}
	if c.State == cluster.PartitionRefused {
		return 0, nil // the report says it
	}
	st, err := p.Pair(ctx)
	if err != nil {
		return 0, err
	}
	for _, n := range st.Nodes {
		t := n.Partition
		if string(n.Host) == p.Node.Host {
			continue
		}
		if t == nil || t.State != cluster.PartitionChecked && t.State != cluster.PartitionMaking && t.State != cluster.PartitionReady ||
			t.Name != want.Name || t.Disk != want.Disk || want.State == config.PartitionMaking && t.Bytes != c.Bytes {
			return 0, nil
		}
	}
	return c.Bytes, nil
}

// takeIn notes a partition that the configuration has.
func (p *Part) takeIn(want config.PairPartition, bytes int64) (*partition, error) {
	pt, err := p.newPartition(want)
	if err != nil {
		return nil, err
	}
	pt.bytes = bytes
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{pt.dir, 0o700}, {pt.Mount, 0o755}} {
		if err := durable.MakeDirs(dir.path, dir.mode); err != nil {
			return nil, err
		}
	}
	if err := pt.note(config.PartitionMaking); err != nil {
		return nil, err
	}
	p.part.Store(pt)
	return pt, nil
}

// join makes the partition a part of the group, which goes on. Where the group runs, it is mounted
// before the core knows of it: the core would stop what stands above first.
func (p *Service) join(ctx context.Context, pt *partition) error {
	if err := pt.note(""); err != nil {
		return err
	}
	err := p.driver.Change(ctx, pt.data, pt.members(p.Part), func(ctx context.Context, serves bool) error {
		ctx, cancel := context.WithTimeout(ctx, earlyWithin)
		defer cancel()
		if st, err := pt.dev.DB.Status(ctx); err != nil || !serves || !st.Linked() || st.Frozen() {
			return nil // the core sees to it
		}
		err := pt.promoted.Start(ctx)
		if err == nil {
			err = pt.mount.Start(ctx)
		}
		if err != nil {
			p.Log.Warn("the pair's partition is not mounted yet", "err", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	pt.joined.Store(true)
	p.Log.Info("the partition is part of the group", "name", pt.Name, "disk", pt.Disk)
	return nil
}

// takeAway ends this node's part. What is on the disk stays there.
func (p *Service) takeAway(ctx context.Context, pt *partition) error {
	pt.leaving.Store(true)
	st, err := p.Pair(ctx)
	if err != nil {
		return err
	}
	for _, n := range st.Nodes { // its writes would wait for this node's copy
		if string(n.Host) != p.Node.Host && n.Alive && n.Partition != nil && n.Partition.Role == "active" {
			return nil
		}
	}
	end := func(ctx context.Context) error {
		if err := pt.mount.Stop(ctx, false); err != nil {
			return err
		}
		st, err := pt.dev.DB.Status(ctx)
		if err != nil || st.Role != "Primary" {
			return err
		}
		return pt.dev.DB.Demote(ctx)
	}
	if pt.joined.Load() {
		err := p.driver.Change(ctx, p.own, append(p.first[:len(p.first):len(p.first)], p.services...), func(ctx context.Context, _ bool) error {
			ctx, cancel := context.WithTimeout(ctx, unmountWithin)
			defer cancel()
			return end(ctx)
		})
		if err != nil {
			return err
		}
		if err := pt.note(config.PartitionLeaving); err != nil {
			return err
		}
		pt.joined.Store(false)
	} else if err := end(ctx); err != nil {
		return err
	}
	if err := pt.dev.DB.Remove(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(pt.dir); err != nil {
		return err
	}
	p.part.Store(nil)
	p.Log.Info("the partition has left this node", "name", pt.Name, "disk", pt.Disk)
	return nil
}

// tellPartition adds the partition to what this node reports.
func (p *Part) tellPartition(r *cluster.PairReport) {
	odd := ""
	if o := p.odd.Load(); o != nil {
		odd = *o
	}
	pt := p.part.Load()
	if pt == nil {
		if r.Partition = p.checked.Load(); r.Problem == "" {
			r.Problem = odd
		}
		return
	}
	st := pt.dev.Last()
	out := &cluster.PairPartition{
		Name: pt.Name, Disk: pt.Disk, Mount: pt.Mount, State: cluster.PartitionMaking, Bytes: pt.bytes, Role: "unknown", Copy: st.Disk,
		Linked: st.Linked() && st.Disk == "UpToDate", Problem: odd,
	}
	switch {
	case pt.leaving.Load():
		out.State = cluster.PartitionLeaving
	case pt.joined.Load():
		out.State = cluster.PartitionReady
	}
	switch {
	case st.Role == "Primary":
		out.Role = "active"
	case st.Role == "Secondary":
		out.Role = "standby"
	case !st.Up:
		out.Role = "off"
	}
	if out.Problem == "" {
		out.Problem = st.Problem
	}
	out.Percent = inCommon(st.State, deviceKiB(pt.dev.DB.Device()), out.Linked)
	r.Partition = out
	if out.State == cluster.PartitionReady && out.Problem != "" && r.Problem == "" {
		r.Problem = "partition " + out.Name + ": " + out.Problem
	}
}

// deviceKiB is the size of a device, 0 when it is not known.
func deviceKiB(device string) uint64 {
	b, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(device), "size"))
	if err != nil {
		return 0
	}
	sectors, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return sectors / 2
}

// inCommon is how much of the device both copies have, in percent: 100 only when they are the same.
func inCommon(st drbd.State, kib uint64, same bool) int {
	switch {
	case same:
		return 100
	case kib == 0 || st.OutOfSync > kib:
		return 0
	}
	return min(99, int((kib-st.OutOfSync)*100/kib))
}
