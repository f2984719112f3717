package e2e

import (
	"os"
	"strings"
	"testing"
)

// wentBack wants all hosts to have the old version, and nothing of earlier runs to be left
// there: neither backups nor unpacked bundles, and of the state directories only those of
// the last job.
func (r *rig) wentBack(t testing.TB, last string) {
	t.Helper()
	r.haveAll(t, platformOld)
	for _, h := range r.lab.Hosts() {
		for _, dir := range []string{"backups", "runs", "bundles"} {
			list, err := os.ReadDir(r.lab.HostPath(h, "data", "upgrade", dir))
			if err != nil && (dir == "bundles" || !os.IsNotExist(err)) { // the file of the bundle stays
				t.Error(err)
			}
			for _, e := range list {
				if e.IsDir() && e.Name() != last && !strings.HasPrefix(e.Name(), ".") {
					t.Errorf("%s: %s/%s is left", h, dir, e.Name())
				}
			}
		}
	}
}
