package onhost

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/config"
	"holdfast/internal/host/facts"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/install"
	"holdfast/internal/lib/pki"
	"holdfast/internal/lib/text"
)

// Limits of what is asked of programs and daemons of a host.
const (
	askWithin     = 20 * time.Second
	libvirtWithin = time.Minute      // it looks at its emulators when it is asked for the first time
	storageWithin = 15 * time.Second // one that hangs must not hang the installation
)

// Gather reads what this host is like, for who runs on it.
func Gather(ctx context.Context, q install.Query) (*install.Facts, error) {
	h := &host{}
	f := h.gather(ctx, q)
	return f, h.ports.close()
}

// gather reads what the host is like. What can not be read is in Unknown.
func (h *host) gather(ctx context.Context, q install.Query) *install.Facts {
	f := &install.Facts{
		Unknown: map[string]string{}, Bridges: map[string]install.Bridge{}, Space: map[string]int64{},
		Arch: runtime.GOARCH, Root: os.Geteuid() == 0, CPUs: runtime.NumCPU(), Undone: h.undone,
	}
	note := func(what string, err error) {
		if err != nil {
			f.Unknown[what] = text.Clean(err.Error())
		}
	}
	var err error
	f.Name, err = os.Hostname()
	note("name", err)
	f.Machine, err = machine(q.Machine)
	note("machine", err)
	f.Memory, err = memory()
	note("memory", err)
	_, err = run(ctx, "systemctl", "--version")
	f.Systemd = err == nil
	_, err = os.Stat("/dev/kvm")
	f.KVM = err == nil
	if q.Socket != "" {
		note("libvirt", hypervisor(ctx, q, f))
	}
	f.Watchdogs, err = filepath.Glob("/dev/watchdog[0-9]*")
	note("watchdogs", err)
	_, err = run(ctx, "modprobe", "-n", "softdog")
	f.Softdog = err == nil
	f.Link, err = link(q.Addr)
	note("link", err)
	for _, b := range q.Bridges {
		f.Bridges[b] = bridge(b)
	}
	if q.ImageFolder != "" {
		note("image", h.image(ctx, q, f))
	}
	if q.Pair != nil {
		f.Pair, err = pairFacts(ctx, *q.Pair)
		note("pair", err)
	}
	if q.RBD != nil {
		f.Pool = pool(ctx, *q.RBD)
	}
	for _, dir := range []string{filepath.Dir(install.Program), q.DataDir} {
		f.Space[dir], err = space(dir)
		note("space", err)
	}
	f.Clock = clockFacts(ctx)
	f.Installed, err = installed(ctx, q)
	note("installed", err)
	f.Certificates = certificates(q)
	note("firewall", filters(ctx, q.Addr, f))
	f.Other = other(ctx)
	f.Ports = h.ports.listen(q, f.Installed != nil && f.Installed.Active)
	return f
}

// run runs a program and returns what it said. The error has its last words.
func run(ctx context.Context, name string, args ...string) (string, error) {
	return runFor(ctx, askWithin, name, args...)
}

// runFor is run for programs that may take longer.
func runFor(ctx context.Context, within time.Duration, name string, args ...string) (string, error) {
	return runWith(ctx, within, nil, name, args...)
}

// runWith is runFor for programs that read something.
func runWith(ctx context.Context, within time.Duration, input []byte, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(input)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		said := strings.TrimSpace(string(out))
		if len(said) > 500 {
			said = said[len(said)-500:]
		}
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, text.Clean(said))
	}
	return string(out), nil
}

// machine tells hosts apart: by the hardware, else by the system's own id.
func machine(file string) (string, error) {
	files := []string{"/sys/class/dmi/id/product_uuid", "/etc/machine-id"}
	if file != "" {
		files = []string{file}
	}
	var errs []error
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if id := strings.ToLower(strings.TrimSpace(string(raw))); err == nil && id != "" {
			return id, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// memory of the host in MiB.
func memory() (int64, error) {
	var si unix.Sysinfo_t
	if err := unix.Sysinfo(&si); err != nil {
		return 0, fmt.Errorf("ask the kernel for its memory: %w", err)
	}
	return int64(si.Totalram) * int64(si.Unit) >> 20, nil
}

// hypervisor asks libvirtd.
func hypervisor(ctx context.Context, q install.Query, f *install.Facts) (err error) {
	ctx, cancel := context.WithTimeout(ctx, libvirtWithin)
	defer cancel()
	fl, err := guests.New(guests.Options{Socket: q.Socket})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fl.Close()) }()
	n, err := fl.Node(ctx)
	for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		n, err = fl.Node(ctx)
	}
	if err != nil {
		return err
	}
	f.Libvirt, f.QEMU = n.Libvirt, n.Hypervisor
	guests, err := fl.List(ctx)
	if err != nil {
		return err
	}
	for _, g := range guests {
		if g.Name == q.Domain {
			f.Domain = string(g.State)
		}
	}
	return nil
}

// space is what is free for root's files in dir, or where it would be made, in MiB.
func space(dir string) (int64, error) {
	for ; ; dir = filepath.Dir(dir) {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if errors.Is(err, fs.ErrNotExist) && dir != "/" {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("look for space in %s: %w", dir, err)
		}
		return int64(st.Bavail) * st.Bsize >> 20, nil
	}
}

