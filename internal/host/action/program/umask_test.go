package program

import (
	"testing"

	"holdfast/testbed/try"
)

// TestProgramHasTheUsualUmask although the agent's hides what it writes: the scripts of packages
// make files that everybody reads.
func TestProgramHasTheUsualUmask(t *testing.T) {
	if !try.UnderUmask(t) {
		return
	}
	r := newRig(t, `umask; mkdir "$T/dir"; : >"$T/file"; stat -c %a "$T/dir" "$T/file"`)
	if res, out := r.run(); !res.OK() || out != "0022\n755\n644\n" {
		t.Errorf("%+v: %q, want 0022, 755 and 644", res, out)
	}
}
