package drain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// A carry is what a move does not take along: that libvirt starts the guest with
// its host, and that it runs. The host that it leaves writes it before the move;
// the host to which it came does it and removes it.
type carry struct {
	UUID      string         `json:"uuid"`
	Name      string         `json:"name"`
	From      cluster.HostID `json:"from"`
	Autostart bool           `json:"autostart,omitempty"`
	Start     bool           `json:"start,omitempty"` // when From reports that it has gone
	Live      bool           `json:"live,omitempty"`  // it stands still where it arrives, until From says what becomes of it
	ID        string         `json:"id,omitempty"`    // of a live move, random
	Says      says           `json:"says,omitempty"`  // From, of a live move
}

// says is what the host that a guest leaves live has found out.
type says string

const (
	// saysGone: it has stood still here from the moment in which it was sent until its
	// end. It is to go on where it arrived.
	saysGone says = "gone"
	// saysStays: it is here, or ended here. What arrived is older than its disks.
	saysStays says = "stays"
	// saysHalted: it stands still here, and nobody here knows whether it has arrived. It
	// goes on here only when the host to which it was sent reports that it is not there.
	saysHalted says = "halted"
)

// decided reports whether it is certain on which of the two hosts the guest is.
func (c carry) decided() bool { return c.Says == saysGone || c.Says == saysStays }

const (
	carryKeys = "fleet-carry/"

	carryRead      = 10 * time.Second
	carryWrite     = 3 * time.Second
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
		return fmt.Errorf("write the record of the moved guest %s: %w", c.Name, err)
	}
	return nil
}

// takeBack is put's opposite, for a guest that stays. It also works after ctx has
// ended, for a short while.
func (c carry) takeBack(ctx context.Context, st store.Store, host cluster.HostID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
	defer cancel()
	if err := c.write(ctx, st, store.Op{Key: carryPrefix(host) + c.UUID}); err != nil {
		return fmt.Errorf("remove the record of the moved guest %s: %w", c.Name, err)
	}
	return nil
}

// write makes one write until it is certain. One that carries nothing has no key.
func (c carry) write(ctx context.Context, st store.Store, op store.Op) error {
	if !c.Autostart && !c.Start && !c.Live {
		return nil
	}
	for {
		wctx, cancel := context.WithTimeout(ctx, carryWrite)
		_, _, err := st.Txn(wctx, nil, []store.Op{op})
		cancel()
		if err == nil || errors.Is(err, store.ErrDefinite) {
			return err
		}
		if !clock.Sleep(ctx, writeAgain) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// sentOff are the guests that a host has sent, or was about to send, while they are
// off, by UUID, and to which hosts.
func sentOff(ctx context.Context, st store.Store, from cluster.HostID) (map[string][]cluster.HostID, error) {
	ctx, cancel := context.WithTimeout(ctx, carryRead)
	defer cancel()
	kvs, _, err := st.List(ctx, carryKeys)
	if err != nil {
		return nil, fmt.Errorf("list the records of moved guests: %w", err)
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
