package demo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/internal/lib/fail"
	"holdfast/testbed/lab"
)

// facts are what a machine offers to the demo with real VMs.
type facts struct {
	root    bool
	admin   bool     // root's rights are whole: it may make namespaces and networks
	missing []string // programs, with the packages they are in
	apt     bool
}

func lookAround() facts {
	_, aptErr := exec.LookPath("apt-get")
	return facts{root: os.Geteuid() == 0, admin: isAdmin(), missing: lab.Missing(), apt: aptErr == nil}
}

// isAdmin reports whether this process may make namespaces and networks; root
// in a container often may not.
func isAdmin() bool {
	var data [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0 && data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}

// choice is what --auto does.
type choice struct {
	real    bool
	install bool   // packages first
	why     string // one line
}

func (f facts) choose() choice {
	packages := strings.Join(f.missing, ", ")
	switch {
	case !f.root:
		return choice{why: "the VM is played by a process, since this is not root (as root: real VMs)"}
	case !f.admin:
		return choice{why: "the VM is played by a process, since this root may not make namespaces (a container?)"}
	case len(f.missing) == 0:
		return choice{real: true, why: "real VMs, since this is root and libvirt and QEMU are there"}
	case !f.apt:
		return choice{why: "the VM is played by a process, since these are missing and there is no apt-get: " + packages}
	}
	return choice{real: true, install: true, why: "real VMs, since this is root; first apt-get installs what is missing: " + packages}
}

// refuse says why real VMs can not be had; nil when they can.
func (f facts) refuse() error {
	switch {
	case !f.root:
		return fail.Errorf(fail.Invalid, "--real: real VMs need root").With("run it with sudo, or without --real")
	case !f.admin:
		return fail.Errorf(fail.Invalid, "--real: real VMs need the right to make namespaces and networks, which this root does not have").
			With("run it without --real")
	case len(f.missing) > 0:
		return fail.Errorf(fail.Invalid, "--real: programs are missing: %s", strings.Join(f.missing, ", ")).
			With("install them, or let --auto do it")
	}
	return nil
}

// auto runs the best that the machine can do. Where real VMs turn out to be
// impossible it says so and goes on with a process in the VM's place.
type auto struct {
	facts   facts
	say     func(line string)
	install func(ctx context.Context) error
	run     func(ctx context.Context, real bool) error
}

func (a auto) Run(ctx context.Context) error {
	c := a.facts.choose()
	a.say("choice: " + c.why)
	if c.install {
		if err := a.install(ctx); err != nil {
			return a.instead(ctx, err)
		}
	}
	err := a.run(ctx, c.real)
	if c.real && errors.Is(err, ErrNoStage) {
		return a.instead(ctx, err)
	}
	return err
}

// instead is the demo with a process, after err has made real VMs impossible.
func (a auto) instead(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	a.say("choice: the VM is played by a process after all, since this failed: " + err.Error())
	return a.run(ctx, false)
}
