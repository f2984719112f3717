package precheck

import "fmt"

// dataDisk judges the disk of a DRBD device.
func (j *judgement) dataDisk() {
	want, _ := j.database()
	j.emptyDisks("data disk", "--device", j.Disk, [2]*Device{j.Nodes[0].Facts.Disk, j.Nodes[1].Facts.Disk}, want)
}

// partitionDisk judges the disk of a partition, which may be of any size.
func (j *judgement) partitionDisk() {
	j.emptyDisks("partition", "--partition", j.Partition, [2]*Device{j.Nodes[0].Facts.Partition, j.Nodes[1].Facts.Partition}, 0)
}

// emptyDisks judges a disk of each node that DRBD is to keep the same, and that has the least size in
// GB; 0: any. option is where it was named.
func (j *judgement) emptyDisks(check, option, disk string, of [2]*Device, want int) {
	if !j.usable(check, option, disk, of, want, "see that both nodes have drbd-utils, a kernel with DRBD 8.4 or 9 "+
		"and an empty disk at "+disk+", or correct "+option) {
		return
	}
	x, y := of[0], of[1]
	if x.ID != "" && x.ID == y.ID {
		j.fail(check, fmt.Sprintf("%s is one disk, %s, that both nodes see", disk, x.ID), "name a disk of each node's own")
	}
	j.differ(check, disk, size(x.Size), size(y.Size), "give both nodes disks of the same size")
	j.passed(check, fmt.Sprintf("%s is free on both nodes: %s", disk, size(x.Size)))
}

// usable judges what each node says of a disk alone, and reports whether both know its size.
func (j *judgement) usable(check, option, disk string, of [2]*Device, want int, remedy string) bool {
	if disk == "" {
		return false
	}
	known := true
	for i, n := range j.Nodes {
		d := of[i]
		switch {
		case d == nil:
			j.fail(check, n.who()+" says nothing of "+disk, "check again")
		case d.Used != "":
			j.fail(check, fmt.Sprintf("%s: %s is in use: %s", n.who(), disk, d.Used), "name a disk in "+option+" that nothing else uses")
		case d.Error != "":
			j.fail(check, n.who()+": "+d.Error, remedy)
		case d.Size < int64(want)*gb:
			j.fail(check, fmt.Sprintf("%s: %s has %s, and the database %d GB", n.who(), disk, size(d.Size), want), "give a larger disk")
		}
		known = known && d != nil && d.Size != 0
	}
	return known
}
