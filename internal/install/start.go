package install

import (
	"context"
	"fmt"
	"slices"
)

// start starts the agents. Those that run and have nothing new go on; those that
// run and have are restarted one after the other, and the next one waits until the one before
// is alive. The guest goes on.
func (r *run) start(ctx context.Context, changed map[string][]string) error {
	r.Tell("", "start")
	var now, later []Host
	for _, s := range r.sights[:len(r.targets)] {
		in := s.facts.Installed
		switch {
		case in == nil || !in.Active:
			now = append(now, s.host)
		case slices.ContainsFunc(changed[s.host.Name], func(path string) bool { return path != ClusterFile && path != FirewallFile }):
			later = append(later, s.host)
		}
	}
	begin := func(h Host, restart bool) error {
		r.Tell(h.Name, "start")
		_, err := r.ask(ctx, h, Request{Do: DoStart, Restart: restart, TLS: r.tls()})
		return err
	}
	first := r.rejoin
	if r.swap != nil {
		// The others go first: they let the new one in.
		if err := r.restart(ctx, later, begin); err != nil {
			return err
		}
		later, first = nil, func(ctx context.Context, _ []Host) error { return r.exchange(ctx) }
	}
	if err := first(ctx, now); err != nil {
		return err
	}
	if err := r.each(now, func(h Host) error { return begin(h, false) }); err != nil {
		return fmt.Errorf("start the agents: %w%s", err, mendAgain)
	}
	return r.restart(ctx, later, begin)
}

const mendAgain = "; mend that and run the installation again: it goes on from here"

// restart restarts agents one after the other.
func (r *run) restart(ctx context.Context, hosts []Host, begin func(Host, bool) error) error {
	for _, h := range hosts {
		err := begin(h, true)
		if err == nil {
			err = r.wait(ctx, aliveWithin, func() string { return r.missing(ctx, []Host{h}) })
		}
		if err != nil {
			return fmt.Errorf("restart the agent of %s: %w%s", h.Name, err, mendAgain)
		}
	}
	return nil
}

// rejoin makes those members new ones of the store whose data are gone while
// others have theirs: a member that began empty beside them would vote about what it has forgotten.
// The agents of a pair without a third voter do that themselves.
func (r *run) rejoin(ctx context.Context, fresh []Host) error {
	old := slices.ContainsFunc(r.sights, func(s sight) bool { return s.facts.Installed != nil && s.facts.Installed.Store })
	if !old || len(r.Guests) > 0 || isPair(r.Config) && r.Config.Pair.Arbiter != nil {
		return nil
	}
	for _, h := range fresh {
		i := slices.Index(r.targets, h)
		if in := r.sights[i].facts.Installed; in != nil && in.Store {
			continue
		}
		r.Tell(h.Name, "joins the store")
		if _, err := r.ask(ctx, h, Request{Do: DoAgent, Args: []string{"store", "join", "--config", SettingsFile}}); err != nil {
			return fmt.Errorf("make %s a new member of the store: %w", h.Name, err)
		}
	}
	return nil
}
