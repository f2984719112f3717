package transition

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/internal/cli/progress"
)

// TestOnlyOneSignalIsTheCutOver: the first SIGINT; all else aborts. A signal ends the
// context before it comes, or after; a context may end without one, also by the loss of a
// lock, which is the reason then.
func TestOnlyOneSignalIsTheCutOver(t *testing.T) {
	for _, c := range []struct {
		what, want string
	}{
		{"INT", "stop"}, {"ctx INT", "stop"}, {"INT ctx", "stop"}, {"INT ctx wait", "stop"},
		{"INT INT", "stop abort"}, {"ctx INT INT", "stop abort"}, {"INT ctx TERM", "stop abort"},
		{"TERM", "abort"}, {"ctx TERM", "abort"}, {"TERM ctx", "abort"}, {"HUP", "abort"}, {"ctx HUP INT", "abort"}, {"TERM INT", "abort"},
		{"ctx", ""}, {"ctx wait", "abort"}, {"ctx wait INT", "abort"}, {"wait", ""},
		{"lost", "abort: lost"}, {"lost INT wait", "abort: lost"}, {"INT lost wait", "stop"}, {"ctx lost", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				work, abort := context.WithCancelCause(t.Context())
				defer abort(nil)
				w := &running{shows: progress.NewTicker(&strings.Builder{})}
				signals, done, stop := make(chan os.Signal, 4), make(chan struct{}), make(chan struct{})
				go w.heed(ctx, signals, done, stop, abort)
				for _, what := range strings.Fields(c.what) {
					switch what {
					case "ctx":
						cancel(nil)
					case "lost":
						cancel(errors.New("lost"))
					case "wait":
						time.Sleep(time.Minute)
					default:
						signals <- map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}[what]
					}
					synctest.Wait()
				}
				close(done)
				synctest.Wait()
				var got []string
				select {
				case <-stop:
					got = append(got, "stop")
				default:
				}
				switch why := context.Cause(work); {
				case errors.Is(why, context.Canceled):
					got = append(got, "abort")
				case why != nil:
					got = append(got, "abort: "+why.Error())
				}
				if strings.Join(got, " ") != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}
