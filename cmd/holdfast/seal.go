package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// seal keeps the memory of this process, which has keys and passwords in it, out of core dumps,
// whatever limit and handler of dumps the host has: a limit of 0 alone does not keep the kernel
// from handing memory to a program such as systemd-coredump. Nobody but root may then look into
// it by /proc or ptrace. A program that it starts is dumped again as ever.
//
// The agent finds its children by their entries in /proc. Where it may not read those of a
// process like that, without CAP_SYS_PTRACE (a demonstration by an ordinary user), nothing is
// changed.
func seal() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData // of 32 capabilities each
	if err := unix.Capget(&head, &caps[0]); err != nil {
		return fmt.Errorf("read the capabilities of this process: %w", err)
	}
	if caps[0].Effective&(1<<unix.CAP_SYS_PTRACE) == 0 {
		return nil
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("keep the memory of this process out of core dumps: %w", err)
	}
	return nil
}
