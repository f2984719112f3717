package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/lib/clock"
)

// status is what an installation reads of the status of an agent.
type status struct {
	Connected bool `json:"connected"`
	Hosts     []struct {
		Name  string `json:"name"`
		Alive bool   `json:"alive"`
		Why   string `json:"why"` // what is wrong there
	} `json:"hosts"`
	Takeover struct {
		Possible bool   `json:"possible"`
		Why      string `json:"why"`
	} `json:"takeover"`
	Owner struct {
		State string `json:"state"`
		Host  string `json:"host"`
	} `json:"owner"`
	Want struct {
		Run      bool `json:"run"`
		HandsOff bool `json:"hands_off"`
	} `json:"want"`
	Waiting string `json:"waiting"`
}

// statusOf asks the agent of a host, which may have no quorum.
func (r *run) statusOf(ctx context.Context, h Host) (st status, err error) {
	err = r.agent(ctx, h, &st, "status")
	return st, err
}

// agent runs a command of the program on a host, and reads what it answers.
func (r *run) agent(ctx context.Context, h Host, into any, args ...string) error {
	a, err := r.ask(ctx, h, Request{Do: DoAgent, Args: append(args, "-o", "json")})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(a.Output), into); err != nil {
		return fmt.Errorf("holdfast %s: read what it answers: %w", strings.Join(args[:min(2, len(args))], " "), err)
	}
	return nil
}

// look asks the first host that answers.
func (r *run) look(ctx context.Context, hosts []Host) (st status, err error) {
	for _, h := range hosts {
		if st, err = r.statusOf(ctx, h); err == nil && st.Connected {
			return st, nil
		}
		if err == nil {
			err = errors.New("no quorum of the store yet")
		}
	}
	return st, err
}

// wait looks again and again until nothing is missing any more.
func (r *run) wait(ctx context.Context, within time.Duration, missing func() string) error {
	end := time.Now().Add(within)
	for {
		what := missing()
		if what == "" {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("after %s: %s", within, what)
		}
		r.Tell("", what)
		if !clock.Sleep(ctx, lookEvery) {
			return context.Cause(ctx)
		}
	}
}

// missing says which of the hosts are not alive yet.
func (r *run) missing(ctx context.Context, hosts []Host) string {
	if len(r.Guests) > 0 {
		return r.missingGuests(ctx, hosts)
	}
	st, err := r.look(ctx, r.targets)
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, h := range hosts {
		alive := false
		for _, s := range st.Hosts {
			alive = alive || s.Name == h.Name && s.Alive
		}
		if !alive {
			names = append(names, h.Name)
		}
	}
	if len(names) > 0 {
		return "not alive yet: " + strings.Join(names, ", ")
	}
	return ""
}

// missingGuests says which hosts that run guests only do not reach the store yet.
func (r *run) missingGuests(ctx context.Context, hosts []Host) string {
	var names []string
	for _, h := range hosts {
		if _, err := r.look(ctx, []Host{h}); err != nil {
			names = append(names, h.Name+" ("+err.Error()+")")
		}
	}
	if len(names) > 0 {
		return "not connected yet: " + strings.Join(names, ", ")
	}
	return ""
}

func (r *run) alive(ctx context.Context) error {
	if err := r.wait(ctx, aliveWithin, func() string { return r.missing(ctx, r.targets) }); err != nil {
		return fmt.Errorf("the agents run, but not all are alive: %w; look at their journal (journalctl -u holdfast)", err)
	}
	return nil
}

// runs waits for the management VM, and says where it runs. One that was stopped
// on purpose stays stopped.
func (r *run) runs(ctx context.Context) (host string, err error) {
	err = r.wait(ctx, runsWithin, func() string {
		st, err := r.look(ctx, r.targets)
		switch {
		case err != nil:
			return err.Error()
		case !st.Want.Run || st.Want.HandsOff:
			return ""
		case st.Owner.State == "running":
			host = st.Owner.Host
			return ""
		}
		return r.protected() + " does not run yet: " + st.Waiting
	})
	if err != nil {
		return "", fmt.Errorf("the cluster is there, but %w; see: holdfast status", err)
	}
	return host, nil
}

// settled waits for what agents find out in their first seconds, and says what is still wrong then: what the first look at the
// status shows.
func (r *run) settled(ctx context.Context) (wrong []string, err error) {
	err = r.wait(ctx, settledWithin, func() string {
		wrong = nil
		st, err := r.look(ctx, r.targets)
		if err != nil {
			wrong = []string{err.Error()}
			return err.Error()
		}
		if st.Owner.State == "running" && !st.Takeover.Possible {
			wrong = append(wrong, "a takeover is NOT possible: "+st.Takeover.Why)
		}
		for _, h := range st.Hosts {
			if h.Why != "" {
				wrong = append(wrong, h.Name+": "+h.Why)
			}
		}
		return strings.Join(wrong, "; ")
	})
	if ctx.Err() != nil {
		return nil, err
	}
	return wrong, nil // after that time they are told
}
