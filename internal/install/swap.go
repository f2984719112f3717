package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
	"holdfast/internal/lib/clock"
)

// swap is a member of a cluster that runs giving way to another one. (docs/adr/0037)
type swap struct {
	left, joined Host
	conn         Conn // to the one that leaves; nil: it does not answer, or is the machine of the one that joins
}

// settles is how long agents that an installation before has just started may take to answer.
const settles = 30 * time.Second

// inForce asks a cluster that runs for its configuration, by the first of its agents that answers; nil: none
// runs, or hosts that run guests only are installed.
func (r *run) inForce(ctx context.Context) error {
	var running []Host
	for _, s := range r.sights {
		if s.facts.Installed != nil && s.facts.Installed.Active && !s.host.Guests {
			running = append(running, s.host)
		}
	}
	if len(running) == 0 || len(r.Guests) > 0 {
		return nil
	}
	text, err := r.exported(ctx, running)
	if err != nil || text == "" {
		return err // "": no quorum, as an installation before has started some of the agents
	}
	now, faults, _ := config.Parse("the configuration in force", []byte(text), config.Options{AllowUndersized: true})
	if len(faults) > 0 {
		return config.Faults(faults)
	}
	r.before = &now
	if x, ok := config.Replaced(now, r.Config); ok {
		r.swap = &swap{left: Host{Name: string(x.Left.Host), Addr: x.Left.IP}, joined: Host{Name: string(x.Joined.Host), Addr: x.Joined.IP}}
	}
	return nil
}

// exported asks agents for the configuration in force; "" where none answers, and the store has no quorum.
func (r *run) exported(ctx context.Context, running []Host) (string, error) {
	for begun := time.Now(); ; {
		var errs error
		for _, h := range running {
			a, err := r.ask(ctx, h, Request{Do: DoAgent, Args: []string{"config", "export"}})
			if err == nil {
				r.asked = h
				return a.Output, nil
			}
			errs = errors.Join(errs, fmt.Errorf("%s: ask for the configuration in force: %w", h.Name, err))
		}
		if _, err := r.look(ctx, r.targets); err != nil {
			return "", nil
		}
		if time.Since(begun) > settles || !clock.Sleep(ctx, time.Second) {
			return "", errs
		}
	}
}

// storeStatus is what an installation reads of "store status".
type storeStatus struct {
	Members []struct {
		Name      string `json:"name"`
		Learner   bool   `json:"learner"`
		Reachable bool   `json:"reachable"`
	} `json:"members"`
}

func (r *run) storeOf(ctx context.Context, h Host) (st storeStatus, err error) {
	err = r.agent(ctx, h, &st, "store", "status")
	return st, err
}

// away says why the others can not do without a member, "" when they can: most of them
// must answer, as voters.
func (s storeStatus) away(left string) string {
	voters := 0
	var silent []string
	for _, m := range s.Members {
		if m.Learner || m.Name == left {
			continue
		}
		voters++
		if !m.Reachable {
			silent = append(silent, m.Name)
		}
	}
	if voters-len(silent) > voters/2 {
		return ""
	}
	return fmt.Sprintf("of the other %d members of the store %d do not answer (%s): without %s there is no majority",
		voters, len(silent), strings.Join(silent, ", "), left)
}

// state finds a member in the store.
func (s storeStatus) state(name string) (there, votes bool) {
	for _, m := range s.Members {
		if m.Name == name && m.Reachable {
			return true, !m.Learner
		}
	}
	return false, false
}

