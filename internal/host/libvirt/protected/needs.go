package protected

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/lib/domainxml"
	"holdfast/internal/lib/proc"
)

// This file looks for what the operator's domain needs of this host.

// checkNeeds looks for all of it; with starts for what libvirtd does not say itself in a moment. What only
// one on a host can have may be had by the guest itself.
func (d *Driver) checkNeeds(ctx context.Context, spec cluster.GuestSpec, starts bool) error {
	dom, err := ownDomain(spec)
	if err != nil {
		return err
	}
	here, err := d.procs.guests(ctx)
	if err != nil {
		return err
	}
	var libvirts, exports, local []domainxml.Need
	for _, n := range dom.Needs() {
		switch {
		case n.Kind == domainxml.Export:
			exports = append(exports, n)
		case atLibvirt[n.Kind] != nil && starts:
		case atLibvirt[n.Kind] != nil:
			libvirts = append(libvirts, n)
		default:
			local = append(local, n)
		}
	}
	vars := dom.Variables()
	if vars == "" {
		vars = variables(spec)
	}
	var errs []error
	for _, n := range exports {
		errs = append(errs, about(n, d.checkExport(ctx, n)))
	}
	type result struct {
		hasVars bool
		wrong   []error // each says of what it is
	}
	found, err := libvirt.Bounded(ctx, d.files, "look at the guest's files (does their file server answer?)", func() (r result, _ error) {
		_, err := os.Stat(vars)
		r.hasVars = err == nil
		for _, n := range local {
			if n.Kind != domainxml.Variables || !r.hasVars {
				r.wrong = append(r.wrong, d.checkLocal(n, spec.Folder, here))
			}
		}
		return r, nil
	})
	if found.hasVars {
		libvirts = slices.DeleteFunc(libvirts, func(n domainxml.Need) bool { return n.Kind == domainxml.Firmware })
	}
	return errors.Join(append(append(errs, found.wrong...), err, d.askLibvirt(ctx, libvirts))...)
}

// about says which place of the domain an error is about.
func about(n domainxml.Need, err error) error {
	if err != nil {
		err = fmt.Errorf("DomainXML %s: %w", n.What, err)
	}
	return err
}

// checkLocal looks at what the kernel and the file systems of this host have. here are the
// guest's processes on it.
func (d *Driver) checkLocal(n domainxml.Need, folder string, here []guestProc) error {
	what := "DomainXML " + n.What
	switch n.Kind {
	case domainxml.File, domainxml.Variables:
		_, err := checkFile(what, n.Value)
		return err
	case domainxml.Disk:
		return checkOwnFile(what, n, folder)
	}
	return about(n, d.lookAt(n, here))
}

func (d *Driver) lookAt(n domainxml.Need, here []guestProc) error {
	switch n.Kind {
	case domainxml.Program:
		return checkProgram(n.Value)
	case domainxml.Made:
		return checkFolder(n.Value)
	case domainxml.Device:
		return checkDevice(n.Value)
	case domainxml.Bridge:
		return d.checkBridge(n.Value)
	case domainxml.Interface, domainxml.Tap:
		return d.checkInterface(n, here)
	case domainxml.CPUs:
		return d.checkNumbers(n, "cpu/online")
	case domainxml.Nodes:
		return d.checkNumbers(n, "node/has_memory")
	case domainxml.Hugepages:
		return d.checkHugepages(n, here)
	case domainxml.Cgroup:
		return d.checkController(n.Value)
	case domainxml.Keymap:
		return checkKeymap(n.Value)
	case domainxml.Port, domainxml.UDPPort:
		return d.checkPort(n, here)
	case domainxml.Socket, domainxml.Listener:
		return d.checkSocket(n, here)
	case domainxml.CID:
		return d.checkCID(n.Value, here)
	}
	return fmt.Errorf("this version can not look at %q", n.Value)
}

func checkProgram(name string) error {
	if _, err := exec.LookPath(name); err != nil {
		return fmt.Errorf("the program %s can not be run on this host: %w: install it", name, err)
	}
	return nil
}

