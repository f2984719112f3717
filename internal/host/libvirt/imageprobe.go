package libvirt

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"holdfast/internal/lib/clock"
)

// nbdAgain is the time between two attempts to reach a server that the network
// says can not be reached.
const nbdAgain = 500 * time.Millisecond

// ProbeImage tells whether the NBD export that image names answers on this host:
// it opens it for writing and reads its first 512 bytes, by TLS where QEMU would. An
// error that comes before ctx ends is an answer: refused, reset, not the export that is
// wanted, certificates that do not fit, or
// a name that can not be resolved, which says nothing of the server. Without an
// answer it goes on until ctx ends, also when the network says that there is no
// way to the server. ctx must have a deadline.
func ProbeImage(ctx context.Context, image string) error {
	s, err := newSecure("", "", "")
	if err != nil {
		return err
	}
	return s.probeImage(ctx, image)
}

func (s secure) probeImage(ctx context.Context, image string) error {
	e, err := parseImage(image)
	if err != nil {
		return err
	}
	if e == nil {
		return fmt.Errorf("image %q: want an export of an NBD server", image)
	}
	if err := e.resolve(ctx); err != nil {
		return err
	}
	for {
		_, err := e.head(ctx, s)
		if !isUnreachable(err) {
			return err
		}
		if !clock.Sleep(ctx, nbdAgain) {
			return err
		}
	}
}

// resolve makes sure that the server's name has an address, in good time before
// ctx ends: a name service that hangs must not look like a disk that does.
func (e *nbdExport) resolve(ctx context.Context) error {
	if e.socket != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, share(ctx, nbdLimit))
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, e.host); err != nil {
		return fmt.Errorf("image: %s: find the server's address: %w", e, err)
	}
	return nil
}

// isUnreachable reports what the kernel says in place of a server that does not
// answer. The connection of a guest that runs hangs meanwhile, as it does when
// nothing is said.
func isUnreachable(err error) bool {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	switch no {
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.ETIMEDOUT:
		return true
	}
	return false
}
