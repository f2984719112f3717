package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cluster"
	"holdfast/testbed/need"
)

// partitionAt is where the active node has the partition.
const partitionAt = "/mnt/templates"

// TestPairPartitionOnDRBD is laboratory B with a partition beside the data: it is added while the group
// runs, is on whichever node serves, whole, after a switch and a loss of power, and leaves again. A command
// that was cut short goes on.
func TestPairPartitionOnDRBD(t *testing.T) {
	need.Drill(t, "P3: a partition beside the data on a real DRBD is added, follows the group, and leaves")
	partitionLife(t, newPartitioned(t, false))
}

// TestPairPartitionBesideReplication is the same where the databases replicate, so that the partition is all
// that DRBD has.
func TestPairPartitionBesideReplication(t *testing.T) {
	need.Drill(t, "P3: a partition on a real DRBD beside databases that replicate is added, follows the group, and leaves")
	partitionLife(t, newPartitioned(t, true))
}

func partitionLife(t *testing.T, r *drbdRig) {
	t.Helper()
	active, standby := r.healthy(t)
	name := func(i int) string { return r.node[i].Name() }
	add := partitionAdd

	t.Log("what can not be is refused, and nothing is changed")
	for _, bad := range []struct {
		on   int
		args []string
		want string
	}{
		{standby, add, name(active) + " serves"},
		{active, []string{drbdExe, "pair", "partition", "add", "templates", "--disk", "/dev/vdb", "--mount", partitionAt}, "nothing was changed"},
		{active, []string{drbdExe, "pair", "partition", "remove", "templates", "--yes", "yes"}, "the pair has none"},
	} {
		if out, code := r.node[bad.on].Try(bad.args...); code == 0 || !strings.Contains(out, bad.want) {
			t.Errorf("%s: exit code %d: %s", strings.Join(bad.args, " "), code, out)
		}
	}

	c := r.clients
	stop := c.write(t)
	c.more(t, 20)
	begun := r.members(t, active)
	t.Log("added while the group runs, in spite of a command that is killed")
	r.node[active].Try("sh", "-c", strings.Join(add, " ")+` & sleep 2; kill -9 $!; wait`)
	r.until(t, "the partition", func() (string, bool) { out, code := r.node[active].Try(add...); return out, code == 0 })
	r.partition(t, active)
	if now := r.members(t, active); now != begun {
		t.Errorf("the services were started anew: %s, %s before", now, begun)
	}
	r.file(t, active, "one")

	t.Log("a planned switch")
	r.until(t, "a switch", func() (string, bool) {
		out, code := r.node[active].Try(drbdExe, "pair", "switch", name(standby), "--timeout", "5m")
		return out, code == 0
	})
	active, standby = standby, active
	r.partition(t, active)
	r.has(t, active, "one")
	r.file(t, active, "two")

	t.Log("a loss of power of the active node")
	r.node[active].Crash()
	c.more(t, 20)
	active, standby = standby, active
	r.until(t, "the partition on "+name(active), func() (string, bool) {
		out, _ := r.node[active].Try("sh", "-c", "grep "+partitionAt+" /proc/mounts")
		return out, strings.Contains(out, "/dev/drbd1")
	})
	r.has(t, active, "one", "two")
	r.file(t, active, "three")
	r.boot(standby)
	r.partition(t, active)

	t.Log("back with what was written meanwhile")
	r.until(t, "a switch", func() (string, bool) {
		out, code := r.node[active].Try(drbdExe, "pair", "switch", name(standby), "--timeout", "5m")
		return out, code == 0
	})
	active, standby = standby, active
	r.partition(t, active)
	r.has(t, active, "one", "two", "three")

	t.Log("the agent of the active node is killed")
	r.agent(active, "-9")
	r.agentAgain(active)
	r.partition(t, active)

	t.Log("taken away while the group runs")
	if out, code := r.node[active].Try(drbdExe, "pair", "partition", "remove", "other", "--yes", "yes"); code != 2 {
		t.Errorf("a name that is none: exit code %d: %s", code, out)
	}
	r.until(t, "its end", func() (string, bool) {
		out, code := r.node[active].Try(drbdExe, "pair", "partition", "remove", "templates", "--yes", "yes")
		return out, code == 0
	})
	for _, n := range r.node {
		if out := n.Run("sh", "-c", "cat /proc/mounts /proc/drbd; ls /etc/drbd.d"); strings.Contains(out,
			partitionAt) || strings.Contains(out, " 1: cs:") || strings.Contains(out, "partition") {
			t.Errorf("%s has something of it still: %s", n.Name(), out)
		}
	}
	serves, _ := r.healthy(t)
	stop()
	c.check(t, []string{"h1", "h2"}[serves])
	t.Logf("%d rows were acknowledged, none is lost", c.acknowledged())
}

