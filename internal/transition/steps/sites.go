package steps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"holdfast/internal/lib/fail"
	"holdfast/internal/lib/strictyaml"
	"holdfast/internal/transition"
)

// How long answers of sites count, and how long they are waited for. Many people may look at a page that asks every two
// seconds; the losses are summed from the reports of all hosts there.
const (
	siteKept   = 5 * time.Second
	lossesKept = time.Minute
	siteTime   = 10 * time.Second // that all agents of a site have together
	siteWait   = 2 * time.Second  // that a caller waits: then it has what was known before
)

// Sites asks the clusters of this host's list how their transitions stand, each at most once at a time.
type Sites struct {
	File string // the list
	Ask  func(ctx context.Context, s transition.Site, losses bool) transition.SiteState
	Now  func() time.Time

	mu    sync.Mutex
	known map[string]*siteAnswer // by the site's name
}

// siteAnswer is what a site said last.
type siteAnswer struct {
	last transition.SiteState
	came time.Time
	busy chan struct{} // closed once it has answered; nil: it is not asked now
}

// List says how they stand. Without a list there is none.
func (s *Sites) List(ctx context.Context) (transition.Sites, error) {
	out := transition.Sites{File: s.File}
	list, err := s.read()
	if err != nil || list == nil {
		return out, err
	}
	wait, cancel := context.WithTimeout(ctx, siteWait)
	defer cancel()
	for _, busy := range s.ask(ctx, list) {
		select {
		case <-busy:
		case <-wait.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, site := range list.Sites {
		if a := s.known[site.Name]; a != nil { // another list may have been read meanwhile
			out.Sites = append(out.Sites, a.last)
		}
	}
	return out, nil
}

// read is the list; nil: there is none.
func (s *Sites) read() (list *transition.SitesFile, err error) {
	f, err := os.Open(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, transition.MaxFile+1))
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of sites: %w", err)
	}
	list, faults := transition.ParseSites(text)
	if len(faults) > 0 {
		return nil, fail.Errorf(fail.Invalid, "%s", strictyaml.Lines(s.File, faults))
	}
	for i := range list.Sites {
		site := &list.Sites[i]
		for _, f := range []struct{ name, path string }{{"socket", site.Socket}, {"ca", site.CA}, {"cert", site.Cert}, {"key", site.Key}} {
			if f.path != "" && !filepath.IsAbs(f.path) {
				faults = append(faults, strictyaml.Fault{Path: fmt.Sprintf("sites[%d].%s", i, f.name), Value: strictyaml.Shorten(f.path),
					Want: "want an absolute path: the agent reads the list"})
			}
		}
	}
	if len(faults) > 0 {
		return nil, fail.Errorf(fail.Invalid, "%s", strictyaml.Lines(s.File, faults))
	}
	return list, nil
}

// ask begins to ask those whose answers are old, and returns what tells that sites have answered.
func (s *Sites) ask(ctx context.Context, list *transition.SitesFile) (busy []chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]*siteAnswer{}
	}
	maps.DeleteFunc(s.known, func(name string, _ *siteAnswer) bool {
		return !slices.ContainsFunc(list.Sites, func(site transition.Site) bool { return site.Name == name })
	})
	now := s.Now()
	for _, site := range list.Sites {
		a := s.known[site.Name]
		if a == nil {
			a = &siteAnswer{last: transition.SiteState{Site: site.Name, State: transition.SiteUnknown, Why: "it has not answered yet"}}
			s.known[site.Name] = a
		}
		if a.busy == nil && now.Sub(a.came) >= siteKept {
			a.busy = make(chan struct{})
			losses := now.Sub(a.last.LostAt) >= lossesKept
			go s.one(context.WithoutCancel(ctx), site, a, losses) // for all who look, not for this caller
		}
		if a.busy != nil {
			busy = append(busy, a.busy)
		}
	}
	return busy
}

// one asks a site.
func (s *Sites) one(ctx context.Context, site transition.Site, a *siteAnswer, losses bool) {
	ctx, cancel := context.WithTimeout(ctx, siteTime)
	defer cancel()
	st := s.Ask(ctx, site, losses)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !losses && st.Job == a.last.Job {
		st.Lost, st.LostAt, st.LostUnknown = a.last.Lost, a.last.LostAt, a.last.LostUnknown
	}
	a.last, a.came = st, s.Now()
	close(a.busy)
	a.busy = nil
}
