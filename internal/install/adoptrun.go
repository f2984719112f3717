package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// This file takes a management VM over from somebody else. At no instant can both start it:
// before the cluster is asked to, nothing else can any more, and that was read back.

// lookForGuest asks all members for the guest to take over, and makes its definition the
// cluster's unless the configuration has one.
func (r *run) lookForGuest(ctx context.Context) error {
	if r.Adopt == nil {
		return nil
	}
	r.found = append(r.found, unasked(r.sights)...)
	all, err := r.guests(ctx, nil)
	if err != nil {
		return err
	}
	text, host, ok := r.Adopt.definition(all)
	if !ok {
		r.found = append(r.found, r.Adopt.judge(nil, all)...)
		return nil
	}
	if !r.Adopt.Built && r.Config.DomainXML == "" {
		if err := r.take(text, host); err != nil {
			return err
		}
		if !report(r.found).OK {
			return nil
		}
	}
	if r.disks, err = r.Adopt.files(r.Config, text); err != nil {
		r.found = append(r.found, Finding{host, "domain", Fail, err.Error(), "mend it there (virsh edit)"})
		return nil
	}
	if all, err = r.guests(ctx, r.disks); err != nil {
		return err
	}
	started := []string{r.Config.ImagePath()}
	if r.Config.DomainXML != "" {
		if started, err = written(string(r.Config.DomainXML)); err != nil {
			return err
		}
	}
	r.found = append(r.found, r.Adopt.judge(started, all)...)
	return nil
}

// take makes a definition the cluster's. What is wrong with it is a finding.
func (r *run) take(text, host string) error {
	r.Config.DomainXML = config.DomainXML(text)
	name := "the domain " + r.Adopt.Name + " of " + host
	cfg, faults, _ := config.Parse(name, r.Config.JSON(), config.Options{AllowUndersized: r.Undersized})
	for _, f := range faults {
		r.found = append(r.found, Finding{host, "domain", Fail, f.Error(),
			"mend it there (virsh edit " + r.Adopt.Name + "), or write a copy of it and name that in DomainXML; " +
				"--built starts a machine of Holdfast's own"})
	}
	if len(faults) == 0 {
		r.Config, r.ConfigText = cfg, cfg.JSON()
	}
	return nil
}

// guests asks all members.
func (r *run) guests(ctx context.Context, files []string) ([]domainFound, error) {
	out := make([]domainFound, len(r.targets))
	err := r.each(r.targets, func(h Host) error {
		a, err := r.ask(ctx, h, Request{Do: DoGuests, Guest: r.wanted(h, "", files)})
		if err == nil && a.Guests == nil {
			err = errors.New("it says nothing")
		}
		if err != nil {
			return fmt.Errorf("look for the guest: %w", err)
		}
		out[slices.Index(r.targets, h)] = domainFound{h, *a.Guests}
		return nil
	})
	return out, err
}

func (r *run) wanted(h Host, uuid string, files []string) *Wanted {
	return &Wanted{Name: r.Adopt.Name, UUID: uuid, Files: files, Socket: r.query(h).Socket}
}

// takeOver ends the old guest, takes its definitions away and has the cluster start it. The
// agents run, and do not start it before. It may be done again from any point.
func (r *run) takeOver(ctx context.Context) error {
	if r.Adopt == nil {
		return nil
	}
	saved := map[string]string{}
	err := r.disownAndEnd(ctx, saved)
	if err == nil {
		return nil
	}
	err = fmt.Errorf("take %s over: %w; run the same command again: it goes on from here", r.Adopt.Name, err)
	if back := r.Adopt.wayBack(saved); back != "" {
		err = fmt.Errorf("%w. Or %s", err, back)
	}
	return err
}

func (r *run) disownAndEnd(ctx context.Context, saved map[string]string) error {
	st, err := r.look(ctx, r.targets)
	if err != nil {
		return err
	}
	held := st.Owner.State != "" && cluster.OwnerState(st.Owner.State) != cluster.Released
	if st.Want.Run && !held {
		// An installation before has asked for it, and it could not be started.
		if _, err := r.ask(ctx, r.targets[0], Request{Do: DoAgent, Args: []string{"stop"}}); err != nil {
			return fmt.Errorf("have the cluster not start it: %w", err)
		}
	}
	all, err := r.guests(ctx, r.disks)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func(context.Context, Host, Guest, map[string]string) error
	}{
		{"nothing starts " + r.Adopt.Name + " by itself any more", r.disown},
		{r.Adopt.Name + " shuts down", r.end},
		{"libvirt forgets " + r.Adopt.Name, r.release},
	} {
		r.Tell("", step.what)
		for _, f := range all {
			named := f.named(r.Adopt.Name)
			if len(named) == 0 {
				named = []Guest{{}}
			}
			for _, g := range named {
				if err := step.do(ctx, f.host, g, saved); err != nil {
					return fmt.Errorf("%s: %w", f.host.Name, err)
				}
			}
		}
	}
	if held {
		return nil // it runs already: only the old definitions were left
	}
	if err := r.nobody(ctx); err != nil {
		return err
	}
	r.Tell("", "the cluster starts it")
	_, err = r.ask(ctx, r.targets[0], Request{Do: DoAgent, Args: []string{"start"}})
	return err
}

func (r *run) disown(ctx context.Context, h Host, g Guest, saved map[string]string) error {
	a, err := r.ask(ctx, h, Request{Do: DoDisown, Guest: r.wanted(h, g.UUID, nil)})
	if a.Saved != "" {
		saved[h.Name] = a.Saved
		r.Tell(h.Name, "the definition is saved in "+a.Saved)
	}
	return err
}

func (r *run) end(ctx context.Context, h Host, g Guest, _ map[string]string) error {
	if g.UUID == "" {
		return nil
	}
	_, err := r.ask(ctx, h, Request{Do: DoEnd, Guest: r.wanted(h, g.UUID, nil)})
	return err
}

func (r *run) release(ctx context.Context, h Host, g Guest, _ map[string]string) error {
	_, err := r.ask(ctx, h, Request{Do: DoRelease, Guest: r.wanted(h, g.UUID, nil)})
	return err
}

// nobody makes sure, after the last definition is gone, that nobody has the guest or a file of
// it, and that nothing is left that would start it.
func (r *run) nobody(ctx context.Context) error {
	all, err := r.guests(ctx, r.disks)
	if err != nil {
		return err
	}
	var left []string
	for _, f := range all {
		for _, g := range f.All {
			left = append(left, fmt.Sprintf("%s: %s is %s", f.host.Name, g.Name, g.State))
		}
		for _, s := range f.Services {
			if s.Active || s.Enabled {
				left = append(left, f.host.Name+": "+s.Name+" was started or enabled again")
			}
		}
		for _, s := range f.Strays {
			left = append(left, f.host.Name+": "+s+" runs")
		}
	}
	for _, f := range r.Adopt.locked(all) {
		left = append(left, f+" is in use")
	}
	if len(left) > 0 {
		return fmt.Errorf("it is not started, since it may run elsewhere: %s", strings.Join(left, "; "))
	}
	return nil
}