// image looks at the image and at where it lies. Storage that hangs is told.
func (h *host) image(ctx context.Context, q install.Query, f *install.Facts) error {
	type found struct {
		image *install.Image
		mount *install.Mount
		err   error
	}
	done := make(chan found, 1)
	go func() { // it may block for ever in the kernel
		var got found
		if got.mount, got.err = mountOf(q.ImageFolder); got.err == nil && q.Image != "" {
			got.image = imageInfo(ctx, q.Image)
		}
		done <- got
	}()
	select {
	case got := <-done:
		f.Image, f.Mount = got.image, got.mount
		return got.err
	case <-time.After(storageWithin):
		return fmt.Errorf("%s does not answer within %s: is its file server up?", q.ImageFolder, storageWithin)
	}
}

func imageInfo(ctx context.Context, path string) *install.Image {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no file (%s)", path, st.Mode().Type())
	}
	if err != nil {
		return &install.Image{Error: text.Clean(err.Error())}
	}
	// Without -U it wants a lock that a running guest does not share.
	_, locked := run(ctx, "qemu-img", "info", path)
	out, err := run(ctx, "qemu-img", "info", "-U", "--output=json", path)
	var info struct {
		Format string `json:"format"`
		Size   int64  `json:"virtual-size"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(out), &info)
	}
	if err != nil {
		return &install.Image{Error: text.Clean(err.Error())}
	}
	return &install.Image{Format: info.Format, Size: info.Size, InUse: locked != nil}
}

// clockFacts says how the host keeps its time, and from whom.
func clockFacts(ctx context.Context) install.Clock {
	var c install.Clock
	// One that can not be read counts as not synced.
	got, _ := (&facts.Gatherer{}).Clock(ctx)
	c.Synced, c.By = got.Synced, got.By
	sources, _ := facts.TimeSources() // what can not be read is not known
	for _, s := range sources {
		c.Servers = append(c.Servers, s.Name)
	}
	return c
}

// installed reads an installation of ours.
func installed(ctx context.Context, q install.Query) (*install.Installed, error) {
	file := cmp.Or(q.Settings, install.SettingsFile)
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n, faults := config.ParseNode(file, raw)
	if len(faults) > 0 {
		return nil, config.Faults(faults)
	}
	in := &install.Installed{Cluster: n.Cluster, Host: n.Host, Addr: n.Addr, Guests: n.GuestsOnly}
	if in.Active = q.Runs; !in.Active {
		_, err = run(ctx, "systemctl", "is-active", "--quiet", install.Unit)
		in.Active = err == nil
	}
	entries, err := os.ReadDir(filepath.Join(n.DataDir, "store"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	in.Store = len(entries) > 0
	if n.ConfigFile == "" {
		return in, nil
	}
	cfg, _, err := config.Load(n.ConfigFile, config.Options{AllowUndersized: true})
	in.Members = cfg.Node
	return in, err
}

// certificates are those that are there. The agent's own counts when it fits its
// key and authority, also when its time is over.
func certificates(q install.Query) map[string]string {
	out := map[string]string{}
	own := config.TLS{CA: install.CAFile, Cert: install.KeyDir + "/host.pem", Key: install.KeyDir + "/host.key"}
	files := install.CertificateFiles()
	if n, err := config.LoadNode(q.Settings); q.Settings != "" && err == nil && n.TLS.Cert != "" {
		files[slices.Index(files, own.Cert)], own = n.TLS.Cert, n.TLS
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err != nil {
			continue // what is not there is made
		}
		if path == own.Cert {
			if _, _, err := pki.Load(own.CA, own.Cert, own.Key); err != nil && !errors.Is(err, pki.ErrExpired) {
				continue
			}
		}
		out[path] = string(raw)
	}
	return out
}

// other names a tool that may run the management VM: the source tool by its units and daemons,
// Pacemaker by its daemon.
func other(ctx context.Context) string {
	units, strays := services(ctx)
	for _, u := range units {
		if u.Active || u.Enabled {
			return install.SourceTool + " (" + u.Name + ")"
		}
	}
	switch {
	case len(strays) > 0:
		return install.SourceTool + " (" + strings.Join(strays, ", ") + ")"
	case len(running("pacemakerd")) > 0:
		return "Pacemaker"
	}
	return ""
}

// running gives those of the names that processes have which are not of this program: called
// zsha it has the name of the source tool's.
func running(names ...string) (out []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	for _, d := range dirs {
		raw, err := os.ReadFile(filepath.Join(d, "comm"))
		name := strings.TrimSpace(string(raw))
		if err != nil || !slices.Contains(names, name) || slices.Contains(out, name) {
			continue // it has ended, or is of no interest
		}
		exe, _ := os.Readlink(filepath.Join(d, "exe")) // "": it has ended
		if filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != filepath.Base(install.Program) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// fieldsOf reads a file of lines "NAME: VALUE".
func fieldsOf(path string) ([][2]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out [][2]string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			out = append(out, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
		}
	}
	return out, lines.Err()
}

func number(path string) int {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw))) // 0: not known
	return n
}
