package rebuild

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition/net"
	"holdfast/testbed/try"
)

// TestBadInputWritesNothing: a document that Apply would refuse leaves the file as it was, or away, and all of its faults
// are told.
func TestBadInputWritesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "net.json")
	bad := &net.Document{Version: net.Version, Agents: []net.Agent{{ID: "no UUID"}},
		LeftOut: []net.LeftOut{{Kind: "port", ID: "60000000-0000-4000-8000-000000000001", Field: "numa_affinity_policy",
			Value: []byte(`"required"`)}}}
	saves := []func() error{func() error { return Save(bad, file) }, func() error { return save(bad, file, []string{"portt"}) }}
	for _, before := range []string{"", "as it was"} {
		if before != "" {
			try.Must(t, os.WriteFile(file, []byte(before), 0o600))
		}
		for _, f := range saves {
			var faults *net.Faults
			if err := f(); !errors.As(err, &faults) {
				t.Fatalf("%v", err)
			}
			if text, err := os.ReadFile(file); string(text) != before || before == "" && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the file has %q, %v: want %q", text, err, before)
			}
		}
	}
	err := save(bad, file, []string{"portt"})
	for _, want := range []string{"no UUID", "numa_affinity_policy", "portt"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v has no %q", err, want)
		}
	}
}

// TestAppliedThatIsNone: a file that apply has not kept is bad input, and it is not told to be exported.
func TestAppliedThatIsNone(t *testing.T) {
	for text, want := range map[string]string{"": "the file is empty", `{"version": 1}`: "version: value 1",
		`{"version": 2, "po`: "malformed JSON"} {
		file := filepath.Join(t.TempDir(), "applied")
		try.Must(t, os.WriteFile(file, []byte(text), 0o600))
		_, err := applied(file)
		if fail.ExitCode(err) != fail.ExitInvalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "export") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
