package install

import (
	"context"
	"fmt"

	"holdfast/internal/config"
)

// compare tells how the configuration differs from the one in force in a cluster
// that runs: it will be changed, where it can be.
func (r *run) compare() {
	if r.before == nil {
		return
	}
	for _, c := range config.Diff(*r.before, r.Config) {
		r.imports = true
		f := Finding{"", "configuration", Warn, "it changes: " + c.String(), "to keep it: holdfast config export gives the one in force"}
		if c.Effect == config.Install {
			f.Result, f.Finding, f.Remedy = Fail, f.Finding+": "+c.Why, "leave it as it is, or uninstall first"
		}
		r.found = append(r.found, f)
	}
}

// reconfigure makes the configuration that of the cluster, when it differed.
func (r *run) reconfigure(ctx context.Context) error {
	if !r.imports {
		return nil
	}
	r.Tell("", "configuration")
	if _, err := r.ask(ctx, r.targets[0], Request{Do: DoAgent, Args: []string{"config", "import", ClusterFile, "--yes"}}); err != nil {
		return fmt.Errorf("change the configuration: %w", err)
	}
	return nil
}
