package progress

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/internal/api/told"
	"holdfast/internal/cli/output"
	"holdfast/internal/cluster/reason"
	"holdfast/internal/job"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// NeedsHelp reports whether a run is paused because of a failure. A run that somebody
// has paused, that pauses after a wave, or that asks for a person's word, is followed on.
func NeedsHelp(j job.View) bool {
	return j.State == "paused" && slices.ContainsFunc(j.WhyCodes, func(r reason.Reason) bool {
		return !r.Is(reason.PausedBy) && !r.Is(reason.WaveDone) && !r.Is(reason.Confirm)
	})
}

// FewLines of a log are shown, or all.
const (
	allOfTheLog = 1 << 20
	FewLines    = 5
)

// StuckText says why a step is stuck, with the last lines of its log.
func StuckText(b *strings.Builder, p output.Painter, s job.StepView, lines int) {
	output.Line(b, p, told.Stuck(s))
	for _, l := range told.LastLines(s.Tail, lines) {
		b.WriteString("          | " + l + "\n")
	}
}

// Outcome is what a command that begins a run tells programs. Without a job, plan
// and report say what stands in the way.
type Outcome struct {
	Job    *job.View     `json:"job"`
	Plan   *upgrade.Plan `json:"plan,omitempty"`
	Report *check.Report `json:"report,omitempty"`
}

// Beginning says how a run is begun.
type Beginning struct {
	Yes, Wait bool
}

// Flags has a command take them.
func (b *Beginning) Flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&b.Yes, "yes", false, "begin without asking")
	cmd.Flags().BoolVar(&b.Wait, "wait", false, "wait until it has ended")
}
