package migration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"holdfast/internal/lib/network"
	"holdfast/internal/lib/proc"
)

// QEMU sends the last part of a guest's memory with the guest stopped and its main lock
// held, and waits in send(2) without a limit. When the other host is lost then, or its QEMU
// takes nothing more, the monitor answers no question and takes no request to abort: the
// guest stands still until TCP gives up, some 15 minutes later. The kernel can end the
// connection at once: then QEMU's write fails, the migration has failed, and the guest goes on
// here.

// firstStreamPort is the lowest port that libvirt lets QEMU receive a migration at, unless
// qemu.conf says otherwise (migration_port_min). Storage is served at lower ones.
const firstStreamPort = 49152

// firstOwnPort is the lowest port that Linux gives a connection which a process opens
// (ip_local_port_range). Those of consoles come in at lower ones.
const firstOwnPort = 32768

// outgoing reports that a migration may go over a connection. Whether bytes wait on it does not
// tell: QEMU waits for the target's last word, too.
func outgoing(c network.Connection) bool {
	return c.To.Port() >= firstStreamPort && c.From.Port() >= firstOwnPort
}

// Unhang takes the error of a request to abort a migration. When nobody has answered, it
// hangs up. nil: it did so, or the request succeeded; the migration may go on to its end.
func Unhang(pid int, err error, log *slog.Logger) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	n, herr := hangUp(pid)
	if n == 0 || herr != nil {
		log.Warn("QEMU does not answer, and no connection to a target of a migration could be ended", "pid", pid, "err", herr)
		return errors.Join(err, herr)
	}
	log.Warn("QEMU hangs in a migration, its connection to the target is ended", "pid", pid)
	return nil
}

// hangUp ends a process's connections to targets of migrations, and returns how many there
// were.
func hangUp(pid int) (n int, err error) {
	all, err := network.TCP()
	if err != nil {
		return 0, err
	}
	for _, c := range all {
		if !outgoing(c) {
			continue
		}
		own, err := proc.Here.HasOpen(pid, fmt.Sprintf("socket:[%d]", c.Inode))
		if err != nil {
			return n, err
		}
		if !own {
			continue
		}
		if err := c.End(); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}
