package install

import (
	"context"
	"fmt"
	"slices"

	"holdfast/internal/config"
)

// compare tells how the configuration differs from the one in force in a cluster
// that runs: it will be changed, where it can be.
func (r *run) compare(ctx context.Context) error {
	i := slices.IndexFunc(r.sights, func(s sight) bool {
		return s.facts.Installed != nil && s.facts.Installed.Active && !s.host.Guests
	})
	if i < 0 || len(r.Guests) > 0 {
		return nil
	}
	a, err := r.ask(ctx, r.sights[i].host, Request{Do: DoAgent, Args: []string{"config", "export"}})
	if err != nil {
		return fmt.Errorf("%s: ask for the configuration in force: %w", r.sights[i].host.Name, err)
	}
	now, faults, _ := config.Parse("the configuration in force", []byte(a.Output), config.Options{AllowUndersized: true})
	if len(faults) > 0 {
		return config.Faults(faults)
	}
	for _, c := range config.Diff(now, r.Config) {
		r.imports = true
		f := Finding{"", "configuration", Warn, "it changes: " + c.String(), "to keep it: holdfast config export gives the one in force"}
		if c.Effect == config.Install {
			f.Result, f.Finding, f.Remedy = Fail, f.Finding+": "+c.Why, "leave it as it is, or uninstall first"
		}
		r.found = append(r.found, f)
	}
	return nil
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