// TestPairPartitionBehindOnDRBD: agents end in the middle of an order, and a copy that is behind is not
// promoted.
func TestPairPartitionBehindOnDRBD(t *testing.T) {
	need.Drill(t, "P1: a copy of a partition that is behind is not promoted; agents killed in the middle of an order")
	r := newPartitioned(t, false)
	active, standby := r.healthy(t)

	t.Log("the agent of the active node ends while the partition is made, and the other one's as it joins")
	for _, step := range []struct {
		whose int
		wait  string
	}{{active, "1"}, {active, "4"}, {standby, "3"}} {
		r.node[active].Try("sh", "-c", strings.Join(partitionAdd, " ")+" >/dev/null 2>&1 & sleep "+step.wait)
		r.agent(step.whose, "-9")
		r.agentAgain(step.whose)
	}
	r.until(t, "the partition", func() (string, bool) { out, code := r.node[active].Try(partitionAdd...); return out, code == 0 })
	r.partition(t, active)
	r.file(t, active, "one")

	t.Log("a node whose copy is behind does not serve")
	c := r.clients
	stop := c.write(t)
	r.node[standby].Crash()
	c.more(t, 20)
	r.until(t, "a write on the partition", func() (string, bool) {
		out, code := r.node[active].Try("sh", "-c", "touch "+partitionAt+"/alone && sync")
		return out, code == 0
	})
	r.file(t, active, "two")
	r.node[active].Crash()
	stop()
	r.boot(standby)
	for end := time.Now().Add(longDown); time.Now().Before(end); time.Sleep(5 * time.Second) {
		if out := r.node[standby].Run("cat", "/proc/mounts"); strings.Contains(out, "drbd") {
			t.Fatalf("%s has mounted a copy that is behind: %s", r.node[standby].Name(), out)
		}
	}
	r.boot(active)
	r.partition(t, active)
	r.has(t, active, "one", "two")
}

// TestPairPartitionFailsOnDRBD: the disk of the active node fails, and agents end while the partition leaves.
func TestPairPartitionFailsOnDRBD(t *testing.T) {
	need.Drill(t, "P3: the disk of a partition fails, and agents are killed while it leaves")
	r := newPartitioned(t, false)
	active, standby := r.healthy(t)
	r.until(t, "the partition", func() (string, bool) { out, code := r.node[active].Try(partitionAdd...); return out, code == 0 })
	r.partition(t, active)
	r.file(t, active, "one")

	t.Log("the active node's disk of the partition fails")
	r.node[active].Run("drbdsetup", "detach", "1", "--force")
	r.until(t, "the other node to serve", func() (string, bool) {
		st, err := r.status()
		a := st.Active()
		return fmt.Sprint(st.Why, err), err == nil && a != nil && string(a.Host) == r.node[standby].Name()
	})
	r.has(t, standby, "one")
	r.file(t, standby, "two")
	r.node[active].Crash()
	r.boot(active)
	active, standby = standby, active
	r.partition(t, active)

	t.Log("the agents end while it leaves")
	remove := []string{drbdExe, "pair", "partition", "remove", "templates", "--yes", "yes"}
	for i := range r.node {
		r.node[active].Try("sh", "-c", strings.Join(remove, " ")+" >/dev/null 2>&1 & sleep 1")
		r.agent(i, "-9")
		r.agentAgain(i)
	}
	r.until(t, "its end", func() (string, bool) {
		out, code := r.node[active].Try(remove...)
		return out, code == 0 || strings.Contains(out, "the pair has none")
	})
	r.healthy(t)
}

// newPartitioned is laboratory B whose nodes have an empty disk more.
func newPartitioned(t *testing.T, replicated bool) *drbdRig {
	t.Helper()
	r := newDevice(t, deviceOptions{replicated: replicated, spare: 64 << 20})
	r.begin()
	return r
}

var partitionAdd = []string{drbdExe, "pair", "partition", "add", "templates", "--disk", "/dev/vdc", "--mount", partitionAt}

// partition waits until both nodes have the partition, the same, and the pair is healthy.
func (r *drbdRig) partition(t *testing.T, active int) {
	t.Helper()
	r.until(t, "a pair with its partition", func() (string, bool) {
		st, err := r.status()
		good := err == nil && st.Health == cluster.Healthy && st.Owner.Host == cluster.HostID(r.node[active].Name())
		said := ""
		for _, n := range st.Nodes {
			said += fmt.Sprintf("%s %+v; ", n.Host, n.Partition)
			good = good && n.Partition != nil && n.Partition.State == cluster.PartitionReady && n.Partition.Linked
		}
		return fmt.Sprintf("%s %v %v %s", st.Health, st.Why, err, said), good
	})
}

// members are the processes of the group's database on a node.
func (r *drbdRig) members(t *testing.T, node int) string {
	t.Helper()
	return r.node[node].Run("sh", "-c", "pidof mariadbd")
}

// file writes a file on the partition that is on both disks when this returns.
func (r *drbdRig) file(t *testing.T, node int, name string) {
	t.Helper()
	r.node[node].Run("sh", "-c", fmt.Sprintf("head -c 1000000 /dev/urandom >%[1]s/%[2]s && sha256sum <%[1]s/%[2]s "+
		">%[1]s/%[2]s.sum && sync", partitionAt, name))
}

// has sees files of the partition, as they were written.
func (r *drbdRig) has(t *testing.T, node int, names ...string) {
	t.Helper()
	for _, n := range names {
		if out, code := r.node[node].Try("sh", "-c",
			fmt.Sprintf(`[ "$(sha256sum <%[1]s/%[2]s)" = "$(cat %[1]s/%[2]s.sum)" ]`, partitionAt, n)); code != 0 {
			t.Errorf("%s on %s: %s", n, r.node[node].Name(), out)
		}
	}
}
