package sim

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/cluster"
	"holdfast/internal/config"
)

// cmdTimings takes the product's timings of a profile, or some with other values.
// Those that break a rule of the configuration are refused.
func (w *World) cmdTimings(args []string) error {
	if w.now != 0 {
		return fmt.Errorf("timings are set before the hosts get their power")
	}
	var t config.Timings
	for _, arg := range args {
		name, value, pair := strings.Cut(arg, "=")
		if !pair {
			t.Profile = arg
			continue
		}
		if name == "drift" {
			var err error
			if t.Drift, err = strconv.ParseFloat(value, 64); err != nil {
				return err
			}
			continue
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			return err
		}
		to, known := map[string]*config.Duration{
			"lease": &t.Lease, "keepalive": &t.Keepalive, "grace": &t.Grace, "watchdog": &t.Watchdog, "epsilon": &t.Epsilon,
			"election": &t.Election, "heartbeat": &t.Heartbeat, "detection": &t.Detection,
		}[name]
		if !known {
			return fmt.Errorf("%q is no timing", name)
		}
		*to = config.Duration(d)
	}
	if faults := t.Check(); len(faults) > 0 {
		return fmt.Errorf("%w", faults[0])
	}
	w.timings = t.Values()
	return nil
}

// cmdRestart sets what becomes of a guest that ends by itself.
func (w *World) cmdRestart(args []string) error {
	var r cluster.Restart
	var err error
	if r.InPlace, err = strconv.Atoi(args[0]); err != nil {
		return err
	}
	if r.Limit, err = strconv.Atoi(args[1]); err != nil {
		return err
	}
	if r.Window, err = time.ParseDuration(args[2]); err != nil {
		return err
	}
	if w.now != 0 || r.InPlace < 0 || r.Limit < 0 {
		return fmt.Errorf("want restart INPLACE LIMIT WINDOW before the hosts get their power, none below 0")
	}
	w.restart = r
	return nil
}
