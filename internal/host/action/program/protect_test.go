package program

import (
	"os"
	"testing"
)

// TestProgramIsNotProtected although the agent is.
func TestProgramIsNotProtected(t *testing.T) {
	const file = "/proc/self/oom_score_adj"
	old, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, []byte("-900"), 0)
	}
	if err != nil {
		t.Skipf("this process can not be protected: %v", err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(file, old, 0); err != nil {
			t.Error(err)
		}
	})
	r := newRig(t, "cat "+file)
	if res, out := r.run(); !res.OK() || out != "0\n" {
		t.Errorf("%+v: oom_score_adj %q, want 0", res, out)
	}
}
