package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed guest
var recipe embed.FS // read only

// recipeVersion changes when the recipe in this file does.
const recipeVersion = "1"

// buildLimit is how long the packages' download and the build may take.
const buildLimit = 10 * time.Minute

// modules are what the guest loads, in this order.
func modules() []string {
	return []string{
		"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
		"virtio_console", "virtio_blk", "failover", "net_failover", "virtio_net", "virtio-rng",
		"virtio_balloon", "pvpanic", "pvpanic-pci", "pvpanic-mmio",
		"scsi_common", "scsi_mod", "cdrom", "isofs", "sr_mod", "virtio_scsi",
	}
}

// buildGuest puts the test guest's kernel and initrd into dir, as KernelName
// and InitrdName. They are made of Debian's packages (a cloud kernel and the
// QEMU guest agent are downloaded by apt-get, busybox is the installed one) and
// kept in cache: the next call with the same busybox and the same recipe
// takes well below a second and needs no network.
//
// The guest needs 96 MiB of memory. It takes its network from a NoCloud seed,
// else from the kernel command line (lab.ip=ADDRESS/LENGTH, lab.gw=ADDRESS). It
// serves http://ADDRESS/status, which ParseAnswer reads, /cgi-bin/crash (kernel
// panic), /cgi-bin/halt (power-off), /cgi-bin/mute (the web server hangs, all
// else goes on), /cgi-bin/dirty?MIB (memory written endlessly), and answers the
// guest agent. Its counter and the first sector of its first data disk change
// about five times per second.
func buildGuest(ctx context.Context, cache, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	key, err := recipeKey()
	if err != nil {
		return fmt.Errorf("build guest: %w", err)
	}
	built := filepath.Join(cache, key)
	if !exists(filepath.Join(built, InitrdName)) {
		if err := fillCache(ctx, cache, built); err != nil {
			return fmt.Errorf("build guest: %w", err)
		}
	}
	for _, name := range []string{KernelName, InitrdName} {
		if err := copyFile(filepath.Join(built, name), filepath.Join(dir, name), 0o644); err != nil {
			return fmt.Errorf("build guest: %w", err)
		}
	}
	return nil
}

// recipeKey names a build: what goes in, apart from the downloaded packages'
// versions, which a build in the cache keeps.
func recipeKey() (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, recipeVersion, modules())
	err := fs.WalkDir(recipe, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := recipe.ReadFile(name)
		fmt.Fprintln(h, name, len(body))
		h.Write(body)
		return err
	})
	if err != nil {
		return "", err
	}
	box, err := os.ReadFile(busyboxPath)
	if err != nil {
		return "", err
	}
	h.Write(box)
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), nil
}

// fillCache builds into a temporary folder and moves it into place at the end,
// so that a build in the cache is whole. Two builders at once do no harm.
func fillCache(ctx context.Context, cache, built string) (err error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(cache, "build-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	kernel, err := newestKernel(ctx)
	if err != nil {
		return err
	}
	root, err := unpack(ctx, tmp, kernel, "qemu-guest-agent")
	if err != nil {
		return err
	}
	out := filepath.Join(tmp, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	vmlinuz, err := one(filepath.Join(root, "boot", "vmlinuz-*"))
	if err != nil {
		return err
	}
	if err := copyFile(vmlinuz, filepath.Join(out, KernelName), 0o644); err != nil {
		return err
	}
	var image bytes.Buffer
	z := gzip.NewWriter(&image)
	if err := errors.Join(writeInitramfs(ctx, newCPIO(z), root), z.Close()); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, InitrdName), image.Bytes(), 0o644); err != nil {
		return err
	}
	if err := os.Rename(out, built); err != nil && !exists(filepath.Join(built, InitrdName)) {
		return err
	}
	return nil
}

var kernelPackage = regexp.MustCompile(`(?m)^linux-image-6\.1\.0-(\d+)-cloud-amd64\b`)

// newestKernel is Debian's newest cloud kernel of the 6.1 line.
func newestKernel(ctx context.Context) (string, error) {
	out, err := run(ctx, "apt-cache", "search", "--names-only", `^linux-image-6\.1\.0-[0-9]+-cloud-amd64$`)
	if err != nil {
		return "", err
	}
	best, name := -1, ""
	for _, m := range kernelPackage.FindAllStringSubmatch(out, -1) {
		if n, err := strconv.Atoi(m[1]); err == nil && n > best {
			best, name = n, m[0]
		}
	}
	if name == "" {
		return "", errors.New("apt knows no linux-image-6.1.0-*-cloud-amd64: run apt-get update (the guest needs Debian 12's packages)")
	}
	return name, nil
}

