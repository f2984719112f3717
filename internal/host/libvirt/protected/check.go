package protected

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	golibvirt "github.com/digitalocean/go-libvirt"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/domainxml"
	"holdfast/internal/lib/text"
)

// Check tells whether the guest could be started here: libvirtd answers and has no other guest of its
// name or UUID, the host has as much memory as the guest begins with, the
// image and the files of a direct boot are readable files, or the image is an
// export of an NBD server that answers, or in a Ceph pool, the bridges exist, libvirtd has the firmware
// that the machine needs, makes a command line of its definition, and uses virtlockd when there is a lockspace. The seed is
// not looked at: it is written just before a start. The error is for people and
// names what to do; all that is wrong is joined into one.
func (d *Driver) Check(ctx context.Context, spec cluster.GuestSpec) error {
	errs := []error{checkSpec(spec)}
	format, err := d.checkFiles(ctx, spec, false)
	errs = append(errs, err)
	memory := spec.MemoryMiB
	if spec.Domain != "" { // which has the memory, and the cards
		if dom, err := domainxml.Parse(spec.Domain); err == nil { // else checkNeeds tells it
			memory = dom.BeginsWithMiB()
		}
	} else {
		errs = append(errs, d.checkMachine(ctx, spec))
		for _, n := range spec.NICs {
			errs = append(errs, d.checkBridge(n.Bridge))
		}
	}
	_, err = readVNC(spec)
	daemon, pool := d.checkDaemon(ctx, memory), d.checkPool(ctx, spec)
	if daemon == nil {
		errs = append(errs, d.checkTaken(ctx))
	}
	errs = append(errs, daemon, d.checkLocks(ctx, spec), pool, err)
	if daemon == nil && pool == nil { // else there is no answer, or libvirtd may not have the pool's key
		errs = append(errs, d.checkDefinition(ctx, spec, format))
	}
	return errors.Join(errs...)
}

// checkDefinition asks libvirtd whether it can make a command line of what a start would give it. Format is that of the
// image, "" when it could not be looked at.
func (d *Driver) checkDefinition(ctx context.Context, spec cluster.GuestSpec, format string) error {
	def, err := domainWith(spec, cmp.Or(format, formatRaw), "")
	if err != nil {
		return nil // checkSpec and checkNeeds tell it
	}
	what := "libvirtd does not take the machine that the configuration describes"
	if spec.Domain != "" {
		what = "libvirtd does not take DomainXML"
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, libvirt.ConnectLimit))
	defer cancel()
	c, err := d.link.Get(ctx)
	if err == nil {
		err = c.Call(ctx, what, func(l *golibvirt.Libvirt) error {
			_, err := l.ConnectDomainXMLToNative("qemu-argv", def, 0)
			return err
		})
	}
	if err != nil {
		return libvirt.OneLine(err)
	}
	return nil
}

// checkDaemon asks libvirtd for the host's memory, and compares it with what the guest begins with.
func (d *Driver) checkDaemon(ctx context.Context, memoryMiB int) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, libvirt.ConnectLimit))
	defer cancel()
	var has uint64 // KiB
	c, err := d.link.Get(ctx)
	if err == nil {
		err = c.Call(ctx, "ask libvirtd for the host's memory", func(l *golibvirt.Libvirt) (err error) {
			_, has, _, _, _, _, _, _, err = l.NodeGetInfo()
			return err
		})
	}
	switch {
	case err != nil:
		return fmt.Errorf("libvirtd does not answer (start it: systemctl start libvirtd): %w", err)
	case uint64(memoryMiB) > has>>10:
		return fmt.Errorf("the guest wants %d MiB of memory, and this host has %d: give the guest less, or the host more", memoryMiB, has>>10)
	}
	return nil
}

// checkTaken looks for a guest that has the name of ours and another UUID, or the other way round: libvirtd takes no
// second one. Whoever may make guests on this host may choose both.
func (d *Driver) checkTaken(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, libvirt.ConnectLimit))
	defer cancel()
	var byName, byUUID golibvirt.Domain
	c, err := d.link.Get(ctx)
	if err == nil {
		err = c.Call(ctx, "ask libvirtd for guests of this name and UUID", func(l *golibvirt.Libvirt) (err error) {
			byName, err = l.DomainLookupByName(d.opt.Name)
			if err == nil || libvirt.HasCode(err, golibvirt.ErrNoDomain) {
				byUUID, err = l.DomainLookupByUUID(d.dom.UUID)
			}
			if libvirt.HasCode(err, golibvirt.ErrNoDomain) {
				err = nil
			}
			return err
		})
	}
	switch {
	case err != nil:
		return libvirt.OneLine(err)
	case byName.Name != "" && byName.UUID != d.dom.UUID:
		id := libvirt.FormatUUID(byName.UUID)
		return fmt.Errorf("libvirtd has another guest named %s, with the UUID %s, and takes no second one: give that "+
			"one another name while it is off "+
			"(virsh domrename %s NAME), or move it away", d.opt.Name, id, id)
	case byUUID.Name != "" && byUUID.Name != d.opt.Name:
		return fmt.Errorf("libvirtd has a guest with the UUID %s that is named %q, and takes no second one: move "+
			"that one away", d.opt.UUID, text.Line(byUUID.Name, maxShown))
	}
	return nil
}

