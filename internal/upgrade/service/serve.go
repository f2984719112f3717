package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/cluster/version"
	"holdfast/internal/host/action"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory/fact"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/fail"
	"holdfast/internal/upgrade/bundle"
	"holdfast/internal/upgrade/cache"
	"holdfast/internal/upgrade/request"
	"holdfast/internal/upgrade/steps"
	"holdfast/internal/upgrade/survey"
)

// The methods of this file are about bundles, and what agents ask of each other.

// PutBundle takes a bundle in, after checking all of it.
func (s *Service) PutBundle(ctx context.Context, file io.Reader, trust request.Trust) (request.BundleInfo, error) {
	o := bundle.Options{AllowUnsigned: trust.AllowUnsigned, Signature: trust.Signature, Pattern: version.AnyPattern}
	for i, text := range trust.Keys {
		k, err := bundle.ParsePublicKey([]byte(text))
		if err != nil {
			return request.BundleInfo{}, fail.Errorf(fail.Invalid, "key %d: %w", i+1, err)
		}
		o.Keys = append(o.Keys, k)
	}
	b, _, err := s.cache.Put(ctx, file, o)
	var refused *bundle.Refusal
	switch {
	case errors.As(err, &refused):
		return request.BundleInfo{}, fail.Errorf(fail.Invalid, "%w", err)
	case err != nil:
		return request.BundleInfo{}, err
	}
	return told(b), nil
}

// told is a bundle as the API tells of it.
func told(b cache.Bundle) request.BundleInfo {
	return request.BundleInfo{SHA256: b.SHA256, Size: b.Size, Name: b.Name, Version: b.Version, Unsigned: !b.Signed, KeyID: b.KeyID}
}

// OpenBundle reads the file of a bundle from an offset on.
func (s *Service) OpenBundle(sha string, offset int64) (io.ReadCloser, int64, error) {
	f, size, err := s.cache.Open(sha, offset)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, cache.ErrHash):
		return nil, 0, fail.Errorf(fail.Invalid, "bundle %.64q: this host does not have it", sha)
	case errors.Is(err, cache.ErrOffset):
		return nil, 0, fail.Errorf(fail.Refused, "%w", err)
	}
	return f, size, err
}

// holders are the hosts that say they have a bundle, and that live.
func (s *Service) holders(sha string) []cache.Holder {
	seen, _ := s.Seen()
	var out []cache.Holder
	for name, h := range seen {
		if name != s.Host && h.API != "" && h.Up(time.Now()) && slices.Contains(h.Bundles, sha) {
			out = append(out, cache.Holder{Host: name, API: h.API})
		}
	}
	return out
}

// fetch opens the file of a bundle on another host.
func (s *Service) fetch(ctx context.Context, h cache.Holder, sha string, offset int64) (io.ReadCloser, int64, error) {
	c, err := s.Dial(h.Host, h.API)
	if err != nil {
		return nil, 0, err
	}
	r, size, err := c.GetBundle(ctx, sha, offset)
	if err != nil {
		c.Close()
		if said := (*fail.Error)(nil); errors.As(err, &said) && said.Kind == fail.Refused {
			err = fmt.Errorf("%w: %w", cache.ErrOffset, err) // it refuses nothing else
		}
		return nil, 0, err
	}
	return &dialled{r, c}, size, nil
}

// dialled closes the client with the reader.
type dialled struct {
	io.ReadCloser
	client Peer
}

func (d *dialled) Close() error {
	err := d.ReadCloser.Close()
	d.client.Close()
	return err
}

// bring fetches a bundle that this host lacks from one that has it.
func (s *Service) bring(ctx context.Context, sha string) error {
	if _, err := s.cache.Get(sha); err == nil {
		return nil
	}
	errs := []error{fmt.Errorf("bundle %.64q: no host that answers has it", sha)}
	for _, h := range s.holders(sha) {
		err := s.cache.Fetch(ctx, sha, func(ctx context.Context, offset int64) (io.ReadCloser, int64, error) {
			return s.fetch(ctx, h, sha, offset)
		}, func(int64, int64) {})
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("host %s: %w", h.Host, err))
	}
	return errors.Join(errs...)
}

