package probe

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/inventory/report"
	"holdfast/internal/store"
)

// opsAtOnce is how many keys are written by one transaction.
const opsAtOnce = 50

// Seen is what the hosts have told.
type Seen struct {
	Hosts []Host
	VMs   []VM
}

// Reported are the hosts and guests as the hosts report them; ok: the reports were read.
func Reported(seen map[cluster.HostID]report.Seen, ok bool) (out Seen, _ bool) {
	now := time.Now()
	for name, h := range seen {
		out.Hosts = append(out.Hosts, Host{Name: name, Up: h.Up(now)})
		for _, vm := range h.VMs {
			out.VMs = append(out.VMs, VM{Name: vm.Name, UUID: vm.UUID, Host: name, Running: vm.Running})
		}
	}
	return out, ok
}

// Host is a host of the cluster.
type Host struct {
	Name cluster.HostID
	Up   bool
}

// VM is a guest as one host knows it. Several hosts may say that it runs there: while
// it moves, and when one of them died with it.
type VM struct {
	Name    string
	UUID    string
	Host    cluster.HostID
	Running bool
}

// up are the hosts that are, in the order of names.
func (s Seen) up() []cluster.HostID {
	var out []cluster.HostID
	for _, h := range s.Hosts {
		if h.Up {
			out = append(out, h.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// assign says who pings whom: each host that is up the guests of the next one
// that is up, in the order of names; the last one those of the first. said are addresses of
// guests, by UUID.
func assign(seen Seen, said map[string][]string) map[cluster.HostID]part {
	up := slices.DeleteFunc(seen.up(), func(h cluster.HostID) bool { return h == namePlan })
	at := map[cluster.HostID][]name{}
	for _, h := range up {
		at[h] = nil
	}
	placed := map[string]bool{}
	for _, v := range slices.SortedFunc(slices.Values(seen.VMs), func(a, b VM) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.UUID, b.UUID), strings.Compare(string(a.Host), string(b.Host)))
	}) {
		if _, ok := at[v.Host]; ok && v.Running && !placed[v.UUID] {
			placed[v.UUID] = true
			at[v.Host] = append(at[v.Host], name{v.UUID, fit(v.Name), said[v.UUID]})
		}
	}
	out := map[cluster.HostID]part{}
	for i, h := range up {
		next := up[(i+1)%len(up)]
		if len(at[next]) > 0 {
			out[h] = bounded(next, at[next])
		}
	}
	return out
}

// bounded takes as many guests as a host pings.
func bounded(of cluster.HostID, guests []name) part {
	n, bytes := 0, 0
	for n < min(len(guests), maxGuests) {
		if bytes += room(guests[n]); bytes > maxBytes {
			break
		}
		n++
	}
	return part{Of: of, Guests: guests[:n], Left: len(guests) - n}
}

// said are the addresses of guests that people have said, by UUID.
func (s *Service) said(ctx context.Context) (map[string][]string, error) {
	if s.Said == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	return s.Said(ctx)
}

// makePlan writes the plan of a run when this host coordinates and there is none.
// What older runs left goes first.
func (s *Service) makePlan(ctx context.Context, run string) error {
	term, key, ok := s.Coordinator()
	if !ok {
		return nil
	}
	seen, ok := s.Seen()
	if !ok {
		return nil
	}
	still := store.Cmp{Key: key, Rev: term}
	if err := s.sweep(ctx, run, still); err != nil {
		return err
	}
	said, err := s.said(ctx)
	if err != nil {
		return fmt.Errorf("read which addresses of guests were said: %w", err)
	}
	p := plan{Run: run, ID: strings.ToLower(rand.Text()[:8]), Began: s.wall()}
	var ops []store.Op
	for h, x := range assign(seen, said) {
		op, err := encode(partKeys(run, p.ID)+string(h), x)
		if err != nil {
			return err
		}
		ops = append(ops, op)
		p.Guests += len(x.Guests)
		p.Left += x.Left
	}
	if err := s.write(ctx, ops, still); err != nil {
		return err
	}
	op, err := encode(planKey(run), p)
	if err != nil {
		return err
	}
	wctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	_, ok, err = s.Store.Txn(wctx, []store.Cmp{still, {Key: planKey(run)}}, []store.Op{op})
	if err != nil {
		return fmt.Errorf("write whom to ping: %w", err)
	}
	if ok {
		s.Log.Info("lost packets of guests are counted", "run", run, "guests", p.Guests, "leftOut", p.Left)
	}
	return nil // not ok: another one was faster, or coordinates
}

// sweep removes what is of other runs, and what was written of a plan of this one that
// never came to be: some parts, and not the plan itself.
func (s *Service) sweep(ctx context.Context, run string, still store.Cmp) error {
	lctx, cancel := context.WithTimeout(ctx, listWithin)
	kvs, _, err := s.Store.List(lctx, keyAll)
	cancel()
	if err != nil {
		return fmt.Errorf("list what older runs have counted: %w", err)
	}
	var ops, parts []store.Op
	for _, kv := range kvs {
		switch {
		case strings.HasPrefix(kv.Key, keyAddrs):
			// A host that writes its addresses for this run just now keeps them: it
			// finds out by itself whether they are there.
			if a, err := decode[addresses](kv); err == nil && a.Run == run {
				continue
			}
			if err := s.write(ctx, []store.Op{{Key: kv.Key}}, store.Cmp{Key: kv.Key, Rev: kv.ModRev}); err != nil {
				return err
			}
		case strings.HasPrefix(kv.Key, planKey(run)+"/"):
			parts = append(parts, store.Op{Key: kv.Key})
		case !strings.HasPrefix(kv.Key, runKey(run)):
			ops = append(ops, store.Op{Key: kv.Key})
		}
	}
	if err := s.write(ctx, ops, still); err != nil {
		return err
	}
	return s.write(ctx, parts, still, store.Cmp{Key: planKey(run)}) // with a plan, they belong to it
}

// write carries operations out, a few at a time, for as long as the conditions hold.
func (s *Service) write(ctx context.Context, ops []store.Op, conds ...store.Cmp) error {
	for some := range slices.Chunk(ops, opsAtOnce) {
		wctx, cancel := context.WithTimeout(ctx, callWithin)
		_, ok, err := s.Store.Txn(wctx, conds, some)
		cancel()
		if err != nil {
			return fmt.Errorf("write %s and %d more: %w", some[0].Key, len(some)-1, err)
		}
		if !ok {
			return nil
		}
	}
	return nil
}
