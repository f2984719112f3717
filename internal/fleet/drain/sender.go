package drain

import (
	"cmp"
	"context"
	"crypto/rand"
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

// Sender moves guests of this host live. A guest that arrives stands still. The one
// that moves it lets it go on there, as soon as libvirtd here has said that it is gone. What has become of
// moves that were not finished so is found out here, also of those of an earlier process,
// and told to the Receiver of the other host.
type Sender struct {
	Store  store.Store
	Host   cluster.HostID
	Guests interface {
		Migrate(ctx context.Context, uuid, target string, opt guests.MigrateOptions) (guests.Place, error)
		Whereabouts(ctx context.Context, uuid, name string) (guests.Where, error)
		Resume(ctx context.Context, uuid string) error
		Discard(ctx context.Context, uuid string) error
		SetAutostart(ctx context.Context, uuid string, on bool) error
	}
	Seen func() (map[cluster.HostID]report.Seen, bool)
	Log  *slog.Logger

	mu      sync.Mutex
	mine    map[string]bool          // IDs of the moves that this process makes just now
	sending map[string]chan struct{} // by UUID, what this process moves just now; closed at its end
	whys    map[string]string        // by ID, why a move is undecided, for people
	pokes   chan struct{}
}

const (
	senderAgain  = time.Second
	senderFollow = 50 * time.Millisecond // while a guest moves: it stands still from its end until that is told
	freeWithin   = 3 * time.Minute       // for an earlier move of a guest to be decided
	decideWithin = 5 * time.Minute       // for the last moves of a drain
)

// NewSender makes one of what has been filled in.
func NewSender(s *Sender) *Sender {
	s.mine, s.sending, s.pokes = map[string]bool{}, map[string]chan struct{}{}, make(chan struct{}, 1)
	return s
}

// sentWord is a word of this host about a live move.
type sentWord struct {
	carry
	key string
	to  cluster.HostID
	mod int64
}

// carried lists the words about all guests.
func (s *Sender) carried(ctx context.Context) ([]store.KV, error) {
	ctx, cancel := context.WithTimeout(ctx, carryRead)
	defer cancel()
	kvs, _, err := s.Store.List(ctx, carryKeys)
	if err != nil {
		return nil, fmt.Errorf("list the records of moved guests: %w", err)
	}
	return kvs, nil
}

// words gives what this host has said of live moves, and what is said of those to it.
func (s *Sender) words(ctx context.Context) (own, others []sentWord, err error) {
	kvs, err := s.carried(ctx)
	own, others = s.split(kvs)
	return own, others, err
}

func (s *Sender) split(kvs []store.KV) (own, others []sentWord) {
	for _, kv := range kvs {
		w := sentWord{key: kv.Key, mod: kv.ModRev}
		host, _, _ := strings.Cut(strings.TrimPrefix(kv.Key, carryKeys), "/")
		if w.to = cluster.HostID(host); json.Unmarshal(kv.Value, &w.carry) != nil || !w.Live {
			continue // its receiver tells of what can not be read
		}
		if w.From == s.Host {
			own = append(own, w)
		} else if w.to == s.Host {
			others = append(others, w)
		}
	}
	return own, others
}

// Send moves a guest live, and returns when it runs there. An error that wraps
// errNotUp: it has left. One that wraps errEnded: it has ended. Any other: it is here, or that is not known yet.
func (s *Sender) Send(ctx context.Context, vm guests.VM, target report.Seen, opt guests.MigrateOptions) error {
	if vm.State != guests.VMRunning {
		return fmt.Errorf("it does not run here, it is %s", vm.State)
	}
	unlock, err := s.lock(ctx, vm.UUID)
	if err != nil {
		return err
	}
	defer unlock()
	to := target.Host.Name
	c := carry{UUID: vm.UUID, Name: vm.Name, From: s.Host, Autostart: vm.Autostart, Live: true, ID: rand.Text()}
	s.makes(c.ID, true)
	defer s.makes(c.ID, false)
	var put error
	opt.Direct, opt.TLS = !target.CarriesLive, target.MigrateTLS
	opt.Before = func() error {
		if put = s.put(ctx, &c, to); put != nil || !c.Autostart {
			return put
		}
		return s.Guests.SetAutostart(ctx, c.UUID, false) // now the word has it: who starts this host anew must not start what has left it
	}
	at, err := s.Guests.Migrate(ctx, vm.UUID, target.Addr, opt)
	switch {
	case err == nil:
		return nil
	case put != nil:
		return errors.Join(err, s.say(ctx, c, to, saysStays)) // it may be there although the answer was lost
	case at == guests.Left:
		s.Log.Warn("a guest has left and is to be let go on by the other host", "guest", c.Name, "to", to, "err", err)
		if serr := s.say(ctx, c, to, saysGone); serr != nil {
			return errors.Join(fmt.Errorf("%w: %w", errNotUp, err), serr)
		}
		return s.awaitReceived(ctx, c, target, err)
	case at == guests.Here:
		return errors.Join(err, s.stays(ctx, c, to))
	}
	return ended(at, err) // Run finds out
}

// lock keeps others from moving a guest. When one does so already, it waits for its end and fails:
// the guest may be elsewhere then.
func (s *Sender) lock(ctx context.Context, uuid string) (unlock func(), err error) {
	s.mu.Lock()
	other := s.sending[uuid]
	if other == nil {
		done := make(chan struct{})
		s.sending[uuid] = done
		s.mu.Unlock()
		return func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.sending, uuid)
			close(done)
		}, nil
	}
	s.mu.Unlock()
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-other:
		return nil, errors.New("this agent was moving it already: see where it is now")
	}
}

