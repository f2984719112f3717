package upgrade

import (
	"bytes"
	"strings"
	"testing"

	"holdfast/internal/cli/command"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/request"
)

// TestWhatIsNotBegun: a rollback after the commit is refused, as one without any upgrade. An upgrade has the code of its checks.
func TestWhatIsNotBegun(t *testing.T) {
	for purpose, want := range map[upgrade.Purpose]int{upgrade.ForRollback: fail.ExitRefused,
		upgrade.ForCommit: fail.ExitRefused, upgrade.ForUpgrade: fail.ExitFailed} {
		for _, js := range []bool{false, true} {
			var out bytes.Buffer
			p := upgrade.Plan{Purpose: purpose, Findings: []upgrade.Finding{{Rule: "committed", Level: upgrade.Block,
				Text: "There is no way back."}}}
			err := notBegun(&command.App{Env: command.Env{Stdout: &out}}, request.Begun{Plan: p}, js)
			if fail.ExitCode(err) != want || !strings.Contains(out.String(), "There is no way back.") {
				t.Errorf("%s, JSON %t: %d, want %d: %s", purpose, js, fail.ExitCode(err), want, &out)
			}
		}
	}
}