// unpack downloads packages and unpacks them into one folder; none is installed.
func unpack(ctx context.Context, tmp string, packages ...string) (string, error) {
	// apt-get downloads into its working folder.
	script := `cd "$1" && shift && exec apt-get -q -o DPkg::Lock::Timeout=300 -o APT::Sandbox::User=root download "$@"`
	if _, err := runLong(ctx, "/bin/sh", append([]string{"-c", script, "sh", tmp}, packages...)...); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		return "", errors.Join(fmt.Errorf("download %v: got %v", packages, debs), err)
	}
	root := filepath.Join(tmp, "root")
	for _, deb := range debs {
		if _, err := runLong(ctx, "dpkg-deb", "-x", deb, root); err != nil {
			return "", err
		}
	}
	return root, nil
}

func one(pattern string) (string, error) {
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		return "", errors.Join(fmt.Errorf("want one file %s, got %v", pattern, found), err)
	}
	return found[0], nil
}

// writeInitramfs writes the guest's root: busybox, the guest agent with its
// libraries, kernel modules and the recipe's scripts.
func writeInitramfs(ctx context.Context, c *cpioWriter, root string) error {
	for _, d := range []string{"proc", "sys", "dev", "run", "tmp", "mnt", "root", "sbin", "usr", "var", "etc"} {
		c.dir(d)
	}
	c.node("dev/console", 5, 1)
	c.link("usr/bin", "../bin")
	c.link("usr/sbin", "../bin")
	if err := writeBusybox(ctx, c); err != nil {
		return err
	}
	if err := writeProgram(ctx, c, filepath.Join(root, "usr/sbin/qemu-ga"), "bin/qemu-ga"); err != nil {
		return err
	}
	if err := writeModules(c, root); err != nil {
		return err
	}
	scripts := map[string]string{
		"init": "init.sh", "bin/netconf": "netconf.awk", "sbin/shutdown": "shutdown.sh",
		"www/cgi-bin/crash": "cgi/crash", "www/cgi-bin/halt": "cgi/halt", "www/cgi-bin/dirty": "cgi/dirty",
		"www/cgi-bin/mute": "cgi/mute",
	}
	for to, from := range scripts {
		body, err := recipe.ReadFile("guest/" + from)
		if err != nil {
			return err
		}
		c.file(to, 0o755, body)
	}
	c.link("www/index.html", "status")
	c.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n"))
	c.file("etc/shadow", 0o600, []byte("root:*:19000:0:99999:7:::\n"))
	c.file("etc/group", 0o644, []byte("root:x:0:\n"))
	return c.close()
}

// writeBusybox writes the program and a link for each of its commands that the
// guest does not get from elsewhere.
func writeBusybox(ctx context.Context, c *cpioWriter) error {
	body, err := os.ReadFile(busyboxPath)
	if err != nil {
		return err
	}
	c.file("bin/busybox", 0o755, body)
	list, err := run(ctx, busyboxPath, "--list")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(list) {
		if name != "busybox" && name != "shutdown" {
			c.link("bin/"+name, "busybox")
		}
	}
	return nil
}

var libraryPath = regexp.MustCompile(`/\S+`)

// writeProgram writes a program and the machine's libraries that it needs.
func writeProgram(ctx context.Context, c *cpioWriter, from, to string) error {
	body, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	c.file(to, 0o755, body)
	out, err := run(ctx, "ldd", from)
	if err != nil {
		return err
	}
	if strings.Contains(out, "not found") {
		return fmt.Errorf("%s misses libraries: %s", filepath.Base(from), strings.Join(strings.Fields(out), " "))
	}
	libs := libraryPath.FindAllString(out, -1)
	slices.Sort(libs)
	for _, lib := range slices.Compact(libs) {
		body, err := os.ReadFile(lib)
		if err != nil {
			return err
		}
		c.file(lib, 0o755, body)
	}
	return nil
}

// writeModules writes the kernel's modules and the order to load them in.
func writeModules(c *cpioWriter, root string) error {
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(root, "lib/modules"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".ko") {
			found[strings.TrimSuffix(d.Name(), ".ko")] = path
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, m := range modules() {
		path, ok := found[m]
		if !ok {
			return fmt.Errorf("the kernel package has no module %s.ko", m)
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		c.file("modules/"+m+".ko", 0o644, body)
	}
	c.file("modules/order", 0o644, []byte(strings.Join(modules(), "\n")+"\n"))
	return nil
}