// put writes the word of a move, as soon as no earlier move of the guest is undecided and nobody
// else's word is in its place: two words about one guest could let it go on twice. It tries until ctx ends
// when the store is away. What an earlier word of this host carries is carried on: while that was undecided,
// libvirt did not have it.
func (s *Sender) put(ctx context.Context, c *carry, to cluster.HostID) error {
	for end := time.Now().Add(freeWithin); ; {
		reported := s.reported(to, c.UUID)
		why, err := s.putOnce(ctx, c, to)
		if errors.Is(err, store.ErrDefinite) && (reported || s.reported(to, c.UUID)) {
			// Members refuse it for that, on a host that runs guests only. What came by an earlier move
			// and was ended there is in that host's report for some seconds more.
			why, err = fmt.Sprintf("%s reports that it has it already: %v", to, err), nil
		}
		switch {
		case err == nil && why == "":
			return nil
		case errors.Is(err, store.ErrDefinite):
			return fmt.Errorf("write the record of the moved guest %s: %w", c.Name, err)
		case err == nil && time.Now().After(end):
			return errors.New(why)
		}
		s.poke()
		if !clock.Sleep(ctx, senderAgain) {
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// reported tells whether a host reports a guest, in whatever state.
func (s *Sender) reported(h cluster.HostID, uuid string) bool {
	seen, _ := s.Seen()
	return slices.ContainsFunc(seen[h].VMs, func(vm inventory.VM) bool { return vm.UUID == uuid })
}

// putOnce tries it once. why tells people what is in the way.
func (s *Sender) putOnce(ctx context.Context, c *carry, to cluster.HostID) (why string, err error) {
	kvs, err := s.carried(ctx)
	if err != nil {
		return "", err
	}
	own, others := s.split(kvs)
	for _, w := range slices.Concat(own, others) {
		if w.UUID == c.UUID && w.From == s.Host && !w.decided() {
			c.Autostart = c.Autostart || w.Autostart
		}
		if w.UUID == c.UUID && w.ID != c.ID && (w.Says != saysStays || w.to == to) {
			why = fmt.Sprintf("its earlier move from %s to %s is not over: %s", w.From, w.to, cmp.Or(string(w.Says), "not decided"))
			if w.From != s.Host {
				why += fmt.Sprintf(" (only %s can decide it; if %s is off for good: holdfast host forget %s --force)", w.From, w.From, w.From)
			}
			return why, nil
		}
	}
	key, mod := carryPrefix(to)+c.UUID, int64(0)
	if i := slices.IndexFunc(kvs, func(kv store.KV) bool { return kv.Key == key }); i >= 0 {
		mod = kvs[i].ModRev
		var old carry
		switch err := json.Unmarshal(kvs[i].Value, &old); {
		case err != nil:
			return fmt.Sprintf("the record %s can not be read: %v", key, err), nil
		case old.ID == c.ID: // its answer was lost
			return "", nil
		case old.Live || old.From != s.Host:
			return fmt.Sprintf("its earlier move from %s to %s is not over", old.From, to), nil
		}
	}
	value, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("%w: %w", store.ErrDefinite, err)
	}
	ctx, cancel := context.WithTimeout(ctx, carryWrite)
	defer cancel()
	_, done, err := s.Store.Txn(ctx, []store.Cmp{{Key: key, Rev: mod}}, []store.Op{{Key: key, Value: value}})
	if err == nil && !done {
		why = fmt.Sprintf("the record %s is being changed by other agents", key)
	}
	return why, err
}

// stays lets the guest start with this host again, as before, and says that it is here.
func (s *Sender) stays(ctx context.Context, c carry, to cluster.HostID) error {
	if c.Autostart {
		actx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
		err := s.Guests.SetAutostart(actx, c.UUID, true)
		cancel()
		if err != nil {
			return fmt.Errorf("let it start with the host again: %w", err)
		}
	}
	return s.say(ctx, c, to, saysStays)
}

// awaitReceived waits until the other host has taken the word away: it has let the
// guest go on.
func (s *Sender) awaitReceived(ctx context.Context, c carry, target report.Seen, cause error) error {
	to := target.Host.Name
	for end := time.Now().Add(startWithin); time.Now().Before(end); {
		gctx, cancel := context.WithTimeout(ctx, carryRead)
		_, there, err := s.Store.Get(gctx, carryPrefix(to)+c.UUID)
		cancel()
		if err == nil && !there {
			if target.CarriesLive {
				return nil
			}
			return s.awaitRuns(ctx, c, to, cause)
		}
		if !clock.Sleep(ctx, senderAgain) {
			return fmt.Errorf("it was moved to %s: %w: %w", to, errNotUp, context.Cause(ctx))
		}
	}
	return fmt.Errorf("it was moved to %s: %w after %s: %w", to, errNotUp, startWithin, cause)
}

// awaitRuns asks the reports of a host whose agent takes words away and resumes nothing. Its
// second one counts: the look behind the first may be older.
func (s *Sender) awaitRuns(ctx context.Context, c carry, to cluster.HostID, cause error) error {
	seen, _ := s.Seen()
	last, heard := seen[to].Mod, 0
	for end := time.Now().Add(startWithin); heard < 2 && time.Now().Before(end); {
		if seen, _ = s.Seen(); seen[to].Mod > last {
			last = seen[to].Mod
			heard++
		}
		runs := func(vm inventory.VM) bool { return vm.UUID == c.UUID && vm.Running && vm.Busy == "" }
		if heard > 0 && slices.ContainsFunc(seen[to].VMs, runs) {
			return nil
		}
		if !clock.Sleep(ctx, senderAgain) {
			return fmt.Errorf("it was moved to %s: %w: %w", to, errNotUp, context.Cause(ctx))
		}
	}
	return fmt.Errorf("it was moved to %s, whose agent is too old to let it go on: %w; on %s: virsh resume %s: %w", to,
		errNotUp, to, c.UUID, cause)
}

// say changes what this host says of a move. It also works after ctx has ended, for
// a short while. nil also when nobody asks any more.
func (s *Sender) say(ctx context.Context, c carry, to cluster.HostID, what says) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeBackWithin)
	defer cancel()
	for {
		done, err := s.sayOnce(ctx, c, to, what)
		switch {
		case done:
			return nil
		case errors.Is(err, store.ErrDefinite):
			return fmt.Errorf("tell %s that %s is %s: %w", to, c.Name, what, err)
		}
		if !clock.Sleep(ctx, senderAgain/5) {
			return fmt.Errorf("tell %s that %s is %s: %w", to, c.Name, what, errors.Join(context.Cause(ctx), err))
		}
	}
}