// checkFolder makes sure that a file can be made.
func checkFolder(path string) error {
	st, err := os.Stat(filepath.Dir(path))
	if err == nil && !st.IsDir() {
		err = errors.New("it is no directory")
	}
	if err != nil {
		return fmt.Errorf("%s can not be made on this host: %w: make its directory", path, err)
	}
	return nil
}

func checkDevice(path string) error {
	st, err := os.Stat(path)
	if err == nil && st.Mode().Type()&os.ModeDevice == 0 {
		err = fmt.Errorf("%s is no device", path)
	}
	if err != nil {
		return fmt.Errorf("this host has no such device: %w", err)
	}
	return nil
}

// theirs reports whether one of the guest's processes has what is looked for.
func theirs(here []guestProc, has func(pid int) (bool, error)) (bool, error) {
	for _, p := range here {
		if ok, err := has(p.PID); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (d *Driver) checkInterface(n domainxml.Need, here []guestProc) error {
	if !validName(n.Value) {
		return fmt.Errorf("%q: want the name of a network interface", n.Value)
	}
	_, err := os.Stat(filepath.Join(d.opt.SysDir, "class/net", n.Value))
	if err == nil && n.Kind == domainxml.Tap {
		if ok, err := theirs(here, func(pid int) (bool, error) { return d.procs.dir.HasInterface(pid, n.Value) }); ok || err != nil {
			return err
		}
	}
	switch {
	case err == nil && n.Kind == domainxml.Tap:
		return fmt.Errorf("this host has a network interface %s already: end what uses it, or leave the name out", n.Value)
	case errors.Is(err, fs.ErrNotExist) && n.Kind == domainxml.Tap:
		return nil
	case err != nil:
		return fmt.Errorf("this host has no network interface %s: %w", n.Value, err)
	}
	return nil
}

// numbersMost is above all numbers of CPUs and nodes.
const numbersMost = 8192

// checkNumbers compares with the list in a file of the kernel. One without NUMA has node 0.
func (d *Driver) checkNumbers(n domainxml.Need, file string) error {
	want, err := domainxml.Numbers(n.Value, numbersMost)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(d.opt.SysDir, "devices/system", file))
	if errors.Is(err, fs.ErrNotExist) && n.Kind == domainxml.Nodes {
		text, err = []byte("0"), nil
	}
	if err != nil {
		return fmt.Errorf("read which numbers this host has: %w", err)
	}
	has, err := domainxml.Numbers(strings.TrimSpace(string(text)), numbersMost)
	if err != nil {
		return fmt.Errorf("read which numbers this host has: %w", err)
	}
	for _, i := range want {
		if !slices.Contains(has, i) {
			return fmt.Errorf("value %q: this host has the numbers %s only", n.Value, strings.TrimSpace(string(text)))
		}
	}
	return nil
}

// checkHugepages makes sure that the kernel has pages of that size, and enough that nobody uses.
func (d *Driver) checkHugepages(n domainxml.Need, here []guestProc) error {
	size := n.Value
	if size == "0" {
		kib, found, err := proc.KiB(filepath.Join(d.opt.ProcDir, "meminfo"), "Hugepagesize")
		if err != nil {
			return fmt.Errorf("read the size of huge pages: %w", err)
		}
		if !found {
			return errors.New("this host's kernel has no huge pages")
		}
		size = strconv.Itoa(kib)
	}
	dir := filepath.Join(d.opt.SysDir, "kernel/mm/hugepages/hugepages-"+size+"kB")
	kib, err := strconv.Atoi(size)
	if err != nil {
		return fmt.Errorf("read the size of huge pages: %w", err)
	}
	free := 0
	for file, sign := range map[string]int{"free_hugepages": 1, "resv_hugepages": -1, "nr_overcommit_hugepages": 1, "surplus_hugepages": -1} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("this host has no huge pages of %s KiB", size)
		}
		pages, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
		if err = errors.Join(err, err2); err != nil {
			return fmt.Errorf("read how many huge pages are free: %w", err)
		}
		free += sign * pages
	}
	had := 0 // by the guest itself
	for _, p := range here {
		kib, err := d.procs.dir.HugePages(p.PID)
		if err != nil {
			return err
		}
		had += kib >> 10
	}
	if mib := free*kib>>10 + had; mib < n.MiB {
		return fmt.Errorf("%d MiB of this host's huge pages of %s KiB are free, and %d MiB are wanted", mib, size, n.MiB)
	}
	return nil
}

