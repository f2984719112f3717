package installer

import (
	"testing"

	"holdfast/internal/cli/clitest"
	"holdfast/internal/install"
)

func TestFindingsAreAllChinese(t *testing.T) {
	p := clitest.Chinese(t)
	doctor := install.Result{Report: install.Report{Findings: []install.Finding{
		{Node: "node1", Check: "rights", Result: install.Warn, Finding: "the store has no quorum, or this host does not reach it"},
		{Node: "node1", Check: "mounted at boot", Result: install.Warn, Finding: "the store has no quorum, or this host does not reach it"},
		{Node: "node1", Check: "database tools", Result: install.Fail, Finding: "the pair is not set up"},
	}}}
	clitest.AllChinese(t, p, "doctor", ResultText(doctor, true, p))
}
