package onhost

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/install"
	"holdfast/internal/lib/durable"
)

// endGrace is how long a guest that is taken over may take to shut down, as with
// "holdfast stop".
const endGrace = time.Minute

// withFleet asks libvirtd.
func withFleet(w install.Wanted, do func(*guests.Fleet) error) (err error) {
	fl, err := guests.New(guests.Options{Socket: w.Socket})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fl.Close()) }()
	return do(fl)
}

// lookFor looks for guests with the name or on the files, and for what starts them.
func lookFor(ctx context.Context, w install.Wanted) (*install.Guests, error) {
	out := &install.Guests{}
	err := withFleet(w, func(fl *guests.Fleet) error {
		all, err := fl.List(ctx)
		if err != nil {
			return err
		}
		for _, vm := range all {
			g, err := describe(ctx, fl, w, vm)
			if err != nil {
				return err
			}
			if g != nil {
				out.All = append(out.All, *g)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(savedFile(w.Name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out.Saved = string(raw)
	for _, f := range w.Files {
		if info := imageInfo(ctx, f); info.InUse {
			out.Locked = append(out.Locked, f)
		}
	}
	out.Services, out.Strays = services(ctx)
	return out, nil
}

// describe tells of a guest that has the name or one of the files; nil: neither.
func describe(ctx context.Context, fl *guests.Fleet, w install.Wanted, vm guests.VM) (*install.Guest, error) {
	g := &install.Guest{
		Name: vm.Name, UUID: vm.UUID, State: string(vm.State), Persistent: vm.Persistent, Autostart: vm.Autostart,
		Saved: vm.Saved, Snapshots: vm.Snapshots, Named: vm.Name == w.Name,
	}
	uses := false
	for _, d := range vm.Disks {
		if d.ReadOnly || d.Device == "cdrom" {
			continue
		}
		g.Disks = append(g.Disks, d.Source)
		uses = uses || slices.ContainsFunc(w.Files, func(f string) bool { return sameFile(f, d.Source) })
	}
	if !g.Named && !uses {
		return nil, nil
	}
	var err error
	if g.Named {
		if g.XML, err = fl.Definition(ctx, vm.UUID); err != nil {
			return nil, err
		}
	}
	g.PIDs, err = fl.Processes(ctx, vm.UUID, vm.Name)
	return g, err
}

// sameFile compares paths, and what they lead to.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// services are the source tool's that are there, and processes of theirs that run without a unit.
func services(ctx context.Context) (out []install.Service, strays []string) {
	active := false
	for _, unit := range install.SourceUnits() {
		if _, err := run(ctx, "systemctl", "cat", unit); err != nil {
			continue // there is none
		}
		s := install.Service{Name: unit}
		_, err := run(ctx, "systemctl", "is-active", "--quiet", unit)
		s.Active = err == nil
		_, err = run(ctx, "systemctl", "is-enabled", "--quiet", unit)
		s.Enabled = err == nil
		active = active || s.Active
		out = append(out, s)
	}
	if !active {
		strays = running(install.SourceDaemons()...)
	}
	return out, strays
}

// savedFile is where the definition of a guest is saved.
func savedFile(name string) string {
	return filepath.Join(install.SavedDir, strings.ReplaceAll(name, "/", "_")+".xml")
}

// disown saves the definition of a guest, and makes sure that nothing starts it by itself.
// What it has done is read back.
func disown(ctx context.Context, w install.Wanted) (saved string, err error) {
	if w.UUID != "" {
		err = withFleet(w, func(fl *guests.Fleet) error {
			if saved, err = save(ctx, fl, w); err != nil || saved == "" {
				return err
			}
			return fl.SetAutostart(ctx, w.UUID, false)
		})
		if err != nil {
			return saved, err
		}
	}
	all, _ := services(ctx)
	for _, s := range all {
		if s.Active || s.Enabled {
			if _, err := run(ctx, "systemctl", "disable", "--now", s.Name); err != nil {
				return saved, fmt.Errorf("stop %s: %w", s.Name, err)
			}
		}
	}
	now, err := lookFor(ctx, w)
	if err != nil {
		return saved, err
	}
	for _, s := range now.Services {
		if s.Active || s.Enabled {
			err = errors.Join(err, fmt.Errorf("%s was stopped and disabled, and is not: active %t, enabled %t", s.Name, s.Active, s.Enabled))
		}
	}
	if len(now.Strays) > 0 {
		err = errors.Join(err, fmt.Errorf("%s runs without a unit: end it", strings.Join(now.Strays, ", ")))
	}
	for _, g := range now.All {
		if g.Named && g.Autostart {
			err = errors.Join(err, fmt.Errorf("libvirt still starts %s with the host", g.Name))
		}
	}
	return saved, err
}

// save writes the definition into a file of root's, which is on disk when it returns. "":
// the guest is not here.
func save(ctx context.Context, fl *guests.Fleet, w install.Wanted) (string, error) {
	vms, err := fl.List(ctx)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(vms, func(v guests.VM) bool { return v.UUID == w.UUID }) {
		return "", nil
	}
	text, err := fl.Definition(ctx, w.UUID)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(install.SavedDir, 0o700); err != nil {
		return "", fmt.Errorf("save the definition: %w", err)
	}
	file := savedFile(w.Name)
	if err := durable.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("save the definition: %w", err)
	}
	return file, nil
}

// end shuts a guest down, powers it off when it does not obey, and makes sure that it has no
// process any more.
func end(ctx context.Context, w install.Wanted) error {
	return withFleet(w, func(fl *guests.Fleet) error {
		vms, err := fl.List(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(vms, func(v guests.VM) bool { return v.UUID == w.UUID && v.State != guests.VMOff }) {
			if _, err := fl.Shutdown(ctx, w.UUID, guests.ShutdownOptions{Wait: endGrace, PowerOff: true}); err != nil {
				return err
			}
		}
		return noProcess(ctx, fl, w)
	})
}

// noProcess waits a moment for the end of a guest's process: libvirtd tells of it first.
func noProcess(ctx context.Context, fl *guests.Fleet, w install.Wanted) error {
	var pids []int
	for end := time.Now().Add(goneWithin); ; time.Sleep(goneAgain) {
		var err error
		if pids, err = fl.Processes(ctx, w.UUID, w.Name); err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(end) || ctx.Err() != nil {
			return fmt.Errorf("%s is off, libvirt says, and its processes %v are there: look at them", w.Name, pids)
		}
	}
}

const (
	goneWithin = 10 * time.Second
	goneAgain  = 100 * time.Millisecond
)

// release makes libvirt forget a guest whose definition is saved.
func release(ctx context.Context, w install.Wanted) error {
	if err := os.Remove(install.StoppedFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if w.UUID == "" {
		return nil
	}
	return withFleet(w, func(fl *guests.Fleet) error {
		saved, err := save(ctx, fl, w)
		if err != nil || saved == "" {
			return err
		}
		return fl.Undefine(ctx, w.UUID)
	})
}
