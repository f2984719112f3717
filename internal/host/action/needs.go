package action

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/manifest"
)

// Unmet says why the preCheck of a module would refuse this host, as far as that is known without the
// bundle's files; "": nothing is known to stand in its way. The preCheck asks itself the same.
func (h *Host) Unmet(ctx context.Context, n fact.Need, credentials string) string {
	if n.Engine != "" {
		if why := h.engineUnmet(n.Engine, manifest.Mode(n.Mode), credentials, n.SnapshotsDone); why != "" {
			return why
		}
	}
	if n.Deb+n.RPM > 0 {
		if _, err := h.manager(ctx, n.Deb, n.RPM); err != nil {
			return err.Error()
		}
	}
	return ""
}

// engineUnmet is Unmet of an engine whose scripts ask for passwords and read the package as other accounts.
func (h *Host) engineUnmet(home string, mode manifest.Mode, credentials string, snapshotsDone bool) string {
	if why := unanswered(home, mode, credentials, snapshotsDone); why != "" {
		return why
	}
	// The copy itself gets its mode when it is made.
	for at := filepath.Dir(h.Packages); ; at = filepath.Dir(at) {
		if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err := enterable(at); err != nil {
			return err.Error()
		}
		return ""
	}
}

// manager returns the host's package manager for which there are packages.
func (h *Host) manager(ctx context.Context, deb, rpms int) (manager, error) {
	dpkg := &dpkg{h}
	if _, err := os.Stat(dpkg.database() + "/status"); err == nil && deb > 0 {
		return dpkg, nil
	}
	if _, _, err := h.query(ctx, "rpm", "--version"); err == nil && rpms > 0 {
		return &rpm{h}, nil
	}
	return nil, fmt.Errorf("no package of the bundle fits this host: the bundle has %d for dpkg and %d for rpm", deb, rpms)
}
