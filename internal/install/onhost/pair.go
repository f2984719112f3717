package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"holdfast/internal/host/bmc"
	"holdfast/internal/host/facts"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/host/ping"
	"holdfast/internal/host/replica/drbd"
	"holdfast/internal/host/vip"
	"holdfast/internal/install"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/network"
	"holdfast/internal/lib/text"
	"holdfast/internal/pair/precheck"
)

// ofPair reads what a pair needs to know of this host beside what an installation asks. What
// could not be read is in Unknown.
func ofPair(ctx context.Context, q precheck.Query) *precheck.Facts {
	f := &precheck.Facts{Unknown: map[string]string{}}
	note := func(what string, err error) {
		if err != nil {
			f.Unknown[what] = text.Clean(err.Error())
		}
	}
	_, err := os.Stat("/sys/firmware/efi")
	f.UEFI = err == nil
	f.Components, err = components(ctx)
	note("components", err)
	f.Host = (&facts.Gatherer{}).Gather(ctx, asFact(q))
	f.Begun, err = install.PairBegun(install.SetupLock, install.SetupFile)
	note("begun", err)
	f.Disks, f.Volumes, err = disks(ctx)
	note("disks", err)
	if q.Dir != "" {
		f.Space, err = spaceOf(q.Dir)
		note("space", err)
	}
	f.Guests, err = emulators()
	note("guests", err)
	f.Pools, err = pools(ctx)
	note("pools", err)
	if q.VIP != "" {
		f.VIP = virtual(ctx, q)
	}
	if len(q.Pings) > 0 {
		f.Pings = pings(ctx, q.Pings)
	}
	if len(q.BMCs) > 0 {
		f.BMCs = controllers(ctx, q)
	}
	if q.Second != nil {
		f.Second = pathEnd(*q.Second)
	}
	if q.Device != "" {
		f.Device = device(ctx, q.Device)
	}
	f.Disk = forDRBD(ctx, q.Disk)
	f.Partition = forDRBD(ctx, q.Partition)
	return f
}

// forDRBD is a disk that a DRBD device is to be on; nil: none is asked for.
func forDRBD(ctx context.Context, disk string) *precheck.Device {
	if disk == "" {
		return nil
	}
	d := device(ctx, disk)
	if d.Error == "" && d.Used == "" {
		d.Error = words(drbd.Ready(ctx, disk))
	}
	return d
}

// asFact is what is asked that upgrades ask, too.
func asFact(q precheck.Query) fact.Request {
	r := fact.Request{VersionFile: q.VersionFile}
	if q.Unmanaged != "" {
		r.Status = &fact.Program{Name: "managed hosts", Run: []string{q.Unmanaged}}
	}
	return r
}

// components are the versions of what a pair is made of; what is not installed is left out.
func components(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, c := range []struct{ name, program, how, mark string }{
		{"holdfast", install.Program, "version", "holdfast "},
		{"mariadb", "mariadbd", "--version", "Ver "},
		{"drbd-utils", "drbdadm", "--version", "DRBDADM_VERSION="},
		{"libvirt", "libvirtd", "--version", "(libvirt) "},
		{"qemu", "qemu-img", "--version", "version "},
	} {
		path, err := exec.LookPath(c.program)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for %s: %w", c.program, err)
		}
		said, err := run(ctx, path, c.how)
		if err != nil {
			return nil, fmt.Errorf("ask for the version of %s: %w", c.name, err)
		}
		if out[c.name], err = version(said, c.mark); err != nil {
			return nil, fmt.Errorf("ask for the version of %s: %w", c.name, err)
		}
	}
	return out, nil
}

// version is the word behind a mark.
func version(said, mark string) (string, error) {
	_, rest, _ := strings.Cut(said, mark)
	f := strings.Fields(rest)
	if len(f) == 0 {
		return "", fmt.Errorf("want a version behind %q, not %q", mark, text.Clean(said))
	}
	return text.Clean(f[0]), nil
}

// spaceOf is that of the file system which is mounted at dir; nil: none is.
func spaceOf(dir string) (*precheck.Space, error) {
	mounted, err := mountinfo.Mounted(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !mounted {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for a mount at %s: %w", dir, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return nil, fmt.Errorf("look for space in %s: %w", dir, err)
	}
	return &precheck.Space{Size: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize}, nil
}

// emulators are the processes that are guests, whoever has begun them: their commands and pids.
func emulators() (out []string, err error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		raw, rerr := os.ReadFile(filepath.Join(d, "comm"))
		name := strings.TrimSpace(string(raw)) // 15 bytes at most
		if rerr != nil || !strings.HasPrefix(name, "qemu-system") && !slices.Contains([]string{"qemu-kvm", "kvm", "cloud-hypervisor"}, name) {
			continue // it has ended, or is none
		}
		out = append(out, name+" pid "+filepath.Base(d))
	}
	slices.Sort(out)
	return out, err
}

