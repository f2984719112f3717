package command

import (
	"cmp"
	"context"

	"holdfast/internal/api"
	"holdfast/internal/cli/output"
	"holdfast/internal/config"
	"holdfast/internal/install"
	"holdfast/internal/lib/fail"
)

// maxConfig is more than package config accepts; what is longer is not read.
const maxConfig = 4 << 20 // bytes

// ReadConfig reads the text of a configuration, and returns the file's name for messages.
func (a *App) ReadConfig(ctx context.Context, path string) (name string, data []byte, err error) {
	name, data, err = a.ReadInput(ctx, path, maxConfig)
	if ctx.Err() != nil {
		return "", nil, fail.Errorf(fail.Canceled, "read the configuration: %s: interrupted", name)
	}
	if err != nil {
		return "", nil, fail.Errorf(fail.Invalid, "read the configuration: %w", err)
	}
	return name, data, nil
}

// WriteCheck tells what is wrong with a configuration, or that nothing is.
func (a *App) WriteCheck(faults []config.Fault, warnings []config.Warning) error {
	for _, w := range warnings {
		if err := output.Text(a.Env.Stderr, "warning: "+output.Clean(w.String())+"\n"); err != nil {
			return err
		}
	}
	for _, f := range faults {
		if err := output.Text(a.Env.Stderr, output.Clean(f.Error())+"\n"); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return nil
	}
	return output.Text(a.Env.Stdout, "config file check pass\n")
}

// WithDomain is the text of a configuration as hosts get it: they do not have the
// file from which DomainXML may come.
func WithDomain(cl config.Cluster, text []byte) []byte {
	if cl.DomainXML == "" {
		return text
	}
	return cl.JSON()
}

// ClusterConfig asks an agent for the configuration in force.
func ClusterConfig(ctx context.Context, c *api.Client) (config.Cluster, error) {
	r, err := c.Config(ctx, 0)
	if err != nil {
		return config.Cluster{}, err
	}
	return r.Cluster()
}

// Settings is the file that has the settings of this host's agent, as that tells.
func (a *App) Settings(ctx context.Context, c *api.Client) string {
	ctx, cancel := context.WithTimeout(ctx, VersionTime)
	defer cancel()
	if v, err := c.Version(ctx); err == nil && a.Server == "" { // that of --server has its own host
		return cmp.Or(v.Settings, install.SettingsFile)
	}
	return install.SettingsFile
}
