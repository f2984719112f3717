package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ownFolders are those that a host has a view of its own of, with
// Options.OwnSystem: all that a package may write to.
func ownFolders() []string {
	return []string{"/usr", "/etc", "/opt", "/var/lib", "/var/cache", "/var/log"}
}

// policyFile keeps packages from starting services when they are installed: a
// host of the laboratory has no service manager.
const policyFile = "usr/sbin/policy-rc.d"

// AgentFolder holds the program that is the agent of a host with a system of its
// own, as AgentFolder/holdfast: it can be replaced there, as on a real host.
const AgentFolder = "/opt/holdfast/bin"

// agentExe is the agent's program, as the host sees it.
func (p plan) agentExe(o Options) string {
	if o.OwnSystem {
		return filepath.Join(AgentFolder, ProgramName)
	}
	return p.exe()
}

// prepareAgentExe puts the program into the host's own system, once.
func (p plan) prepareAgentExe(h string, o Options) error {
	if !o.OwnSystem {
		return nil
	}
	changed, _ := bootSpec{Disk: p.disk(h)}.system("/opt")
	exe := filepath.Join(changed, strings.TrimPrefix(p.agentExe(o), "/opt"))
	if exists(exe) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(exe), 0o755); err != nil {
		return err
	}
	return os.Link(p.exe(), exe)
}

// folder is the laboratory's folder, absolute. Those that hosts can not see are
// refused, and those that are a part of their own view.
func (o Options) folder() (string, error) {
	dir, err := checkDir(o.Dir)
	if err != nil || !o.OwnSystem {
		return dir, err
	}
	for _, f := range ownFolders() {
		if dir == f || strings.HasPrefix(dir, f+"/") {
			return "", fmt.Errorf("folder %q: hosts with a system of their own have their own %s: choose another place", dir, f)
		}
	}
	return dir, nil
}

// system is what a host's disk has of one of its own folders: what was changed,
// and the kernel's place to work in.
func (b bootSpec) system(folder string) (changed, work string) {
	name := strings.ReplaceAll(strings.TrimPrefix(folder, "/"), "/", "-")
	dir := filepath.Join(b.Disk, "system", name)
	return filepath.Join(dir, "changed"), filepath.Join(dir, "work")
}

// mountSystem gives the host its own view of the machine's system. What is
// changed there goes to the host's disk, so it is there after a reboot.
func (b bootSpec) mountSystem() error {
	if !b.OwnSystem {
		return nil
	}
	for _, f := range ownFolders() {
		changed, work := b.system(f)
		if err := errors.Join(os.MkdirAll(changed, 0o755), os.MkdirAll(work, 0o755)); err != nil {
			return fmt.Errorf("make the host's own %s: %w", f, err)
		}
		// redirect_dir: a folder of the machine can be renamed, as on a real host.
		if err := mountOwn(f, "lowerdir="+f+",upperdir="+changed+",workdir="+work+",redirect_dir=on,index=off"); err != nil {
			return fmt.Errorf("a system of the host's own: %w: want a kernel with overlayfs, and the laboratory's "+
				"folder on a file system that it can write to, such as ext4 or xfs", err)
		}
	}
	if err := os.WriteFile("/"+policyFile, []byte("#!/bin/sh\nexit 101\n"), 0o755); err != nil {
		return fmt.Errorf("a system of the host's own: %w", err)
	}
	return nil
}

// mountOwn mounts an overlay on a folder. That of the host's last boot may be
// under way out of the kernel for a moment.
func mountOwn(folder, data string) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := mount("overlay", folder, "overlay", 0, data)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			return err
		}
	}
}
