package onhost

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/pair/precheck"
)

// blockDir is where the kernel tells of block devices.
const blockDir = "/sys/class/block"

// plain is a value of lsblk, which older ones write as a text.
type plain string

// UnmarshalJSON takes texts, numbers, true and false; null is "".
func (p *plain) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		*p = plain(s) // null leaves ""
		return nil
	}
	*p = plain(b)
	return nil
}

func (p plain) number() int64 {
	n, _ := strconv.ParseInt(string(p), 10, 64) // 0: not known
	return n
}

func (p plain) yes() bool { return p == "1" || p == "true" }

// blockDevice is one of lsblk's.
type blockDevice struct {
	Name        string        `json:"name"`
	Type        string        `json:"type"`
	Size        plain         `json:"size"` // bytes
	Removable   plain         `json:"rm"`
	Transport   string        `json:"tran"`
	WWN         string        `json:"wwn"`
	Serial      string        `json:"serial"`
	MountPoint  string        `json:"mountpoint"`
	MountPoints []*string     `json:"mountpoints"`
	Children    []blockDevice `json:"children"`
}

// mounts are the mount points; those below /run come and go.
func (b blockDevice) mounts() (out []string) {
	all := []string{b.MountPoint}
	for _, m := range b.MountPoints {
		if m != nil {
			all = append(all, *m)
		}
	}
	for _, m := range all {
		if m != "" && !strings.HasPrefix(m, "/run/") && !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	slices.Sort(out)
	return out
}

// lsblk asks for block devices. Those before 2.37 know one mount point of each.
func lsblk(ctx context.Context, args ...string) ([]blockDevice, error) {
	var said string
	var err error
	for _, mounts := range []string{"MOUNTPOINTS", "MOUNTPOINT"} {
		said, err = run(ctx, "lsblk", append([]string{"-J", "-b", "-o", "NAME,TYPE,SIZE,RM,TRAN,WWN,SERIAL," + mounts}, args...)...)
		if err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return readBlockDevices(said)
}

func readBlockDevices(said string) ([]blockDevice, error) {
	var out struct {
		BlockDevices []blockDevice `json:"blockdevices"`
	}
	if err := json.Unmarshal([]byte(said), &out); err != nil {
		return nil, fmt.Errorf("read what lsblk says: %w", err)
	}
	return out.BlockDevices, nil
}

// disks are the local disks with their partitions, and what is mounted on top of these.
func disks(ctx context.Context) ([]precheck.Disk, []precheck.Volume, error) {
	all, err := lsblk(ctx)
	if err != nil {
		return nil, nil, err
	}
	d, v := layout(all, func(name string) int { return number(filepath.Join(blockDir, name, "partition")) })
	return d, v, nil
}

// notLocal are disks that are no part of a machine: of a network, in memory, on other disks.
var notLocal = []string{"loop", "ram", "zram", "nbd", "rbd", "drbd", "dm-", "sr", "fd"}

// layout takes from lsblk what two nodes must have in common. numberOf is the number of a
// partition.
func layout(all []blockDevice, numberOf func(string) int) (disks []precheck.Disk, volumes []precheck.Volume) {
	seen := map[string]bool{}
	for _, b := range all {
		local := b.Type == "disk" && !b.Removable.yes() && b.Transport != "fc" && b.Transport != "iscsi" &&
			b.Transport != "usb" && b.Size.number() > 0
		if !local || slices.ContainsFunc(notLocal, func(p string) bool { return strings.HasPrefix(b.Name, p) }) {
			continue
		}
		d := precheck.Disk{Name: b.Name, Size: b.Size.number(), Mounts: b.mounts(), System: holds(b, "/")}
		for _, c := range b.Children {
			if c.Type != "part" {
				volumes = append(volumes, above(c, seen)...)
				continue
			}
			d.Parts = append(d.Parts, precheck.Part{Number: numberOf(c.Name), Size: c.Size.number(), Mounts: c.mounts()})
			for _, v := range c.Children {
				volumes = append(volumes, above(v, seen)...)
			}
		}
		slices.SortFunc(d.Parts, func(x, y precheck.Part) int { return x.Number - y.Number })
		disks = append(disks, d)
	}
	return disks, volumes
}

// above are the volumes that are mounted at or above a device. An array is told below each of
// its disks, and counts once.
func above(b blockDevice, seen map[string]bool) (out []precheck.Volume) {
	if seen[b.Name] {
		return nil
	}
	seen[b.Name] = true
	if m := b.mounts(); len(m) > 0 {
		out = append(out, precheck.Volume{Kind: b.Type, Size: b.Size.number(), Mounts: m})
	}
	for _, c := range b.Children {
		out = append(out, above(c, seen)...)
	}
	return out
}

// holds reports whether something of a device is mounted at dir.
func holds(b blockDevice, dir string) bool {
	return slices.Contains(b.mounts(), dir) || slices.ContainsFunc(b.Children, func(c blockDevice) bool { return holds(c, dir) })
}

// device says what a block device is, for hosts that should share it.
func device(ctx context.Context, path string) *precheck.Device {
	bad := func(err error) *precheck.Device { return &precheck.Device{Error: err.Error()} }
	st, err := os.Stat(path)
	if err != nil {
		return bad(err)
	}
	if st.Mode()&os.ModeDevice == 0 || st.Mode()&os.ModeCharDevice != 0 {
		return bad(fmt.Errorf("%s is no block device", path))
	}
	all, err := lsblk(ctx, path)
	if err != nil {
		return bad(err)
	}
	if len(all) != 1 {
		return bad(fmt.Errorf("lsblk tells of %d devices at %s", len(all), path))
	}
	return identify(all[0], dmUUID(path))
}

// identify tells which device it is, and whether it is in use. dm is the UUID of a device
// mapper's, "" for another one.
func identify(b blockDevice, dm string) *precheck.Device {
	d := &precheck.Device{Size: b.Size.number(), ID: b.WWN}
	if d.ID == "" {
		d.ID = b.Serial
	}
	if id, ok := strings.CutPrefix(dm, "mpath-"); ok {
		d.ID = id
	}
	switch {
	case len(b.mounts()) > 0:
		d.Used = "mounted at " + strings.Join(b.mounts(), " ")
	case len(b.Children) > 0:
		d.Used = b.Children[0].Type + " " + b.Children[0].Name + " is on it"
	}
	return d
}

// dmUUID is the UUID of a device of the device mapper; "" for another one.
func dmUUID(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "" // it was there a moment ago; lsblk has told of it
	}
	raw, err := os.ReadFile(filepath.Join(blockDir, filepath.Base(real), "dm/uuid"))
	if err != nil {
		return "" // it is of something else
	}
	return strings.TrimSpace(string(raw))
}
