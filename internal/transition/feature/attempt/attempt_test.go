package attempt

import (
	"context"
	"errors"
	"slices"
	"testing"

	"holdfast/internal/transition/feature"
)

// shaky is a guest that can not be stopped, and has no target.
type shaky struct{}

func (shaky) Skip(n feature.Name) string {
	if n == feature.Live {
		return "no --target given"
	}
	return ""
}

func (shaky) Ready(context.Context) error { return nil }

func (shaky) Try(_ context.Context, n feature.Name) error {
	if n == feature.Stop {
		return errors.New("it goes on")
	}
	return nil
}

func (shaky) Restore(context.Context) []string { return nil }

// TestWhatIsTold: each telling has all features, and what came of those that are over.
func TestWhatIsTold(t *testing.T) {
	all := []feature.Name{feature.Restart, feature.Stop, feature.Live}
	var told []feature.Progress
	rep := &feature.Report{}
	Run(t.Context(), rep, all, shaky{}, func(p feature.Progress) { told = append(told, p) })
	if len(told) != len(all)+1 || told[len(all)].Name != "" {
		t.Fatalf("told %+v", told)
	}
	outcomes := []feature.Outcome{feature.OK, feature.Failed, feature.Skipped}
	for i, p := range told {
		if p.Done != i || p.All != len(all) || !slices.Equal(p.Names, all) || len(p.Over) != i || i < len(all) && p.Name != all[i] {
			t.Errorf("%d: %+v", i, p)
		}
		for k, r := range p.Over {
			if r.Name != all[k] || r.Result != outcomes[k] {
				t.Errorf("%d: %+v", i, r)
			}
		}
	}
}