// maxShown bounds a name of others in a message, bytes.
const maxShown = 64

// checkFiles looks at the guest's image and all files that it needs, and returns
// the format of the image. starts: it is about to, and its seed is written.
func (d *Driver) checkFiles(ctx context.Context, spec cluster.GuestSpec, starts bool) (string, error) {
	if spec.Domain != "" {
		return "", d.checkNeeds(ctx, spec, starts)
	}
	type file struct{ what, path string }
	var files []file
	format := ""
	export, err := parseImage(spec.Image)
	switch {
	case spec.RBD != nil:
		format, err = formatRaw, nil // checkPool looks at it
	case err != nil:
	case export != nil:
		format, err = export.inspect(ctx, d.leave.Certificates)
	default:
		files = append(files, file{imageFile, spec.Image})
	}
	if b := spec.Boot; b != nil {
		files = append(files, file{"kernel", b.Kernel})
		if b.Initrd != "" {
			files = append(files, file{"initrd", b.Initrd})
		}
	}
	if starts && spec.Seed != "" {
		files = append(files, file{"seed", spec.Seed})
	}
	type result struct {
		format string
		wrong  []error // each says of what it is
	}
	found, filesErr := libvirt.Bounded(ctx, d.files, "look at the guest's files (does their file server answer?)", func() (r result, _ error) {
		for _, f := range files {
			got, err := checkFile(f.what, f.path)
			r.wrong = append(r.wrong, err)
			if f.what == imageFile {
				r.format = got
				if got == formatQcow2 {
					r.wrong = append(r.wrong, checkBehind(f.what, f.path))
				}
			}
		}
		return r, nil
	})
	return format + found.format, errors.Join(append(found.wrong, err, filesErr)...) // only one of them looks at the image
}

const imageFile = "image"

// checkFile makes sure that path is a file that can be read, and tells the
// format of its content.
func checkFile(what, path string) (format string, err error) {
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s %q: want an absolute path", what, path)
	}
	st, err := os.Stat(path) // before the open, which would wait for the other end of a pipe
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s %s does not exist on this host: put it there, or mount the shared directory", what, path)
	case err != nil:
		return "", fmt.Errorf("%s %s: %w", what, path, err)
	case st.IsDir():
		return "", fmt.Errorf("%s %s is a directory: give the path of the file", what, path)
	case !st.Mode().IsRegular():
		return "", fmt.Errorf("%s %s is not a regular file (%s): give the path of a file", what, path, st.Mode().Type())
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("%s can not be read by this host (check its rights and the export's): %w", what, err)
	}
	defer f.Close()
	return sniff(f, what, path)
}

// sniff reads the first bytes: qcow2 begins with "QFI" and 0xfb (QEMU's
// docs/interop/qcow2), everything else is taken as raw.
func sniff(f io.Reader, what, path string) (string, error) {
	head := make([]byte, 4)
	n, err := io.ReadFull(f, head)
	if errors.Is(err, io.EOF) {
		return "", fmt.Errorf("%s %s is empty: put the content there", what, path)
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read %s %s: %w", what, path, err)
	}
	return formatOf(head[:n]), nil
}

// formatOf tells the format by an image's first bytes.
func formatOf(head []byte) string {
	if bytes.HasPrefix(head, []byte("QFI\xfb")) {
		return formatQcow2
	}
	return formatRaw
}

func (d *Driver) checkBridge(name string) error {
	if !validName(name) {
		return fmt.Errorf("bridge %q: want the name of a bridge", name)
	}
	dir := filepath.Join(d.opt.SysDir, "class/net", name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("bridge %s does not exist on this host: create it, or correct Bridge in the configuration", name)
	} else if err != nil {
		return fmt.Errorf("look for bridge %s: %w", name, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bridge")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is a network device but not a bridge: give the bridge that it belongs to", name)
	} else if err != nil {
		return fmt.Errorf("look at bridge %s: %w", name, err)
	}
	return nil
}
