package action

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"holdfast/internal/host/action/program"
	"holdfast/internal/inventory/manifest"
)

// unitStep stops, starts or restarts units of systemd.
type unitStep struct {
	host *Host
	what *manifest.Systemd
	step *Step
}

// verb returns what systemctl is asked for.
func (u *unitStep) verb() (string, []string) {
	switch {
	case len(u.what.Stop) > 0:
		return "stop", u.what.Stop
	case len(u.what.Start) > 0:
		return "start", u.what.Start
	}
	return "restart", u.what.Restart
}

// booted says why systemd can not be asked; "" when it can.
func (u *unitStep) booted() string {
	dir := cmp.Or(u.host.Tools.Booted, "/run/systemd/system")
	if _, err := os.Stat(dir); err != nil {
		return "this host does not run systemd (" + dir + " is not there): units can not be " +
			map[string]string{"stop": "stopped", "start": "started", "restart": "restarted"}[first(u.verb())]
	}
	return ""
}

func first(verb string, _ []string) string { return verb }

func (u *unitStep) do(ctx context.Context) (program.Result, error) {
	verb, units := u.verb()
	if why := u.booted(); why != "" {
		return failed(why), nil
	}
	return u.host.tool(ctx, u.step, u.step.Timeout, nil, append([]string{"systemctl", "--no-ask-password", verb, "--"}, units...)...)
}

func (u *unitStep) done(ctx context.Context, last program.Result) (program.Result, error) {
	verb, units := u.verb()
	if verb == "restart" {
		return last, nil // a unit that is active says nothing about when it was started
	}
	if why := u.booted(); why != "" {
		return program.Result{State: program.Unknown, Exit: -1, Why: why}, nil
	}
	var not []string
	for _, unit := range units {
		out, exit, err := u.host.query(ctx, "systemctl", "is-active", "--", unit)
		if err != nil {
			return program.Result{}, err
		}
		state := strings.TrimSpace(out)
		if state == "" {
			return program.Result{}, errors.New("ask systemctl is-active " + unit + ": it says nothing")
		}
		up := exit == 0 && state == "active"
		down := state == "inactive" || state == "failed" || state == "unknown"
		if verb == "start" && !up || verb == "stop" && !down {
			not = append(not, unit+" is "+state)
		}
	}
	if len(not) > 0 {
		return program.Result{State: program.NotDone, Why: strings.Join(not, ", ")}, nil
	}
	return program.Result{State: program.Done}, nil
}
