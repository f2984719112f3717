// Package slack is for tests that bound how long something takes. A bound that tells a
// fault from its absence on a quiet machine tells nothing on one that is busy with something
// else: there it is as many times longer as tasks wait for each processor.
package slack

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// loadavg is proc(5)'s file: load of 1, 5 and 15 minutes, running tasks / all tasks.
const loadavg = "/proc/loadavg"

// For is a bound for what takes at most d on a quiet machine. Ask for it when the time is
// over: the load of before is not that of the wait.
func For(d time.Duration) time.Duration { return time.Duration(float64(d) * crowd()) }

// most is the largest factor: what never comes must fail some time.
const most = 8

// crowd is how many tasks share a processor, 1 at least.
func crowd() float64 {
	text, err := os.ReadFile(loadavg)
	if err != nil {
		return 1 // no Linux: then none of the tests that need the laboratory run
	}
	return factor(string(text), runtime.NumCPU())
}

func factor(text string, processors int) float64 {
	return min(max(1, tasks(text)/float64(processors)), most)
}

// tasks is the larger one of the load of a minute and the tasks that run at this moment:
// the first one lags behind.
func tasks(text string) float64 {
	f := strings.Fields(text)
	if len(f) < 4 {
		return 0
	}
	running, _, _ := strings.Cut(f[3], "/")
	var most float64
	for _, s := range []string{f[0], running} {
		if n, err := strconv.ParseFloat(s, 64); err == nil {
			most = max(most, n)
		}
	}
	return most
}
