package installer

import (
	"context"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"holdfast/internal/cli/output"
	"holdfast/internal/install"
)

// TestFailuresComeLast: what failed is the last thing on the screen, and is counted.
func TestFailuresComeLast(t *testing.T) {
	finding := func(node, result string) install.Finding {
		return install.Finding{Node: node, Check: "clock", Result: result, Finding: result + " of " + node}
	}
	res := install.Result{Report: install.Report{Findings: []install.Finding{
		finding("h1", install.Fail), finding("h1", install.Warn), finding("h2", install.Pass),
		finding("h2", install.Fail), finding("h3", install.Warn),
	}}}
	text := ResultText(res, true, output.Painter{})
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if n := len(lines); n != 5 || !strings.Contains(lines[n-2], "fail of h1") || !strings.Contains(lines[n-1], "fail of h2") {
		t.Errorf("%s", text)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	if err := Installed(cmd, res, nil, nil); err == nil || !strings.Contains(err.Error(), "2 of 5 checks failed") {
		t.Errorf("%v", err)
	}
	broken, cancel := context.WithCancel(t.Context())
	cancel()
	cmd.SetContext(broken)
	if err := Installed(cmd, res, broken.Err(), nil); !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("while it was checking: %v", err)
	}
	res.Cluster = "prod"
	if err := Installed(cmd, res, broken.Err(), nil); !strings.Contains(err.Error(), "is left there") {
		t.Errorf("while it was placing: %v", err)
	}
}
