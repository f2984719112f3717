package pools

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
)

// session is an iSCSI session of this host.
type session struct {
	target string   // IQN
	disks  []string // their kernel names, such as sdb
}

// sessions reads them from sysfs; that needs no iscsiadm, and asks no portal.
func (s storage) sessions() ([]session, error) {
	dir := filepath.Join(s.sys, "class/iscsi_session")
	all, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // the kernel's module is not loaded
	}
	if err != nil {
		return nil, fmt.Errorf("read the iSCSI sessions: %w", err)
	}
	var out []session
	for _, e := range all {
		one, err := s.sessionAt(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read iSCSI session %s: %w", e.Name(), err)
		}
		out = append(out, one)
	}
	return out, nil
}

func (s storage) sessionAt(dir string) (session, error) {
	target, err := os.ReadFile(filepath.Join(dir, "targetname"))
	if err != nil {
		return session{}, err
	}
	out := session{target: strings.TrimSpace(string(target))}
	// The session's device has its SCSI targets below it.
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "device"))
	if err != nil {
		return session{}, err
	}
	disks, err := filepath.Glob(filepath.Join(real, "target*/*/block/*"))
	if err != nil {
		return session{}, err
	}
	for _, d := range disks {
		out.disks = append(out.disks, filepath.Base(d))
	}
	return out, nil
}

// users tells what uses the disks of a target's sessions.
func (s storage) users(target string) ([]string, error) {
	all, err := s.sessions()
	if err != nil {
		return nil, err
	}
	mounts, err := s.mounts()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, one := range all {
		if one.target != target {
			continue
		}
		for _, disk := range one.disks {
			u, err := s.usersOf(disk, mounts)
			if err != nil {
				return nil, err
			}
			out = append(out, u...)
		}
	}
	return out, nil
}

// usersOf tells where a disk and its partitions are mounted, and what is on top
// of them.
func (s storage) usersOf(disk string, mounts []*mountinfo.Info) ([]string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(s.sys, "class/block", disk))
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", disk, err)
	}
	parts, err := filepath.Glob(filepath.Join(real, disk+"*"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, dir := range slices.Insert(parts, 0, real) {
		name := filepath.Base(dir)
		for _, m := range mounts {
			if m.Source == "/dev/"+name {
				out = append(out, name+" mounted at "+m.Mountpoint)
			}
		}
		holders, err := os.ReadDir(filepath.Join(dir, "holders"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("device %s: %w", name, err)
		}
		for _, h := range holders {
			used, err := s.mapperInUse(h.Name(), mounts)
			if err != nil {
				return nil, err
			}
			out = append(out, used...)
		}
	}
	return out, nil
}

// mapperInUse tells what uses a device on top of a session's disk. A multipath
// device that nobody uses does not count: multipathd lets it go.
func (s storage) mapperInUse(name string, mounts []*mountinfo.Info) ([]string, error) {
	multipath, err := s.isMultipath(name)
	if err != nil {
		return nil, err
	}
	if !multipath {
		return []string{name}, nil
	}
	path, err := s.mapperName(name)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range mounts {
		if m.Source == path || m.Source == "/dev/"+name {
			out = append(out, path+" mounted at "+m.Mountpoint)
		}
	}
	over, err := os.ReadDir(filepath.Join(s.sys, "class/block", name, "holders"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("device %s: %w", name, err)
	}
	for _, o := range over {
		out = append(out, o.Name()+" on "+path)
	}
	return out, nil
}
