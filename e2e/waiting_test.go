package e2e

import (
	"context"
	"testing"
	"time"

	"holdfast/internal/lib/clock"
	"holdfast/testbed/lab"
)

// patience is for what comes in seconds or minutes, or never. The limit of all tests of this package is an hour, of a drill
// hours: one wait that is not met leaves the others their time, and nothing would be cleaned up after the limit.
const patience = 10 * time.Minute

// toCleanUp is left of a test's time when a wait ends: for logs, and for the end of a laboratory.
const toCleanUp = 2 * time.Minute

// afterDamage is how long a guest is waited for after its kernel told of a failure of the emulator. Some go on, and some are
// restarted.
const afterDamage = 2 * time.Minute

// waiting is a context for a wait that may not be met. It ends early where the emulator has failed a guest of the laboratory.
func waiting(t testing.TB) (context.Context, context.CancelFunc) {
	end := time.Now().Add(patience)
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if last, ok := d.Deadline(); ok && last.Add(-toCleanUp).Before(end) {
			end = last.Add(-toCleanUp)
		}
	}
	ctx, cancel := context.WithDeadline(t.Context(), end)
	if r := theRig; r != nil {
		go r.endWhenDamaged(ctx, cancel, r.judged)
	}
	return ctx, cancel
}

// endWhenDamaged ends a wait, a while after a guest's console proved that the emulator had failed. Consoles are those that were
// judged before, by length.
func (r *rig) endWhenDamaged(ctx context.Context, end context.CancelFunc, consoles map[string]int64) {
	for clock.Sleep(ctx, oneLook) {
		if _, said, err := r.emulatorFailed(consoles); err == nil && said != "" && clock.Sleep(ctx, afterDamage) {
			end()
		}
	}
}

// guests are all business guests when each of them answers, by name.
func (r *rig) guests(t testing.TB) map[string]lab.Answer {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	all, err := r.lab.WaitVMs(ctx, patience)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// oneLook is for one question of many. What hangs is asked again.
const oneLook = 10 * time.Second

// until waits for its event. When it does not come, it fails with what it saw last.
func (r *rig) until(t testing.TB, what string, ok func(context.Context) (string, bool)) {
	t.Helper()
	ctx, cancel := waiting(t)
	defer cancel()
	said := ""
	for ctx.Err() == nil {
		lctx, cancel := context.WithTimeout(ctx, oneLook)
		s, done := ok(lctx)
		cancel()
		if done {
			return
		}
		said = s
		clock.Sleep(ctx, 100*time.Millisecond)
	}
	t.Fatalf("%s: it has not come: %s", what, said)
}
