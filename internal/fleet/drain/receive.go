package drain

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
	"holdfast/internal/inventory/report"
	"holdfast/internal/lib/clock"
	"holdfast/internal/store"
)

// Receiver gives guests that have come to this host what they carried.
type Receiver struct {
	Store  store.Store
	Host   cluster.HostID
	Guests interface {
		List(ctx context.Context) ([]guests.VM, error)
		Start(ctx context.Context, uuid string, opt guests.StartOptions) error
		Resume(ctx context.Context, uuid string) error
		Discard(ctx context.Context, uuid string) error
		SetAutostart(ctx context.Context, uuid string, on bool) error
	}
	Seen func() (map[cluster.HostID]report.Seen, bool)
	Came func() // is called for each guest that was let go on here; nil: nobody wants to know
	Log  *slog.Logger

	mu    sync.Mutex
	waits map[string]string // by UUID
}

const (
	receiveAgain  = 2 * time.Second        // while something is there that has not come yet
	receiveRest   = 200 * time.Millisecond // at most, between two rounds
	receiveWithin = 30 * time.Second
	giveWithin    = 10 * time.Second // of that, for one guest: it may hang
)

// Run works until ctx ends.
func (r *Receiver) Run(ctx context.Context) {
	store.Again(ctx, r.Log, "the records of moved guests are not read just now", r.follow)
}

// Waits tells people why a guest of this host stands still, or is off, although it ran
// where it came from; "" when it does not, or nobody knows.
func (r *Receiver) Waits(uuid string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.waits[uuid]
}

