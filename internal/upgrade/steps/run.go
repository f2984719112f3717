package steps

import (
	"encoding/json"
	"fmt"

	"holdfast/internal/job/engine"
)

// runArgs reads the arguments of a step.
func runArgs(t engine.Task, args any) error {
	if err := json.Unmarshal(t.Step.Args, args); err != nil {
		return fmt.Errorf("step %s: read its arguments: %w", t.Step.ID, err)
	}
	return nil
}
