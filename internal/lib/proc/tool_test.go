package proc

import (
	"strings"
	"testing"
	"time"
)

// TestEndsAreTold: what a program has said, that it took too long, and no colon before nothing.
func TestEndsAreTold(t *testing.T) {
	for script, want := range map[string]string{
		"echo no such bridge >&2; exit 3": "exit status 3: no such bridge",
		"exit 3":                          "exit status 3",
		"exec sleep 60":                   "it has not ended within 300ms: signal: killed",
	} {
		_, said, err := Run(t.Context(), 300*time.Millisecond, "", "sh", "-c", script)
		if err == nil {
			t.Errorf("%s: it succeeds", script)
		} else if got := Told(err, said).Error(); got != want || strings.TrimSpace(said) != said {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
}
