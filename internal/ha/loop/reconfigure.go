package loop

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/ha/records"
	"holdfast/internal/lib/clock"
	"holdfast/internal/lib/fail"
	"holdfast/internal/store"
)

// storedConfig is a configuration as the history has it.
type storedConfig struct {
	config.Revision
	Key string `json:"key,omitempty"` // of the request that imported it
}

// history reads the configurations that are kept, oldest first. The first one of a
// cluster is not written there before the second one comes.
func (a *Agent) history(ctx context.Context) ([]storedConfig, error) {
	kvs, _, err := a.Store.List(ctx, records.KeyHistory)
	if err != nil {
		return nil, fmt.Errorf("list the configurations: %w", err)
	}
	var all []storedConfig
	for _, kv := range kvs {
		k, err := records.Decode[storedConfig](kv, false)
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	if len(all) > 0 {
		return all, nil
	}
	kv, found, err := a.Store.Get(ctx, records.KeyConfig)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if !found {
		return nil, fail.Errorf(fail.Unavailable, "the cluster has no configuration yet")
	}
	cfg, err := records.Decode[config.Cluster](kv, false)
	return []storedConfig{first(cfg)}, err
}

// first is the configuration that an agent has put into the store.
func first(cfg config.Cluster) storedConfig {
	return storedConfig{Revision: config.Revision{Number: 1, Config: cfg.JSON()}}
}

// Configs returns what is kept of the configurations, newest first, without their
// text.
func (a *Agent) Configs(ctx context.Context) ([]config.Revision, error) {
	all, err := a.history(ctx)
	if err != nil {
		return nil, err
	}
	var out []config.Revision
	for _, k := range slices.Backward(all) {
		k.Config = nil
		out = append(out, k.Revision)
	}
	return out, nil
}

// InForce is the configuration as it was last read from the store; ok is false before it was.
func (a *Agent) InForce(ctx context.Context) (cfg config.Cluster, ok bool) {
	asked := a.ask(ctx, func() { cfg, ok = a.s.cfg, a.s.cfgMod != 0 })
	return cfg, asked && ok
}

// ReadConfig returns the configuration of a number; 0: the current one.
func (a *Agent) ReadConfig(ctx context.Context, number int) (config.Revision, error) {
	all, err := a.history(ctx)
	if err != nil {
		return config.Revision{}, err
	}
	oldest, newest := all[0], all[len(all)-1]
	if number == 0 {
		return newest.Revision, nil
	}
	for _, k := range all {
		if k.Number == number {
			return k.Revision, nil
		}
	}
	return config.Revision{}, fail.Errorf(fail.Invalid,
		"revision %d of the configuration is not kept: want %d to %d, or 0 for the current one", number, oldest.Number, newest.Number)
}

// ImportConfig gives the cluster another configuration, in one transaction on what
// was read and judged. It tries again, as long as ctx lives, when something else has
// changed meanwhile; by its key, an import that was carried out is found.
func (a *Agent) ImportConfig(ctx context.Context, user string, in config.Import) (config.Imported, error) {
	if in.Key == "" {
		in.Key = rand.Text()
	}
	if len(in.Text) > config.MaxImport {
		return config.Imported{}, fail.Errorf(fail.Invalid, "%s: %d bytes: want at most %d", in.Name, len(in.Text), config.MaxImport)
	}
	next, faults, warnings := config.Parse(in.Name, []byte(in.Text), config.Options{AllowUndersized: a.Undersized})
	if len(faults) > 0 {
		return config.Imported{}, fail.Errorf(fail.Invalid, "%w", config.Faults(faults))
	}
	for {
		out, done, err := a.importOnce(ctx, user, in, next)
		for _, w := range warnings {
			out.Warnings = append(out.Warnings, w.String())
		}
		if done {
			switch {
			case err != nil || len(out.Changes) == 0:
			case in.Check:
				if why := a.startable(ctx, next); why != "" {
					out.Warnings = append(out.Warnings, unableWith(a.Host, why))
				}
				if slices.ContainsFunc(out.Changes, func(c config.Change) bool { return c.Effect == config.AtStart }) {
					out.Warnings = append(out.Warnings,
						fmt.Sprintf("only host %s was asked whether it can start the guest with this configuration: "+
							"the others look when it is in force", a.Host))
				}
			default:
				out.Warnings = append(out.Warnings, a.judgedBy(ctx, next)...)
			}
			return out, err
		}
		if err != nil && !errors.Is(err, store.ErrRetry) && !errors.Is(err, store.ErrUnknown) {
			return out, err
		}
		if !clock.Sleep(ctx, requestAgain) {
			return out, cmp.Or(err, fmt.Errorf("%w: other requests came in between", store.ErrRetry))
		}
	}
}

// unableWith says that a host can not have the guest of an imported configuration.
func unableWith(h cluster.HostID, why string) string {
	return fmt.Sprintf("host %s can not start the guest with this configuration: %s", h, why)
}

// startable says why the guest of a configuration that is not in force could not be started on this host, "" when it
// could. Nothing of it may come into libvirt, as the key of a Ceph pool does.
func (a *Agent) startable(ctx context.Context, c config.Cluster) string {
	if a.Driver == nil || c.RBD() != nil {
		return ""
	}
	err := a.fitOnce(ctx, c, 0) // without a seed: that is of the configuration in force
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

// judgedWithin bounds the wait for what the hosts say of a new configuration: a check, and the renewal that tells it.
const judgedWithin = fitWithin + time.Second

// judgedBy waits until all hosts that are up have judged the configuration that is in force now, and says which of them can not
// start the guest by it, or have not said so yet.
func (a *Agent) judgedBy(ctx context.Context, c config.Cluster) (out []string) {
	ctx, cancel := context.WithTimeout(ctx, judgedWithin)
	defer cancel()
	for {
		next, waits := a.next(), false
		if !a.ask(ctx, func() {
			out, waits = a.s.judged(a.status().Hosts)
			waits = waits || len(config.Diff(a.s.cfg, c)) > 0 // the watch has not brought it yet
		}) || !waits {
			return out
		}
		select {
		case <-ctx.Done():
			return out
		case <-next:
		}
	}
}

// judged says which hosts can not start the guest by the configuration in force; waits: some have not said it yet.
func (s *state) judged(hosts []cluster.HostStatus) (out []string, waits bool) {
	for _, h := range hosts {
		switch {
		case !h.Alive || h.Judged == 0: // its fitness is unknown, or of an agent that does not tell by what it judges
		case h.Judged < s.cfgMod:
			waits = true
			out = append(out, fmt.Sprintf("host %s has not said yet whether it can start the guest with this "+
				"configuration: see holdfast status", h.Name))
		case !h.Fit:
			out = append(out, unableWith(h.Name, h.Why))
		}
	}
	return out, waits
}

func (a *Agent) importOnce(ctx context.Context, user string, in config.Import,
	next config.Cluster) (out config.Imported, done bool, err error) {
	r, err := a.readRecords(ctx)
	if err != nil {
		return out, false, err
	}
	all, err := a.history(ctx)
	if err != nil {
		return out, false, err
	}
	last := all[len(all)-1]
	out.Number = last.Number
	now, err := last.Cluster()
	if err != nil {
		return out, false, err
	}
	if last.Key == in.Key && len(all) > 1 {
		before, err := all[len(all)-2].Cluster()
		out.Changes = config.Diff(before, now)
		return out, err == nil, err
	}
	if len(config.Diff(r.cfg, now)) > 0 {
		return out, false, nil // it was changed between the two reads
	}
	if in.Base != 0 && in.Base != last.Number {
		return out, false, fail.Errorf(fail.Refused, "the configuration has been changed meanwhile: revision %d "+
			"is by %s, %s", last.Number, cmp.Or(last.User, "an agent"), last.Time.Format(time.RFC3339)).
			With(fmt.Sprintf("see what is new: holdfast config diff %d; then change what holdfast config export writes, and import that", in.Base))
	}
	out.Changes = config.Diff(r.cfg, next)
	if len(out.Changes) == 0 {
		return out, true, nil
	}
	conds, err := a.quiet(ctx, r)
	if err == nil && !in.Check {
		err = install(out.Changes, in.Swap, in.Order)
	}
	var more []store.Cmp
	var ops []store.Op
	if err == nil && in.Swap {
		more, ops, err = a.leaves(r, next, in.Check)
	}
	if err != nil || in.Check {
		return out, err == nil, err
	}
	out.Number++
	done, err = a.writeConfig(ctx, user, in.Key, all, r, next, out, append(conds, more...), ops)
	return out, done, err
}

// install refuses changes that a cluster that runs can not take over, and those for which
// hosts must be prepared, unless they are.
func install(changes []config.Change, swap, order bool) error {
	var why []string
	member := false
	for _, c := range changes {
		member = member || c.Effect == config.Swap
		if c.Effect == config.Install || c.Effect == config.ByOrder && !order {
			why = append(why, c.Path+": "+c.Why)
		}
	}
	switch {
	case len(why) == 0 && (swap || !member):
		return nil
	case len(why) == 0:
		return fail.Errorf(fail.Refused, "this replaces a member of the cluster, for which the hosts must be prepared").
			With("nothing was changed. holdfast install -c FILE does it")
	}
	return fail.Errorf(fail.Refused, "this can not be changed while the cluster runs:\n%s", strings.Join(why, "\n")).
		With("nothing was changed. It needs a new installation of the cluster, which leaves the image of the management VM as it is")
}

// recorded is what an import is judged by.
type recorded struct {
	cfg    config.Cluster
	cfgMod int64

	hosts            map[cluster.HostID]hostRecord
	owner            cluster.Owner
	want             cluster.Want
	ownerMod         int64
	wantMod, bootMod int64
	boot             bootRecord
}

// hostRecord is a host's record, with its revision.
type hostRecord struct {
	cluster.Host
	mod int64
}

// readRecords reads the records, as they stand together at one revision.
func (a *Agent) readRecords(ctx context.Context) (r recorded, err error) {
	kvs, _, err := a.Store.List(ctx, records.KeyState)
	if err != nil {
		return r, fmt.Errorf("list the records: %w", err)
	}
	r.hosts = map[cluster.HostID]hostRecord{}
	for _, kv := range kvs {
		var derr error
		if name, ok := hostOf(kv.Key); ok {
			var h cluster.Host
			h, derr = records.Decode[cluster.Host](kv, false)
			r.hosts[name] = hostRecord{h, kv.ModRev}
		}
		switch kv.Key {
		case records.KeyConfig:
			r.cfgMod = kv.ModRev
			r.cfg, derr = records.Decode[config.Cluster](kv, false)
		case records.OwnerKey(cluster.MgmtVM):
			r.ownerMod = kv.ModRev
			r.owner, derr = records.Decode[cluster.Owner](kv, false)
		case records.WantKey(cluster.MgmtVM):
			r.wantMod = kv.ModRev
			r.want, derr = records.Decode[cluster.Want](kv, false)
		case records.BootedKey(cluster.MgmtVM):
			r.bootMod = kv.ModRev
			r.boot, derr = records.Decode[bootRecord](kv, false)
		}
		err = errors.Join(err, derr)
	}
	return r, err
}

// quiet refuses an import while something is under way that rests on the
// configuration, and returns the conditions that say that nothing has begun since.
func (a *Agent) quiet(ctx context.Context, r recorded) ([]store.Cmp, error) {
	refuse := func(format string, args ...any) ([]store.Cmp, error) {
		return nil, fail.Errorf(fail.Refused, "the configuration can not be changed now: "+format, args...).
			With("wait until it is over, and ask again: holdfast status --watch")
	}
	o := r.owner
	switch {
	case o.State == cluster.Assigned:
		return refuse("a start on %s is under way", o.Host)
	case o.State == cluster.Migrating || o.State == cluster.Settling:
		return refuse("a move to %s is under way", cmp.Or(o.To, o.Host))
	case o.State == cluster.Stopping:
		return refuse("a stop on %s is under way", o.Host)
	case r.want.MoveTo != "" && r.want.MoveTo != o.Host:
		return refuse("a move to %s has been asked for", r.want.MoveTo)
	}
	for _, h := range a.Status().Hosts {
		switch {
		case h.Name == o.Holder() && !h.Alive:
			return refuse("%s, which is the holder, is silent: a takeover may follow", h.Name)
		case h.Alive && h.Version != a.Version:
			return refuse("the agent on %s is of version %s, this one of %s: bring all hosts to one version first", h.Name, h.Version, a.Version)
		}
	}
	conds := []store.Cmp{
		{Key: records.KeyConfig, Rev: r.cfgMod},
		{Key: records.OwnerKey(cluster.MgmtVM), Rev: r.ownerMod},
		{Key: records.WantKey(cluster.MgmtVM), Rev: r.wantMod},
		{Key: records.BootedKey(cluster.MgmtVM), Rev: r.bootMod},
	}
	if a.Busy == nil {
		return conds, nil
	}
	jobs, what, err := a.Busy(ctx)
	if err == nil && what != "" {
		return refuse("%s", what)
	}
	return append(conds, jobs...), err
}

// writeConfig reports whether the configuration is written.
func (a *Agent) writeConfig(ctx context.Context, user, key string, all []storedConfig, r recorded, next config.Cluster,
	out config.Imported, conds []store.Cmp, more []store.Op) (bool, error) {
	k := storedConfig{Key: key, Revision: config.Revision{Number: out.Number, Time: time.Now().UTC(), User: user,
		Host: a.Host, Config: next.JSON()}}
	for _, c := range out.Changes {
		k.Changed = append(k.Changed, c.Path)
	}
	conds = append(conds, store.Cmp{Key: records.HistoryKey(k.Number)})
	ops := append([]store.Op{
		{Key: records.KeyConfig, Value: records.Encode(next)},
		{Key: records.HistoryKey(k.Number), Value: records.Encode(k)},
	}, more...)
	if len(all) == 1 && all[0].Number == 1 {
		ops = append(ops, store.Op{Key: records.HistoryKey(1), Value: records.Encode(all[0])})
	}
	for _, old := range all[:max(0, len(all)+1-config.Kept)] {
		ops = append(ops, store.Op{Key: records.HistoryKey(old.Number)})
	}
	// Until the first import there was one configuration only: the guest has it.
	if r.owner.State == cluster.Running && r.boot.Epoch != r.owner.Epoch {
		ops = append(ops, store.Op{Key: records.BootedKey(cluster.MgmtVM), Value: records.Encode(bootRecord{r.owner.Epoch, r.cfg})})
	}
	ev := cluster.Event{Kind: cluster.EvConfig, By: a.Host, Resource: cluster.MgmtVM, User: user, Detail: detail(k)}
	return a.writeWith(ctx, "the configuration", conds, ops, ev)
}

// detail says in an event what an import has changed.
func detail(k storedConfig) string {
	const most = 400 // bytes
	text := fmt.Sprintf("revision %d: %s", k.Number, strings.Join(k.Changed, ", "))
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " ..."
	}
	return text
}