// follow works on what comes, at once, and again and again until nothing is left.
func (r *Receiver) follow(ctx context.Context) error {
	prefix := carryPrefix(r.Host)
	for {
		lctx, cancel := context.WithTimeout(ctx, carryRead)
		kvs, rev, err := r.Store.List(lctx, prefix)
		cancel()
		if err != nil {
			return fmt.Errorf("list the records of moved guests: %w", err)
		}
		began := time.Now()
		if err := r.receive(ctx, kvs); err != nil {
			r.Log.Warn("a guest that came here lacks something", "err", err)
		}
		// Who writes without end must not keep this host, and its libvirtd, busy all the time.
		clock.Sleep(ctx, min(time.Since(began), receiveRest))
		wctx := ctx
		if len(kvs) > 0 {
			wctx, cancel = context.WithTimeout(ctx, receiveAgain)
		}
		err = r.await(wctx, prefix, rev+1)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && wctx.Err() == nil:
			return err
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
	waits := map[string]string{}
	defer func() {
		r.mu.Lock()
		r.waits = waits
		r.mu.Unlock()
	}()
	if len(kvs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, receiveWithin)
	defer cancel()
	r.ahead(kvs)
	vms, err := r.Guests.List(ctx)
	if err != nil {
		return fmt.Errorf("list the guests: %w", err)
	}
	words, errs := readWords(kvs)
	for _, w := range words {
		c := w.carry
		var vm *guests.VM
		if i := slices.IndexFunc(vms, func(vm guests.VM) bool { return vm.UUID == c.UUID }); i >= 0 {
			vm = &vms[i]
		}
		gctx, cancel := context.WithTimeout(ctx, giveWithin)
		over, why, err := r.give(gctx, w, vm)
		if why != "" {
			waits[c.UUID] = why
		}
		if err == nil && over {
			_, _, err = r.Store.Txn(gctx, []store.Cmp{{Key: w.key, Rev: w.mod}}, []store.Op{{Key: w.key}})
		}
		cancel()
		if over && r.Came != nil {
			r.Came()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s, which comes from %s: %w", c.Name, c.From, err))
		}
	}
	return errors.Join(errs...)
}

// ahead asks for the other hosts' reports as soon as a guest may come that stands still
// at first: a host that follows them only while somebody asks has read them when the guest
// is here, and then it goes on at once. What it can not read, receive tells.
func (r *Receiver) ahead(kvs []store.KV) {
	if slices.ContainsFunc(kvs, func(kv store.KV) bool {
		var c carry
		return json.Unmarshal(kv.Value, &c) == nil && c.Live
	}) {
		r.Seen()
	}
}

// readWords reads what guests carry. Those that stand still come first: a guest that starts
// badly must not keep them. What can not be read is told.
func readWords(kvs []store.KV) (words []sentWord, errs []error) {
	for _, kv := range kvs {
		w := sentWord{key: kv.Key, mod: kv.ModRev}
		if err := json.Unmarshal(kv.Value, &w.carry); err != nil {
			errs = append(errs, fmt.Errorf("read record %s: %w", kv.Key, err))
			continue
		}
		// The source writes its word before it sends the guest. With the guest's own key nobody
		// else can have one beside it.
		if !strings.HasSuffix(kv.Key, "/"+w.UUID) {
			errs = append(errs, fmt.Errorf("read record %s: it is about guest %.80q", kv.Key, w.UUID))
			continue
		}
		words = append(words, w)
	}
	slices.SortStableFunc(words, func(a, b sentWord) int { return inventory.CompareBools(b.Live, a.Live) })
	return words, errs
}

// give gives one guest what it carries, as far as that can be now; vm is nil while it is not
// here. over: nothing is left to do. wait tells people what a guest waits for that does not run.
func (r *Receiver) give(ctx context.Context, w sentWord, vm *guests.VM) (over bool, wait string, err error) {
	c := w.carry
	switch {
	case vm == nil:
		return c.Live && c.decided(), "", nil // else it has not come yet
	case vm.Job != "":
		return false, "", nil
	case c.Live && c.Says == saysStays:
		return r.clear(ctx, w, *vm)
	case c.Live && vm.State == guests.VMPaused:
		if wait = r.holds(c, *vm); wait != "" {
			return false, wait, nil
		}
		if err = r.stands(ctx, w); err == nil {
			err = r.Guests.Resume(ctx, c.UUID)
		}
		if err != nil {
			return false, "it is to go on: " + err.Error(), err
		}
	case c.Live && !c.decided():
		// It has not come yet; or it runs, and the source may still have its definition, and would start
		// it again with the host: it needs the word to find that out.
		return false, "", nil
	case c.Start && vm.State == guests.VMOff:
		if !r.left(c, w.mod) {
			return false, fmt.Sprintf("it came from %s, which has not told since that it is gone there", c.From), nil
		}
		if wait = r.elsewhere(c, "off", "start"); wait != "" {
			return false, wait, nil
		}
		if err = r.Guests.Start(ctx, c.UUID, guests.StartOptions{}); err != nil {
			return false, "it is to be started: " + err.Error(), fmt.Errorf("start it: %w", err)
		}
	}
	if c.Autostart {
		if err = r.Guests.SetAutostart(ctx, c.UUID, true); err != nil {
			return false, "", fmt.Errorf("let it start with the host: %w", err)
		}
	}
	return true, "", nil
}

// holds tells why a guest that stands still must not go on; "" when it may.
func (r *Receiver) holds(c carry, vm guests.VM) string {
	if !vm.Halted() {
		return cmp.Or(vm.Busy, string(vm.State))
	}
	if c.Says != saysGone {
		return fmt.Sprintf("paused since it came from %s, which has not told yet that it is gone there (if %s is off "+
			"for good: virsh resume %s)", c.From, c.From, c.UUID)
	}
	// The source's word says that nobody let it go on there. This is the second line: people
	// may have moved it by hand meanwhile.
	return r.elsewhere(c, "paused", "resume")
}

// elsewhere tells which host, other than the one that has sent the guest, reports that it runs there; "": none.
// state is how the guest stands here, act what virsh lets it go on by.
func (r *Receiver) elsewhere(c carry, state, act string) string {
	seen, ok := r.Seen()
	if !ok {
		return state + ": the other hosts' reports are not read yet"
	}
	for h, s := range seen {
		if h == r.Host || h == c.From {
			continue
		}
		if slices.ContainsFunc(s.VMs, func(x inventory.VM) bool { return x.UUID == c.UUID && x.Running }) {
			if s.Up(time.Now()) {
				return fmt.Sprintf("%s: %s reports that it is there, too", state, h)
			}
			return fmt.Sprintf("%s: %s, silent for %s, has reported that it is there, too (if %s is off for good: "+
				"holdfast host forget %s; or virsh %s %s)",
				state, h, time.Since(s.SeenAt).Round(time.Minute), h, h, act, c.UUID)
		}
	}
	return ""
}

// clear ends what a move has left here whose guest stays where it was; as give.
func (r *Receiver) clear(ctx context.Context, w sentWord, vm guests.VM) (over bool, wait string, err error) {
	switch {
	case vm.State == guests.VMOff: // a definition that was here before
		return true, "", nil
	case vm.State == guests.VMPaused && !vm.Halted(): // it is not known how it stands
		return false, cmp.Or(vm.Busy, string(vm.State)), nil
	case vm.State == guests.VMPaused:
		if err := r.stands(ctx, w); err != nil {
			return false, "", err
		}
		r.Log.Warn("a guest has come here and stays where it was: what came is ended", "guest", w.Name, "from", w.From)
		return true, "", r.Guests.Discard(ctx, w.UUID)
	case r.left(w.carry, w.mod): // somebody has moved it here since
		return true, "", nil
	}
	wait = fmt.Sprintf("it runs here, and by the word of %s there, too: look at both at once, and end one by virsh destroy %s", w.From, w.UUID)
	r.Log.Error("a guest runs on two hosts", "guest", w.Name, "from", w.From, "do", wait)
	return false, wait, nil
}

// stands is nil while a word is in the store as it was read: the source may have said
// something else since, or sent the guest once more.
func (r *Receiver) stands(ctx context.Context, w sentWord) error {
	ctx, cancel := context.WithTimeout(ctx, carryWrite)
	defer cancel()
	kv, there, err := r.Store.Get(ctx, w.key)
	if err == nil && (!there || kv.ModRev != w.mod) {
		err = fmt.Errorf("its record has changed just now: %w", store.ErrRetry)
	}
	return err
}

// left reports whether the host that sent the guest has told since that it is not
// there any more: before that, it must not be started here.
func (r *Receiver) left(c carry, since int64) bool {
	seen, ok := r.Seen()
	s, known := seen[c.From]
	return ok && known && s.Mod > since && !s.Unobservable &&
		!slices.ContainsFunc(s.VMs, func(vm inventory.VM) bool { return vm.UUID == c.UUID })
}