// leaver looks at the member that leaves, and whether the cluster can do without.
func (r *run) leaver(ctx context.Context) error {
	s := r.swap
	if s == nil {
		return nil
	}
	say := func(check, result, found, remedy string) {
		r.found = append(r.found, Finding{s.left.Name, check, result, found, remedy})
	}
	// Whether something is under way, and what has the management VM, judges the agent.
	if _, err := r.ask(ctx, r.asked, Request{Do: DoAgent,
		Args: []string{"config", "import", "-", "--check", "--swap-member"}, Input: r.ConfigText}); err != nil {
		say("member", Fail, err.Error(), "see: holdfast status; then run the installation again")
		return nil
	}
	st, err := r.storeOf(ctx, r.asked)
	if err != nil {
		return fmt.Errorf("%s: ask for the members of the store: %w", r.asked.Name, err)
	}
	if why := st.away(s.left.Name); why != "" {
		say("member", Fail, why, "bring the others back first (holdfast store status)")
		return nil
	}
	say("member", Warn, fmt.Sprintf("%s at %s leaves the cluster, and %s at %s takes its place", s.left.Name,
		s.left.Addr, s.joined.Name, s.joined.Addr), "until it votes, the loss of another member stops "+r.protected())
	if s.left.Addr == s.joined.Addr || r.same() {
		return nil // it is taken off before the new one is placed
	}
	alive, err := r.aliveNow(ctx, s.left.Name)
	if err != nil {
		return err
	}
	conn, err := r.Connect(ctx, s.left)
	if err == nil {
		s.conn = conn
		return r.leaverAt(ctx, say)
	}
	if alive {
		say("connect", Fail, "it leaves, its agent is alive, and it can not be reached: "+err.Error(),
			RemedyOf(err)+"; or stop it there: systemctl disable --now holdfast")
		return nil
	}
	say("connect", Warn, "it leaves, and can not be reached: "+err.Error(),
		"when it comes back, its agent finds that it is no member, and starts nothing; uninstall it then")
	return nil
}

// leaverAt makes sure that the host at the old address is the member that leaves.
func (r *run) leaverAt(ctx context.Context, say func(check, result, found, remedy string)) error {
	s := r.swap
	a, err := s.conn.Ask(ctx, Request{Do: DoGather, Query: QueryFor(*r.before, r.Base, s.left, r.Domain)})
	if err != nil {
		return fmt.Errorf("%s: ask what it is like: %w", s.left.Name, err)
	}
	if in := a.Facts.Installed; in == nil || in.Cluster != r.cluster || in.Host != s.left.Name {
		say("installed", Pass, "nothing of this cluster is there any more", "")
		err = s.conn.Close()
		s.conn = nil
	}
	return err
}

// vacates reports that the machine that joins has an installation as a member, by another
// name, at another address, or of before: that goes first.
func (r *run) vacates() bool {
	i := slices.Index(r.targets, r.swap.joined)
	return r.sights[i].facts.Installed != nil
}

// same reports that the machine that joins is the one that leaves, at another address.
func (r *run) same() bool {
	in := r.sights[slices.Index(r.targets, r.swap.joined)].facts.Installed
	return in != nil && in.Host == r.swap.left.Name && in.Addr == r.swap.left.Addr
}

// vacate takes Holdfast off the machine that joins, when it was a member.
func (r *run) vacate(ctx context.Context) error {
	if r.swap == nil || !r.vacates() {
		return nil
	}
	h := r.swap.joined
	r.Tell(h.Name, "takes off what it was before")
	if err := r.takeOff(ctx, r.conn(h)); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	a, err := r.ask(ctx, h, Request{Do: DoGather, Query: r.query(h)})
	if err != nil {
		return fmt.Errorf("%s: ask what it is like: %w", h.Name, err)
	}
	r.sights[slices.Index(r.targets, h)].facts = *a.Facts
	return nil
}

// takeOff ends the agent of a host and removes what is ours.
func (r *run) takeOff(ctx context.Context, c Conn) error {
	if _, err := c.Ask(ctx, Request{Do: DoStop}); err != nil {
		return fmt.Errorf("end the agent: %w", err)
	}
	var paths []File
	for _, f := range r.Files {
		paths = append(paths, File{Path: f.Path})
	}
	_, err := c.Ask(ctx, Request{Do: DoRemove, Files: paths})
	return err
}

// exchange brings the new member into the cluster, up to the start of its agent. The others
// have their new settings. Each step may be done again.
func (r *run) exchange(ctx context.Context) error {
	s := r.swap
	if s == nil {
		return nil
	}
	const again = "; run the installation again: it goes on from here"
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"have the members know the new one", r.introduce},
		{"take Holdfast off the one that leaves", r.dismiss},
		{"wait for its silence", func(ctx context.Context) error {
			return r.wait(ctx, aliveWithin, func() string { return r.silent(ctx) })
		}},
		{"make it a new member of the store", r.enrol},
		{"change the configuration", r.proclaim},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("replace %s by %s: %s: %w%s", s.left.Name, s.joined.Name, step.what, err, again)
		}
	}
	r.imports = false
	return nil
}

