package drain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast/internal/host/libvirt/guests"
	"holdfast/internal/inventory"
)

// Run finds out what has become of moves that nobody makes any more, until ctx
// ends.
func (s *Sender) Run(ctx context.Context) {
	f := finder{Sender: s, tracks: map[string]*track{}}
	for ctx.Err() == nil {
		pause, err := f.pass(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("it is not known what has become of guests that were sent", "err", err)
		}
		var later <-chan time.Time
		if pause > 0 {
			later = time.After(pause)
		}
		select {
		case <-ctx.Done():
		case <-later:
		case <-s.pokes:
		}
	}
}

// finder is the memory of Run.
type finder struct {
	*Sender
	tracks map[string]*track // by the move's ID
}

// track is what was seen of one move.
type track struct {
	place guests.Place
	since time.Time // that it is in place
	base  int64     // the other host's report when that began
	heard int64     // its first report after the word, or after base
	told  bool
	why   string // it is undecided, for people
}

// pass looks at all moves that are undecided. pause is the time until the next look; 0: there is
// none to come.
func (f *finder) pass(ctx context.Context) (pause time.Duration, err error) {
	own, _, err := f.words(ctx)
	if err != nil {
		return senderAgain, err
	}
	tracks, whys := map[string]*track{}, map[string]string{}
	var errs []error
	for _, w := range own {
		if w.decided() || f.made(w.ID) {
			continue
		}
		t := f.tracks[w.ID]
		if t == nil {
			t = &track{}
		}
		tracks[w.ID] = t
		errs = append(errs, f.look(ctx, w, t))
		whys[w.ID] = t.why
		next := senderAgain
		if t.place == guests.Leaving {
			next = senderFollow
		}
		if pause == 0 || next < pause {
			pause = next
		}
	}
	f.tracks = tracks
	f.mu.Lock()
	f.whys = whys
	f.mu.Unlock()
	return pause, errors.Join(errs...)
}

// look looks at one move, and tells what is certain.
func (f *finder) look(ctx context.Context, w sentWord, t *track) error {
	at, err := f.Guests.Whereabouts(ctx, w.UUID, w.Name)
	if err != nil {
		t.place, t.why = guests.Unclear, err.Error()
		return err
	}
	if at.Place != t.place || t.since.IsZero() {
		seen, _ := f.Seen()
		t.place, t.since, t.base, t.heard = at.Place, time.Now(), max(w.mod, seen[w.to].Mod), 0
	}
	t.why = strings.TrimSpace(fmt.Sprintf("here it is %s %s", at.Place, at.Note))
	stays := time.Since(t.since) >= coldAgain // nothing that an earlier process asked for still begins
	switch {
	case at.Place == guests.Left:
		return f.say(ctx, w.carry, w.to, saysGone)
	case at.Place == guests.Off && (at.Moved || w.Says == saysHalted):
		if err := f.Guests.Discard(ctx, w.UUID); err != nil { // it must not start with this host
			return err
		}
		return f.say(ctx, w.carry, w.to, saysGone)
	case at.Place == guests.Absent && w.Says == saysHalted:
		return f.say(ctx, w.carry, w.to, saysGone) // an earlier process has discarded it here
	case at.Place == guests.Here && w.Says == saysHalted:
		return f.stays(ctx, w.carry, w.to) // it was resumed here
	case at.Place == guests.Here && stays, at.Place == guests.Off && stays:
		return f.stays(ctx, w.carry, w.to)
	case at.Place == guests.Unclear && at.Halted && w.Says == "":
		return f.say(ctx, w.carry, w.to, saysHalted)
	case at.Place == guests.Unclear && at.Halted:
		return f.ask(ctx, w, t)
	case at.Place == guests.Absent:
		return f.absent(ctx, w, t)
	}
	return nil
}

// absent goes by what the other host reports of a guest that has ended here, nobody knows how.
func (f *finder) absent(ctx context.Context, w sentWord, t *track) error {
	vm, known := f.hear(w, t, t.base)
	switch {
	case !known:
		return nil
	case vm == nil:
		return f.say(ctx, w.carry, w.to, saysStays) // it has ended, and nothing of it is left
	case vm.Running && !vm.Halted && vm.Busy == "":
		return f.say(ctx, w.carry, w.to, saysGone) // it was let go on there, by people
	}
	t.why = fmt.Sprintf("it is not here, and nobody knows how it ended here: on %s, virsh resume %s or virsh destroy %s", w.to, w.UUID, w.UUID)
	if !t.told {
		t.told = true
		f.Log.Warn("a guest that was sent is not here, and nobody knows how it ended here: look at it on the other "+
			"host, and let it go on or end it there",
			"guest", w.Name, "to", w.to, "resume", "virsh resume "+w.UUID, "end", "virsh destroy "+w.UUID)
	}
	return nil
}

// ask goes by what the other host reports of a guest that stands still here.
func (f *finder) ask(ctx context.Context, w sentWord, t *track) error {
	vm, known := f.hear(w, t, w.mod)
	switch {
	case !known:
		return nil
	case vm == nil:
		if err := f.Guests.Resume(ctx, w.UUID); err != nil {
			return err
		}
		return f.stays(ctx, w.carry, w.to)
	case !vm.Halted:
		return nil // it still comes, or is in a state that people must judge
	}
	if err := f.Guests.Discard(ctx, w.UUID); err != nil {
		return err
	}
	return f.say(ctx, w.carry, w.to, saysGone)
}

// hear gives what the other host reports of a guest, nil: it is not there. known: by its second report
// since a revision, while it is up: the look behind the first one may be older, and that of a host
// that is silent says nothing of now.
func (f *finder) hear(w sentWord, t *track, since int64) (vm *inventory.VM, known bool) {
	seen, _ := f.Seen()
	r := seen[w.to]
	up := r.Up(time.Now())
	if !up {
		t.why += fmt.Sprintf("; %s does not report", w.to)
	}
	switch {
	case !up || r.Mod <= since || r.Unobservable:
		return nil, false
	case t.heard == 0:
		t.heard = r.Mod
		return nil, false
	case r.Mod <= t.heard:
		return nil, false
	}
	if i := slices.IndexFunc(r.VMs, func(vm inventory.VM) bool { return vm.UUID == w.UUID }); i >= 0 {
		return &r.VMs[i], true
	}
	return nil, true
}
