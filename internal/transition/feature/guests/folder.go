package guests

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/lib/fail"
)

// volumeSize is the size of disks that are made, in bytes.
const volumeSize = 4 << 20

// spare is the space that a copy of a disk must leave free, in bytes.
const spare = 1 << 30

// folder is where files of small disks are made.
type folder struct {
	dir      string
	uuid     string // of the test guest
	like     fs.FileMode
	uid, gid int // as the guest's own disk has them, so that its QEMU may open them; -1: ours
}

// files are all that a run may make, by what they are.
func (f folder) files() []string {
	return []string{f.file("volume.raw"), f.file("image.qcow2"), f.file("new.raw")}
}

func (f folder) file(what string) string {
	return filepath.Join(f.dir, "holdfast-feature-"+f.uuid+"-"+what)
}

// mainDisk is the first disk that a guest writes.
func mainDisk(disks []libvirtxml.DomainDisk) *libvirtxml.DomainDisk {
	for i, d := range disks {
		if (d.Device == "disk" || d.Device == "") && d.ReadOnly == nil && d.Source != nil && d.Target != nil {
			return &disks[i]
		}
	}
	return nil
}

// folderOf chooses the directory: dir, else that of the first disk that is a file. A file of an earlier run there is refused.
func folderOf(dir, uuid string, disks []libvirtxml.DomainDisk) (folder, error) {
	f := folder{dir: dir, uuid: uuid, like: 0o600, uid: -1, gid: -1}
	for _, d := range disks {
		if d.Source == nil || d.Source.File == nil || d.Source.File.File == "" || d.ReadOnly != nil || d.Device == "cdrom" {
			continue
		}
		info, err := os.Stat(d.Source.File.File)
		if err != nil {
			return f, fail.Errorf(fail.Refused, "the guest's disk: %w", err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			f.like, f.uid, f.gid = info.Mode().Perm(), int(st.Uid), int(st.Gid)
		}
		if f.dir == "" {
			f.dir = filepath.Dir(d.Source.File.File)
		}
		break
	}
	if f.dir == "" {
		return f, nil
	}
	if info, err := os.Stat(f.dir); err != nil || !info.IsDir() {
		return f, fail.Errorf(fail.Invalid, "--dir %s: want a directory that is there", f.dir)
	}
	for _, path := range f.files() {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return f, fail.Errorf(fail.Refused, "there is a file %s, which an earlier run has left: see that no guest uses it, and remove it", path)
		}
	}
	return f, nil
}

// volume makes the file of an empty raw disk; it is removed later.
func (r *run) volume(what string) (path string, err error) {
	path = r.folder.file(what)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	r.removeLater(path)
	err = file.Truncate(volumeSize)
	if err == nil && r.folder.uid >= 0 {
		err = errors.Join(file.Chown(r.folder.uid, r.folder.gid), file.Chmod(r.folder.like))
	}
	return path, errors.Join(err, file.Close())
}

func (r *run) removeLater(path string) {
	r.Later("file "+path+" is still there", func(context.Context) error {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// room looks whether a copy of so many bytes leaves enough free.
func (f folder) room(size uint64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(f.dir, &st); err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", f.dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < size+spare {
		return fmt.Errorf("%s has %d MiB free: the image may take %d MiB, and %d MiB must stay free", f.dir, free>>20, size>>20, spare>>20)
	}
	return nil
}
