package facts

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"holdfast/internal/inventory/fact"

	"golang.org/x/sys/unix"
)

// Clock asks chrony, else the kernel.
func (g *Gatherer) Clock(ctx context.Context) (fact.Clock, error) {
	o, err := g.run(ctx, "chronyc", "-n", "tracking")
	if err == nil && o.exit == 0 {
		return parseTracking(string(o.out))
	}
	if err != nil && !errors.Is(err, errNotThere) {
		return fact.Clock{}, fmt.Errorf("ask chrony: %w", err)
	}
	return kernelClock() // chrony is not there, or does not run
}

// parseTracking reads what `chronyc tracking` says: "Leap status : Normal" and
// "System time : 0.000012 seconds slow of NTP time".
func parseTracking(text string) (fact.Clock, error) {
	c := fact.Clock{By: "chrony"}
	leap, at := "", ""
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		switch strings.TrimSpace(name) {
		case "Leap status":
			leap = strings.TrimSpace(value)
		case "System time":
			at = strings.TrimSpace(value)
		}
	}
	words := strings.Fields(at)
	if leap == "" || len(words) < 3 {
		return fact.Clock{}, errors.New("read the answer of chronyc tracking: want the lines Leap status and System time")
	}
	seconds, err := strconv.ParseFloat(words[0], 64)
	if err != nil || seconds != seconds || seconds < -1e9 || seconds > 1e9 {
		return fact.Clock{}, fmt.Errorf("read the answer of chronyc tracking: System time: want seconds, not %q", words[0])
	}
	if words[2] == "slow" {
		seconds = -seconds
	}
	c.Synced, c.OffsetMS = leap != "Not synchronised", seconds*1000
	return c, nil
}

// kernelClock asks the kernel, which knows it from whatever keeps its clock.
func kernelClock() (fact.Clock, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return fact.Clock{}, fmt.Errorf("ask the kernel for the state of its clock: %w", err)
	}
	unit := 1e3 // microseconds in a millisecond
	if t.Status&unix.STA_NANO != 0 {
		unit = 1e6
	}
	return fact.Clock{
		Synced:   state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		OffsetMS: float64(t.Offset) / unit, By: "kernel",
	}, nil
}
