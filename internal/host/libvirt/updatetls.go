package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// TLSPort is where libvirt serves other hosts by TLS.
const TLSPort = "16514"

// updateWithin bounds the daemon's answer.
const updateWithin = 20 * time.Second

// UpdateTLS makes the daemon that serves other hosts read its certificates again:
// libvirtd, or virtproxyd where libvirt runs as several daemons. Connections and guests
// go on. dir is where its sockets are.
func UpdateTLS(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, updateWithin)
	defer cancel()
	var errs []error
	for _, d := range []struct{ daemon, socket string }{{"libvirtd", "libvirt-admin-sock"}, {"virtproxyd", "virtproxyd-admin-sock"}} {
		socket := filepath.Join(dir, d.socket)
		if _, err := os.Stat(socket); err != nil {
			errs = append(errs, err)
			continue
		}
		cmd := exec.CommandContext(ctx, "virt-admin", "-c", d.daemon+":///system?socket="+socket, "server-update-tls", d.daemon)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, exec.ErrNotFound):
			return fmt.Errorf("libvirt goes on with its certificate before: virt-admin is not installed (package libvirt-clients); a restart of %s takes the new one, and guests go on", d.daemon)
		}
		errs = append(errs, fmt.Errorf("virt-admin: %w: %s", err, strings.TrimSpace(string(out))))
	}
	return fmt.Errorf("make libvirt read its certificates again: %w", errors.Join(errs...))
}