// checkController looks for a controller of control groups. Without any of them libvirt limits nothing.
func (d *Driver) checkController(name string) error {
	dir := filepath.Join(d.opt.SysDir, "fs/cgroup")
	text, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	switch {
	case err == nil && slices.Contains(strings.Fields(string(text)), name):
		return nil
	case err == nil:
		return fmt.Errorf("this host's kernel has no controller %q of control groups", name)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look for controllers of control groups: %w", err)
	}
	old := map[string]string{"io": "blkio"} // in version 1
	if o := old[name]; o != "" {
		name = o
	}
	all, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for controllers of control groups: %w", err)
	}
	if len(all) > 0 && !slices.ContainsFunc(all, func(e fs.DirEntry) bool { return slices.Contains(strings.Split(e.Name(), ","), name) }) {
		return fmt.Errorf("this host's kernel has no controller %q of control groups", name)
	}
	return nil
}

// checkPort makes sure that nobody listens where the guest's program will. An address that is not
// given is any.
func (d *Driver) checkPort(n domainxml.Need, here []guestProc) error {
	all, err := d.procs.dir.Listening(string(n.Kind))
	if err != nil {
		return fmt.Errorf("read which ports of this host are taken: %w", err)
	}
	want, err := netip.ParseAddr(n.At)
	for _, l := range all {
		same := err != nil || want.IsUnspecified() || l.At.Addr().IsUnspecified() || want.Unmap() == l.At.Addr().Unmap()
		if !same || strconv.Itoa(int(l.At.Port())) != n.Value {
			continue
		}
		ok, err := theirs(here, func(pid int) (bool, error) { return d.procs.dir.HasOpen(pid, l.Name()) })
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("value %q: somebody listens at %s on this host already (%s): end that, or choose another port", n.Value, l.At, n.Kind)
		}
	}
	return nil
}

// checkSocket makes sure that somebody listens on a Unix socket, or that the guest's program can.
func (d *Driver) checkSocket(n domainxml.Need, here []guestProc) error {
	all, err := d.procs.dir.UnixListeners()
	if err != nil {
		return fmt.Errorf("read which Unix sockets this host has: %w", err)
	}
	i := slices.IndexFunc(all, func(l proc.Listener) bool { return l.Path == n.Value })
	taken := i >= 0
	if taken && n.Kind == domainxml.Socket {
		if ok, err := theirs(here, func(pid int) (bool, error) { return d.procs.dir.HasOpen(pid, all[i].Name()) }); ok || err != nil {
			return err
		}
	}
	switch {
	case n.Kind == domainxml.Listener && !taken:
		return fmt.Errorf("nobody listens on %s on this host", n.Value)
	case n.Kind == domainxml.Socket && taken:
		return fmt.Errorf("somebody listens on %s on this host already: end that, or choose another path", n.Value)
	case n.Kind == domainxml.Socket:
		return checkFolder(n.Value)
	}
	return nil
}

var guestCID = regexp.MustCompile(`guest-cid"?[=:]"?(\d+)`)

// checkCID looks for other guests' command lines: the kernel has no list, and to try is to take it.
func (d *Driver) checkCID(cid string, here []guestProc) error {
	pids, err := d.procs.dir.PIDs()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		if slices.ContainsFunc(here, func(p guestProc) bool { return p.PID == pid }) {
			continue
		}
		args, err := d.procs.dir.Args(pid)
		if errors.Is(err, proc.ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range guestCID.FindAllStringSubmatch(strings.Join(args, " "), -1) {
			if m[1] == cid {
				return fmt.Errorf("value %q: process %d on this host has it already: choose another one, or <cid auto='yes'/>", cid, pid)
			}
		}
	}
	return nil
}

// keymaps is where packages of QEMU have its keymaps.
const keymaps = "/usr/share/qemu*/keymaps"

func checkKeymap(name string) error {
	found, err := filepath.Glob(filepath.Join(keymaps, filepath.Base(name)))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("no keymap %q is in %s on this host: leave it out", name, keymaps)
	}
	return err
}

