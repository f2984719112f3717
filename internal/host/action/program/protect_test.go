package program

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestUnprotect: only what protects is taken away, which needs no rights.
func TestUnprotect(t *testing.T) {
	file := filepath.Join(t.TempDir(), "oom_score_adj")
	for _, c := range []struct{ have, want string }{{"-900\n", "0"}, {"0\n", "0\n"}, {"500\n", "500\n"}, {"x", "x"}} {
		if err := os.WriteFile(file, []byte(c.have), 0o600); err != nil {
			t.Fatal(err)
		}
		err := unprotect(file)
		if got, rerr := os.ReadFile(file); rerr != nil || string(got) != c.want || (err != nil) != (c.want == "x") {
			t.Errorf("%q: %q, want %q; %v, %v", c.have, got, c.want, err, rerr)
		}
	}
	if err := unprotect(file + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
}

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
