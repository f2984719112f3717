package servertest

import (
	"context"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/fail"
)

// configs are a fake's configurations, oldest first. Any change of one is allowed
// but of what needs an installation.
type configs []config.Revision

// SetConfig makes text the current configuration, as the first one or as one that
// was imported at a time.
func (f *Fake) SetConfig(text, user string, at time.Time, changed ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.configs = append(f.configs, config.Revision{Number: len(f.configs) + 1, Time: at, User: user, Host: "node1",
		Changed: changed, Config: []byte(text)})
}

// ReadConfig is as server.Cluster wants it.
func (f *Fake) ReadConfig(_ context.Context, number int) (config.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if number == 0 {
		number = len(f.configs)
	}
	if number < 1 || number > len(f.configs) {
		return config.Revision{}, fail.Errorf(fail.Invalid, "revision %d of the configuration is not kept", number)
	}
	return f.configs[number-1], nil
}

// Configs is as server.Cluster wants it.
func (f *Fake) Configs(context.Context) (out []config.Revision, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.configs {
		r := f.configs[len(f.configs)-1-i]
		r.Config = nil
		out = append(out, r)
	}
	return out, f.fail
}

// ImportConfig is as server.Cluster wants it.
func (f *Fake) ImportConfig(ctx context.Context, user string, in config.Import) (config.Imported, error) {
	now, err := f.ReadConfig(ctx, 0)
	if err != nil {
		return config.Imported{}, err
	}
	_, small, _ := config.Parse("now.json", now.Config, config.Options{})
	// as the cluster was installed
	next, faults, warnings := config.Parse(in.Name, []byte(in.Text), config.Options{AllowUndersized: len(small) > 0})
	if len(faults) > 0 {
		return config.Imported{}, fail.Errorf(fail.Invalid, "%w", config.Faults(faults))
	}
	if in.Base != 0 && in.Base != now.Number {
		return config.Imported{}, fail.Errorf(fail.Refused, "the configuration has been changed meanwhile")
	}
	was, _, _ := config.Parse("now.json", now.Config, config.Options{AllowUndersized: true})
	out := config.Imported{Number: now.Number, Changes: config.Diff(was, next)}
	for _, w := range warnings {
		out.Warnings = append(out.Warnings, w.String())
	}
	if in.Check || len(out.Changes) == 0 {
		return out, nil
	}
	out.Number++
	var changed []string
	for _, c := range out.Changes {
		changed = append(changed, c.Path)
	}
	f.SetConfig(string(next.JSON()), user, f.Status().Time, changed...)
	return out, nil
}

// ResetPassword is as server.Cluster wants it: it is allowed when the status has the
// label password=PASSWORD, which tests set to see what has come.
func (f *Fake) ResetPassword(_ context.Context, _, password string) (cluster.Reset, error) {
	s := f.Status()
	if s.Labels["password"] != password {
		return cluster.Reset{}, fail.Errorf(fail.Refused, "AllowResetRootPassword is false")
	}
	return cluster.Reset{Host: s.Owner.Host, Addr: "10.0.0.11", UUID: "173de36b-4a5d-458e-a5e3-9a99584551ef"}, nil
}