// checkExport asks an NBD server, which may let a guest that only reads an export only read it.
func (d *Driver) checkExport(ctx context.Context, n domainxml.Need) error {
	e, err := parseImage(n.Value)
	if err == nil {
		e.tls = n.At
		_, err = e.inspect(ctx, d.leave.Certificates)
	}
	if errors.Is(err, errReadOnly) && !n.Write {
		return nil
	}
	return err
}

// atLibvirt are the kinds that libvirtd is asked for.
var atLibvirt = map[domainxml.Kind]func(l *golibvirt.Libvirt, n domainxml.Need) error{
	domainxml.Network: func(l *golibvirt.Libvirt, n domainxml.Need) error {
		net, err := l.NetworkLookupByName(n.Value)
		if err != nil {
			return fmt.Errorf("libvirt on this host has no network %s: %w", n.Value, err)
		}
		if active, err := l.NetworkIsActive(net); err != nil || active != 0 {
			return err
		}
		return fmt.Errorf("libvirt's network %s is not active on this host: virsh net-start %s", n.Value, n.Value)
	},
	domainxml.Filter: func(l *golibvirt.Libvirt, n domainxml.Need) error {
		_, err := l.NwfilterLookupByName(n.Value)
		if err != nil {
			err = fmt.Errorf("libvirt on this host has no network filter %s: %w", n.Value, err)
		}
		return err
	},
	domainxml.Secret: func(l *golibvirt.Libvirt, n domainxml.Need) error {
		uuid, err := libvirt.ParseUUID(n.Value)
		if err == nil {
			_, err = l.SecretLookupByUUID(uuid)
		}
		if err != nil {
			err = fmt.Errorf("libvirt on this host has no secret %s: %w", n.Value, err)
		}
		return err
	},
	domainxml.Usage: func(l *golibvirt.Libvirt, n domainxml.Need) error {
		_, err := l.SecretLookupByUsage(int32(golibvirt.SecretUsageTypeVolume), n.Value) // others are of storage that is refused
		if err != nil {
			err = fmt.Errorf("libvirt on this host has no secret for %s: %w", n.Value, err)
		}
		return err
	},
	domainxml.Firmware: func(l *golibvirt.Libvirt, n domainxml.Need) error {
		var arch golibvirt.OptString
		if n.At != "" {
			arch = golibvirt.OptString{n.At}
		}
		text, err := l.ConnectGetDomainCapabilities(nil, arch, nil, nil, 0)
		if err != nil {
			return err
		}
		var has libvirtxml.DomainCaps
		if err := xml.Unmarshal([]byte(text), &has); err != nil {
			return err
		}
		if os := has.OS; os != nil && os.Loader != nil && slices.Contains(os.Loader.Values, n.Value) {
			return nil
		}
		return fmt.Errorf("libvirt on this host knows no variables for the firmware %s: name them (os/nvram/@template)", n.Value)
	},
	domainxml.Security: func(l *golibvirt.Libvirt, n domainxml.Need) error {
		has, _, err := l.NodeGetSecurityModel()                      // its capabilities have it, too: it asks all emulators for those
		if err != nil || chars(has) == n.Value || n.Value == "dac" { // which it always has
			return err
		}
		return fmt.Errorf("libvirt on this host has no security model %s", n.Value)
	},
}

// chars is what stands before the first zero byte.
func chars(all []int8) string {
	var b []byte
	for _, c := range all {
		if c == 0 {
			break
		}
		b = append(b, byte(c))
	}
	return string(b)
}

// askLibvirt asks libvirtd for what it alone knows.
func (d *Driver) askLibvirt(ctx context.Context, needs []domainxml.Need) error {
	if len(needs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, libvirt.Share(ctx, libvirt.ConnectLimit))
	defer cancel()
	c, err := d.link.Get(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range needs {
		err := c.Call(ctx, "ask libvirtd for what DomainXML needs", func(l *golibvirt.Libvirt) error { return atLibvirt[n.Kind](l, n) })
		if err != nil {
			errs = append(errs, about(n, libvirt.OneLine(err)))
		}
	}
	return errors.Join(errs...)
}