func (s *Sender) sayOnce(ctx context.Context, c carry, to cluster.HostID, what says) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, carryWrite)
	defer cancel()
	key := carryPrefix(to) + c.UUID
	kv, there, err := s.Store.Get(ctx, key)
	if err != nil || !there {
		return err == nil, err
	}
	var now carry
	if err := json.Unmarshal(kv.Value, &now); err != nil {
		return false, fmt.Errorf("read record %s: %w: %w", key, store.ErrDefinite, err)
	}
	if now.ID != c.ID || now.Says == what {
		return true, nil
	}
	now.Says = what
	value, err := json.Marshal(now)
	if err != nil {
		return false, fmt.Errorf("%w: %w", store.ErrDefinite, err)
	}
	_, done, err = s.Store.Txn(ctx, []store.Cmp{{Key: key, Rev: kv.ModRev}}, []store.Op{{Key: key, Value: value}})
	return done && err == nil, err
}

func (s *Sender) makes(id string, on bool) {
	s.mu.Lock()
	if on {
		s.mine[id] = true
	} else {
		delete(s.mine, id)
	}
	s.mu.Unlock()
	s.poke()
}

func (s *Sender) made(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mine[id]
}

func (s *Sender) poke() {
	select {
	case s.pokes <- struct{}{}:
	default:
	}
}

// Undecided names the guests that were sent live and of which it is not known yet on
// which host they are, each with the host to which it was sent and the reason, for people.
func (s *Sender) Undecided(ctx context.Context) ([]string, error) {
	own, _, err := s.words(ctx)
	var out []string
	for _, w := range own {
		if !w.decided() {
			s.mu.Lock()
			why := s.whys[w.ID]
			s.mu.Unlock()
			out = append(out, fmt.Sprintf("%s (to %s: %s)", w.Name, w.to, cmp.Or(why, "not looked at yet")))
		}
	}
	if len(out) > 0 {
		s.poke()
	}
	return out, err
}

// AwaitDecided waits until there are none, some minutes at most, and tells people for what.
func (s *Sender) AwaitDecided(ctx context.Context, tell func(string)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, decideWithin, fmt.Errorf("not decided within %s", decideWithin))
	defer cancel()
	var names []string // by the last answer
	for {
		now, err := s.Undecided(ctx)
		if err == nil {
			names = now
		}
		if err == nil && len(names) == 0 {
			return nil
		}
		if len(names) > 0 {
			tell("waits until it is known where these run: " + strings.Join(names, ", "))
		}
		if !clock.Sleep(ctx, senderAgain) {
			if len(names) > 0 {
				err = fmt.Errorf("it is not known whether these run where they were moved to: %s", strings.Join(names, ", "))
			}
			return errors.Join(context.Cause(ctx), err)
		}
	}
}
