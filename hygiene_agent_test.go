package holdfast_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// Bounds of the agent, which puts parts together and decides nothing: a part that grows in it belongs to a tool.
const (
	agentLines   = 2000
	agentImports = 40 // packages of ours
)

func TestTheAgentOnlyWires(t *testing.T) {
	const pkg = "holdfast/internal/agent"
	lines, imports := 0, map[string]bool{}
	for file, f := range parse(t, pkg) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(b, []byte("\n"))
		for _, i := range f.Imports {
			if path := strings.Trim(i.Path.Value, `"`); strings.HasPrefix(path, "holdfast/") {
				imports[path] = true
			}
		}
	}
	if lines == 0 || lines > agentLines || len(imports) > agentImports {
		t.Errorf("%s has %d lines and imports %d packages of ours: want at most %d and %d", pkg, lines, len(imports), agentLines, agentImports)
	}
}
