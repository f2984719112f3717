package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestDemo runs the demo without root's help as a user would script it: one JSON
// object on the last line, exit code 0.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("-short")
	}
	exe := "../bin/holdfast"
	if _, err := os.Stat(exe); err != nil {
		t.Fatalf("%v: `make build` makes it", err)
	}
	for _, fault := range []string{"none", "power-loss", "isolate", "agent-kill", "vm-crash", "quorum-loss"} {
		t.Run(fault, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, exe, "demo", "--fault", fault, "-o", "json").Output()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			var r struct {
				Driver     string
				Fault      string
				Recovered  *bool
				OutageMS   *int64 `json:"outage_ms"`
				Phases     map[string]int64
				MaxHolders int `json:"max_holders"`
				Events     []any
			}
			if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
				t.Fatal(err)
			}
			if r.Recovered == nil || !*r.Recovered || r.MaxHolders != 1 || r.Fault != fault || r.Driver != "process" || r.OutageMS == nil || len(r.Events) == 0 {
				t.Errorf("%s", out)
			}
			for _, p := range []string{"detect_ms", "proof_ms", "start_ms", "answer_ms"} {
				if _, ok := r.Phases[p]; !ok {
					t.Errorf("phases %v have no %s", r.Phases, p)
				}
			}
			t.Logf("outage %d ms, phases %v", *r.OutageMS, r.Phases)
		})
	}
}
