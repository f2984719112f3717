package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/lib/fail"
	"holdfast/internal/pair/group"
	"holdfast/testbed/try"
)

// partitionNode is a node of a pair by the name of this machine, which DRBD knows it by.
func partitionNode(t *testing.T) (opt Options, mount string) {
	t.Helper()
	opt, _ = pairNode(t)
	host, err := os.Hostname()
	try.Must(t, err)
	opt.Node.Host = host
	opt.Cluster.Node[0] = "192.0.2.1 " + host
	opt.Cluster.Pair.Nodes[0] = host
	return opt, filepath.Join(filepath.Dir(opt.Cluster.Pair.Database.Datadir), "templates")
}

func of(members []group.Member) (names []string) {
	for _, m := range members {
		names = append(names, m.Spec().Name)
	}
	return names
}

// TestAnAgentBeginsWithItsPartition: what its node has is noted, so an agent that begins without the store has the
// partition in the group when it was a part of it, and not before.
func TestAnAgentBeginsWithItsPartition(t *testing.T) {
	opt, mount := partitionNode(t)
	p := made(t, opt)
	if data, members := p.parts(p.part.Load()); data != p.own || !slices.Equal(of(members), []string{"service", "vip"}) {
		t.Errorf("without one: %T, %q", data, of(members))
	}
	want := config.PairPartition{Name: "r1", Disk: "/dev/no/disk", Mount: mount, State: config.PartitionMaking}
	_, err := p.takeIn(want, 1<<30)
	try.Must(t, err)
	try.Must(t, p.Driver().Close())

	p = made(t, opt)
	pt := p.part.Load()
	if data, _ := p.parts(pt); pt == nil || pt.joined.Load() || data != p.own || !pt.Same(want) || pt.bytes != 1<<30 {
		t.Fatalf("while it is made: %+v", pt)
	}
	var r cluster.PairReport
	p.tellPartition(&r)
	if r.Partition == nil || r.Partition.State != cluster.PartitionMaking || r.Partition.Bytes != 1<<30 || r.Problem != "" {
		t.Errorf("it tells %+v", r.Partition)
	}
	try.Must(t, pt.note(""))
	try.Must(t, os.Remove(mount)) // a boot may
	try.Must(t, p.Driver().Close())

	p = made(t, opt)
	defer func() { try.Must(t, p.Driver().Close()) }()
	data, members := p.parts(p.part.Load())
	if _, ok := data.(*group.Composite); !ok || !slices.Equal(of(members), []string{"r1 device", "r1", "service", "vip"}) {
		t.Errorf("part of the group: %T, %q", data, of(members))
	}
	if _, ok := members[2].(*group.OnMount); !ok {
		t.Errorf("a service is a %T: it would hang with the partition", members[2])
	}
	if info, err := os.Stat(mount); err != nil || !info.IsDir() {
		t.Errorf("the mount point: %v", err)
	}
}

// TestThePartitionsSecret is the same on both nodes, and another one for another name.
func TestThePartitionsSecret(t *testing.T) {
	opt, _ := partitionNode(t)
	p := &Part{Options: opt, cfg: opt.Cluster.Pair.Full()}
	one, err := p.partitionSecret("r1")
	try.Must(t, err)
	again, err := (&Part{Options: opt, cfg: opt.Cluster.Pair.Full()}).partitionSecret("r1")
	try.Must(t, err)
	two, err := p.partitionSecret("r2")
	try.Must(t, err)
	if len(one) != 63 || one != again || one == two {
		t.Errorf("secrets %q, %q, %q", one, again, two)
	}
	p.cfg.Device = &config.PairDevice{}
	if none, err := p.partitionSecret("r1"); err != nil || none != "" {
		t.Errorf("without a secret: %q, %v", none, err)
	}
}

// TestOrdersOfAPartition: bad ones are refused before anything is touched.
func TestOrdersOfAPartition(t *testing.T) {
	opt, mount := partitionNode(t)
	opt.Node.Host = "node3"
	v := made(t, opt)
	if err := v.AddPartition(t.Context(), "root", cluster.PartitionOrder{Name: "r1"}); !refused(err, fail.Refused, "only votes") {
		t.Errorf("on a voter: %v", err)
	}
	if err := mayAdd(cluster.PairStatus{}); !refused(err, fail.Refused, "nothing was changed") {
		t.Errorf("a pair that is not set up: %v", err)
	}
	try.Must(t, os.MkdirAll(mount, 0o755))
	try.Must(t, emptyDir(mount))
	try.Must(t, emptyDir(filepath.Join(mount, "none")))
	try.Must(t, os.WriteFile(filepath.Join(mount, "file"), nil, 0o600))
	if err := emptyDir(mount); !refused(err, fail.Refused, "is not empty") {
		t.Errorf("a mount point with a file: %v", err)
	}
	if text := differ(cluster.PairStatus{Nodes: []cluster.PairNode{
		{PairHost: cluster.PairHost{Host: "a"}, PairReport: cluster.PairReport{Partition: &cluster.PairPartition{Disk: "/dev/sdc", Bytes: 1}}},
		{PairHost: cluster.PairHost{Host: "b"}, PairReport: cluster.PairReport{Partition: &cluster.PairPartition{Disk: "/dev/sdc", Bytes: 2}}},
	}}); text != "/dev/sdc has 1 bytes on a, /dev/sdc has 2 bytes on b: want the same size" {
		t.Error(text)
	}
}

// TestInCommon: it is not 100 before both are the same.
func TestInCommon(t *testing.T) {
	for _, tc := range []struct {
		left, kib uint64
		same      bool
		want      int
	}{{0, 1000, true, 100}, {0, 1000, false, 99}, {1, 1000, false, 99}, {500, 1000, false, 50}, {1000, 1000, false, 0},
		{2000, 1000, false, 0}, {5, 0, false, 0}} {
		if got := inCommon(drbd.State{OutOfSync: tc.left}, tc.kib, tc.same); got != tc.want {
			t.Errorf("%d of %d KiB left: %d %%, want %d", tc.left, tc.kib, got, tc.want)
		}
	}
}
