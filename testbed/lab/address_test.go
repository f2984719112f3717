package lab_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"holdfast/testbed/lab"
	"holdfast/testbed/need"
	"holdfast/testbed/try"
)

// TestFloatingAddress lets one host after the other hold the address, and kills
// the process that does: the address is gone as soon as the process is.
func TestFloatingAddress(t *testing.T) {
	need.Drill(t, "the laboratory: an address is on the host whose process holds it, and gone with the process")
	l := up(t, lab.Options{Hosts: 2})
	addr := l.FloatingAddr()
	has := func() []string {
		t.Helper()
		hosts, err := l.WhoHas(t.Context(), addr)
		try.Must(t, err)
		return hosts
	}
	if got := has(); len(got) > 0 {
		t.Fatalf("%v have the address before anybody was told to", got)
	}
	for _, h := range []string{"h1", "h2", "h1"} {
		ctx, stop := context.WithDeadline(t.Context(), hopeless())
		defer stop()
		ended := make(chan error, 1)
		go func() {
			// As the agent's driver calls it.
			_, err := l.Exec(ctx, h, filepath.Join(l.Dir(), "bin", "holdfast-lab"), "__address", addr.String(), "br0", "--host", h, "--epoch", "1.1")
			ended <- err
		}()
		for got := has(); !slices.Equal(got, []string{h}); got = has() {
			select {
			case err := <-ended:
				t.Fatalf("on %s: ended: %v; %v have the address", h, err, got)
			case <-time.After(10 * time.Millisecond): // between two looks at a condition
			}
		}
		try.Must(t, l.Kill(ctx, h, "cmd:__address"))
		if err := <-ended; err == nil || ctx.Err() != nil {
			t.Errorf("on %s: a process that was killed ended with %v, %v", h, err, ctx.Err())
		}
		if got := has(); len(got) > 0 {
			t.Errorf("%v have the address after the end of its process", got)
		}
	}
}
