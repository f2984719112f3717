package pools

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"holdfast/internal/host/libvirt"
)

// storage looks at this host's file systems and block devices.
type storage struct {
	proc, sys, dev string
	shared         []string     // paths that are said to be the same on all hosts
	gate           libvirt.Gate // for files on a server that may hang
}

// mounts reads the mount table; that touches no file system.
func (s storage) mounts() ([]*mountinfo.Info, error) {
	b, err := os.ReadFile(filepath.Join(s.proc, "self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	all, err := mountinfo.GetMountsFromReader(bytes.NewReader(b), nil)
	if err != nil {
		return nil, fmt.Errorf("read the mount table: %w", err)
	}
	return all, nil
}

// below reports that path is dir or in it.
func below(path, dir string) bool {
	dir = strings.TrimSuffix(dir, "/")
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// mountOf returns the mount that a path is in; a later one covers an earlier one.
func mountOf(mounts []*mountinfo.Info, path string) *mountinfo.Info {
	best := &mountinfo.Info{}
	for _, m := range mounts {
		if below(path, m.Mountpoint) && len(m.Mountpoint) >= len(best.Mountpoint) {
			best = m
		}
	}
	return best
}

// file tells on which type of file system a file is, and whether other hosts
// have it, too. A file on a file server is not touched: it may hang.
func (s storage) file(ctx context.Context, mounts []*mountinfo.Info, path string) (fstype string, shared bool, err error) {
	path = filepath.Clean(path)
	m := mountOf(mounts, path)
	if s.declared(path) || sharedFS(m.FSType) {
		return m.FSType, true, nil
	}
	real, err := libvirt.Bounded(ctx, s.gate, "follow "+path, func() (string, error) { return filepath.EvalSymlinks(path) })
	if errors.Is(err, fs.ErrNotExist) {
		return m.FSType, false, nil
	}
	if err != nil {
		return m.FSType, false, err
	}
	m = mountOf(mounts, real)
	return m.FSType, s.declared(real) || sharedFS(m.FSType), nil
}

func (s storage) declared(path string) bool {
	return slices.ContainsFunc(s.shared, func(dir string) bool { return below(path, filepath.Clean(dir)) })
}

// sharedFS knows the file systems that several hosts mount at the same time.
func sharedFS(fstype string) bool {
	switch strings.TrimPrefix(fstype, "fuse.") {
	case "nfs", "nfs4", "ocfs2", "gfs", "gfs2", "ceph", "glusterfs", "lustre", "gpfs", "beegfs",
		"cifs", "smb3", "afs", "orangefs", "quobyte", "acfs", "vstorage":
		return true
	}
	return false
}

// device is a block device of the host.
type device struct {
	Shared bool   // other hosts reach it, too
	Paths  int    // ways to it; 0: it is in this host, or that does not apply
	Mapper string // the multipath device that it is a path of, "" for none
}

// maxDepth bounds how many devices are on top of one another.
const maxDepth = 16

// device looks at the block device with that path, by what sysfs tells.
func (s storage) device(path string) (device, error) {
	name, err := s.kernelName(path)
	if err != nil {
		return device{}, err
	}
	d, err := s.inspect(name, maxDepth)
	if err != nil {
		return device{}, err
	}
	d.Shared = d.Shared || s.declared(filepath.Clean(path))
	return d, nil
}

// kernelName follows the links of /dev.
func (s storage) kernelName(path string) (string, error) {
	rest, ok := strings.CutPrefix(filepath.Clean(path), "/dev/")
	if !ok {
		return "", fmt.Errorf("device %s: want a path below /dev", path)
	}
	real, err := filepath.EvalSymlinks(filepath.Join(s.dev, rest))
	if err != nil {
		return "", fmt.Errorf("device %s: %w", path, err)
	}
	return filepath.Base(real), nil
}

func (s storage) inspect(name string, depth int) (device, error) {
	if depth == 0 {
		return device{}, fmt.Errorf("device %s: more than %d devices on top of one another", name, maxDepth)
	}
	at := filepath.Join(s.sys, "class/block", name)
	real, err := filepath.EvalSymlinks(at)
	if err != nil {
		return device{}, fmt.Errorf("device %s: %w", name, err)
	}
	if _, err := os.Stat(filepath.Join(real, "partition")); err == nil {
		return s.inspect(filepath.Base(filepath.Dir(real)), depth-1)
	}
	switch below, err := os.ReadDir(filepath.Join(real, "slaves")); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return device{}, fmt.Errorf("device %s: %w", name, err)
	case len(below) > 0:
		return s.stacked(name, below, depth)
	}
	switch {
	case strings.HasPrefix(name, "drbd"), strings.HasPrefix(name, "rbd"), strings.HasPrefix(name, "nbd"):
		return device{Shared: true}, nil
	case remote.MatchString(real):
		mapper, err := s.mapperOf(real)
		return device{Shared: true, Paths: 1, Mapper: mapper}, err
	}
	return device{}, nil
}

// remote finds the transport in the path of a SCSI or NVMe disk in sysfs: an
// iSCSI session, a remote port of Fibre Channel, or NVMe over a fabric.
var remote = regexp.MustCompile(`/(session[0-9]+|rport-[0-9:-]+|nvme-fabrics)/`)

// stacked looks at a device on top of others. A multipath device has as many
// paths as devices below it, every other one as many as its weakest.
func (s storage) stacked(name string, below []fs.DirEntry, depth int) (device, error) {
	multipath, err := s.isMultipath(name)
	if err != nil {
		return device{}, err
	}
	out := device{Shared: true}
	for i, e := range below {
		d, err := s.inspect(e.Name(), depth-1)
		if err != nil {
			return device{}, err
		}
		out.Shared = out.Shared && d.Shared
		if i == 0 || d.Paths < out.Paths {
			out.Paths = d.Paths
		}
		if out.Mapper == "" {
			out.Mapper = d.Mapper
		}
	}
	if multipath {
		out.Mapper = ""
		if out.Shared {
			out.Paths = len(below)
		}
	}
	return out, nil
}

// isMultipath tells by the device mapper's uuid, which multipathd sets.
func (s storage) isMultipath(name string) (bool, error) {
	uuid, err := s.mapperUUID(name)
	return strings.HasPrefix(uuid, "mpath-"), err
}

// mapperUUID is "" for what the device mapper has not made.
func (s storage) mapperUUID(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.sys, "class/block", name, "dm/uuid"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("device %s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

func (s storage) mapperName(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(s.sys, "class/block", name, "dm/name"))
	if err != nil {
		return "", fmt.Errorf("device %s: %w", name, err)
	}
	return "/dev/mapper/" + strings.TrimSpace(string(b)), nil
}

// holder returns the device mapper's device on top of another whose uuid begins
// with prefix, "" when there is none. real is the other's directory in sysfs.
func (s storage) holder(real, prefix string) (string, error) {
	holders, err := os.ReadDir(filepath.Join(real, "holders"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("device %s: %w", filepath.Base(real), err)
	}
	for _, h := range holders {
		uuid, err := s.mapperUUID(h.Name())
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(uuid, prefix) {
			return h.Name(), nil
		}
	}
	return "", nil
}

// mapperOf returns the path of the multipath device that holds a disk, "" when
// there is none.
func (s storage) mapperOf(real string) (string, error) {
	h, err := s.holder(real, "mpath-")
	if err != nil || h == "" {
		return "", err
	}
	return s.mapperName(h)
}

// multipath returns the path of the multipath device over the disk, or over the
// partition, at path; path itself when it is one. That is looked up by what the
// kernel holds together, so nobody is sent to another disk.
func (s storage) multipath(path string) (string, error) {
	name, err := s.kernelName(path)
	if err != nil {
		return "", err
	}
	disk, part, err := s.split(name)
	if err != nil {
		return "", err
	}
	if is, err := s.isMultipath(disk); err != nil || is {
		return path, err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(s.sys, "class/block", disk))
	if err != nil {
		return "", fmt.Errorf("device %s: %w", disk, err)
	}
	prefix := "mpath-"
	over, err := s.holder(real, prefix)
	if err == nil && over != "" && part != "" {
		prefix = "part" + part + "-" + prefix
		if real, err = filepath.EvalSymlinks(filepath.Join(s.sys, "class/block", over)); err == nil {
			over, err = s.holder(real, prefix)
		}
	}
	if err != nil {
		return "", err
	}
	if over == "" {
		return "", fmt.Errorf("no multipath device (%s...) is over %s (is multipathd running, and nothing else using the disk?)", prefix, path)
	}
	return s.mapperName(over)
}

// split tells the disk of a partition and its number; a disk has no number.
func (s storage) split(name string) (disk, part string, err error) {
	real, err := filepath.EvalSymlinks(filepath.Join(s.sys, "class/block", name))
	if err != nil {
		return "", "", fmt.Errorf("device %s: %w", name, err)
	}
	b, err := os.ReadFile(filepath.Join(real, "partition"))
	if err == nil {
		return filepath.Base(filepath.Dir(real)), strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("device %s: %w", name, err)
	}
	uuid, err := s.mapperUUID(name)
	if err != nil || !strings.HasPrefix(uuid, "part") {
		return name, "", err
	}
	below, err := os.ReadDir(filepath.Join(real, "slaves"))
	if err != nil || len(below) != 1 {
		return "", "", fmt.Errorf("device %s: a partition on %d devices: %w", name, len(below), err)
	}
	return below[0].Name(), strings.TrimPrefix(strings.SplitN(uuid, "-", 2)[0], "part"), nil
}
