package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"holdfast/testbed/need"
)

// shown is what the demo says in its last line.
type shown struct {
	Driver     string
	Fault      string
	Recovered  *bool
	OutageMS   *int64 `json:"outage_ms"`
	Phases     map[string]int64
	MaxHolders int `json:"max_holders"`
	Events     []any
}

// TestDemo runs the demo as `make demo` does, but for the output: with a real VM.
func TestDemo(t *testing.T) {
	needLab(t)
	if err := takeDown(); err != nil { // there is room for one laboratory
		t.Fatal(err)
	}
	runDemo(t, "libvirt", "power-loss", "--auto")
}

// TestDemoOfEachFault runs the demo with each fault, without root's help, as a user would script it.
func TestDemoOfEachFault(t *testing.T) {
	need.Drill(t, "P1: the demo with a process in place of a VM, for each fault: one holder at any time, and it recovers", built)
	for _, fault := range []string{"none", "power-loss", "isolate", "agent-kill", "vm-crash", "quorum-loss"} {
		t.Run(fault, func(t *testing.T) { runDemo(t, "process", fault) })
	}
}

// runDemo runs it: one JSON object on the last line, exit code 0.
func runDemo(t *testing.T, driver, fault string, more ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), theLab, append([]string{"demo", "--fault", fault, "-o", "json"}, more...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, said.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var r shown
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatal(err)
	}
	recovered := r.Recovered != nil && *r.Recovered
	if fault == "none" { // there is nothing to recover
		recovered = r.Recovered == nil
	}
	if !recovered || r.MaxHolders != 1 || r.Fault != fault || r.Driver != driver || r.OutageMS == nil || len(r.Events) == 0 {
		t.Errorf("%s\n%s", out, said.String())
		return
	}
	for _, p := range []string{"detect_ms", "proof_ms", "start_ms", "answer_ms"} {
		if _, ok := r.Phases[p]; !ok {
			t.Errorf("phases %v have no %s", r.Phases, p)
		}
	}
	t.Logf("outage %d ms, phases %v", *r.OutageMS, r.Phases)
}