// GatherFacts looks at this host.
func (s *Service) GatherFacts(ctx context.Context, w fact.Wanted) (fact.Facts, error) {
	w.Request.Host = s.Host
	if w.Request.Unpack == "" {
		w.Request.Unpack = s.cache.Dir
	}
	staged, err := s.cache.Find(w.SHA256)
	for i, c := range w.Request.Config {
		w.Request.Config[i].Bundle = ""
		if err == nil && filepath.IsLocal(c.Bundle) {
			w.Request.Config[i].Bundle = filepath.Join(staged.Dir, c.Bundle)
		}
	}
	f := s.gatherer.Gather(ctx, w.Request)
	if w.Request.Guests {
		if f.Guests, err = s.addresses(ctx); err != nil {
			f.Unknown["guests"] = err.Error()
		}
	}
	if len(w.Request.Bridges) > 0 {
		ctx, cancel := context.WithTimeout(ctx, bridgesWithin)
		defer cancel()
		f.Bridges = s.Bridges(ctx, w.Request.Bridges)
	}
	if len(w.Request.Needs) > 0 {
		host := &action.Host{Packages: s.packages()}
		credentials, err := steps.Credentials(s.Credentials)
		if err != nil {
			f.Unknown["met"] = err.Error()
			return f, nil
		}
		for _, n := range w.Request.Needs {
			f.Met = append(f.Met, fact.Met{Module: n.Module, Why: host.Unmet(ctx, n, credentials)})
		}
	}
	return f, nil
}

// bridgesWithin bounds the look at the bridges: one that hangs must not keep the other facts.
const bridgesWithin = 30 * time.Second

// How long the addresses of guests are looked for: one that hangs must not keep the others.
const (
	addressesWithin = 30 * time.Second
	addressWithin   = 8 * time.Second
	addressesAtOnce = 4
)

// addresses are those of the guests that run here.
func (s *Service) addresses(ctx context.Context) ([]fact.Guest, error) {
	ctx, cancel := context.WithTimeout(ctx, addressesWithin)
	defer cancel()
	vms, err := s.Fleet.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the guests: %w", err)
	}
	vms = slices.DeleteFunc(vms, func(v guests.VM) bool { return v.State == guests.VMOff })
	out := make([]fact.Guest, len(vms))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(addressesAtOnce, len(vms)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(vms); i = int(next.Add(1)) - 1 {
				out[i].UUID = vms[i].UUID
				actx, cancel := context.WithTimeout(ctx, addressWithin)
				found, err := s.Addresses(actx, vms[i].UUID)
				cancel()
				if err != nil { // none is known then, which the plan says
					s.Log.Debug("addresses of a guest", "vm", vms[i].Name, "err", err)
				}
				for _, a := range found {
					out[i].Addresses = append(out[i].Addresses, a.String())
				}
			}
		})
	}
	wg.Wait()
	return out, nil
}

// factsOf asks a host for facts.
func (s *Service) factsOf(ctx context.Context, h survey.HostRef, w fact.Wanted) (fact.Facts, error) {
	if h.Name == s.Host {
		return s.GatherFacts(ctx, w)
	}
	c, err := s.agentOf(h.Name)
	if err != nil {
		return fact.Facts{}, err
	}
	defer c.Close()
	return c.GatherFacts(ctx, w)
}

// agentOf prepares calls to the agent of another host.
func (s *Service) agentOf(host cluster.HostID) (Peer, error) {
	seen, _ := s.Seen()
	at, err := report.AgentAt(seen, host)
	if err != nil {
		return nil, err
	}
	return s.Dial(host, at)
}
