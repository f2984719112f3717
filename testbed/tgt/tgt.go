// Package tgt serves a disk as an iSCSI target from user space, by Debian's tgt, which has
// SCSI-3 persistent reservations.
package tgt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/testbed/try"
)

// Serve serves unit 1 of a target, an empty disk of that many bytes, at a portal, IP:PORT, until the
// end of the test. in calls what starts the server where the portal is. A process serves one
// target at a time.
func Serve(t testing.TB, target, portal string, bytes int64, in func(start func() error) error) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	try.Must(t, errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, bytes)))
	control := fmt.Sprint(os.Getpid() % 32768) // of its control socket
	server := exec.Command("tgtd", "-f", "-C", control, "--iscsi", "portal="+portal)
	var said strings.Builder
	server.Stdout, server.Stderr = &said, &said
	try.Must(t, in(server.Start))
	t.Cleanup(func() {
		if err := server.Process.Kill(); err != nil {
			t.Errorf("end tgtd: %v", err)
		}
		if err := server.Wait(); err == nil {
			t.Errorf("tgtd had ended: %s", said.String())
		}
		for _, f := range []string{"socket." + control, "socket." + control + ".lock", ""} { // at last the folder, unless others are in it
			if err := os.Remove(filepath.Join("/var/run/tgtd", f)); err != nil && !errors.Is(err, os.ErrNotExist) &&
				!errors.Is(err, unix.ENOTEMPTY) {
				t.Error(err)
			}
		}
	})
	admin := func(args ...string) error {
		out, err := exec.CommandContext(t.Context(), "tgtadm", append([]string{"-C", control, "--lld", "iscsi"}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("tgtadm %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	try.Until(t, "tgtd", func() bool { return admin("--mode", "target", "--op", "new", "--tid", "1", "-T", target) == nil })
	try.Must(t, errors.Join(admin("--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", "1", "-b", image),
		admin("--mode", "target", "--op", "bind", "--tid", "1", "-I", "ALL")))
}
