package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt"
	"holdfast/internal/store"
	"holdfast/internal/upgrade"
)

// A carry is what a move does not take along: that libvirt starts the guest with
// its host, and after a cold move that it runs. The host that it leaves writes it
// before the move; the host to which it came does it and removes it.
type carry struct {
	UUID      string         `json:"uuid"`
	Name      string         `json:"name"`
	From      cluster.HostID `json:"from"`
	Autostart bool           `json:"autostart,omitempty"`
	Start     bool           `json:"start,omitempty"` // when From reports that it has gone
}

const (
	carryKeys = "fleet-carry/"

	writeAgain     = time.Second
	takeBackWithin = 5 * time.Second
)

func carryPrefix(h cluster.HostID) string { return carryKeys + string(h) + "/" }

// put says what host has to do when the guest is there. It tries until ctx ends: a
// store that is away for a while is no reason for a guest to stay.
func (c carry) put(ctx context.Context, st store.Store, host cluster.HostID) error {
	value, err := json.Marshal(c)
	if err == nil {
		err = c.write(ctx, st, store.Op{Key: carryPrefix(host) + c.UUID, Value: value})
	}
	if err != nil {
		return fmt.Errorf("write what %s carries: %w", c.Name, err)
	}
	return nil
}

// takeBack is put's opposite, for a guest that stays. It also works after ctx has
// ended, for a short while.
func (c carry) takeBack(ctx context.Context, st store.Store, host cluster.HostID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
	defer cancel()
	if err := c.write(ctx, st, store.Op{Key: carryPrefix(host) + c.UUID}); err != nil {
		return fmt.Errorf("remove what %s carries: %w", c.Name, err)
	}
	return nil
}

// write makes one write until it is certain. One that carries nothing has no key.
func (c carry) write(ctx context.Context, st store.Store, op store.Op) error {
	if !c.Autostart && !c.Start {
		return nil
	}
	for {
		wctx, cancel := context.WithTimeout(ctx, writeWithin)
		_, _, err := st.Txn(wctx, nil, []store.Op{op})
		cancel()
		if err == nil || errors.Is(err, store.ErrDefinite) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(writeAgain):
		}
	}
}

// sentOff are the guests that a host has sent, or was about to send, while they are
// off, by UUID, and to which hosts.
func sentOff(ctx context.Context, st store.Store, from cluster.HostID) (map[string][]cluster.HostID, error) {
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	kvs, _, err := st.List(ctx, carryKeys)
	if err != nil {
		return nil, fmt.Errorf("list what guests carry: %w", err)
	}
	out := map[string][]cluster.HostID{}
	for _, kv := range kvs {
		var c carry
		if json.Unmarshal(kv.Value, &c) == nil && c.From == from && c.Start { // its receiver tells of what can not be read
			host, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, carryKeys), "/")
			out[c.UUID] = append(out[c.UUID], cluster.HostID(host))
		}
	}
	return out, nil
}

// Receiver gives guests that have come to this host what they carried.
type Receiver struct {
	Store  store.Store
	Host   cluster.HostID
	Guests interface {
		List(ctx context.Context) ([]libvirt.VM, error)
		Start(ctx context.Context, uuid string, opt libvirt.StartOptions) error
		SetAutostart(ctx context.Context, uuid string, on bool) error
	}
	Seen func() (map[cluster.HostID]Seen, bool)
	Log  *slog.Logger
}

const (
	receiveAgain  = 2 * time.Second // while something is there that has not come yet
	receiveWithin = 30 * time.Second
)

// Run works until ctx ends.
func (r *Receiver) Run(ctx context.Context) {
	again(ctx, r.Log, "what guests carry is not followed just now", r.follow)
}

// follow waits for something to come, and works on it until nothing is left.
func (r *Receiver) follow(ctx context.Context) error {
	prefix := carryPrefix(r.Host)
	for {
		lctx, cancel := context.WithTimeout(ctx, listWithin)
		kvs, rev, err := r.Store.List(lctx, prefix)
		cancel()
		if err != nil {
			return fmt.Errorf("list what guests carry: %w", err)
		}
		if len(kvs) == 0 {
			if err := r.await(ctx, prefix, rev+1); err != nil || ctx.Err() != nil {
				return err
			}
			continue
		}
		if err := r.receive(ctx, kvs); err != nil {
			r.Log.Warn("a guest that came here lacks something", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(receiveAgain):
		}
	}
}

// await returns when something was written.
func (r *Receiver) await(ctx context.Context, prefix string, from int64) error {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := r.Store.Watch(wctx, prefix, from)
	if _, ok := <-w.C(); !ok {
		return w.Err()
	}
	return nil
}

// receive does what can be done now. A guest that is not here may still come;
// the host that sends it takes the word back when it does not.
func (r *Receiver) receive(ctx context.Context, kvs []store.KV) error {
	ctx, cancel := context.WithTimeout(ctx, receiveWithin)
	defer cancel()
	vms, err := r.Guests.List(ctx)
	if err != nil {
		return fmt.Errorf("list the guests: %w", err)
	}
	var errs []error
	for _, kv := range kvs {
		var c carry
		if err := json.Unmarshal(kv.Value, &c); err != nil {
			errs = append(errs, fmt.Errorf("read record %s: %w", kv.Key, err))
			continue
		}
		i := slices.IndexFunc(vms, func(vm libvirt.VM) bool { return vm.UUID == c.UUID })
		if i < 0 || vms[i].Job != "" {
			continue // it has not come yet
		}
		if c.Start && vms[i].State == libvirt.VMOff {
			if !r.left(c, kv.ModRev) {
				continue
			}
			if err := r.Guests.Start(ctx, c.UUID, libvirt.StartOptions{}); err != nil {
				errs = append(errs, fmt.Errorf("start %s, which was moved here: %w", c.Name, err))
				continue
			}
		}
		if c.Autostart {
			if err := r.Guests.SetAutostart(ctx, c.UUID, true); err != nil {
				errs = append(errs, fmt.Errorf("let %s start with the host: %w", c.Name, err))
				continue
			}
		}
		if _, _, err := r.Store.Txn(ctx, []store.Cmp{{Key: kv.Key, Rev: kv.ModRev}}, []store.Op{{Key: kv.Key}}); err != nil {
			errs = append(errs, fmt.Errorf("remove record %s: %w", kv.Key, err))
		}
	}
	return errors.Join(errs...)
}

// left reports whether the host that sent the guest has told since that it is not
// there any more: before that, it must not be started here.
func (r *Receiver) left(c carry, since int64) bool {
	seen, ok := r.Seen()
	s, known := seen[c.From]
	return ok && known && s.Mod > since && !s.Blind && !slices.ContainsFunc(s.VMs, func(vm upgrade.VM) bool { return vm.UUID == c.UUID })
}