// pools are the names of libvirt's storage pools. Without a libvirtd there are none.
func pools(ctx context.Context) (out []string, err error) {
	if _, err := exec.LookPath("libvirtd"); err != nil {
		if _, err := exec.LookPath("virtstoraged"); err != nil {
			return nil, nil
		}
	}
	fl, err := guests.New(guests.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fl.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	all, err := fl.Pools().List(ctx)
	for _, p := range all {
		out = append(out, p.Name)
	}
	return out, err
}

// virtual looks whether this host could have the virtual address, and who has it now.
func virtual(ctx context.Context, q precheck.Query) *precheck.VIP {
	a, err := network.ParseVIP(q.VIP)
	if err != nil {
		return &precheck.VIP{Wrong: err.Error()}
	}
	var others []netip.Addr
	for _, o := range q.Others {
		addr, err := netip.ParseAddr(o)
		if err != nil {
			return &precheck.VIP{Wrong: err.Error()}
		}
		others = append(others, addr)
	}
	v := vip.New(a, others, slog.New(slog.DiscardHandler))
	dev, err := v.Interface()
	if err != nil {
		return &precheck.VIP{Wrong: text.Clean(err.Error())}
	}
	out := &precheck.VIP{Dev: dev.Name}
	addrs, err := dev.Addrs()
	if err != nil {
		out.Silent = "list the addresses of " + dev.Name + ": " + err.Error()
		return out
	}
	for _, own := range addrs {
		n, ok := own.(*net.IPNet)
		if !ok || !n.Contains(a.Prefix.Addr().AsSlice()) {
			continue
		}
		out.Length, _ = n.Mask.Size()
		in := netip.PrefixFrom(a.Prefix.Addr(), out.Length)
		out.Subnet = in.Masked().String()
		// By the interface's own length it may be the subnet's or the broadcast address.
		if _, err := network.ParseVIP(in.String()); err != nil {
			out.Wrong = text.Clean(err.Error())
			return out
		}
	}
	mac, err := v.Probe(ctx)
	switch {
	case err != nil:
		out.Silent = text.Clean(err.Error())
	case mac != nil:
		out.Taken = mac.String()
	}
	return out
}

// How an address is pinged: the first answer is enough.
const (
	pingEvery  = 200 * time.Millisecond
	pingWithin = 4 * time.Second
)

// pings says of each address why it does not answer, "" when it does.
func pings(ctx context.Context, addrs []string) map[string]string {
	out := map[string]string{}
	all := func(err error) map[string]string {
		for _, a := range addrs {
			out[a] = text.Clean(err.Error())
		}
		return out
	}
	p, err := ping.Open()
	if err != nil {
		return all(err)
	}
	ctx, cancel := context.WithTimeout(ctx, pingWithin)
	defer cancel()
	targets := map[string]*ping.Target{}
	for _, a := range addrs {
		addr, err := netip.ParseAddr(a)
		if err == nil {
			targets[a], err = p.Add(addr, pingEvery)
		}
		if err != nil {
			p.Close()
			return all(err)
		}
		out[a] = fmt.Sprintf("no answer to pings within %s", pingWithin)
	}
	ended := make(chan struct{})
	go func() {
		p.Run(ctx)
		close(ended)
	}()
	for clock.Sleep(ctx, pingEvery) {
		left := false
		for a, t := range targets {
			if !t.Counts().Answered.IsZero() {
				out[a] = ""
			}
			left = left || out[a] != ""
		}
		if !left {
			cancel()
		}
	}
	<-ended
	return out
}

// controllers asks the management controllers of the other node for its power.
func controllers(ctx context.Context, q precheck.Query) map[string]string {
	out := map[string]string{}
	for _, b := range q.BMCs {
		o := bmc.Options{
			Type: b.Type, Address: b.Address, User: b.User, PasswordFile: strings.TrimPrefix(b.Credential, "file:"),
			Machine: q.Machine, Fingerprint: b.Fingerprint, System: b.System, Log: slog.New(slog.DiscardHandler),
		}
		if b.Machine != "" {
			o.Machine = strings.ToLower(b.Machine)
		}
		d, err := bmc.New(o)
		if err == nil {
			_, err = d.Check(ctx)
		}
		out[b.Address] = ""
		if err != nil {
			out[b.Address] = text.Clean(err.Error())
		}
	}
	return out
}
