package api

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/transition"
	"holdfast/internal/upgrade"
	"holdfast/internal/upgrade/check"
)

// Site is another cluster, of a list of them.
type Site struct {
	name string
	ask  []*Client // of its agents, in the order in which they are asked
}

// DialSite prepares its clients; nothing is asked yet. An error is about what the list says of it, or the files that it names.
func DialSite(s transition.Site) (*Site, error) {
	of := &Site{name: s.Name}
	targets, conf := s.Servers, (*tls.Config)(nil)
	var err error
	if s.Socket != "" {
		targets = []string{"unix:" + s.Socket}
	} else if conf, err = LoadTLS(s.CA, s.Cert, s.Key); err != nil {
		return nil, fail.Errorf(fail.Invalid, "site %s: %w", s.Name, err)
	}
	for _, t := range targets {
		c, err := Dial(t, conf)
		if err != nil {
			of.Close()
			return nil, fail.Errorf(fail.Invalid, "site %s: %w", s.Name, err)
		}
		of.ask = append(of.ask, c)
	}
	return of, nil
}

// Close ends its connections.
func (s *Site) Close() {
	for _, c := range s.ask {
		c.Close()
	}
}

// askTime bounds the questions to one agent where others may look on.
const askTime = 5 * time.Second

// AskSite is Look of a site that is dialled for it.
func AskSite(ctx context.Context, s transition.Site, losses bool) transition.SiteState {
	of, err := DialSite(s)
	if err != nil {
		return silent(s.Name, err)
	}
	defer of.Close()
	return of.Look(ctx, askTime, losses)
}

func silent(name string, why error) transition.SiteState {
	return transition.SiteState{Site: name, State: transition.SiteUnknown, Needs: true, Why: why.Error(), At: time.Now()}
}

// Look asks its agents, each for at most so long, until one answers how the last transition stands. What guests have lost
// is asked if wanted: its agent reads the reports of all hosts for that.
func (s *Site) Look(ctx context.Context, each time.Duration, losses bool) transition.SiteState {
	var errs []error
	for _, c := range s.ask {
		v, err := look(ctx, c, each, losses)
		if err == nil {
			v.Site, v.Server, v.At = s.name, c.Target(), time.Now()
			return v
		}
		errs = append(errs, err)
	}
	return silent(s.name, errors.Join(errs...))
}

// look asks one agent.
func look(ctx context.Context, c *Client, most time.Duration, losses bool) (v transition.SiteState, err error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	jobs, err := c.Jobs(ctx)
	if err != nil {
		return v, err
	}
	v.State = transition.SiteNone
	last, is := transition.Last(jobs)
	if !is {
		return v, nil
	}
	j, err := c.Job(ctx, last.ID)
	if err != nil {
		return v, err
	}
	v.Take(j)
	if !losses {
		return v, nil
	}
	v.LostAt = time.Now()
	u, err := c.Upgrade(ctx)
	if err != nil {
		return v, err
	}
	if u.Job == nil || u.Purpose != upgrade.ForUpgrade || u.Job.Began.Before(j.Began) {
		return v, nil // it has not come to its hosts
	}
	r, err := c.ReportUpgrade(ctx)
	if err != nil {
		v.LostUnknown = err.Error() // the rest is known all the same
		return v, nil
	}
	v.Lost = sumOf(r.Losses)
	return v, nil
}

func sumOf(all []check.Loss) *transition.SiteLoss {
	if len(all) == 0 {
		return nil
	}
	sum := &transition.SiteLoss{Guests: len(all)}
	for _, l := range all {
		sum.Sent += l.Sent
		sum.Lost += l.Lost
		if l.LongestMS > sum.LongestMS {
			sum.LongestMS, sum.Worst = l.LongestMS, l.Guest
		}
	}
	return sum
}