// introduce restarts the others' members of the store, one after the other, when the new
// one has a name that they do not know: they let nobody else in (docs/adr/0026).
func (r *run) introduce(ctx context.Context) error {
	s := r.swap
	if _, known := r.before.Member(cluster.HostID(s.joined.Name)); known {
		return nil
	}
	others := r.others()
	st, err := r.storeOf(ctx, others[0])
	if err != nil {
		return err
	}
	if there, _ := st.state(s.joined.Name); there {
		return nil
	}
	restart := []string{"store-member", "--restart", "--config", SettingsFile}
	if there, _ := st.state(s.left.Name); there {
		restart = append(restart, "--also", s.left.Name) // it votes until it leaves
	}
	for _, h := range others {
		r.Tell(h.Name, "the member of the store starts anew")
		if _, err := r.ask(ctx, h, Request{Do: DoAgent, Args: restart}); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		err := r.wait(ctx, aliveWithin, func() string {
			st, err := r.storeOf(ctx, h)
			if err != nil {
				return err.Error()
			}
			for _, o := range others {
				if there, _ := st.state(o.Name); !there {
					return "the store's member does not answer yet: " + o.Name
				}
			}
			return r.missing(ctx, others)
		})
		if err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
	return nil
}

// others are the members that stay.
func (r *run) others() []Host {
	return slices.DeleteFunc(slices.Clone(r.targets), func(h Host) bool { return h == r.swap.joined })
}

// dismiss takes Holdfast off the member that leaves, where it answers.
func (r *run) dismiss(ctx context.Context) error {
	if r.swap.conn == nil {
		return nil
	}
	r.Tell(r.swap.left.Name, "leaves the cluster")
	return r.takeOff(ctx, r.swap.conn)
}

// aliveNow reports whether a host renews its record.
func (r *run) aliveNow(ctx context.Context, name string) (bool, error) {
	st, err := r.look(ctx, []Host{r.asked})
	if err != nil {
		return false, fmt.Errorf("%s: ask for the status: %w", r.asked.Name, err)
	}
	for _, h := range st.Hosts {
		if h.Name == name {
			return h.Alive, nil
		}
	}
	return false, nil
}

func (r *run) silent(ctx context.Context) string {
	st, err := r.look(ctx, r.others())
	if err != nil {
		return err.Error()
	}
	for _, h := range st.Hosts {
		if h.Name == r.swap.left.Name && h.Alive {
			return h.Name + " still renews its record"
		}
	}
	return ""
}

// enrol removes the old member from the store and adds the new one, without a vote until it
// has caught up.
func (r *run) enrol(ctx context.Context) error {
	s := r.swap
	r.Tell(s.joined.Name, "joins the store")
	_, err := r.ask(ctx, s.joined, Request{Do: DoAgent,
		Args: []string{"store", "join", "--config", SettingsFile, "--in-place-of", s.left.Name}})
	return err
}

// proclaim makes the configuration that of the cluster. From here on the one that left is
// no member, whatever it knows.
func (r *run) proclaim(ctx context.Context) error {
	r.Tell("", "configuration")
	// It is refused while the management VM is being started or moved, as the members' restart may have had it.
	return r.wait(ctx, proclaimWithin, func() string {
		if _, err := r.ask(ctx, r.others()[0], Request{Do: DoAgent,
			Args: []string{"config", "import", ClusterFile, "--yes", "--swap-member"}}); err != nil {
			return err.Error()
		}
		return ""
	})
}

// votes waits until the new member has caught up.
func (r *run) votes(ctx context.Context) error {
	if r.swap == nil {
		return nil
	}
	return r.wait(ctx, aliveWithin, func() string {
		st, err := r.storeOf(ctx, r.others()[0])
		if err != nil {
			return err.Error()
		}
		if _, votes := st.state(r.swap.joined.Name); !votes {
			return r.swap.joined.Name + " does not vote yet"
		}
		return ""
	})
}
